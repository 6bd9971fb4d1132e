"""The paper's claims as contrasts with thresholds, and the verdict on each: fixed here, before any run.

A claim takes one value a model (a paired contrast where it compares), and the interval on which the paper's statement lies. Its
verdict by SPEC: **agrees**, the 95 % interval of the mean is on the paper's side; **differs**, it is wholly on the other side;
**undecided**, it straddles; **not tested**, nothing was measured. Claims of our own (`paper` is empty) are judged by the same rule.

Default labels of a contrast: N = 15, as in the paper's figures.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from lrjax.analysis.gradient import GENERALISES, onsets, prediction
from lrjax.analysis.regime import in_order
from lrjax.errors import InputError
from lrjax.gates import NONE
from lrjax.report.study import Study
from lrjax.stats import Table, mean_interval, select

N = 15
INF = float("inf")


@dataclasses.dataclass(frozen=True)
class Claim:
    """`values(study, part)`: one number a model. The paper's side is low <= mean <= high. `part`: the sweep it is asked of, or
    None if it is asked of every variant of the baseline (the default, paper_like).
    """

    key: str
    finding: str
    paper: str
    contrast: str
    low: float
    high: float
    values: Callable[[Study, str], np.ndarray] | None
    part: str | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What was measured of a claim: mean, 95 % interval, number of values, and the verdict."""

    claim: Claim
    part: str
    mean: float
    low: float
    high: float
    n: int
    verdict: str


def judge(claim: Claim, study: Study, part: str) -> Verdict:
    """The verdict on a claim in one sweep."""
    nothing = Verdict(claim, part, np.nan, np.nan, np.nan, 0, "not tested")
    if claim.values is None:
        return nothing
    try:
        values = np.asarray(claim.values(study, part), float)
    except InputError:  # the sweep or the answer is not there
        return nothing
    n = int((~np.isnan(values)).sum())
    mean, low, high = mean_interval(values)
    if n == 0:
        return nothing
    if np.isnan(low):  # one value has no interval
        return Verdict(claim, part, mean, low, high, n, "undecided")
    if claim.low <= low and high <= claim.high:
        verdict = "agrees"
    elif high < claim.low or low > claim.high:
        verdict = "differs"
    else:
        verdict = "undecided"
    return Verdict(claim, part, mean, low, high, n, verdict)


# ---- what is read from the answers: arrays in the order of seeds, so that differences are paired ----


def of(table: Table, metric: str, **where) -> np.ndarray:
    """`metric` where the columns have these values, in the order of seeds. Raises InputError if there is no such row."""
    rows = np.ones(len(table["seed"]), bool)
    for name, value in where.items():
        rows &= table[name] == value
    if not rows.any():
        raise InputError(f"report: no model with {where}")
    part = select(table, rows)
    return part[metric][np.argsort(part["seed"], kind="stable")]


def accuracy(metric: str, n: int = N):
    """A trained accuracy at N = n."""
    return lambda study, part: of(study.models(part), metric, n_labels=n)


def ablated(ablation: str, metric: str, n: int = N, answer: str = "ablate"):
    """An accuracy under an ablation."""
    return lambda study, part: of(study.answer(part, answer), metric, n_labels=n, ablation=ablation)


def change(ablation: str, metric: str, n: int = N, answer: str = "ablate", base: str = NONE):
    """The paired change that an ablation makes."""
    at = lambda name: ablated(name, metric, n, answer)
    return lambda study, part: at(ablation)(study, part) - at(base)(study, part)


def gauge(cls: str, metric: str, ablation: str = "EP"):
    """The change that an ablation makes to the same function with its CLS vector in another place."""

    def values(study, part):
        table = study.answer(part, "gauge")
        return of(table, metric, n_labels=N, cls=cls, ablation=ablation) - of(table, metric, n_labels=N, cls=cls, ablation=NONE)

    return values


def by_label_count(metric: str, few: int, many: int):
    """The paired difference between two label counts."""
    return lambda study, part: of(study.models(part), metric, n_labels=many) - of(study.models(part), metric, n_labels=few)


def layout_effect(study: Study, part: str) -> np.ndarray:
    """Top-1 at n2 = 40 less that at n2 = 1."""
    table = study.models("layouts")
    return of(table, "unseen_pair", n_labels=N, n2=40) - of(table, "unseen_pair", n_labels=N, n2=1)


def decay_effect(study: Study, part: str) -> np.ndarray:
    """Top-1 with weight decay 0.1 less that without."""
    table = study.models("weight_decay")
    return of(table, "unseen_pair", weight_decay=0.1) - of(table, "unseen_pair", weight_decay=0.0)


def share_of(terms: tuple[str, ...], rows: str):
    """The share of the scores' variance in some terms, all heads."""

    def values(study, part):
        table = study.answer(part, "shares")
        return sum(of(table, "share_all", n_labels=N, rows=rows, term=term, layer=0) for term in terms)

    return values


def leaning(study: Study, part: str) -> np.ndarray:
    """1 for a model with heads that lean left and heads that lean right (thresholds of `analysis.heads`), else 0."""
    from lrjax.analysis.heads import LEFT, RIGHT

    table = study.answer(part, "heads")
    per_model = []
    for model in np.unique(table["model"][table["n_labels"] == N]):
        bias = table["head_bias"][table["model"] == model]
        per_model.append((bias < LEFT).any() and (bias > RIGHT).any())
    return np.array(per_model, float)


def phases_in_order(study: Study, part: str) -> np.ndarray:
    """1 for a model that reaches .8 in single objects, then in seen pairs, then (strictly) in unseen pairs, else 0."""
    history = study.history("phases")
    rows = history["step"] == history["step"].max()
    return np.asarray(in_order(history)[rows], float)


def gradient_before_skill(study: Study, part: str) -> np.ndarray:
    """1 for a model whose gradient is half grown strictly before unseen-pair top-1 is half way, 0 otherwise."""
    history = study.history("phases")
    models = np.unique(history["model"])
    return np.concatenate([onsets(select(history, history["model"] == model))["gradient_first"] for model in models])


def regime_rows(study: Study, part: str) -> np.ndarray:
    raise InputError("regime")


def predictor_auc(metric: str):
    """Rank correlation, over all models of the baseline and of the ratio sweep, of a model's best ratio with an accuracy: one
    number a bootstrap resample of models, so that its interval is the mean's.
    """

    def values(study, part):
        ratios, models = [], []
        for sweep in (part, "ratio"):
            best, table = study.answer(sweep, "strongest"), study.models(sweep)
            ratios.append(best["ratio"])
            models.append(table)
        ratio = np.concatenate(ratios)
        table = {
            name: np.concatenate([m[name] for m in models])
            for name in ("unseen_pair_order", "unseen_pair", "unseen_pair_label_set")
        }
        found = prediction(ratio, table)
        return found["rank_correlation"][found["accuracy"].tolist().index(metric)]

    return values


def generalising_share(study: Study, part: str) -> np.ndarray:
    """1 for a model with top-1 above GENERALISES."""
    return (of(study.models(part), "unseen_pair", n_labels=N) > GENERALISES).astype(float)
