"""The figure of `analysis.values`: which part of the readout embedding decides the order."""

from pathlib import Path

import numpy as np

from lrjax.plotting.style import COLOURS, MARKERS, Figure, conditions_of, save, styled, subplots
from lrjax.stats import ACCURACY, Table, mean_interval, select

PANELS = {
    "mean": "mean contribution\n(cosine, true − swapped)",
    "sd": "its sd over images\n(cosine)",
    "order_without": "order by all other\nparts (margin: by all)",
}


@styled
def attribution(table: Table, title: str, path: Path | None = None) -> Figure:
    """Parts (heads by rank) on the x axis; a row each for mean, sd, and order without them; colours are N, columns conditions."""
    conditions, labels = conditions_of(table), sorted(set(table["n_labels"].tolist()))
    names = list(dict.fromkeys(table["part"].tolist()))
    size = ((0.62 * len(names) + 1.6) * len(conditions), 7.2)
    figure, axes = subplots(3, len(conditions), figsize=size, sharex=True, sharey="row", squeeze=False)
    for column, (name, chosen) in zip(axes.T, conditions.items(), strict=True):
        rows = select(table, chosen)
        for axis, (measure, y_label) in zip(column, PANELS.items(), strict=True):
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
            _separate(axis, names)
            if axis in axes[:, 0]:
                axis.set_ylabel(y_label)
        column[0].set_title(name, size=9)
        column[2].set(ylim=(-0.03, 1.03))
        column[2].annotate("chance", (1, 0.5), xycoords=("axes fraction", "data"), ha="right", va="bottom", size=7, color="0.35")
        column[2].set_xticks(range(len(names)), names, rotation=35, ha="right")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=min(len(labels), 5))
    figure.suptitle(title, size=10, x=0.02, ha="left")
    return save(figure, path)


def _separate(axis, names: list[str]) -> None:
    """Lines between the whole, its parts, and the two other ways to split what heads write; grid lines at parts only confuse."""
    axis.grid(False, axis="x")
    last_head = max(i for i, name in enumerate(names) if "head" in name)
    for place in (0, last_head, names.index("VE") - 1):
        axis.axvline(place + 0.5, color="0.7", lw=0.8)
