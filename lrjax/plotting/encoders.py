"""Figures of other encoders: conditions side by side, layers, paths, and the search for one head."""

from pathlib import Path

import numpy as np

from lrjax.analysis.gradient import GENERALISES
from lrjax.metrics import SHOWN, ends
from lrjax.plotting.ablation import bars
from lrjax.plotting.style import (
    COLOURS,
    MARKERS,
    PANEL,
    Figure,
    conditions_of,
    finish,
    grid,
    headline,
    in_short,
    left_out,
    legend,
    legend_below,
    line,
    name_left,
    panels,
    save,
    styled,
    subplots,
)
from lrjax.stats import ACCURACY, Table, groups, select
from lrjax.terms import POSITION_TERMS


@styled
def conditions(
    models: Table, axes: tuple[str, ...], title: str, measures: dict[str, str], y_label: str, path: Path | None = None
) -> Figure:
    """`measures` (column -> name) of every combination of `axes`, a panel per N: mean, 95 % interval, models as dots."""
    labels, keys = sorted(set(models["n_labels"].tolist())), list(groups(models, axes))
    size = (2 * PANEL, 2.3 * len(labels) + 1.6)
    figure, below = subplots(len(labels), 1, figsize=size, sharex=True, squeeze=False)
    for axis, n in zip(below[:, 0], labels, strict=True):
        part = select(models, models["n_labels"] == n)
        own = groups(part, axes)
        for k, (metric, label) in enumerate(measures.items()):
            samples = [part[metric][own[key]] if key in own else np.array([np.nan]) for key in keys]
            bars(axis, np.arange(len(keys)) + (k - (len(measures) - 1) / 2) * 0.24, samples, k, label, ends(metric))
        if "unseen_pair_order" in measures:
            finish(axis, "", y_label, f"N = {n} labels", 0.5)
        else:
            axis.set(ylabel=y_label, title=f"N = {n} labels")
            axis.axhline(0, color="0.4", lw=0.8)
    slope = 30 if len(keys) <= 8 else 90
    names = [", ".join(map(in_short, key)) for key in keys]
    below[-1, 0].set_xticks(range(len(keys)), names, rotation=slope, ha="right" if slope < 90 else "center")
    below[-1, 0].set_xlabel(", ".join(name.replace("_", " ") for name in axes))
    legend_below(figure, *below[0, 0].get_legend_handles_labels())
    headline(figure, title + left_out(models))
    return save(figure, path)


@styled
def accuracies(models: Table, axes: tuple[str, ...], title: str, path: Path | None = None) -> Figure:
    """Accuracies on unseen pairs by condition."""
    return conditions(models, axes, f"{title}: unseen pairs", SHOWN, "accuracy, unseen pairs", path)


@styled
def shares(carried: Table, axes: tuple[str, ...], path: Path | None = None) -> Figure:
    """Which term carries the position gradient of a model's best head, by condition. From `gradient.carried`."""
    terms = {f"share_{term}": term for term in POSITION_TERMS}
    return conditions(carried, axes, "What the gradient of the best head is made of", terms, "share of the gradient", path)


@styled
def order_in_training(history: Table, path: Path | None = None) -> Figure:
    """Order on unseen pairs during training, a line a condition (gates), a panel per N."""
    labels, names = sorted(set(history["n_labels"].tolist())), conditions_of(history)
    figure, axes = panels(len(labels), 3.4, sharey=True)
    for axis, n in zip(axes, labels, strict=True):
        for k, (name, chosen) in enumerate(names.items()):
            panel = select(history, chosen[history["n_labels"][chosen] == n])
            by_step = groups(panel, ("step",))
            samples = [panel["unseen_pair_order"][i] for i in by_step.values()]
            line(axis, [s for (s,) in by_step], samples, k, name, ACCURACY)
        finish(axis, "training step", "order, unseen pairs", f"N = {n} labels", 0.5)
    name_left(axes)
    legend_below(figure, *axes[0].get_legend_handles_labels())
    headline(figure, "Gates in training say how soon order is learned: unseen pairs, mean over seeds, 95 % interval")
    return save(figure, path)


