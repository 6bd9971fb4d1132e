"""Mean and 95 % interval over models, and the tidy tables that all results are: a dict of column name -> array, rows aligned.

One rule: Student's t for the mean of numbers (of paired differences for a contrast), Wilson's interval for a share of models. A
percentile bootstrap is too narrow for 8 to 16 seeds.
"""

import csv
import functools
import io
import operator
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from scipy.special import ndtri, stdtrit  # quantiles of the normal and of Student's t; scipy.stats takes long to import

from lrjax.storage.files import write_atomically

Table = dict[str, np.ndarray]
Number = TypeVar("Number")  # arrays of NumPy, JAX or xarray
ACCURACY = (0.0, 1.0)  # the ends that the mean of an accuracy, or a share, cannot pass
T, WILSON, BOOTSTRAP = "Student's t", "Wilson", "bootstrap"  # the rules of intervals, as tables name them


def mean_interval(values, within: tuple[float, float] | None = None) -> tuple[float, float, float]:
    """Mean and 95 % interval over models, by the rule that `rule` names.

    Args:
      values: [n], one a model. Numbers have Student's t interval; NaN is left out; for a paired contrast give the differences.
        Truth values (is something true of the model?) have the share that is true and Wilson's interval.
      within: the ends of the scale, such as ACCURACY, where the interval is cut for a table or a figure. A verdict is judged by
        the interval that is not cut.

    Returns:
      mean, low, high. NaN if there is no value; low and high are NaN for a single number.
    """
    values = np.asarray(values)
    if rule(values) == WILSON:
        return share_interval(values)
    values = values.astype(float)
    values = values[~np.isnan(values)]
    n = len(values)
    if n == 0:
        return np.nan, np.nan, np.nan
    mean = values.mean()
    if n == 1:
        return mean, np.nan, np.nan
    half = stdtrit(n - 1, 0.975) * values.std(ddof=1) / np.sqrt(n)
    return mean, *cut((mean - half, mean + half), within)


