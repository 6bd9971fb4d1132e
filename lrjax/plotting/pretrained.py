"""Figures of pretrained models: position gradients by layer and head, and maps of the position part of scores."""

from pathlib import Path

import numpy as np

from lrjax.plotting.style import COLOURS, PANEL, Figure, save, styled, subplots
from lrjax.stats import Table


@styled
def gradients(table: Table, path: Path | None = None) -> Figure:
    """Slopes over columns and over rows of every head, and their odd shares, layer by layer."""
    figure, axes = subplots(1, 2, figsize=(2 * PANEL, 3.4))
    layers = list(dict.fromkeys(table["layer"].tolist()))
    at = np.array([layers.index(layer) for layer in table["layer"]])
    for k, (name, shift) in enumerate((("columns", -0.15), ("rows", 0.15))):
        label = "left to right" if name == "columns" else "top to bottom"
        for axis, measure in zip(axes, ("slope", "odd"), strict=True):
            values = table[f"{measure}_{name}"]
            axis.plot(at + shift, values, ".", color=COLOURS[k], ms=4, alpha=0.5, label=label)
            means = [np.nanmean(values[at == i]) if measure == "odd" else abs(values[at == i]).mean() for i in range(len(layers))]
            axis.plot(np.arange(len(layers)) + shift, means, "_", color=COLOURS[k], ms=9, mew=2)
    axes[1].axhline(table["odd_shuffled"][0], color="0.4", lw=0.8, ls=(0, (1, 2)))
    axes[1].annotate("shuffled", (1, table["odd_shuffled"][0]), xycoords=("axes fraction", "data"), ha="right", va="bottom", size=7)
    for axis, name in zip(axes, ("slope of the position\npart of scores", "odd share under a mirror"), strict=True):
        axis.set(xlabel="layer", ylabel=name)
        axis.set_xticks(range(len(layers)), layers)
    axes[0].set_title("a dot a head; bar: mean size")
    axes[1].set(title="a dot a head; bar: mean", ylim=(-0.03, 1.03))
    axes[0].legend(fontsize=8)
    return save(figure, path)


@styled
def maps(arrays: np.ndarray, names: list[str], path: Path | None = None) -> Figure:
    """Maps [n, row, column] of the position part of scores, a panel each; blue low, red high, about their means."""
    columns = min(len(arrays), 4)
    rows = -(-len(arrays) // columns)
    figure, axes = subplots(rows, columns, figsize=(1.5 * columns + 0.5, 1.7 * rows + 0.4), squeeze=False)
    for axis in axes.ravel():
        axis.set_axis_off()
    for axis, values, name in zip(axes.ravel(), arrays, names, strict=False):
        centred = values - values.mean()
        limit = abs(centred).max() or 1.0
        axis.imshow(centred, cmap="RdBu_r", vmin=-limit, vmax=limit)
        axis.set_title(f"{name}\n±{limit:.2g}", fontsize=7)
    return save(figure, path)
