"""A field of a config, declared once: one line has its type, its default, its meaning and its possible values.

    n_labels: int = field(15, "N, the number of trained labels", low=2, high=1000)

What else must be known of the field is read off that line: its validation and the message of it, the casts of what people write,
the columns of tables, the type of the array that programs hold, and the page docs/reference/config.md.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from lrjax.errors import InputError

PAIR = tuple[float, float]
LARGEST = float(np.finfo(np.float32).max)  # programs hold numbers in 32 bits
DTYPES = {int: np.int32, float: np.float32, PAIR: np.float32, bool: np.bool_}
SINGULAR = {int: "a whole number", float: "a finite number", PAIR: "two numbers, such as (0.9, 0.98)"}
SINGULAR |= {str: "text", bool: "True or False", tuple: "a tuple"}


@dataclasses.dataclass(frozen=True)
class Field:
    """All that is known of one field.

    Attributes:
        name: the field's name.
        type: int, float, str, bool, or PAIR.
        default: the value if none is given.
        meaning: one line for people, with the unit.
        low, high: the least and the largest possible number.
        above, below: numbers that a value must be above or below, as programs hold it: 1e-50 is 0 there.
        choices: all possible values, if they are few.
        zero: what 0 stands for, if it is no number like others.
        columns: the columns of tables that hold the field: one of its name, unless it is a PAIR.
        dtype: the type of the traced array, if the field's type does not say it.
        canonical: the one form of values that mean the same.
    """

    name: str
    type: Any
    default: Any
    meaning: str
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    choices: Collection = ()
    zero: str = ""
    columns: tuple[str, ...] = ()
    dtype: Any = None
    canonical: Callable[[Any], Any] = lambda value: value

    @property
    def expected(self) -> str:
        """The possible values, as messages and the reference page give them."""
        if self.choices:
            return " or ".join(map(repr, self.choices))
        if self.type is int:
            least = 1 if self.zero else self.low
            numbers = f"{least} or more" if self.high is None else f"{least}..{self.high}"
            return f"0 ({self.zero}) or {numbers}" if self.zero else numbers
        if self.type not in (float, PAIR):
            return SINGULAR[self.type]
        number = "a finite number" if self.type is float else "two finite numbers"
        if self.high is None and self.below is None:
            return f"{number} above {self.above:g}" if self.low is None else f"{number}, {self.low:g} or more"
        left = f"({self.above:g}" if self.low is None else f"[{self.low:g}"
        right = f"{self.below:g})" if self.high is None else f"{self.high:g}]"
        return f"{number.replace('finite ', '')} in {left}, {right}"

    def allows(self, value: Any) -> bool:
        """Whether the field may have this value, of the field's type."""
        if self.choices:
            return value in self.choices
        if self.type == PAIR:
            return all(map(self._in_range, value))
        return self.type not in (int, float) or self._in_range(value)

    def _in_range(self, number: float) -> bool:
        return bool(
            (self.type is int or abs(number) <= LARGEST)
            and (self.low is None or number >= self.low)
            and (self.high is None or number <= self.high)
            and (self.above is None or np.float32(number) > self.above)
            and (self.below is None or np.float32(number) < self.below)
        )

    def check(self, value: Any) -> None:
        """Raise InputError that names the field, the value and the possible values, if it is none of them."""
        require(self.name, value, self.allows(value), self.expected)

    def cast(self, value: Any) -> Any:
        """`value` as the field's type, in its one form. Raises InputError if the cast would lose something."""
        return self.canonical(_cast(self.name, value, self.type))

    def parse(self, text: str) -> Any:
        """The value that a text such as `0.1`, `True` or `(0.9, 0.98)` gives; None if it gives none."""
        try:
            if self.type is bool:
                return {"True": True, "False": False}[text]
            if self.type == PAIR:
                return tuple(float(number) for number in text.strip("()").split(","))
            return self.canonical(self.type(text))
        except (ValueError, KeyError):
            return None

    def array(self, value: Any) -> np.ndarray:
        """The value as programs hold it: [], or [2] of a PAIR."""
        return np.asarray(value, self.dtype or DTYPES[self.type])


def field(default: Any, meaning: str, *, compare: bool = True, **known: Any) -> Any:
    """A field of a dataclass with its default, its meaning and what else is known of it: the attributes of `Field`.

    Args:
        default: the value if none is given.
        meaning: one line for people, with the unit.
        compare: whether records that differ in the field alone are different.
        **known: further attributes of `Field`.
    """
    return dataclasses.field(default=default, compare=compare, metadata={"meaning": meaning, **known})


def declared(record: type) -> dict[str, Field]:
    """The fields of a dataclass that were made with `field`, by name, in order."""
    found = (f for f in dataclasses.fields(record) if "meaning" in f.metadata)
    return {f.name: Field(f.name, f.type, f.default, **{"columns": (f.name,), **f.metadata}) for f in found}


def check_all(fields: Mapping[str, Field], record: Any) -> None:
    """Raise InputError of the first of these fields that has an impossible value in a record."""
    for name, of_field in fields.items():
        of_field.check(getattr(record, name))


def require(name: str, value: Any, possible: bool, expected: str) -> None:
    """Raise InputError that names a field of the config, its value and what was expected, unless the value is possible."""
    if not possible:
        raise InputError(f"config.{name}: {value!r} is not possible; expected {expected}")


def is_pair(value: Any) -> bool:
    """Whether a sequence is one value of a PAIR, not a sequence of such."""
    return len(value) == 2 and not any(isinstance(v, (tuple, list)) for v in value)


def _cast(name: str, value: Any, kind: Any) -> Any:
    if kind == PAIR and isinstance(value, (tuple, list)) and is_pair(value):
        return tuple(_cast(name, v, float) for v in value)
    if kind in (str, bool) and isinstance(value, kind):
        return value
    if kind in (int, float):
        with contextlib.suppress(OverflowError, ValueError):
            return _number(value, kind)
    raise InputError(f"config.{name}: {value!r} is not possible; expected {SINGULAR[kind]}")


def _number(value: Any, kind: type) -> Any:
    """A number, or the text of one that is not finite, as `kind`. Raises ValueError or OverflowError if it is none."""
    if isinstance(value, str) and value.strip().lower().lstrip("+-") in ("nan", "inf", "infinity"):
        value = float(value)
    is_number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not is_number or (kind is int and int(value) != value):
        raise ValueError(value)
    return kind(value)
