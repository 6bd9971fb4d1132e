"""The figure of `analysis.align`: held-out labels before and after a rotation fitted on the trained ones."""

from pathlib import Path
from textwrap import wrap

import numpy as np

from lrjax.plotting.style import PANEL, Figure, conditions_of, headline, in_lines, legend_below, line, save, styled, subplots
from lrjax.stats import ACCURACY, Table, groups, select

SPACES = {"E": "Token rows E", "OV": "What heads write, E W_V W_O W_proj", "embedding": "Embedding of the label alone"}
FITS = {
    "before": "before",
    "rotation": "after a rotation fitted on trained labels",
    "control": "after one fitted on permuted labels",
}
PANELS = {
    "cosine": "cosine of image label\nand text label",
    "retrieval": "nearest one right,\namong held-out labels",
    "retrieval_all": "nearest one right,\namong all labels",
}


@styled
def alignment(table: Table, n_heldout: int, path: Path | None = None) -> Figure:
    """Measures on held-out labels (columns) in each space and condition (rows) against N, a line a fit."""
    rows_of = {space: table["space"] == space for space in SPACES}  # a model in depth has no OV
    kinds = [(s, name, rows[rows_of[s][rows]]) for s in SPACES for name, rows in conditions_of(table).items()]
    kinds = [kind for kind in kinds if len(kind[2])]
    labels = np.array(sorted(set(table["n_labels"].tolist())))
    size = (2 * PANEL, 2.4 * len(kinds) + 1.2)
    figure, axes = subplots(len(kinds), len(PANELS), figsize=size, sharex=True, sharey="col", squeeze=False)
    for row, (space, condition, chosen) in zip(axes, kinds, strict=True):
        rows = select(table, chosen)
        for axis, measure in zip(row, PANELS, strict=True):
            for k, (fit, name) in enumerate(FITS.items()):
                part = select(rows, rows["fit"] == fit)
                by_n = groups(part, ("n_labels",))
                within = None if measure == "cosine" else ACCURACY
                line(axis, [n for (n,) in by_n], [part[measure][i] for i in by_n.values()], k, name, within)
            chance = {"cosine": 0 * labels, "retrieval": 0 * labels + 1 / n_heldout, "retrieval_all": 1 / (n_heldout + labels)}
            axis.plot(labels, chance[measure], color="0.4", lw=0.8, ls=(0, (1, 2)), label="chance")
            axis.set_xticks(labels)
        row[0].set_ylabel("\n".join([*wrap(SPACES[space], 22), *filter(None, [in_lines(condition)])]))
    for column, title in zip(axes.T, PANELS.values(), strict=True):
        column[0].set_title(title, size=9)
        column[-1].set_xlabel("number of labels N")
    for axis in axes[:, 1:].flat:
        axis.set_ylim(-0.03, 1.03)
    legend_below(figure, *axes[0, 0].get_legend_handles_labels())
    headline(
        figure,
        "How well a rotation fitted on trained labels takes held-out labels of images to those of text: mean over seeds, "
        "95 % interval, seeds as dots",
    )
    return save(figure, path)
