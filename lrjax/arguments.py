"""What callers of the way in give, checked: one line that names the argument, its value, and what was expected."""

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from lrjax.ablations import Ablation
from lrjax.config import FIELDS
from lrjax.errors import InputError, suggest
from lrjax.metrics import SETS
from lrjax.training.run import Run

PAIR = tuple[float, float]


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
    """The name of an encoder; whether there is such an encoder the analysis says."""
    return text("encoder", value, "vision")


def having(run: Run, name: str, value: Any) -> np.ndarray:
    """Which models have a field of one of some values.

    Args:
      run: the models.
      name: a field of a model.
      value: a value, or several in a list, tuple, set, range or array.

    Returns:
      Truth values [M].

    Raises:
      InputError: there is no such field, no value is given, or no model has it.
    """
    if name not in FIELDS:
        raise InputError(f"{name}={value!r}: is no field of a model{suggest(name, FIELDS)}; expected one such as n_labels=15")
    of_field = FIELDS[name]
    is_array = isinstance(value, np.ndarray) and value.ndim > 0
    several = is_array or isinstance(value, list | set | range) or (isinstance(value, tuple) and of_field.type != PAIR)
    wanted = list(value) if several else [value]
    if not wanted:
        raise InputError(f"{name}={value!r}: is empty; expected a value, or several in a list")
    if name == "gates":
        wanted = [text("gates", one, "EP=0") for one in wanted]
    wanted = [of_field.canonical(one) for one in wanted]
    found = [getattr(model, name) for model in run.sweep.models]
    for one in wanted:
        if not any(_equal(one, there) for there in found):
            known = sorted(set(found), key=lambda v: (str(type(v)), v))
            expected = ", ".join(map(str, known[:8])) + (", ..." if len(known) > 8 else "")
            raise InputError(f"{name}={one!r}: no model has it; expected {expected}")
    return np.array([any(_equal(one, there) for one in wanted) for there in found])


def _equal(wanted: Any, there: Any) -> bool:
    """Whether a value is meant: numbers may be of another type, or rounded to float32."""
    if isinstance(there, bool) or isinstance(wanted, bool):
        return isinstance(there, bool) and isinstance(wanted, bool | np.bool_) and wanted == there
    if isinstance(there, float) and isinstance(wanted, numbers.Real | np.ndarray):
        return bool(np.isclose(float(wanted), there, rtol=1e-6, atol=0))
    return bool(np.all(wanted == there))
