"""The border: a ConfigDict in, a table of models out.

Config files are flat ConfigDicts with the names of the fields of a model, of a sweep and of `TableFields`. The fields of AXES are
tuples, whose product with the seeds is the table. docs/reference/config.md lists all keys.

The records themselves are declared in `lrjax.declarations`, and can be imported from here.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import ml_collections

from lrjax.declarations import (
    AXES,
    AXIS_COLUMNS,
    FIELDS,
    LENGTH,
    MAX_MODELS,
    MAX_SEED,
    RUN,
    RUN_FIELDS,
    STATIC,
    TRACED,
    Hyper,
    Model,
    Static,
    Sweep,
    depths,
    gate_schedule,
    make_hyper,
    make_static,
    one_of_each,
    static_fields,
    steps_per_epoch,
)
from lrjax.errors import InputError, suggest
from lrjax.fields import PAIR, Field, declared, field, is_pair, require
from lrjax.validation import refuse_equal_gates, validate, validate_model

__all__ = [
    "AXES",
    "AXIS_COLUMNS",
    "FIELDS",
    "LENGTH",
    "MAX_MODELS",
    "RUN",
    "STATIC",
    "TABLE_FIELDS",
    "TRACED",
    "Hyper",
    "Model",
    "Static",
    "Sweep",
    "check_keys",
    "depths",
    "gate_schedule",
    "get_config",
    "make_hyper",
    "make_static",
    "make_sweep",
    "one_of_each",
    "static_fields",
    "steps_per_epoch",
    "validate",
    "validate_model",
]

ALL_KEYS = "docs/reference/config.md of the repository lists all keys"


@dataclasses.dataclass(frozen=True)
class TableFields:
    """The keys of a config that are no fields of a model or a sweep: they say which rows the table of models has."""

    seeds: int = field(8, "number of seeds; a model for each at every place on the axes", low=1, high=100_000)
    first_seed: int = field(0, "the first of the seeds, which are consecutive", low=0, high=MAX_SEED)
    scales: tuple = field((), "pairs (e_scale, p_scale), in place of the product of these two axes")


TABLE_FIELDS: dict[str, Field] = declared(TableFields)
N_LABELS = (5, 10, 15, 20, 25)  # the axis of a config that names none


def get_config(**changes) -> ml_collections.ConfigDict:
    """The flat ConfigDict of all defaults with `changes`: what a config file returns.

    Raises:
        InputError: a change has a name that is no key.
    """
    axes = {name: (FIELDS[name].default,) for name in AXES} | {"n_labels": N_LABELS}
    others = {name: of_field.default for name, of_field in (TABLE_FIELDS | RUN_FIELDS).items()}
    static = {name: FIELDS[name].default for name in STATIC}  # several values, from a config file, become several programs
    config = ml_collections.ConfigDict(axes | others | static)
    check_keys(changes, config)
    with config.unlocked(), config.ignore_type():
        for name, value in changes.items():
            config[name] = value
    return config.lock()


def make_sweep(config: Mapping[str, Any]) -> Sweep:
    """The sweep of a flat config: the product of its axes, seeds innermost.

    Raises:
        InputError: a key does not exist or its value is not possible. The message names the first such field.
    """
    if not isinstance(config, Mapping | ml_collections.ConfigDict):
        raise InputError(f"--config: get_config() returned {type(config).__name__}; expected a ConfigDict or a dict")
    known = get_config()
    check_keys(config, known)
    config = dict(known) | dict(config)
    seeds = _seeds(config)
    axes = {name: _axis(FIELDS[name], config[name]) for name in (*STATIC, *AXES)}
    scales = _scales(config["scales"], axes)
    n_models = len(seeds) * math.prod(len(values) for values in axes.values()) * len(scales or (1,))
    if n_models > MAX_MODELS:
        raise InputError(f"config: the product of seeds and axes is {n_models} models; expected at most {MAX_MODELS}")
    models = tuple(_models(axes, scales, seeds))
    sweep = Sweep(models, **{name: of_field.cast(config[name]) for name, of_field in RUN_FIELDS.items()})
    validate(sweep)
    refuse_equal_gates(models)
    return sweep


def check_keys(names: Iterable[str], known: Iterable[str], given: str = "") -> None:
    """Raise InputError of the first of these names that is no key of a config; `given` is what the user wrote."""
    for name in names:
        if name not in known:
            raise InputError(f"{given or f'config.{name}'}: no such key{suggest(name, known)}; {ALL_KEYS}")


def _seeds(config: Mapping[str, Any]) -> range:
    """The seeds of a config."""
    seeds, first = (TABLE_FIELDS[name].cast(config[name]) for name in ("seeds", "first_seed"))
    TABLE_FIELDS["seeds"].check(seeds)
    last = MAX_SEED - seeds + 1
    require("first_seed", first, 0 <= first <= last, f"0..{last}, so that all seeds are below 2^32")
    return range(first, first + seeds)


def _axis(of_field: Field, value: Any) -> tuple:
    """The values of a field, each cast to the field's type; a single value is an axis of one."""
    single = not isinstance(value, (tuple, list)) or (of_field.type == PAIR and is_pair(value))
    values = (value,) if single else tuple(value)
    if not values:
        example = f"give at least one value, such as ({of_field.default!r},)"
        raise InputError(f"config.{of_field.name}: the axis is empty; {example}")
    cast = tuple(map(of_field.cast, values))
    _refuse_repeats(of_field.name, value, cast)
    return cast


def _scales(pairs: Any, axes: Mapping[str, tuple]) -> list[dict[str, Any]]:
    """The pairs of initial scales of a config as fields of models; none if the axes e_scale and p_scale say."""
    many = isinstance(pairs, (tuple, list))
    if many and not pairs:
        return []
    one = Field("scales", PAIR, (), TABLE_FIELDS["scales"].meaning)
    cast = [one.cast(pair) for pair in ((pairs,) if not many or is_pair(pairs) else pairs)]
    for name in ("e_scale", "p_scale"):
        require(name, axes[name], axes[name] == (FIELDS[name].default,), "the default beside config.scales, which has both")
    _refuse_repeats("scales", pairs, cast)
    return [{"e_scale": e, "p_scale": p} for e, p in cast]


def _models(axes: Mapping[str, tuple], scales: Sequence[dict[str, Any]], seeds: range) -> Iterator[Model]:
    """The product of scales, axes and seeds."""
    for scale in scales or [{}]:
        for row in itertools.product(*axes.values(), seeds):
            fields: dict[str, Any] = dict(zip((*axes, "seed"), row, strict=True))
            yield Model(**(fields | scale))


def _refuse_repeats(name: str, given: Any, values: Iterable) -> None:
    values = tuple(values)
    if len(set(values)) < len(values):
        raise InputError(f"config.{name}: {given!r} repeats a value; give each value once")
