"""The regime map: where in the plane of initial scales each row of the paper's finding holds."""

from pathlib import Path
from textwrap import wrap

import numpy as np

from lrjax.analysis.regime import ROWS
from lrjax.plotting.style import COLOURS, Figure, headline, panels, save, styled
from lrjax.stats import Table


@styled
def regime_map(screen: Table, full: Table, path: Path | None = None) -> Figure:
    """Small multiples over (p_scale, e_scale): a panel a row of the signature, and how many hold at once.

    Small dots: configurations that were screened only; large ones: trained in full.
    """
    figure, axes = panels(len(ROWS) + 1, 2.5, sharex=True, sharey=True)
    for axis, (name, (text, *_)) in zip(axes, ROWS.items(), strict=False):
        for table, size in ((screen, 6), (full, 34)):
            holds = table["agrees_" + name]
            for value, colour, marker, label in ((False, "0.72", "x", "does not hold"), (True, COLOURS[0], "o", "holds")):
                rows = holds == value
                style = dict(s=size, c=colour, marker=marker, lw=0.8, label=label if table is full else None)
                axis.scatter(table["p_scale"][rows], table["e_scale"][rows], **style)
        axis.set_title("\n".join(wrap(text, 38)), size=9)
    last = axes[len(ROWS)]
    for table, size in ((screen, 6), (full, 34)):
        shown = last.scatter(table["p_scale"], table["e_scale"], s=size, c=table["agree"], cmap="viridis", vmin=0, vmax=len(ROWS))
    figure.colorbar(shown, ax=last, label="rows that hold at one step")
    last.set_title(f"rows that hold together,\nof {len(ROWS)} (best: {int(np.max(full['agree']))})", size=9)
    for axis in axes:
        axis.set(xscale="log", yscale="log")
        axis.plot((0.02, 1), (0.02, 1), color="0.6", lw=0.8, ls=":")
    for axis in axes[-2:]:
        axis.set_xlabel("initial scale of positions, p_scale")
    for axis in axes[::2]:
        axis.set_ylabel("initial scale of\ntokens, e_scale")
    axes[0].legend(fontsize=8, loc="lower left")
    headline(figure, "Where the paper's findings hold, each configuration at its best step (dotted: equal scales)")
    return save(figure, path)
