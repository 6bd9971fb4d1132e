"""What a claim is, and its verdict by the interval of what was measured.

A claim takes one value a model (a paired contrast where it compares; a truth value where it is about a share of models), and the
interval on which the paper's statement lies. Its verdict: **agrees**, the 95 % interval of the mean (`stats.mean_interval`)
is on the paper's side; **differs**, it is wholly on the other side; **undecided**, it straddles; **not tested**, nothing was
measured. Claims of our own (`paper` is empty) are judged by the same rule.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from lrjax.errors import InputError
from lrjax.stats import ACCURACY, T, cut, interval_text, mean_interval, pair_text, rule

NO_MODEL = "no model qualifies"  # what a page says of a claim if no model is what the claim is about
INF = float("inf")


class NoModel(InputError):
    """A table is there, and none of its models is what a claim is about. `missing` says so on a page."""

    def __init__(self, text: str, missing: str = NO_MODEL):
        super().__init__(text)
        self.missing = missing


class Estimate(NamedTuple):
    """A statistic that is no mean over models: its value, 95 % interval, number of models, and the rule of the interval."""

    value: float
    low: float
    high: float
    n: int
    rule: str


@dataclasses.dataclass(frozen=True)
class Claim:
    """`values(study, part)`: one number a model, or one truth value where the claim is about a share of models. `study` is what
    they are read from: a Study, or the folder of tables of pretrained models. `part`: the sweep that the claim is asked of, or None
    if it is asked of every variant of the baseline (the default, paper_like).

    The paper's side is low <= mean <= high, -INF and INF where it has no end. A side between 0 and 1 is of an accuracy or a share,
    which lies there whatever is found: its 0 and 1 are no thresholds.
    """

    key: str
    finding: str
    paper: str
    contrast: str
    low: float
    high: float
    values: Callable[[Any, str], np.ndarray | xr.DataArray | Estimate] | None
    part: str | None = None
    note: str = ""

    @property
    def within(self) -> tuple[float, float] | None:
        """The ends of the scale, where intervals are cut for people: those of accuracies and shares; None of anything else."""
        return ACCURACY if self.low >= 0 and self.high <= 1 else None

    @property
    def thresholds(self) -> tuple[float, float]:
        """The ends of the paper's side that an interval can pass."""
        if self.within is None:
            return self.low, self.high
        return -INF if self.low == 0 else self.low, INF if self.high == 1 else self.high


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What was measured of a claim: mean, 95 % interval (not cut), number of models, the verdict, and the rule of the interval."""

    claim: Claim
    part: str
    mean: float
    low: float
    high: float
    n: int
    verdict: str
    rule: str = ""
    missing: str = "not measured"  # why there is no value, where n is 0

    @property
    def shown(self) -> tuple[float, float]:
        """The interval for people: cut at the ends of the scale."""
        return cut((self.low, self.high), self.claim.within)

    def text(self, digits: int) -> str:
        """The mean and its interval; of two models their values; why there is none."""
        if not self.n:
            return self.missing
        if self.n == 2 and self.rule == T:
            return pair_text(self.mean, self.high, digits)
        return interval_text(self.mean, *self.shown, digits)


def judge(claim: Claim, study: Any, part: str | None = None) -> Verdict:
    """The verdict on a claim in one sweep."""
    sweep = part or claim.part or ""
    nothing = Verdict(claim, sweep, np.nan, np.nan, np.nan, 0, "not tested")
    if claim.values is None:
        return nothing
    try:
        values = claim.values(study, sweep)
    except NoModel as error:
        return dataclasses.replace(nothing, missing=error.missing)
    except InputError:  # the sweep or the answer is not there
        return nothing
    if not isinstance(values, Estimate):
        values = np.asarray(values)
        values = Estimate(*mean_interval(values), int((~np.isnan(values)).sum()), rule(values))
    if values.n == 0:
        return dataclasses.replace(nothing, missing=NO_MODEL)
    return Verdict(claim, sweep, *values[:4], verdict_of(claim, values.low, values.high), values.rule)


def verdict_of(claim: Claim, low: float, high: float) -> str:
    """On which side of a claim an interval lies. A single number has none (NaN)."""
    least, most = claim.thresholds
    if least <= low and high <= most:
        return "agrees"
    return "differs" if high < least or low > most else "undecided"


def stated(verdict: Verdict) -> str:
    """`0.87 [0.86, 0.89]`, for a sentence."""
    if not verdict.n:
        return f"({verdict.missing})"
    return verdict.text(2) + (" (one model)" if verdict.n == 1 else "")


def interval_of(verdict: Verdict) -> str:
    """`0.870 [0.860, 0.890]`, for a table."""
    return verdict.text(3)
