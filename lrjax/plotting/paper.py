"""Figures of the paper's own experiment: initial values x labels, when a model generalises, and what a multiplier does."""

from pathlib import Path

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator

from lrjax.metrics import SHOWN
from lrjax.plotting.ablation import bars
from lrjax.plotting.style import (
    COLOURS,
    LINES,
    MARKERS,
    PANEL,
    Figure,
    conditions_of,
    finish,
    headline,
    left_out,
    legend_below,
    line,
    name_left,
    panels,
    save,
    styled,
    subplots,
)
from lrjax.stats import ACCURACY, Table, groups, select

SCALES = ("e_scale", "p_scale")
THOUSANDS = FuncFormatter(lambda step, place: f"{step / 1000:g}k" if step else "0")  # of steps, which would not fit side by side
KNOWN = 0.7  # the order from which on it makes sense to ask by which route it is known


KINDS = {
    "N(0, 1), PyTorch's default": (1.0, 1.0),
    "CLIP's: .02 for E, .088 for P": (0.02, 0.088),
}  # initial values: (e_scale, p_scale)


@styled
def label_diversity(models: Table, path: Path | None = None) -> Figure:
    """Top-1 on unseen pairs against N, a line a kind of initial values: whether label diversity is needed depends on these."""
    figure, (axis,) = subplots(figsize=(5.2, 4))
    labels = sorted(set(models["n_labels"].tolist()))
    for k, (name, (e_scale, p_scale)) in enumerate(KINDS.items()):
        own = select(models, (models["e_scale"] == e_scale) & (models["p_scale"] == p_scale))
        samples = [own["unseen_pair"][own["n_labels"] == n] for n in labels]
        at = np.arange(len(labels)) + 0.2 * (k - 0.5)
        bars(axis, at, samples, k, name, ACCURACY)
        axis.plot(at, [np.nanmean(values) for values in samples], color=COLOURS[k], lw=1, alpha=0.6, ls=LINES[k])
    finish(axis, "number of labels N in training", "top-1 on pairs of labels\nnever seen together", "")
    axis.set_xticks(range(len(labels)), labels)
    axis.grid(axis="x", visible=False)
    legend_below(figure, *axis.get_legend_handles_labels())
    headline(
        figure,
        "How many labels a model needs depends on its initial values: mean, 95 % interval, a dot a model" + left_out(models),
    )
    return save(figure, path)


@styled
def phase_diagram(models: Table, path: Path | None = None) -> Figure:
    """Accuracies on unseen pairs over initial scales x N: a panel a measure, a cell the mean over seeds."""
    labels, scales = sorted(set(models["n_labels"].tolist())), sorted(groups(models, SCALES), reverse=True)
    cells = groups(models, ("n_labels", *SCALES))
    figure, axes = panels(len(SHOWN), 0.36 * len(scales) + 0.9, sharey=True)
    for axis, (metric, name) in zip(axes, SHOWN.items(), strict=True):
        means = np.array([[np.nanmean(models[metric][cells[n, *scale]]) for n in labels] for scale in scales])
        axis.imshow(means, vmin=0, vmax=1, cmap="viridis", aspect="auto")
        for (row, column), mean in np.ndenumerate(means):
            axis.text(column, row, f"{mean:.2f}", ha="center", va="center", size=8, color="k" if mean > 0.6 else "w")
        axis.set_xticks(range(len(labels)), labels)
        axis.set_yticks(range(len(scales)), [f"{e:g}, {p:g}" for e, p in scales])
        axis.set(title=name, xlabel="number of training labels N", ylabel="initial scale\nof E, of P")
        axis.grid(False)
    name_left(axes)
    headline(
        figure,
        "How many labels a model needs depends on its initial values: unseen pairs, mean over seeds" + left_out(models),
    )
    return save(figure, path)


@styled
def in_training(
    curves: Table, path: Path | None = None, metric: str = "unseen_pair", measure: str = "top-1, unseen pairs"
) -> Figure:
    """An accuracy (its column and its name for people) against steps: a panel per N, a line a condition."""
    labels, named = sorted(set(curves["n_labels"].tolist())), conditions_of(curves)
    figure, axes = panels(len(labels), sharey=True)
    for axis, n in zip(axes, labels, strict=True):
        for k, (name, rows) in enumerate(named.items()):
            panel = select(curves, rows[curves["n_labels"][rows] == n])
            if by_step := groups(panel, ("step",)):
                line(axis, [at for (at,) in by_step], [panel[metric][i] for i in by_step.values()], k, name, ACCURACY)
        finish(axis, "training step", measure, f"N = {n} labels")
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.xaxis.set_major_formatter(THOUSANDS)
    name_left(axes)
    if len(named) > 1:
        legend_below(figure, *axes[0].get_legend_handles_labels())
    headline(figure, f"How {measure.partition(',')[0]} moves in training: mean over seeds, 95 % interval, seeds as dots")
    return save(figure, path)


