"""The figure of `analysis.align`: held-out labels before and after a rotation fitted on the trained ones."""

from pathlib import Path

import numpy as np

from lrjax.plotting.style import Figure, conditions_of, line, save, styled, subplots
from lrjax.stats import ACCURACY, Table, groups, select

SPACES = {"E": "Token rows E", "OV": "What heads write, E W_V W_O W_proj", "embedding": "Embedding of the label alone"}
FITS = {
    "before": "before",
    "rotation": "after a rotation fitted on trained labels",
    "control": "after one fitted on permuted labels",
}
PANELS = {
    "cosine": "cosine, image label\nwith text label",
    "retrieval": "nearest neighbour right,\namong held-out labels",
    "retrieval_all": "nearest neighbour right,\namong all labels",
}


@styled
def alignment(table: Table, n_heldout: int, path: Path | None = None) -> Figure:
    """Measures on held-out labels (rows) in each space (columns, and conditions) against N, a line a fit."""
    rows_of = {space: table["space"] == space for space in SPACES}  # a model in depth has no OV
    columns = [(s, name, rows[rows_of[s][rows]]) for s in SPACES for name, rows in conditions_of(table).items()]
    columns = [column for column in columns if len(column[2])]
    labels = np.array(sorted(set(table["n_labels"].tolist())))
    size = (3.4 * len(columns) + 0.8, 7)
    figure, axes = subplots(3, len(columns), figsize=size, sharex=True, sharey="row", squeeze=False)
    for column, (space, condition, chosen) in zip(axes.T, columns, strict=True):
        rows = select(table, chosen)
        for axis, (measure, y_label) in zip(column, PANELS.items(), strict=True):
            for k, (fit, name) in enumerate(FITS.items()):
                part = select(rows, rows["fit"] == fit)
                by_n = groups(part, ("n_labels",))
                within = None if measure == "cosine" else ACCURACY
                line(axis, [n for (n,) in by_n], [part[measure][i] for i in by_n.values()], k, name, within)
            chance = {"cosine": 0 * labels, "retrieval": 0 * labels + 1 / n_heldout, "retrieval_all": 1 / (n_heldout + labels)}
            axis.plot(labels, chance[measure], color="0.4", lw=0.8, ls=(0, (1, 2)), label="chance")
            axis.set_ylabel(y_label if axis in axes[:, 0] else "")
        column[0].set_title(SPACES[space] + (f"\n{condition}" if condition else ""), size=9)
        column[2].set_xlabel("number of training labels N")
        column[2].set_xticks(labels)
    for axis in axes[1:].flat:
        axis.set_ylim(-0.03, 1.03)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle("Held-out labels: image rows taken to text rows. Mean over seeds, 95 % interval, seeds as dots", size=10)
    return save(figure, path)
