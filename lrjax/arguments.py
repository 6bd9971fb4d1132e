"""What callers of the way in give, checked: one line that names the argument, its value, and what was expected."""

import numbers
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.ablations import Ablation
from lrjax.errors import InputError, suggest
from lrjax.gates import ENCODERS
from lrjax.metrics import SETS


def text(name: str, value: Any, example: str) -> str:
    """A text. Raises InputError if the value is none."""
    if not isinstance(value, str):
        raise InputError(f"{name}={value!r}: is no text; expected one such as {example!r}")
    return value


def one_ablation(value: Any) -> str | Ablation:
    """One ablation, as text or as a record."""
    if not isinstance(value, str | Ablation):
        raise InputError(f"terms={value!r}: is no ablation; expected a text such as 'EP+PP', or an lrjax.Ablation")
    return value


def ablations(value: Any) -> tuple[str | Ablation, ...]:
    """One ablation, or a sequence of ablations of which there is at least one."""
    several = [value] if isinstance(value, str | Ablation) or not isinstance(value, Sequence) else list(value)
    if not several:
        raise InputError(f"terms={value!r}: is empty; expected terms such as ['EP', 'EP+PP+BP']")
    return tuple(one_ablation(one) for one in several)


def heads(value: Any) -> tuple[int, ...] | None:
    """Numbers of heads; None for all. That there is at least one, `Ablation.parse` checks."""
    if value is None:
        return None
    several = list(value) if isinstance(value, Sequence | set | range | np.ndarray) and not isinstance(value, str) else [value]
    if not all(isinstance(head, numbers.Integral) and not isinstance(head, bool) for head in several):
        raise InputError(f"heads={value!r}: expected numbers of heads such as [0, 2], or nothing for all heads")
    return tuple(int(head) for head in several)


def sets(value: Any) -> tuple[str, ...]:
    """Sets of images to evaluate, unseen_pair among them."""
    several = (value,) if isinstance(value, str) else value
    known = isinstance(several, Sequence) and all(isinstance(name, str) for name in several)
    if not known or "unseen_pair" not in several:
        raise InputError(f"sets={value!r}: expected 'unseen_pair', and more of {', '.join(SETS)} if you like")
    return tuple(several)


def encoder(value: Any) -> str:
    """The name of an encoder; whether a model has it, the analysis says."""
    if text("encoder", value, "vision") not in ENCODERS:
        raise InputError(f"encoder={value!r}: does not exist{suggest(value, ENCODERS)}; expected vision or text")
    return value


def flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name}={value!r}: expected True or False")
    return bool(value)


def number(name: str, value: Any, expected: str, least: int = 1) -> int:
    """A whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise InputError(f"{name}={value!r}: expected {expected}")
    return int(value)


def metric_fn(value: Any) -> Callable:
    """A function of one model."""
    if not callable(value):
        raise InputError(f"metric_fn={value!r}: is no function; expected one of a model, such as lambda m: {{'norm': ...}}")
    return value


def measured(value: Any) -> dict[str, jax.Array]:
    """What a metric_fn returns: arrays by name, one at least."""
    if not isinstance(value, Mapping) or not value:
        what = "an empty dict" if isinstance(value, Mapping) else type(value).__name__
        raise InputError(f"metric_fn: returns {what}; expected a dict of name -> array")
    found = {}
    for name, array in value.items():
        text("metric_fn: name", name, "norm")
        try:
            found[name] = jnp.asarray(array)
        except (TypeError, ValueError) as error:
            raise InputError(f"metric_fn: {name!r} is {type(array).__name__}; expected an array or a number") from error
    return found


def dims(value: Any, shapes: Mapping[str, tuple[int, ...]], taken: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Names of dimensions of arrays of these shapes; those that are `taken` are names of columns already."""
    if value is not None and not isinstance(value, Mapping):
        raise InputError(f"dims={value!r}: expected a dict of name -> names of dimensions, such as {{'norm': ('head',)}}")
    for name, names in (value or {}).items():
        if name not in shapes:
            raise InputError(f"dims: {name!r} is no array that metric_fn returns; expected one of {', '.join(shapes)}")
        if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(one, str) for one in names):
            raise InputError(f"dims: {name!r}: {names!r} is no sequence of names; expected one such as ('head',)")
        if len(names) != len(shapes[name]):
            raise InputError(f"dims: {name!r} has {len(shapes[name])} dimensions, {tuple(names)!r} names {len(names)}")
        if len(set(names)) < len(names):
            raise InputError(f"dims: {name!r}: {tuple(names)!r} repeats a name; give each dimension its own")
        if there := [one for one in names if one in taken]:
            raise InputError(f"dims: {name!r}: {there[0]!r} is a name that models have already; give another")
    return {name: tuple(names) for name, names in (value or {}).items()}
