"""What a figure shows, read back: what is labelled and its points; of files, the text of an SVG and the colours of a PNG."""

import re
from html import unescape
from pathlib import Path

import numpy as np
from matplotlib import image
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer, ErrorbarContainer


def points(drawn) -> np.ndarray:
    """The points [n, 2] of a line, of dots, of the middles of error bars, or of the tops of bars."""
    if isinstance(drawn, BarContainer):
        return np.array([[bar.get_x() + bar.get_width() / 2, bar.get_height()] for bar in drawn])
    if isinstance(drawn, PathCollection):
        return np.asarray(drawn.get_offsets())
    return np.asarray((drawn[0] if isinstance(drawn, ErrorbarContainer) else drawn).get_xydata())


def series(axis: Axes) -> dict[str, np.ndarray]:
    """The points of all that a legend of this axis names."""
    handles, labels = axis.get_legend_handles_labels()
    assert len(set(labels)) == len(labels), f"one name, two series: {labels}"
    return {label: points(handle) for handle, label in zip(handles, labels, strict=True)}


def dots(axis: Axes) -> set[tuple[float, float]]:
    """The small dots of an axis: single seeds."""
    lines = [line for line in axis.lines if line.get_marker() == "."]
    return {(float(x), float(y)) for line in lines for x, y in line.get_xydata()}


def level_lines(axis: Axes) -> list[float]:
    """The heights of the level lines across an axis: chance, 0."""
    across = [line.get_ydata() for line in axis.lines if tuple(line.get_xdata()) == (0, 1)]
    return [float(low) for low, high in across if low == high]


def tick_labels(axis: Axes) -> list[str]:
    """The names under an axis."""
    return [label.get_text() for label in axis.get_xticklabels()]


def texts(path: Path) -> list[str]:
    """All words of an SVG: matplotlib draws them as curves, and says above each in a comment what it is."""
    return [unescape(text) for text in re.findall(r"<!-- (.*?) -->", path.read_text(), re.S)]


def colours(path: Path) -> set[str]:
    """The colours of a PNG's pixels, as "#0072b2"."""
    pixels = image.imread(path)[..., :3].reshape(-1, 3)
    return {to_hex(colour) for colour in np.unique(pixels, axis=0)}
