"""The figure of `analysis.values`: which part of the readout embedding decides the order."""

from pathlib import Path

import numpy as np

from lrjax.plotting.style import (
    COLOURS,
    MARKERS,
    PANEL,
    Figure,
    conditions_of,
    headline,
    legend_below,
    name_chance,
    save,
    styled,
    subplots,
)
from lrjax.stats import ACCURACY, Table, mean_interval, select

PANELS = {
    "mean": "mean (cosine,\ntrue − swapped)",
    "sd": "sd over images\n(cosine)",
    "order_without": "order by all others\n(margin: by all)",
}


@styled
def attribution(table: Table, title: str, path: Path | None = None) -> Figure:
    """Parts (heads by rank) on the x axis; below each other mean, sd, and order without them, of each condition; colours are N."""
    conditions, labels = conditions_of(table), sorted(set(table["n_labels"].tolist()))
    names = list(dict.fromkeys(table["part"].tolist()))
    size = (2 * PANEL, (1.9 * len(PANELS)) * len(conditions) + 1.5)
    figure, axes = subplots(len(PANELS) * len(conditions), 1, figsize=size, sharex=True)
    for of_condition, (name, chosen) in zip(np.reshape(axes, (-1, len(PANELS))), conditions.items(), strict=True):
        rows = select(table, chosen)
        for axis, (measure, y_label) in zip(of_condition, PANELS.items(), strict=True):
            for k, n in enumerate(labels):
                whole = {"margin": "order_alone"} if measure == "order_without" else {}
                samples = [rows[whole.get(part, measure)][(rows["part"] == part) & (rows["n_labels"] == n)] for part in names]
                within = ACCURACY if measure == "order_without" else None
                mean, low, high = np.array([mean_interval(values, within) for values in samples]).T
                x = np.arange(len(names)) + (k - (len(labels) - 1) / 2) * 0.7 / max(len(labels), 3)
                bars = [np.nan_to_num(mean - low), np.nan_to_num(high - mean)]
                style = dict(color=COLOURS[k % 7], marker=MARKERS[k % 7], ls="none", ms=4, lw=1.1, capsize=1.5)
                axis.errorbar(x, mean, bars, label=f"N = {n} labels", **style)
            axis.axhline(0.5 if measure == "order_without" else 0, color="0.4", lw=0.8, ls=(0, (1, 2)))
            axis.set_ylabel(y_label)
            _separate(axis, names)
        of_condition[0].set_title(name, size=9)
        last = of_condition[-1]
        last.set(ylim=(-0.03, 1.03))
        name_chance(last, 0.5)
    axes[-1].set_xticks(range(len(names)), names, rotation=50, ha="right")
    legend_below(figure, *axes[0].get_legend_handles_labels())
    headline(figure, title)
    return save(figure, path)


def _separate(axis, names: list[str]) -> None:
    """Lines between the whole, its parts, and the two other ways to split what heads write; grid lines at parts only confuse."""
    axis.grid(False, axis="x")
    last_head = max(i for i, name in enumerate(names) if "head" in name)
    for place in (0, last_head, names.index("VE") - 1):
        axis.axvline(place + 0.5, color="0.7", lw=0.8)
