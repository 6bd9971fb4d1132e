"""What all figures share. Colours are Okabe and Ito's; markers and line styles differ too, to be read in grey.

Figures are made without pyplot, which would choose a backend and keep every figure, and in a style that lasts as long as the call:
the caller's backend, rcParams and figures are as they were.
"""

import io
from collections.abc import Callable
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib
import matplotlib.axes
import matplotlib.figure
import numpy as np

from lrjax.config import AXIS_COLUMNS, STATIC
from lrjax.stats import Table, groups, mean_interval, select, varying
from lrjax.storage.files import write_atomically

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
PANEL = 3.3  # inches: two beside each other; at the width of a phone, 390 pixels, letters of 10 points have 8 pixels
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), "-")
STYLE: dict[Any, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "font.size": 10,
    "axes.titlesize": 10,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "figure.dpi": 110,
    "savefig.bbox": "tight",
    "svg.hashsalt": "lrjax",
}


class Figure(matplotlib.figure.Figure):
    """A figure that notebooks show, although no pyplot knows of it."""

    def _repr_png_(self) -> bytes:
        return _rendered(self, "png")


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Decorate a function that draws a figure: STYLE holds until it returns."""
    return matplotlib.rc_context(STYLE)(draw)


def subplots(n_rows: int = 1, n_columns: int = 1, *, figsize: tuple[float, float], **shared):
    """A figure and an array of its axes, of one axes too; `shared` goes to Figure.subplots. No pyplot knows of the figure."""
    figure = Figure(figsize=figsize, layout="constrained")
    axes = figure.subplots(n_rows, n_columns, **shared)
    return figure, np.array([axes]) if isinstance(axes, matplotlib.axes.Axes) else axes


def panels(n: int, height: float = 2.9, **shared):
    """A figure of n panels, at most two beside each other as on a phone, and its axes [n]. `shared` is as of `subplots`."""
    rows, columns = -(-n // 2), min(n, 2)
    size = (PANEL * columns + 1.3 * (columns == 1), height * rows + 0.7)
    figure, axes = subplots(rows, columns, figsize=size, squeeze=False, **shared)
    if n < axes.size:
        axes[-1, -1].remove()
        axes[-2, -1].xaxis.set_tick_params(labelbottom=True)  # nothing stands below it
    return figure, axes.flat[:n]


def name_left(axes) -> None:
    """Of two `panels` beside each other that share their y axis and its name, the left one alone has the name."""
    for left, right in zip(axes[::2], axes[1::2], strict=False):
        if right.get_ylabel() == left.get_ylabel():
            right.set_ylabel("")


def headline(figure: Figure, text: str) -> None:
    """The title of a figure, in as many lines as its width asks for."""
    figure.suptitle("\n".join(wrap(text, int(14 * figure.get_figwidth()))), size=10)


def legend_below(figure: Figure, handles, names) -> None:
    """One legend of all panels, below them, with as many columns as fit."""
    longest = max((len(line) for name in names for line in name.split("\n")), default=1) + 7
    columns = max(1, min(len(names), int(15 * figure.get_figwidth() / longest)))
    figure.legend(handles, names, loc="outside lower center", ncols=columns)


def save(figure: Figure, path: Path | None) -> Figure:
    """Write a figure in the format of the suffix of `path` (svg, pdf, png), if a path is given. Returns the figure."""
    if path is not None:
        write_atomically(path, _rendered(figure, path.suffix[1:] or None))
    return figure


@matplotlib.rc_context(STYLE)  # matplotlib makes the ticks of a figure when it saves the figure
def _rendered(figure: Figure, format: str | None) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format=format)
    return content.getvalue()


def finish(axis, x_label: str, y_label: str, title: str, chance: float | None = None) -> None:
    """Names and limits of an axis of accuracies, and its chance line."""
    axis.set(xlabel=x_label, ylabel=y_label, title=title, ylim=(-0.03, 1.03))
    if chance is not None:
        axis.axhline(chance, color="0.4", lw=0.8, ls=(0, (1, 2)))
        name_chance(axis, chance)


def name_chance(axis, chance: float) -> None:
    """`chance` beside the right end of its line, outside of the axis, where no data are."""
    at = dict(xycoords=("axes fraction", "data"), ha="left", va="center", rotation=90)
    axis.annotate("chance", (1.01, chance), size=7, color="0.35", **at)


def line(axis, x, samples, k: int, label: str | None, within: tuple[float, float] | None = None) -> None:
    """The k-th line of an axis: mean and 95 % interval, cut at the ends of a scale, of samples [len(x)][n] at x, seeds as dots."""
    mean, low, high = np.array([mean_interval(values, within) for values in samples]).T
    again = k // 7  # colours come again with other markers and line styles
    style = dict(marker=MARKERS[(k + 2 * again) % 7], ls=LINES[(k + again) % 7])
    axis.plot(x, mean, color=COLOURS[k % 7], ms=4, lw=1.4, label=label, **style)
    axis.fill_between(x, low, high, color=COLOURS[k % 7], alpha=0.18, lw=0)
    for place, values in zip(x, samples, strict=True):
        axis.plot(np.full(len(values), place), values, ".", color=COLOURS[k % 7], ms=3, alpha=0.45)


def left_out(table: Table) -> str:
    """`; 2 diverged models left out`, if a table has models without accuracies."""
    if "unseen_pair" not in table:
        return ""
    models = set(table["model"][np.isnan(table["unseen_pair"])].tolist())
    return f"; {len(models)} diverged model{'s' if len(models) > 1 else ''} left out" if models else ""


CONDITIONS = (*(name for name in AXIS_COLUMNS if name != "n_labels"), *STATIC)


def conditions_of(table: Table, leave_out: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """The rows of each condition, named by the axes (beside N and seeds) that vary: seeds are pooled, conditions never."""
    by = varying(table, tuple(name for name in CONDITIONS if name not in leave_out))
    named = lambda key: ", ".join(f"{name} = {in_short(value)}" for name, value in zip(by, key, strict=True))
    return {named(key): rows for key, rows in groups(table, by).items()}


def in_short(value: object) -> str:
    """A value of an axis for people: of a long fraction, such as a multiplier of sqrt(128), four digits."""
    text = str(value)
    return f"{value:.4g}" if isinstance(value, float) and len(text) > 7 else text


def in_lines(name: str, width: int = 30) -> str:
    """The name of a condition, a line an axis; a task's options may take several."""
    return "\n".join(line for axis in name.split(", ") for line in wrap(axis.replace(",", ", "), width))