def share_interval(true) -> tuple[float, float, float]:
    """The share of truth values [n] that is true, with Wilson's 95 % interval: it has a width where none or all are."""
    if rule(true) != WILSON:
        raise TypeError(f"share_interval: expected truth values, got {np.asarray(true).dtype}")
    n, z = len(true), ndtri(0.975)
    if n == 0:
        return np.nan, np.nan, np.nan
    p = float(np.mean(true))
    centre, half = (p + z**2 / (2 * n)) / (1 + z**2 / n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return p, *cut((centre - half, centre + half), ACCURACY)  # beyond by rounding alone


def rule(values) -> str:
    """Which interval `mean_interval` gives: WILSON of truth values, T of numbers."""
    return WILSON if np.asarray(values).dtype == bool else T


def cut(interval: tuple[float, float], within: tuple[float, float] | None) -> tuple[float, float]:
    """Low and high, cut at the ends of a scale; as they are if there is none. NaN stays NaN."""
    if within is None:
        return interval
    low, high = np.clip(interval, *within)
    return float(low), float(high)


def counted(values) -> str:
    """How many values mean_interval takes: `8`, or `7 of 8` where it leaves one out (NaN: its model diverged)."""
    left = int(np.isnan(np.asarray(values, float)).sum())
    return f"{len(values) - left} of {len(values)}" if left else str(len(values))


def total(parts: Iterable[Number]) -> Number:
    """The sum of arrays of one kind, of which there is at least one."""
    add: Any = operator.add
    return functools.reduce(add, parts)


def groups(table: Table, by: tuple[str, ...]) -> dict[tuple, np.ndarray]:
    """Row numbers of each combination of the columns `by`, in sorted order."""
    rows: dict[tuple, list[int]] = {}
    n = len(next(iter(table.values())))
    for i, key in enumerate(zip(*(table[name].tolist() for name in by), strict=True) if by else [()] * n):
        rows.setdefault(key, []).append(i)
    return {key: np.array(rows[key]) for key in sorted(rows)}


def select(table: Table, rows) -> Table:
    """Some rows of a table (indices or mask)."""
    return {name: column[rows] for name, column in table.items()}


def least(table: Table, by: tuple[str, ...], column: str) -> Table:
    """Of each combination of the columns `by` the row in which `column` is least; none where it is NaN throughout."""
    rows = [
        rows[np.nanargmin(table[column][rows])] for rows in groups(table, by).values() if not np.isnan(table[column][rows]).all()
    ]
    return select(table, np.array(rows, int))


def joined(table: Table, other: Table, names) -> Table:
    """A table of one row a model with columns `names` of another such table; NaN where that has no row for the model."""
    at = {model: i for i, model in enumerate(other["model"].tolist())}
    rows = [at.get(model, -1) for model in table["model"].tolist()]
    pick = lambda column: np.array([column[i] if i >= 0 else np.nan for i in rows], float)
    return table | {name: pick(other[name]) for name in names}


def undiverged(history: Table, columns) -> Table:
    """The rows of the models that have not diverged: a diverged one has NaN in every measure, here `columns`, from then on."""
    gone = np.all([np.isnan(history[name]) for name in columns], 0)
    return select(history, ~np.isin(history["model"], history["model"][gone]))


def varying(table: Table, columns) -> tuple[str, ...]:
    """Those of `columns` that take more than one value."""
    return tuple(name for name in columns if name in table and len(set(table[name].tolist())) > 1)


def conditions(table: Table, axes) -> tuple[str, ...]:
    """What to tell rows apart by when seeds are pooled: N, and those of `axes` that take more than one value."""
    return "n_labels", *(name for name in varying(table, axes) if name not in ("model", "seed", "n_labels"))


def write_csv(path: Path, table: Table) -> None:
    """Write a table, replacing the file atomically."""
    write_atomically(path, csv_text(table))


def csv_text(table: Table) -> str:
    """A table as CSV. Floats in the shortest form that reads back the same; NaN and masked, empty."""

    def text(value):
        if isinstance(value, float):
            return "" if np.isnan(value) else repr(value)
        return "" if value is None else str(value)

    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(table)
    columns = [_shortest(column) for column in table.values()]
    writer.writerows([text(value) for value in row] for row in zip(*columns, strict=True))
    return file.getvalue()


def read_csv(path: Path) -> Table:
    """A table that `write_csv` wrote."""
    return table_of(path.read_bytes())


def table_of(content: bytes) -> Table:
    """The inverse of `csv_text`: columns of truth values, of integers, of floats (empty: NaN), or of text."""
    header, *rows = csv.reader(io.StringIO(content.decode(), newline=""))

    def column(cells):
        if cells and set(cells) <= {"True", "False"}:
            return np.array([cell == "True" for cell in cells])
        for kind in (int, float):
            try:
                return np.array([kind(cell) if cell or kind is int else np.nan for cell in cells])
            except ValueError:
                continue
        return np.array(cells)

    return {
        name: column(cells) for name, cells in zip(header, zip(*rows, strict=True) if rows else [()] * len(header), strict=True)
    }


def _shortest(column: np.ndarray) -> list:
    """Python values; a float32 as the shortest decimal that is still that float32."""
    if column.dtype == np.float32:
        return [float(str(value)) for value in column]
    return column.tolist()


def format_table(header: list[str], rows: list[list[str]]) -> str:
    """A text table with aligned columns."""
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]
    lines = ["  ".join(str(cell).rjust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows]]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def interval_text(mean: float, low: float, high: float, digits: int = 3, signed: bool = False) -> str:
    """A mean and its interval as every page and command prints them: `0.870 [0.820, 0.910]`.

    Args:
      mean, low, high: numbers; low and high are NaN where one number has no interval, mean is NaN where nothing was measured.
      digits: how many digits stand after the point.
      signed: whether numbers above 0 have a sign, as a difference has.
    """
    if np.isnan(mean):
        return "(not measured)"
    shown = [f"{value:{'+' if signed else ''}.{digits}f}" for value in (mean, low, high)]
    return shown[0] if np.isnan(low) else "{} [{}, {}]".format(*shown)


def format_interval(values, signed: bool = False, within: tuple[float, float] | None = None, digits: int = 3) -> str:
    """`interval_text` of the mean over models [n]; of two models, their values. `within`: the ends of the scale."""
    mean, low, high = mean_interval(values)
    if rule(values) == T and counted(values).split()[0] == "2":
        return pair_text(mean, high, digits, signed)
    return interval_text(mean, *cut((low, high), within), digits, signed)


def pair_text(mean: float, high: float, digits: int = 3, signed: bool = False) -> str:
    """`0.120 and 0.340`: the two numbers whose mean has a Student's interval with this upper end; it is too wide to print."""
    half = (high - mean) / stdtrit(1, 0.975)
    return " and ".join(f"{value:{'+' if signed else ''}.{digits}f}" for value in (mean - half, mean + half))


def format_share(true) -> str:
    """`7 of 8 (0.875 [0.529, 0.978])`: of how many models something is true, their share and its interval; `0 of 0` of none."""
    true = np.asarray(true)
    return f"{true.sum()} of {len(true)}" + (f" ({format_interval(true)})" if len(true) else "")