@styled
def layers(table: Table, path: Path | None = None) -> Figure:
    """The position gradient of every head, layer by layer: |gradient| as dots, a panel per N and condition."""
    figure, parts = grid(table)
    for axis, part in parts:
        for k, layer in enumerate(sorted(set(part["layer"].tolist()))):
            rows = select(part, part["layer"] == layer)
            x = layer + (np.arange(len(rows["head"])) % 17 - 8) * 0.02
            size = np.abs(rows["position_gradient"])
            axis.plot(x, size, ls="none", marker=MARKERS[k], ms=3.5, alpha=0.6, color=COLOURS[k], label=f"layer {layer}")
            best = [size[i].max() for i in groups(rows, ("model",)).values()]
            axis.plot([layer - 0.25, layer + 0.25], [np.mean(best)] * 2, color=COLOURS[k], lw=2)
        axis.set(xlabel="layer", ylabel="|position gradient| of a head", yscale="log")
        axis.set_xticks(sorted(set(table["layer"].tolist())))
    legend(figure, parts)
    headline(figure, "In which layer the gradient forms; bars: mean over models of the strongest head")
    return save(figure, path)


@styled
def paths(table: Table, path: Path | None = None) -> Figure:
    """Path patching: the change of order when what a sender tells one receiver is of the swapped scene, by what it goes through; a
    dot a path.
    """
    figure, parts = grid(table, ("exchanged", "layer"))
    via = list(dict.fromkeys(table["via"].tolist()))
    for axis, part in parts:
        for k, name in enumerate(via):
            change = part["change"][part["via"] == name]
            spread = (np.arange(len(change)) % 21 - 10) * 0.025
            axis.plot(k + spread, change, ls="none", marker=MARKERS[k], ms=3, alpha=0.4, color=COLOURS[k], label=f"through {name}")
        axis.axhline(0, color="0.4", lw=0.8)
        axis.set(xlabel="through the receiver's", ylabel="change of order, unseen pairs")
        axis.set_xticks(range(len(via)), via)
    legend(figure, parts)
    headline(figure, "What paths between heads of consecutive layers carry: a dot is a sender and a receiver of one model")
    return save(figure, path)


@styled
def rows(table: Table, axis_name: str, path: Path | None = None) -> Figure:
    """What the terms of CLS's row give a pixel, in each model's best head, turned to lean right; a panel per N and value of a
    field. From `gradient.rows_of_best`. EB + BB is one line; terms that are nothing are left out.
    """
    values, labels = list(dict.fromkeys(table[axis_name].tolist())), sorted(set(table["n_labels"].tolist()))
    drawn = {"EE": ("EE",), "EP": ("EP",), "PP": ("PP",), "BE": ("BE",), "BP": ("BP",), "EB + BB": ("EB", "BB")}
    places = [(value, n) for value in values for n in labels]
    figure, axes = panels(len(places), 1.9, sharex=True)
    for axis, (value, n) in zip(axes, places, strict=True):
        part = select(table, (table["n_labels"] == n) & (table[axis_name] == value))
        for k, (name, terms) in enumerate(drawn.items()):
            own = select(part, np.isin(part["term"], terms))
            models, by_pixel = np.unique(own["model"]), groups(own, ("pixel",))
            scores = [[own["score"][i][own["model"][i] == model].sum() for model in models] for i in by_pixel.values()]
            if np.abs(scores).max(initial=0) > 1e-4:
                line(axis, [pixel for (pixel,) in by_pixel], scores, k, name)
        axis.set(title=f"{value}, N = {n}", xlabel="pixel" if axis in axes[-2:] else "")
        axis.axhline(0, color="0.4", lw=0.8)
    handles = {name: handle for axis in axes for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    legend_below(figure, list(handles.values()), list(handles))
    headline(figure, "What each term gives a pixel in CLS's row, best head (rotary: by offset): mean over models, 95 % interval")
    return save(figure, path)


@styled
def search(screen: Table, full: Table, ranges: dict[str, tuple[float, float]], path: Path | None = None) -> Figure:
    """The search for one head: top-1 that a configuration reaches against each field that was drawn."""
    figure, axes = panels(len(ranges), 2.4, sharey=True)
    for axis, name in zip(axes, ranges, strict=True):
        for k, (label, table) in enumerate((("screened", screen), ("trained in full", full))):
            axis.plot(
                table[name], table["unseen_pair"], ls="none", marker=MARKERS[k], ms=3, alpha=0.5, color=COLOURS[k], label=label
            )
        axis.axhline(GENERALISES, color="0.4", lw=0.8, ls="--")
        finish(axis, name.replace("_", " "), "best top-1, unseen pairs", "")
        axis.set_xscale("log")
    name_left(axes)
    legend_below(figure, *axes[0].get_legend_handles_labels())
    headline(figure, "What a random search finds with one head in one layer; dashed: generalises")
    return save(figure, path)