def shrink(figure: Figure, path: Path, colours: int = 96) -> Path:
    """Write a figure as a PNG with few colours, a third of its size: reports carry many. Returns the path."""
    from PIL import Image

    with Image.open(io.BytesIO(_rendered(figure, "png"))) as image:
        small = image.convert("RGB").quantize(colours)
    content = io.BytesIO()
    small.save(content, "PNG", optimize=True)
    write_atomically(path, content.getvalue())
    return path


def grid(table: Table, down: tuple[str, ...] = (), height: float = 2.6):
    """A figure of panels: one per value of those of `down` that vary, N and condition.

    Returns the figure and, of each panel, its axis (titled; x and y are shared), its part of the table.
    """
    columns = [
        (f"N = {n} labels" + (f"\n{name}" if name else ""), rows[table["n_labels"][rows] == n])
        for name, rows in conditions_of(table).items()
        for n in sorted(set(table["n_labels"][rows].tolist()))
    ]
    down = varying(table, down)
    rows = groups(table, down)
    parts = [(title, chosen, key, own) for key, own in rows.items() for title, chosen in columns]
    figure, axes = panels(len(parts), height, sharex=True, sharey=True)
    for axis, (title, _, key, _) in zip(axes, parts, strict=True):
        where = ", ".join(f"{name} {value}" for name, value in zip(down, key, strict=True))
        axis.set_title("\n".join(filter(None, (title, where))))
    return figure, [
        (axis, select(table, np.intersect1d(chosen, own))) for axis, (_, chosen, _, own) in zip(axes, parts, strict=True)
    ]


def beside(seeds: np.ndarray, own: np.ndarray, h: int, n_heads: int) -> np.ndarray:
    """Where head h of n_heads stands on an axis of `seeds`, for the seeds `own` of its rows: heads side by side."""
    return np.searchsorted(seeds, own) + (h - (n_heads - 1) / 2) * 0.7 / n_heads


def legend(figure, parts) -> None:
    """One legend of all panels of a `grid`, below them; names of axes at its edges alone."""
    named = {}
    for axis, _ in parts:
        named = dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True)) | named
    for above, _ in parts[:-2]:
        above.set_xlabel("")
    name_left([axis for axis, _ in parts])
    legend_below(figure, list(named.values()), list(named))