@styled
def when(found: dict[str, Table], lr: float, path: Path | None = None) -> Figure:
    """The step at which top-1 is .5 against weight decay and against initial scale, and lr wd times that step below: models as
    dots; a triangle is a model that has not got there by the last step. Without weight decay there is nothing to show below.

    found: "weight decay" and "initial scale" -> columns x, weight_decay, step (NaN: never), last.
    """
    figure, axes = subplots(2, len(found), figsize=(PANEL * len(found) + 1.3 * (len(found) == 1), 5.6), sharex="col", squeeze=False)
    for column, (name, table) in zip(axes.T, found.items(), strict=True):
        never = np.isnan(table["step"])
        decayed = np.where(table["weight_decay"] > 0, lr * table["weight_decay"], np.nan)
        step = np.where(never, table["last"], table["step"])
        places = sorted(set(table["x"].tolist()))
        at = np.searchsorted(places, table["x"])
        for axis, y, y_label in (
            (column[0], step, "step at which top-1 is .5"),
            (column[1], decayed * step, "lr x weight decay x that step"),
        ):
            for rows, k, marker in ((~never, 0, MARKERS[0]), (never, 1, "^")):
                axis.plot(at[rows], y[rows], ls="none", marker=marker, ms=5, alpha=0.7, color=COLOURS[k])
            axis.set(ylabel=y_label if axis in axes[:, 0] else "", ylim=(0, None))
        column[0].set_title(f"against {name}")
        column[0].yaxis.set_major_formatter(THOUSANDS)
        column[1].set_xlabel(name)
        column[1].set_xticks(range(len(places)), [f"{x:g}" for x in places])
    headline(figure, "When does a model generalise? (triangles: not by the last step)")
    return save(figure, path)


@styled
def multiplier(best: Table, ablated: Table, path: Path | None = None) -> Figure:
    """EP's share of the gradient of EP and PP against the multiplier m, beside m / (m + 1); and order with terms at zero: a row for
    E_cls decayed, one for not. From `strongest` and `ratio`.
    """
    values = sorted(set(best["token_multiplier"].tolist()))
    at, m = np.arange(len(values)), np.array(values)
    figure, axes = subplots(2, 2, figsize=(2 * PANEL, 6), sharex=True)
    for row, decayed in zip(axes, (True, False), strict=True):
        own, of_own = (select(table, table["decay_cls"] == decayed) for table in (best, ablated))
        share = own["gradient_EP"] / (own["gradient_EP"] + own["gradient_PP"])
        line(row[0], at, [share[own["token_multiplier"] == value] for value in values], 0, "measured")
        row[0].plot(at, m / (m + 1), color="0.3", ls=":", label="m / (m + 1)")
        row[0].set(ylabel="share of EP in EP + PP", title=f"E_cls {'decayed' if decayed else 'not decayed'}")
        row[0].legend()
        for k, name in enumerate(("none", "EP", "PP", "EP+PP+BP")):
            rows = of_own["ablation"] == name
            samples = [of_own["unseen_pair_order"][rows & (of_own["token_multiplier"] == value)] for value in values]
            line(row[1], at, samples, k, f"{name} at zero" if k else "as it is", ACCURACY)
        finish(row[1], "", "order, unseen pairs", "", 0.5)
    for axis in axes[1]:
        axis.set_xlabel("multiplier of tokens, m")
        axis.set_xticks(at, [f"{value:.3g}" for value in values])
    legend_below(figure, *axes[0, 1].get_legend_handles_labels())
    headline(figure, "Which term carries the gradient? N = 15, mean over seeds, 95 % interval, seeds as dots")
    return save(figure, path)


ROUTES = {"none": "as it is", "EP+PP+BP": "EP, PP, BP at zero", "VP": "VP at zero", "EP+PP+BP+VP": "all of these at zero"}


