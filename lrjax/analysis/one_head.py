"""Can ONE head in ONE layer ever succeed? (App K and open question 2 of the paper)

A random search by successive halving: configurations of a one-head model at N = 15, each with a seed of its own, drawn
log-uniformly in RANGES within each static shape (d_head x batch size). `draw` makes them, `best` ranks a trained stage by the
greatest top-1 on unseen pairs that a configuration reaches (steps are read off the trajectory), and the best few are confirmed with
fresh seeds, read at the step where they were best: nothing is picked twice. A model *succeeds* if its top-1 is above
`gradient.GENERALISES`.
"""

import dataclasses
import itertools
from typing import Any

import numpy as np

from lrjax.analysis.gradient import GENERALISES
from lrjax.config import Model, Sweep
from lrjax.stats import ACCURACY, Table, groups, mean_interval, select, share_interval

N_LABELS = 15
D_HEADS, BATCHES = (32, 64, 128), (128, 256, 512)
RANGES = {
    "lr": (3e-4, 1e-2),
    "weight_decay": (0.01, 1.0),
    "e_scale": (0.05, 3.0),
    "p_scale": (0.005, 1.0),
    "logit_scale": (2.0, 100.0),
}
FRESH = range(1000, 1016)  # seeds of the confirmation


def draw(n: int, seed: int = 0) -> list[Model]:
    """n configurations of one head, shapes in turn, configuration i with seed i."""
    rng, shapes = np.random.default_rng(seed), list(itertools.product(D_HEADS, BATCHES))
    models = []
    for i in range(n):
        d_head, batch = shapes[i % len(shapes)]
        fields: dict[str, Any] = {name: float(f"{np.exp(rng.uniform(*np.log(bounds))):.4g}") for name, bounds in RANGES.items()}
        models.append(Model(seed=i, n_labels=N_LABELS, n_heads=1, d_head=d_head, batch_size=batch, **fields))
    return models


def best(history: Table, sweep: Sweep) -> Table:
    """A row per model, best first: `model` (its number in the sweep), its configuration, the step at which its top-1 on unseen
    pairs is greatest, its accuracies there, and top-1 at the end.
    """
    rows = []
    for of_model in groups(history, ("model",)).values():
        trained = of_model[history["step"][of_model] > 0]
        top1 = np.nan_to_num(history["unseen_pair"][trained], nan=-1)
        rows.append((trained[np.argmax(top1)], trained[np.argmax(history["step"][trained])]))
    at, last = np.array(rows).T
    fixed = ("d_head", "batch_size")
    table = {"model": history["model"][at]}
    table |= {
        name: np.array([getattr(model, name) for model in sweep.models])[table["model"]] for name in ("seed", *fixed, *RANGES)
    }
    table |= {name: history[name][at] for name in ("step", "unseen_pair", "unseen_pair_order", "unseen_pair_label_set")}
    table |= {"at_the_end": history["unseen_pair"][last]}
    return select(table, np.argsort(-np.nan_to_num(table["unseen_pair"], nan=-1), kind="stable"))


def chosen(sweep: Sweep, ranked: Table, n: int, seeds=None) -> list[Model]:
    """The first n configurations of `best`'s table, with their own seed or with each of `seeds`."""
    models = [sweep.models[i] for i in ranked["model"][:n].tolist()]
    return models if seeds is None else [dataclasses.replace(model, seed=seed) for model in models for seed in seeds]


def confirmed(history: Table, steps: np.ndarray, per: int) -> Table:
    """A row per confirmed configuration (in order, `per` seeds each): mean and 95 % interval of its top-1 over fresh seeds at its
    step of `steps`, and the share of seeds that succeed, with its interval.
    """
    lines = []
    for i, step in enumerate(steps.tolist()):
        own = (history["step"] == step) & (history["model"] // per == i)
        top1 = history["unseen_pair"][own]
        mean, low, high = mean_interval(top1, ACCURACY)
        rate, rate_low, rate_high = share_interval(top1 > GENERALISES)
        order = np.nanmean(history["unseen_pair_order"][own])
        lines.append((i, step, len(top1), mean, low, high, rate, rate_low, rate_high, order))
    names = ("configuration", "step", "seeds", "top1", "low", "high", "succeed", "succeed_low", "succeed_high", "order")
    return {name: np.array(column) for name, column in zip(names, zip(*lines, strict=True), strict=True)}
