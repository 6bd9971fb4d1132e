"""Figures of Section 5: which heads are relational, in which images (Fig 5c, 5d of the paper)."""

from pathlib import Path

import numpy as np
import xarray as xr

from lrjax.analysis.relational import MEASURES
from lrjax.plotting.style import COLOURS, MARKERS, PANEL, Figure, finish, grid, headline, legend, save, styled, subplots
from lrjax.stats import Table

TERMS = {name: tuple("+".join(terms) for terms in pair) for name, pair in MEASURES.items()}  # ("EE", "EP") ...
BARS = {"relational_printed": "P(relational), EE and EP", "relational_sums": "P(relational), from the sums"}


@styled
def scatter(images: xr.Dataset, title: str, path: Path | None = None) -> Figure:
    """Fig 5c: Delta_label against Delta_pe of one model's images (`relational.images`), a panel a head, a row a measure. Between
    the diagonals |Delta_label| = |Delta_pe| on either side of 0, grey, the place decides. Colour: the object that CLS attends to.
    """
    n_heads = images.sizes["head"]
    figure, axes = subplots(len(MEASURES), n_heads, figsize=(min(2.5 * n_heads + 0.8, 2 * PANEL), 5.4), squeeze=False)
    for row, measure in zip(axes, MEASURES, strict=True):
        of_label, of_place = TERMS[measure]
        for axis, head in zip(row, images["head"].values, strict=True):
            label, place = (images[name].sel(measure=measure, head=head).values for name in ("delta_label", "delta_pe"))
            limit = 1.05 * max(np.abs(label).max(), np.abs(place).max(), 1e-6)
            edge = np.array([-limit, 0, limit])
            axis.fill_between(edge, -np.abs(edge), np.abs(edge), color="0.5", alpha=0.12, lw=0)
            to_right = images.to_right.sel(head=head).values
            for k, (name, chosen) in enumerate({"right": to_right > 0.5, "left": to_right < 0.5, "tie": to_right == 0.5}.items()):
                dots = dict(marker=MARKERS[k], color=COLOURS[k], s=5, lw=0, alpha=0.5, rasterized=True)
                if chosen.any():
                    axis.scatter(place[chosen], label[chosen], label=f"attends {name}" if k < 2 else "attends both alike", **dots)
            axis.axline((0, 0), slope=1, color="0.4", lw=0.8, ls="--")
            axis.axline((0, 0), slope=-1, color="0.4", lw=0.8, ls="--")
            axis.set(xlim=(-limit, limit), ylim=(-limit, limit), xlabel=f"$\\Delta$ {of_place}", title=f"head {head}")
        row[0].set_ylabel(f"$\\Delta$ {of_label}")
    named = dict(pair[::-1] for axis in axes.flat for pair in zip(*axis.get_legend_handles_labels(), strict=True))
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=len(named), markerscale=2.5)
    headline(figure, f"Right object less left one, images of unseen pairs; grey: the place decides\n{title}")
    return save(figure, path)


@styled
def bars(table: Table, title: str, path: Path | None = None) -> Figure:
    """Fig 5d: P(relational) of each head of one model, beside P(attends right) - P(attends left). From `relational.head_table`."""
    figure, (axis,) = subplots(figsize=(1.2 * len(table["head"]) + 2.4, 3.4))
    shown = {**BARS, "difference": "P(attends right) - P(attends left)"}
    for k, (name, label) in enumerate(shown.items()):
        axis.bar(np.arange(len(table["head"])) + 0.27 * (k - 1), table[name], 0.25, color=COLOURS[k], label=label)
    axis.axhline(0, color="0.4", lw=0.8)
    axis.set_xticks(range(len(table["head"])), [f"head {h}" for h in table["head"]])
    axis.set(ylim=(-1.05, 1.05), ylabel="share of images of unseen pairs")
    axis.grid(axis="x", visible=False)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    figure.suptitle(title, size=10)
    return save(figure, path)


@styled
def claim(table: Table, path: Path | None = None) -> Figure:
    """P(relational) against |P(attends right) - P(attends left)|, a dot a head of every model: the paper says they are about equal.
    From `relational.head_table`.
    """
    figure, panels = grid(table)
    for axis, part in panels:
        for k, (name, label) in enumerate(BARS.items()):
            dots = dict(marker=MARKERS[k], s=14, color=COLOURS[k], alpha=0.6, lw=0)
            axis.scatter(np.abs(part["difference"]), part[name], label=label, **dots)
        axis.plot([0, 1], [0, 1], color="0.4", lw=0.8, ls="--")
        finish(axis, "|P(attends right)\n- P(attends left)|", "P(relational)", axis.get_title())
    legend(figure, panels)
    headline(figure, "Heads of all models, images of unseen pairs; dashed: equal, as the paper says")
    return save(figure, path)
