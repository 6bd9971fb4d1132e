"""Values of claims on a sweep of other encoders or tasks, a value a seed: what a claim compares with its threshold.

A value is a function of a study and the name of its sweep. Contrasts are paired by seed (`claim_values.labelled`).
"""

from collections.abc import Callable

import numpy as np
import xarray as xr

from experiments.studies.claim_values import ORDER, TOP1, N, labelled, of, per_model, rows_with
from experiments.studies.study import Study
from experiments.studies.verdicts import Estimate
from lrjax.analysis.gradient import carried, first_step
from lrjax.gates import NONE
from lrjax.stats import T, Table, groups, mean_interval, select, undiverged

KEPT = 0.2  # the most that is left of the order above chance when what carries it is taken away
LEARNED = 0.8  # the accuracy from which on something counts as learned: what was not cannot be taken away
Values = Callable[[Study, str], np.ndarray | xr.DataArray]


def at(metric: str, n: int = N, less: dict | None = None, **where) -> Values:
    """An accuracy of the models with these fields; less that of the models with the fields of `less`, paired by seed."""

    def values(study, part):
        table = study.models(part)
        found = of(table, metric, n_labels=n, **where)
        return found if less is None else found - of(table, metric, n_labels=n, **less)

    return values


def zeroed(
    ablation: str,
    metric: str,
    n: int = N,
    answer: str = "variant",
    change: bool = True,
    least: float = 0.0,
    of_metric: str | None = None,
    **where,
) -> Values:
    """An accuracy under an ablation, or the change that it makes, of the models with these fields. `least`: seeds whose accuracy
    (that of `of_metric`, if another is meant) without the ablation is below are left out (NaN), since what was not learned cannot
    be taken away.
    """

    def values(study, part):
        table = study.answer(part, answer)
        found = of(table, metric, n_labels=n, ablation=ablation, **where)
        whole = of(table, metric, n_labels=n, ablation=NONE, **where)
        learned = whole if of_metric is None else of(table, of_metric, n_labels=n, ablation=NONE, **where)
        return (found - whole if change else found).where(learned >= least)

    return values


def share(term: str, n: int = N, **where) -> Values:
    """The share of the position gradient that a term carries, in each model's best head."""
    return lambda study, part: of(carried(study.answer(part, "strongest")), f"share_{term}", n_labels=n, **where)


def kept_alone(best: bool) -> Values:
    """Top-1 after retraining with one head kept, by seed: of the best head, or the mean over heads."""

    def values(study, part):
        table = study.models(part)
        table = select(table, [text.count(".h") == 3 for text in table["gates"].tolist()])
        return per_model(table, TOP1, np.max if best else np.mean)

    return values


def best_kept(n_heads_kept: int) -> Values:
    """Top-1 of the best of the subsets of so many of four heads that are kept after training, by seed."""
    return lambda study, part: per_model(study.answer(part, "pruning_of_four"), TOP1, np.max, n_heads_kept=n_heads_kept, d_head=0)


def steadier(depth: int, n: int = 25) -> Values:
    """Steadiness of the steadiest head in the last layer less that in the first, by seed."""

    def values(study, part):
        table = rows_with(study.answer(part, "layers"), n_labels=n, n_layers_vision=depth)
        most = lambda layer: per_model(table, "label_invariance", np.max, layer=layer)
        return most(depth - 1) - most(0)

    return values


def compounds(depth: int, n: int = 25) -> Values:
    """Which share of the greatest |gradient| of a head in the last layer is gone without that of the first, by seed."""

    def values(study, part):
        most = lambda answer: greatest(study.answer(part, answer), depth, n)[-1]
        return 1 - most("layers_alone") / most("layers")

    return values


def greatest(layers: Table, depth: int, n: int) -> list[xr.DataArray]:
    """The greatest |gradient| of a head of each layer, by seed, from the answer `layers` or `layers_alone`."""
    table = rows_with(layers, n_labels=n, n_layers_vision=depth)
    table |= {"size": np.abs(table["position_gradient"])}
    return [per_model(table, "size", np.max, layer=layer) for layer in range(depth)]


def kept(ablation: str, n: int = N, metric: str = ORDER, answer: str = "variant", floor: str | None = None, **where) -> Values:
    """Which share of an order an ablation leaves, so that models of different order can be compared: of the order above chance, or
    above what the ablation `floor` leaves. Of the seeds that have learned it, .8 or more: others have next to nothing to share.
    """

    def values(study, part):
        order = lambda name: zeroed(name, metric, n, answer, False, LEARNED, **where)(study, part)
        least = 0.5 if floor is None else order(floor)
        return (order(ablation) - least) / (order(NONE) - least)

    return values


def strongest_path(answer: str, n: int, exchanged: str = "labels", **where) -> Values:
    """The change of order by the path that turns most of it (pattern and values of one sender and receiver), by seed: the least of
    16 a pair of layers, so it is below 0 even where paths are noise.
    """
    where |= {"n_labels": n, "via": "both", "exchanged": exchanged}
    # beside deeper models a table has rows of layers that a model lacks: NaN
    return lambda study, part: per_model(study.answer(part, answer), "change", np.nanmin, **where)


def reached(study: Study, part: str, gates: str) -> xr.DataArray:
    """The first evaluated step with an order of .8, N = 15, by seed; NaN if there is none. Diverged models are left out."""
    history = undiverged(rows_with(study.history(part), n_labels=N, gates=gates), [ORDER])
    seeds = [history["seed"][rows[0]] for rows in groups(history, ("model",)).values()]
    return labelled(first_step(history, ORDER), seeds)


def waits(study: Study, part: str) -> xr.DataArray:
    """Steps to an order of .8 without EP less those with it, N = 15, paired by seed; never counts as the last step."""
    last = study.history(part)["step"].max()
    return reached(study, part, "EP=0").fillna(last) - reached(study, part, NONE).fillna(last)


def differs_in_size(one: Values, other: Values) -> Callable:
    """|mean difference| of two values paired by seed, with the interval of its size: for claims that name no direction."""

    def values(study, part):
        difference = np.asarray(one(study, part) - other(study, part))
        mean, low, high = mean_interval(difference)
        ends = (0.0 if low <= 0 <= high else min(abs(low), abs(high))), max(abs(low), abs(high))
        return Estimate(abs(mean), *ends, int((~np.isnan(difference)).sum()), T)

    return values
