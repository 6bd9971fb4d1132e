"""Figures of other worlds: the position row on a grid, and where a reader looks."""

from pathlib import Path

import numpy as np
import xarray as xr

from lrjax.analysis.grid import best_heads
from lrjax.figures.style import COLOURS, MARKERS, conditions_of, plt, save
from lrjax.stats import Table


def maps(answer: xr.Dataset, model: int, title: str, path: Path) -> Path:
    """The CLS row of EP + PP + BP of one model on its grid, a panel a head, with its gradients. From `grid.directions`."""
    one = answer.sel(model=model)
    total = one.scores.sum("term", skipna=False).dropna("row", how="all").dropna("column", how="all")
    of_heads = total.sizes["head"]
    figure, axes = plt.subplots(1, of_heads, figsize=(2.3 * of_heads + 0.8, 2.6), squeeze=False, layout="constrained")
    most = float(abs(total - total.mean(("row", "column"))).max())
    for head, axis in enumerate(axes[0]):
        row = total.isel(head=head)
        image = axis.imshow(row - row.mean(), cmap="RdBu_r", vmin=-most, vmax=most)
        across, down = (float(one[f"gradient_{name}"][head]) for name in ("across", "down"))
        axis.set(title=f"head {head}\nacross {across:+.1f}, down {down:+.1f}", xticks=[], yticks=[])
        axis.grid(False)
    figure.colorbar(image, ax=axes, label="score, centred", shrink=0.8)
    figure.suptitle(title, size=10)
    return save(figure, path)


def directions(answer: xr.Dataset, path: Path) -> Path:
    """The gradient across against the gradient down, a dot a head, a panel per N: are they in different heads?"""
    labels = sorted(set(answer.n_labels.values.tolist()))
    figure, axes = plt.subplots(1, len(labels), figsize=(3 * len(labels) + 0.6, 3), squeeze=False, layout="constrained")
    apart = best_heads(answer).apart
    for axis, n in zip(axes[0], labels, strict=True):
        part = answer.where(answer.n_labels == n, drop=True)
        for head in range(part.sizes["head"]):
            style = dict(ls="none", ms=3.5, alpha=0.7, color=COLOURS[head % 7], marker=MARKERS[head % 7])
            axis.plot(abs(part.gradient_across.isel(head=head)), abs(part.gradient_down.isel(head=head)), **style)
        share = float(apart.where(apart.n_labels == n, drop=True).mean())
        axis.set(xlabel="|gradient across|", ylabel="|gradient down|", title=f"N = {n}: apart {share:.2f} (1: two heads, .5: one)")
    return save(figure, path)


def looks(table: Table, path: Path) -> Path:
    """How often each head of a reader looks more at the right object, at the word before the first label and before the second."""
    conditions = conditions_of(table)
    figure, axes = plt.subplots(1, len(conditions), figsize=(3.4 * len(conditions) + 0.6, 3), squeeze=False, layout="constrained")
    words = list(dict.fromkeys(table["word"].tolist()))
    for axis, (name, rows) in zip(axes[0], conditions.items(), strict=True):
        for k, n in enumerate(sorted(set(table["n_labels"][rows].tolist()))):
            for w, word in enumerate(words):
                own = rows[(table["n_labels"][rows] == n) & (table["word"][rows] == word)]
                x = w + (k - 0.5) * 0.25 + (np.arange(len(own)) % 9 - 4) * 0.02
                style = dict(ls="none", ms=3.5, alpha=0.6, color=COLOURS[k], marker=MARKERS[k])
                axis.plot(x, table["prefers_right"][own], label=f"N = {n}" if not w else None, **style)
        axis.axhline(0.5, color="0.4", lw=0.8, ls=":")
        axis.set(ylim=(-0.03, 1.03), title=name, ylabel="looks more at the right object")
        axis.set_xticks(range(len(words)), [f"before the {word} label" for word in words])
    axes[0, 0].legend(fontsize=8)
    figure.suptitle("Where a reader looks; dots are heads", size=10)
    return save(figure, path)
