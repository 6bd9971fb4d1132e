"""The values that claims of the main report take: what is read from its tables, by seed.

A value is a function of a study and the name of its sweep. A difference is of the seeds that both sides have: answers lack models
that have diverged. A contrast is of models with N = 15 labels unless it says otherwise, as in the paper's figures.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from experiments.studies.study import Study
from experiments.studies.verdicts import NO_MODEL, Estimate, NoModel
from lrjax.ablations import described
from lrjax.analysis.gradient import carried, onsets, prediction, scale_ratio
from lrjax.analysis.regime import in_order
from lrjax.config import FIELDS
from lrjax.gates import NONE
from lrjax.stats import BOOTSTRAP, Table, joined, select, total, undiverged

N = 15
TOP1, ORDER, SET = "unseen_pair", "unseen_pair_order", "unseen_pair_label_set"


def rows_with(table: Table, **where) -> Table:
    """The rows where the columns have these values. Raises NoModel if there is none."""
    rows = np.ones(len(next(iter(table.values()))), bool)
    for name, value in where.items():
        rows &= table[name] == value if name in table else False
    if not rows.any():
        raise NoModel(f"report: no model with {where}", untrained(table, where))
    return select(table, rows)


def untrained(table: Table, where: Mapping[str, Any]) -> str:
    """Why a table has no such rows: `N = 20 was not trained` where none of its models has a field's value."""
    for name, value in where.items():
        if name in FIELDS and name in table and not (table[name] == value).any():
            return f"{'N' if name == 'n_labels' else name} = {value} was not trained"
    return NO_MODEL


def labelled(values: Sequence | np.ndarray, seeds: Sequence | np.ndarray) -> xr.DataArray:
    """Values, one a seed, in the order of seeds. Arithmetic on two of them pairs by seed and keeps the seeds that both have."""
    order = np.argsort(seeds, kind="stable")
    return xr.DataArray(np.asarray(values)[order], {"seed": np.asarray(seeds)[order]}, ["seed"])


def of(table: Table, metric: str, **where) -> xr.DataArray:
    """`metric` where the columns have these values, by seed."""
    part = rows_with(table, **where)
    return labelled(part[metric], part["seed"])


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


def layout_effect(study: Study, part: str) -> xr.DataArray:
    """Top-1 at n2 = 40 less that at n2 = 1."""
    table = study.models("layouts")
    return of(table, "unseen_pair", n_labels=N, n2=40) - of(table, "unseen_pair", n_labels=N, n2=1)


def decay_effect(study: Study, part: str) -> xr.DataArray:
    """Top-1 with weight decay 0.1 less that without."""
    table = study.models("weight_decay")
    return of(table, "unseen_pair", weight_decay=0.1) - of(table, "unseen_pair", weight_decay=0.0)


def share_of(terms: tuple[str, ...], rows: str):
    """The share of the scores' variance in some terms, all heads."""

    def values(study, part):
        table = study.answer(part, "shares")
        return total(of(table, "share_all", n_labels=N, rows=rows, term=term, layer=0) for term in terms)

    return values


def per_model(table: Table, column: str, measure: Callable[[np.ndarray], float | bool], **where) -> xr.DataArray:
    """`measure` of each model's values of a column, where the other columns have these values, by seed."""
    part = rows_with(table, **where)
    seeds = np.unique(part["seed"])
    return labelled([measure(part[column][part["seed"] == seed]) for seed in seeds], seeds)


def leaning(study: Study, part: str) -> xr.DataArray:
    """Whether a model has heads that lean left and heads that lean right (thresholds of `analysis.heads`)."""
    both = lambda directions: {"left", "right"} <= set(directions)
    return per_model(study.answer(part, "heads"), "bias_direction", both, n_labels=N, layer=0)


def kept_heads(best_of: Callable[[Table], np.ndarray]):
    """Top-1 of the best subset of heads that `best_of` allows, less that of all heads."""

    def values(study, part):
        table = study.answer(part, "pruning")
        table = select(table, table["n_labels"] == N)
        best = per_model(select(table, best_of(table)), "unseen_pair", np.max)
        return best - of(table, "unseen_pair", n_heads_kept=table["n_heads_kept"].max(initial=0))

    return values


def single_head_top1(study: Study, part: str) -> xr.DataArray:
    """Top-1 with one head kept, the mean over the heads of each model."""
    return per_model(study.answer(part, "pruning"), "unseen_pair", np.mean, n_labels=N, n_heads_kept=1)


