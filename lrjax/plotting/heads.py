"""Figures of the heads: which way each looks, and what is left when only some are kept."""

from pathlib import Path

import numpy as np

from lrjax.analysis.heads import DIRECTIONS, LEFT, RIGHT
from lrjax.metrics import Metric
from lrjax.plotting.style import COLOURS, MARKERS, Figure, beside, finish, grid, headline, legend, line, save, styled
from lrjax.stats import ACCURACY, Table, groups, select

LEANS = ("left", "right", "neither")


@styled
def bias(table: Table, path: Path | None = None) -> Figure:
    """Fig 4c of the paper, over seeds: every head's bias, and its range over pairs of labels. From `heads.head_table`."""
    figure, panels = grid(table, ("layer",))
    n_heads = len(set(table["head"].tolist()))
    for axis, part in panels:
        seeds = np.unique(part["seed"])
        for h in range(n_heads):
            rows = select(part, part["head"] == h)
            x = beside(seeds, rows["seed"], h, n_heads)
            style = dict(color=COLOURS[h % 7], lw=0.8)
            axis.vlines(x, rows["lowest_pair_bias"], rows["highest_pair_bias"], alpha=0.6, **style)
            axis.plot(x, rows["head_bias"], ls="none", marker=MARKERS[h % 7], ms=4.5, label=f"head {h}", **style)
        axis.axhspan(-0.03, LEFT, color="0.5", alpha=0.1, lw=0)
        axis.axhspan(RIGHT, 1.03, color="0.5", alpha=0.1, lw=0)
        finish(axis, "seed", "share of images in which\nCLS prefers the right object", axis.get_title())
        axis.axhline(0.5, color="0.4", lw=0.8, ls=(0, (1, 2)))
        axis.set_xticks(range(len(seeds)), seeds, size=7)
        axis.grid(axis="x", visible=False)
    legend(figure, panels)
    headline(
        figure, "Which way each head looks, unseen pairs; bars: lowest and highest over pairs of labels; grey: leans left or right"
    )
    return save(figure, path)


@styled
def by_distance(table: Table, path: Path | None = None) -> Figure:
    """The bias of heads against the distance of the objects: heads that lean left, right and neither. Columns bias_by_distance and
    bias_direction, a row per model, layer, head and distance.
    """
    figure, panels = grid(table, ("layer",))
    for axis, part in panels:
        for k, lean in enumerate(LEANS):
            rows = select(part, part["bias_direction"] == lean)
            by = groups(rows, ("distance",)) if len(rows["model"]) else {}
            if by:
                samples = [rows["bias_by_distance"][i] for i in by.values()]
                line(axis, [d for (d,) in by], samples, k, f"heads that lean {lean}", ACCURACY)
        finish(axis, "distance j - i (pixels)", "share of images in which\nCLS prefers the right object", axis.get_title())
        axis.axhline(0.5, color="0.4", lw=0.8, ls=(0, (1, 2)))
        axis.set_xticks(np.unique(table["distance"]))
    legend(figure, panels)
    headline(figure, "Bias of heads by the distance of the objects: mean over heads, 95 % interval, heads as dots")
    return save(figure, path)


@styled
def pruning(table: Table, measures: dict[str, str], path: Path | None = None) -> Figure:
    """App K of the paper: `measures` (column -> name) against how many heads are kept, by which ways these lean.

    From `heads.by_composition`.
    """
    long = {name: np.tile(column, len(measures)) for name, column in table.items() if name not in measures}
    long["measure"] = np.repeat(np.arange(len(measures)), len(table["model"]))
    long["value"] = np.concatenate([table[name] for name in measures])
    figure, panels = grid(long, ("measure",), height=2.3)
    for axis, part in panels:
        metric = list(measures)[part["measure"][0]]
        for k, directions in enumerate(DIRECTIONS):
            rows = select(part, part["directions"] == directions)
            by = groups(rows, ("n_heads_kept",)) if len(rows["model"]) else {}
            if by:
                shifted = [n + (k - 1) * 0.08 for (n,) in by]
                line(axis, shifted, [rows["value"][i] for i in by.values()], k, _composition(directions), ACCURACY)
        title = axis.get_title().rpartition("\n")[0]  # without the measure
        measured = Metric.parse(metric)
        finish(axis, "heads kept", measures[metric], title, measured.chance if measured else None)
        axis.set_xticks(np.unique(table["n_heads_kept"]))
    legend(figure, panels)
    headline(figure, "Heads pruned at inference, unseen pairs: mean over seeds, 95 % interval, models as dots")
    return save(figure, path)


def _composition(directions: str) -> str:
    names = {"both": "a left- and a right-leaning head among them", "one": "heads that lean one way", "neither": "no leaning head"}
    return names[directions]