@styled
def routes_over_time(ablated: Table, path: Path | None = None) -> Figure:
    """Order on unseen pairs in training, as it is and without each route to it: a column an N, a row a condition.

    Args:
      ablated: the study's answer `routes_over_time`, a row an evaluation, model and ablation.
      path: where the figure goes, if it goes to a file.
    """
    labels, named = sorted(set(ablated["n_labels"].tolist())), conditions_of(ablated)
    size = (PANEL * len(labels) + 1.3 * (len(labels) == 1), 2.9 * len(named) + 1)
    figure, axes = subplots(len(named), len(labels), figsize=size, sharey=True, squeeze=False)
    for row, (condition, rows) in zip(axes, named.items(), strict=True):
        for axis, n in zip(row, labels, strict=True):
            panel = select(ablated, rows[ablated["n_labels"][rows] == n])
            for k, (ablation, name) in enumerate(ROUTES.items()):
                own = select(panel, panel["ablation"] == ablation)
                by_step = groups(own, ("step",))
                line(axis, [at for (at,) in by_step], [own["unseen_pair_order"][i] for i in by_step.values()], k, name, ACCURACY)
            title = f"N = {n}" + (f", {condition}" if condition else "")
            finish(axis, "training step", "order, unseen pairs" if axis is row[0] else "", title, 0.5)
            axis.xaxis.set_major_locator(MaxNLocator(4))
            axis.xaxis.set_major_formatter(THOUSANDS)
    legend_below(figure, *axes[0, 0].get_legend_handles_labels())
    headline(figure, "The order is known by attention to positions, or by position values")
    return save(figure, path)


@styled
def route_of_each(binding: Table, path: Path | None = None) -> Figure:
    """Order on unseen pairs in training, a line a model: a dot is an evaluation, coloured by the route that has most of the margin.
    A panel is a multiplier of tokens.

    Args:
      binding: the study's answer `binding_over_time`, a row an evaluation and model.
      path: where the figure goes, if it goes to a file.
    """
    by_multiplier = groups(binding, ("token_multiplier",))
    figure, axes = panels(len(by_multiplier), sharey=True)
    for axis, ((multiplier,), rows) in zip(axes, by_multiplier.items(), strict=True):
        panel = select(binding, rows)
        for of_model in groups(panel, ("model",)).values():
            axis.plot(panel["step"][of_model], panel["order"][of_model], color="0.7", lw=1, zorder=1)
        on_values = panel["share_value"] > panel["share_attention"]
        for k, (name, of_route) in enumerate({"attention route": ~on_values, "value route": on_values}.items()):
            axis.plot(panel["step"][of_route], panel["order"][of_route], ".", color=COLOURS[k], ms=6, label=name)
        finish(axis, "training step", "order, unseen pairs", f"tokens times {multiplier:.4g}", chance=0.5)
        axis.xaxis.set_major_formatter(THOUSANDS)
    name_left(axes)
    legend_below(figure, *axes[0].get_legend_handles_labels())
    headline(figure, "A line is a model: it knows the order by one route or the other")
    return save(figure, path)


@styled
def route_shares(binding: Table, path: Path | None = None) -> Figure:
    """The share of the value route in the mean margin on unseen pairs against the initial scale of E and P: a panel per N, a dot a
    model. Means would hide that nearly every model uses one route alone.

    Args:
      binding: the study's answer `binding`, a row a model.
      path: where the figure goes, if it goes to a file.
    """
    labels, scales = sorted(set(binding["n_labels"].tolist())), sorted(groups(binding, SCALES))
    figure, axes = panels(len(labels), sharey=True)
    for axis, n in zip(axes, labels, strict=True):
        panel = select(binding, (binding["n_labels"] == n) & (binding["order"] >= KNOWN))
        for (scale, seed), rows in groups(panel, (SCALES[0], "seed")).items():
            at = [k for k, pair in enumerate(scales) if pair[0] == scale and pair[1] in panel[SCALES[1]][rows]]
            axis.plot(np.array(at) + 0.12 * (seed % 4 - 1.5), panel["share_value"][rows], ".", color=COLOURS[0], ms=8, alpha=0.7)
        axis.set_xticks(range(len(scales)), [f"{e:g}" if e == p else f"{e:g}, {p:g}" for e, p in scales], rotation=45, ha="right")
        axis.set(xlabel="initial scale of E, P", title=f"N = {n}", xlim=(-0.5, len(scales) - 0.5), ylim=(-0.1, 1.1))
        axis.set_ylabel("share of the value route")
    name_left(axes)
    headline(
        figure, f"A dot is a model with an order of {KNOWN} or more: it uses position values (1) or attention to positions (0)"
    )
    return save(figure, path)