def reads_first(study: Study, part: str) -> xr.DataArray:
    """Whether a head of a model's EOT prefers the label named first whatever the labels (`analysis.text`)."""
    first = lambda whatever: "first" in set(whatever)
    return per_model(study.answer(part, "text"), "whatever", first, n_labels=N, set="heldout", word="left-of")


def aligned(n: int):
    """Retrieval of held-out labels across encoders after the rotation less before it."""

    def values(study, part):
        table = study.answer(part, "align")
        at = lambda fit: of(table, "retrieval", n_labels=n, space="E", fit=fit)
        return at("rotation") - at("before")

    return values


def phases_in_order(study: Study, part: str) -> np.ndarray:
    """Whether a model reaches .8 in single objects, then in seen pairs, then (strictly) in unseen pairs. Diverged ones are left
    out.
    """
    history = undiverged(study.history("phases"), [TOP1])
    if not len(history["step"]):
        return np.array([], bool)
    return in_order(history)[history["step"] == history["step"].max()]


def gradient_before_skill(study: Study, part: str) -> np.ndarray:
    """Whether a model's gradient is half grown strictly before its unseen-pair top-1 is half way. Diverged ones are left out."""
    history = undiverged(study.history("phases"), [TOP1])
    share = lambda model: onsets(select(history, history["model"] == model))["gradient_first"][0]  # of one model: 0 or 1
    return np.array([share(model) == 1 for model in np.unique(history["model"])], bool)


def ratios(study: Study, part: str) -> tuple[np.ndarray, Table]:
    """The best head's ratio, and the accuracies, of the models of a sweep and of the sweep of initial scales, joined by the number
    of the model: the answer lacks those that diverged.
    """
    names = ("unseen_pair_order", "unseen_pair", "unseen_pair_label_set")
    parts = [joined(study.answer(sweep, "strongest"), study.models(sweep), names) for sweep in (part, "ratio")]
    models = {name: np.concatenate([table[name] for table in parts]) for name in ("ratio", "n_labels", *names)}
    return models.pop("ratio"), models


def predicts(metric: str):
    """Spearman's rank correlation of the best head's ratio with an accuracy, over all models of the sweep and of the sweep of
    initial scales. No mean over seeds, and no closed form: Fisher's takes models of one kind, and these are of many conditions. Its
    interval is the percentile bootstrap over models, of which there are hundreds.
    """

    def values(study, part):
        ratio, models = ratios(study, part)

        def correlation(rows) -> float:
            found = prediction(ratio[rows], select(models, rows))
            return float(found["rank_correlation"][found["accuracy"].tolist().index(metric)])

        rng, n = np.random.default_rng(0), len(ratio)
        low, high = np.quantile([correlation(rng.integers(n, size=n)) for _ in range(500)], (0.025, 0.975))
        return Estimate(correlation(np.arange(n)), low, high, n, BOOTSTRAP)

    return values


def half_dose(study: Study, part: str) -> np.ndarray:
    """The gate of EP at which half of the order that EP carries is lost (linear between doses)."""
    table = described(study.answer(part, "doses"))
    table = rows_with(table, n_labels=N, terms="EP", control=NONE)
    dose = table["scale"]
    found = []
    for seed in np.unique(table["seed"]):
        rows = np.flatnonzero(table["seed"] == seed)
        rows = rows[np.argsort(dose[rows])]
        order = np.maximum.accumulate(table["unseen_pair_order"][rows])
        found.append(np.interp((order[0] + order[-1]) / 2, order, dose[rows]))
    return np.array(found)


def carried_by(term: str, ratio: float):
    """The share of the position gradient that a term carries at one ratio of initial scales."""

    def values(study, part):
        table = carried(study.answer("ratio", "strongest"))
        return of(table, f"share_{term}", n_labels=N, ratio_EP=ratio)

    return values


def ratio_change(ablation: str, ratio: float):
    """The change of order that an ablation makes at one ratio of initial scales."""

    def values(study, part):
        table = study.answer("ratio", "ratio")
        table = table | {"ratio_EP": scale_ratio(table)}
        at = lambda name: of(table, "unseen_pair_order", n_labels=N, ratio_EP=ratio, ablation=name)
        return at(ablation) - at(NONE)

    return values


def explained_by(factor: str):
    """The share of the variance of top-1 over N x n2 that a factor explains, with its interval (`factors.explained`)."""

    def values(study, part):
        shares = study.grid()
        i = shares["factor"].tolist().index(factor)
        return Estimate(shares["share"][i], shares["low"][i], shares["high"][i], int(shares["models"][i]), BOOTSTRAP)

    return values
