"""Figures that the notebooks alone draw: the bias of every head, and one dose of a term."""

from pathlib import Path

import numpy as np
import xarray as xr

from lrjax.plotting.style import COLOURS, LINES, MARKERS, Figure, finish, line, save, styled, subplots
from lrjax.stats import ACCURACY, Table, groups, select
from lrjax.training.retrieval import MEASURES


@styled
def head_bias(bias: xr.DataArray, path: Path | None = None) -> Figure:
    """head_bias [model, head]: a column of dots a seed, a panel per N."""
    by_n = groups({"n": bias.n_labels.values}, ("n",))
    figure, axes = subplots(1, len(by_n), figsize=(3.2 * len(by_n) + 0.8, 3.2), sharey=True, squeeze=False)
    for axis, ((n,), rows) in zip(axes[0], by_n.items(), strict=True):
        for h, head in enumerate(bias["head"].values):
            x = np.arange(len(rows)) + (h - (bias.sizes["head"] - 1) / 2) * 0.12
            style = dict(color=COLOURS[h % 7], marker=MARKERS[h % 7], ls="none", ms=5)
            axis.plot(x, bias.isel(model=rows).sel(head=head), label=f"head {head}", **style)
        y_label = "share of images in which\nCLS prefers the right object" if axis is axes[0, 0] else ""
        finish(axis, "seed", y_label, f"N = {n} labels")
        axis.axhline(0.5, color="0.4", lw=0.8, ls=(0, (1, 2)))
        axis.set_xticks(range(len(rows)), bias.seed.values[rows])
        axis.grid(axis="x", visible=False)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=7)
    figure.suptitle("head_bias, unseen pairs: 1 always right, 0 always left, 0.5 neither", size=10)
    return save(figure, path)


@styled
def dose(rows: xr.Dataset, doses: Table, gate: float, path: Path | None = None) -> Figure:
    """One dose of EP. rows: EP, PP, BP [head, pixel] of one model's CLS row, drawn with EP at `gate`; doses: `ablate`'s table of
    EP=0 .. EP=1, drawn whole, `gate` marked.
    """
    figure, (left, right) = subplots(1, 2, figsize=(9, 3.4))
    centred = lambda scores: scores - scores.mean("pixel")
    limit = 1.05 * max(float(abs(centred(g * rows.EP + rows.PP + rows.BP)).max()) for g in (0, 1))
    for k, head in enumerate(rows["head"].values):
        scores = centred(gate * rows.EP + rows.PP + rows.BP).sel(head=head)
        style = dict(color=COLOURS[k % 7], ls=LINES[k % 7], marker=MARKERS[k % 7], ms=3.5)
        left.plot(rows.pixel, scores, label=f"head {head}", **style)
    left.axhline(0, color="0.6", lw=0.8)
    left.set(xlabel="key position (pixel)", ylabel="score of the CLS row, mean removed", ylim=(-limit, limit))
    left.set(title=f"{gate:g} EP + PP + BP, one model", xticks=rows.pixel.values)
    left.legend(fontsize=8, ncols=2)

    gates = np.array([float(name.partition("=")[2]) for name in doses["ablation"]])
    levels = np.unique(gates)
    for k, (metric, label) in enumerate(MEASURES.items()):
        line(right, levels, [select(doses, gates == g)[metric] for g in levels], k, label, ACCURACY)
    which = ", ".join(map(str, np.unique(doses["n_labels"])))
    finish(right, "gate of EP", "accuracy, unseen pairs", f"N = {which}: mean, 95 % interval, seeds as dots", 0.5)
    right.axvline(gate, color="0.2", lw=1)
    right.legend(fontsize=8, loc="lower right")
    return save(figure, path)
