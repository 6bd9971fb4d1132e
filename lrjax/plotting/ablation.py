"""Figures of what an ablation takes away."""

from pathlib import Path

import numpy as np

from lrjax.ablations import described
from lrjax.analysis.gradient import scale_ratio
from lrjax.gates import NONE
from lrjax.metrics import SHOWN
from lrjax.plotting.style import (
    COLOURS,
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
from lrjax.stats import ACCURACY, Table, mean_interval, select
from lrjax.terms import POSITION_TERMS


@styled
def ablation(table: Table, title: str, measures: dict[str, str], path: Path | None = None) -> Figure:
    """`measures` (column -> name) of unseen pairs under each ablation: a panel per N and condition; seeds as dots."""
    parts = {
        f"N = {n} labels" + (f", {name}" if name else ""): chosen[table["n_labels"][chosen] == n]
        for n in sorted(set(table["n_labels"].tolist()))
        for name, chosen in conditions_of(table).items()
    }
    names = list(dict.fromkeys(table["ablation"].tolist()))
    size = (min(0.75 * len(names) + 2.2, 2 * PANEL), 2.3 * len(parts) + 1.4)
    figure, axes = subplots(len(parts), 1, figsize=size, sharex=True, squeeze=False)
    for axis, (name, rows) in zip(axes[:, 0], parts.items(), strict=True):
        panel = select(table, rows)
        for k, (metric, label) in enumerate(measures.items()):
            samples = [panel[metric][panel["ablation"] == name] for name in names]
            bars(axis, np.arange(len(names)) + (k - 1) * 0.24, samples, k, label, ACCURACY)
        finish(axis, "", "accuracy, unseen pairs", name, 0.5)
    axes[-1, 0].set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes[-1, 0].set_xlabel("what is taken away")
    legend_below(figure, *axes[0, 0].get_legend_handles_labels())
    headline(figure, title + left_out(table))
    return save(figure, path)


@styled
def gauge(table: Table, path: Path | None = None) -> Figure:
    """`gauge.moved`'s table: order on unseen pairs under each ablation, a series a place of the CLS vector, a panel per N."""
    labels, places = sorted(set(table["n_labels"].tolist())), list(dict.fromkeys(table["cls"].tolist()))
    names = list(dict.fromkeys(table["ablation"].tolist()))
    figure, axes = panels(len(labels), 3.2, sharey=True)
    for axis, n in zip(axes, labels, strict=True):
        for k, place in enumerate(places):
            rows = (table["n_labels"] == n) & (table["cls"] == place)
            samples = [table["unseen_pair_order"][rows & (table["ablation"] == name)] for name in names]
            bars(axis, np.arange(len(names)) + (k - 1) * 0.22, samples, k, f"CLS vector {place}", ACCURACY)
        finish(axis, "terms set to zero", "order, unseen pairs", f"N = {n} labels", 0.5)
        axis.set_xticks(range(len(names)), names, rotation=45, ha="right")
    name_left(axes)
    legend_below(figure, *axes[0].get_legend_handles_labels())
    headline(figure, "The same functions, with their CLS vector E_cls + P_0 in another place, answer the same ablation otherwise")
    return save(figure, path)


@styled
def doses(table: Table, path: Path | None = None) -> Figure:
    """Dose-response: order, label set and top-1 against the gate of a term, a panel a term (or sum of terms), all N pooled by
    seed.
    """
    table = described(table)
    part = select(table, (table["terms"] != NONE) & (table["control"] == NONE))
    names = list(dict.fromkeys(part["terms"].tolist()))
    figure, axes = panels(len(names), sharey=True)
    levels = np.unique(part["scale"])
    for axis, name in zip(axes, names, strict=True):
        for k, (metric, label) in enumerate(SHOWN.items()):
            samples = [part[metric][(part["terms"] == name) & (part["scale"] == level)] for level in levels]
            line(axis, levels, samples, k, label, ACCURACY)
        finish(axis, f"gate of {name}", "accuracy, unseen pairs", f"dose-response of {name}", 0.5)
    name_left(axes)
    legend_below(figure, *axes[0].get_legend_handles_labels())
    return save(figure, path)


@styled
def ratio(carried: Table, table: Table, path: Path | None = None) -> Figure:
    """Against the ratio of initial scales E:P, a row per N: which term carries the gradient, and order with terms at zero."""
    labels = sorted(set(carried["n_labels"].tolist()))
    figure, axes = subplots(len(labels), 2, figsize=(2 * PANEL, 3 * len(labels)), sharex=True, squeeze=False)
    ratios, of_row = np.unique(carried["ratio_EP"]), scale_ratio(table)
    for (left, right), n in zip(axes, labels, strict=True):
        for k, term in enumerate(POSITION_TERMS):
            line(
                left,
                ratios,
                [carried[f"share_{term}"][(carried["n_labels"] == n) & (carried["ratio_EP"] == r)] for r in ratios],
                k,
                term,
            )
        for k, ablation in enumerate(("none", "EP", "PP", "EP+PP", "EP+PP+BP")):
            rows = (table["n_labels"] == n) & (table["ablation"] == ablation)
            line(right, ratios, [table["unseen_pair_order"][rows & (of_row == r)] for r in ratios], k, ablation, ACCURACY)
        left.set(ylabel=f"N = {n} labels\nshare of the position gradient", title="which term carries the gradient")
        left.axhline(0, color="0.6", lw=0.8)
        finish(right, "", "order, unseen pairs", "terms set to zero", 0.5)
        for axis in (left, right):
            axis.set_xscale("log")
            axis.set_xticks(ratios, [f"{r:g}" for r in ratios])
    for axis in axes[-1]:
        axis.set_xlabel("ratio of initial scales, E : P")
    axes[0, 0].legend(fontsize=8)
    axes[0, 1].legend(fontsize=8)
    return save(figure, path)


def bars(axis, x: np.ndarray, samples: list[np.ndarray], k: int, label: str, within: tuple[float, float] | None = None) -> None:
    """Means with 95 % intervals (cut at the ends of the scale) at x, seeds as dots beside them."""
    mean, low, high = np.array([mean_interval(values, within) for values in samples]).T
    style = dict(color=COLOURS[k], marker=MARKERS[k], ls="none", ms=4.5, capsize=2, lw=1.2)
    axis.errorbar(x, mean, [np.nan_to_num(mean - low), np.nan_to_num(high - mean)], label=label, **style)
    for place, values in zip(x, samples, strict=True):
        axis.plot(np.full(len(values), place) + 0.07, values, ".", color=COLOURS[k], ms=3.5, alpha=0.55)
