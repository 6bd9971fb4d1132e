"""How much of an accuracy does each of two axes of a sweep explain? A balanced two-way analysis of variance."""

import numpy as np

from lrjax.errors import InputError
from lrjax.stats import Table

RESAMPLES = 2000


def explained(table: Table, metric: str, a: str = "n_labels", b: str = "n2") -> Table:
    """Shares of the total sum of squares of `metric` over models: axis `a`, axis `b`, their interaction, and seeds (what is left).

    Four rows: `factor`, `share`, `low`, `high`. A share of a variance is no mean over seeds and has no closed form, so its 95 %
    interval is the percentile bootstrap: seeds are resampled jointly across all cells. It is too narrow where seeds are few. Raises
    InputError if some cell of a x b lacks a seed that another has.
    """
    for name in (a, b):
        if len(np.unique(table[name])) < 2:
            raise InputError(
                f"--axes={a},{b}: {name} takes one value; expected two axes that vary, give a sweep that is their product"
            )
    levels = [np.unique(table[name]) for name in (a, b)]
    seeds = np.unique(table["seed"])
    cells = np.full((len(levels[0]), len(levels[1]), len(seeds)), np.nan)
    at = (np.searchsorted(level, table[name]) for level, name in zip((*levels, seeds), (a, b, "seed"), strict=True))
    cells[tuple(at)] = table[metric]
    if min(map(len, levels)) < 2 or np.isnan(cells).any():
        raise InputError(
            f"factors: needs every seed at every {a} x {b}, two values or more of each; give a sweep that is their product"
        )
    found = shares(cells)
    low, high = (found, found) if np.isnan(found).all() else _interval(cells)
    return {"factor": np.array([a, b, f"{a} x {b}", "seeds"]), "share": found, "low": low, "high": high}


def _interval(cells: np.ndarray) -> np.ndarray:
    """Of each share its 95 % interval, [2, 4]."""
    rng, n = np.random.default_rng(0), cells.shape[-1]
    samples = [shares(cells[..., rng.integers(n, size=n)]) for _ in range(RESAMPLES)]
    return np.nanquantile(samples, (0.025, 0.975), axis=0)


def shares(cells: np.ndarray) -> np.ndarray:
    """Shares [4] of the total sum of squares of cells [a, b, seeds]: a, b, a x b, seeds; they sum to 1."""
    mean = cells.mean()
    of_a, of_b, of_ab = cells.mean((1, 2)) - mean, cells.mean((0, 2)) - mean, cells.mean(2)
    both = of_ab - mean - of_a[:, None] - of_b
    n_a, n_b, n = cells.shape
    parts = np.array(
        [n_b * n * (of_a**2).sum(), n_a * n * (of_b**2).sum(), n * (both**2).sum(), ((cells - of_ab[..., None]) ** 2).sum()]
    )
    return parts / parts.sum() if parts.sum() else np.full(4, np.nan)  # all models equal: nothing to explain
