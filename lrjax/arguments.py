"""What callers of the way in give, checked: one line that names the argument, its value, and what was expected."""

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from lrjax.ablations import Ablation
from lrjax.errors import InputError
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
    """The name of an encoder; whether there is such an encoder the analysis says."""
    return text("encoder", value, "vision")
