"""Is there a configuration that succeeds? A random search by successive halving.

`draw` makes configurations, each with a seed of its own; `best` ranks a trained stage by the greatest accuracy that a configuration
reaches (steps are read off the trajectory); `chosen` takes the best few into the next stage, at last with fresh seeds, which
`confirmed` reads at the step where they were best: nothing is picked twice. A model *succeeds* if the accuracy is above
`gradient.GENERALISES`.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lrjax.analysis.gradient import GENERALISES
from lrjax.config import AXES, FIELDS, Model, Sweep
from lrjax.errors import InputError, suggest
from lrjax.stats import ACCURACY, Table, groups, mean_interval, select, share_interval

FRESH = range(1000, 1016)  # seeds of the confirmation
ACCURACIES = ("unseen_pair", "unseen_pair_order", "unseen_pair_label_set")


@dataclasses.dataclass(frozen=True)
class Space:
    """What a search draws configurations from.

    Attributes:
      base: the model that all configurations are, but for the fields drawn and the seed.
      ranges: field -> the least and the greatest value, drawn log-uniformly.
      shapes: field -> its values; configurations take their combinations in turn.
      metric: the accuracy, a column of the history, by which configurations are ranked.
    """

    base: Model
    ranges: Mapping[str, tuple[float, float]]
    shapes: Mapping[str, tuple] = dataclasses.field(default_factory=dict)
    metric: str = "unseen_pair"

    @property
    def columns(self) -> tuple[str, ...]:
        """The fields by which configurations differ."""
        return (*self.shapes, *self.ranges)

    @property
    def accuracies(self) -> tuple[str, ...]:
        """The accuracies of tables, that of the ranking among them."""
        return tuple(dict.fromkeys((*ACCURACIES, self.metric)))


def parse_ranges(texts: Sequence[str]) -> dict[str, tuple[float, float]]:
    """The `ranges` of a space from texts such as `lr=3e-5:1e-3`.

    Raises:
      InputError: a text is none, or its field is no number that a program may vary.
    """
    found = {}
    for text in texts:
        name, values = _field_and_values(text, "ranges", (f for f in AXES if FIELDS[f].type is float))
        if len(values) != 2 or not 0 < values[0] < values[1]:
            raise InputError(f"--ranges={text}: expected the least and the greatest value, such as {name}=0.1:1, both above 0")
        found[name] = values
    return found


def parse_shapes(texts: Sequence[str]) -> dict[str, tuple]:
    """The `shapes` of a space from texts such as `batch_size=50:100`.

    Raises:
      InputError: a text is none, or a value is not possible.
    """
    return dict(_field_and_values(text, "shapes", (f for f in FIELDS if f != "seed")) for text in texts)


def _field_and_values(text: str, flag: str, known: Iterable[str]) -> tuple[str, tuple]:
    name, _, values = text.partition("=")
    known = sorted(known)
    if name not in known:
        raise InputError(f"--{flag}={text}: {name!r} is no field that can be searched{suggest(name, known)}; expected NAME=A:B")
    parsed = tuple(FIELDS[name].parse(value) for value in values.split(":"))
    if None in parsed:
        raise InputError(f"--{flag}={text}: expected values of {name} joined by colons, each {FIELDS[name].expected}")
    for value in parsed:
        FIELDS[name].check(value)
    return name, parsed


def draw(space: Space, n: int, seed: int = 0) -> list[Model]:
    """n configurations, shapes in turn, configuration i with seed i."""
    rng, shapes = np.random.default_rng(seed), list(itertools.product(*space.shapes.values()))
    models = []
    for i in range(n):
        shape = dict(zip(space.shapes, shapes[i % len(shapes)], strict=True))
        fields: dict[str, Any] = {
            name: float(f"{math.exp(rng.uniform(*np.log(bounds))):.4g}") for name, bounds in space.ranges.items()
        }
        models.append(dataclasses.replace(space.base, seed=i, **shape, **fields))
    return models


def best(space: Space, history: Table, sweep: Sweep) -> Table:
    """The models of a stage, best first.

    Returns:
      A row per model: `model` (its number in the sweep), its seed and configuration, the step at which its accuracy is greatest,
      its accuracies there, and `at_the_end`, the accuracy at the last step.
    """
    rows = []
    for of_model in groups(history, ("model",)).values():
        trained = of_model[history["step"][of_model] > 0]
        accuracy = np.nan_to_num(history[space.metric][trained], nan=-1)
        rows.append((trained[np.argmax(accuracy)], trained[np.argmax(history["step"][trained])]))
    at, last = np.array(rows).T
    table = {"model": history["model"][at]}
    for name in ("seed", *space.columns):
        table[name] = np.array([getattr(model, name) for model in sweep.models])[table["model"]]
    table |= {name: history[name][at] for name in ("step", *space.accuracies)}
    table |= {"at_the_end": history[space.metric][last]}
    return select(table, np.argsort(-np.nan_to_num(table[space.metric], nan=-1), kind="stable"))


def chosen(sweep: Sweep, ranked: Table, n: int, seeds=None) -> list[Model]:
    """The first n configurations of `best`'s table, with their own seed or with each of `seeds`."""
    models = [sweep.models[i] for i in ranked["model"][:n].tolist()]
    return models if seeds is None else [dataclasses.replace(model, seed=seed) for model in models for seed in seeds]


def confirmed(space: Space, history: Table, steps: np.ndarray, per: int) -> Table:
    """What fresh seeds say of the configurations that were chosen.

    Args:
      space: what was searched.
      history: of the confirmation.
      steps: the step [configurations] at which each is read.
      per: how many seeds each has, one after another.

    Returns:
      A row per configuration: the mean of its accuracy, in a column that has the name of the accuracy, with its 95 % interval,
      and the share of seeds that succeed, with its interval.
    """
    lines = []
    for i, step in enumerate(steps.tolist()):
        own = (history["step"] == step) & (history["model"] // per == i)
        accuracy = history[space.metric][own]
        mean, low, high = mean_interval(accuracy, ACCURACY)
        rate, rate_low, rate_high = share_interval(accuracy > GENERALISES)
        order = np.nanmean(history["unseen_pair_order"][own])
        lines.append((i, step, len(accuracy), mean, low, high, rate, rate_low, rate_high, order))
    names = ("configuration", "step", "seeds", space.metric, "low", "high", "succeed", "succeed_low", "succeed_high", "order")
    return {name: np.array(column) for name, column in zip(names, zip(*lines, strict=True), strict=True)}
