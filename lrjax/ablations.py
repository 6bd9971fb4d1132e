"""Ablations as data: what is taken away from a trained model at inference.

People write them as text, which is parsed here and nowhere else:

    none             nothing: the model as it is
    EP+PP            these terms at zero, in the encoder and the heads that are asked for
    EP=0.5           what is left of a term: dose-response
    mean EE          another row in the term's place: a control (CONTROL_KINDS)
    vision.h0:EP=0   in this place, as gates are written (`lrjax.gates`); `;` joins

`str` of an ablation is its text, and `described` gives a table of ablations the columns that figures and claims read.
"""

import dataclasses
import numbers
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Self

import numpy as np

from lrjax.errors import InputError, suggest
from lrjax.gates import ENCODERS, LARGEST, NONE, Clause, number_text, parse_number, parse_place, parse_terms, place_text
from lrjax.stats import Table
from lrjax.terms import GATES

Place = tuple[str, tuple[int, ...], tuple[int, ...]]  # an encoder, layers and heads
DIRECTIONS = ("horizontal", "vertical")  # controls of a grid
CONTROL_KINDS = ("mean", "random", *DIRECTIONS)
COLUMNS = ("terms", "scale", "control", "encoder", "layer", "head", "heads")  # of a table of ablations, beside `ablation`
_TEXT = re.compile(r"(?:(?P<place>[^:]*):)?\s*(?:(?P<control>\w+)\s+(?=\w))?(?P<terms>[^:=]*)(?:=(?P<scale>[^:=]+))?")
_FORM = f"expected TERMS, TERMS=number, or TERMS after one of {' '.join(CONTROL_KINDS)}"


@dataclasses.dataclass(frozen=True)
class Ablation:
    """What is taken away from a model at inference.

    Attributes:
        terms: Names of gates, in the order of `terms.GATES`. Empty: nothing is taken away.
        scale: What is left of the terms: 0 for nothing, 1 for all.
        control: What stands in the place of what is taken away: one of CONTROL_KINDS, or "none".
        encoder: "vision" or "text".
        layers: The layers that lose the terms. Empty: all.
        heads: The heads that lose the terms. Empty: all.
        also: Further ablations that are made at the same time.

    Raises:
        InputError: A field is not possible.
    """

    terms: tuple[str, ...] = ()
    scale: float = 0.0
    control: str = NONE
    encoder: str = ENCODERS[0]
    layers: tuple[int, ...] = ()
    heads: tuple[int, ...] = ()
    also: tuple["Ablation", ...] = ()

    def __post_init__(self):
        if isinstance(self.terms, str):
            raise InputError(f"terms={self.terms!r}: is text; expected a tuple such as ('EP',), or Ablation.parse({self.terms!r})")
        if bad := [term for term in self.terms if term not in GATES]:
            raise InputError(f"terms: {bad[0]!r} does not exist{suggest(bad[0], GATES)}; expected terms of {' '.join(GATES)}")
        if self.control not in (NONE, *CONTROL_KINDS):
            raise InputError(f"control={self.control!r}: does not exist; expected none or one of {' '.join(CONTROL_KINDS)}")
        if self.encoder not in ENCODERS:
            raise InputError(f"encoder={self.encoder!r}: does not exist{suggest(self.encoder, ENCODERS)}; expected vision or text")
        if not isinstance(self.scale, numbers.Real) or not abs(self.scale) < LARGEST:
            raise InputError(f"scale={self.scale!r}: is not a finite number; expected what is left of the terms, such as 0 or 0.5")
        for name in ("layers", "heads"):
            given = getattr(self, name)
            if not isinstance(given, Collection) or not all(isinstance(number, numbers.Integral) for number in given):
                raise InputError(f"{name}={given!r}: expected a tuple of whole numbers, such as (0, 2), or () for all")
            if bad := [number for number in getattr(self, name) if number < 0]:
                raise InputError(f"{name}: {bad[0]} is out of range; expected numbers from 0")
            object.__setattr__(self, name, tuple(sorted(set(getattr(self, name)))))
        object.__setattr__(self, "terms", tuple(term for term in GATES if term in self.terms))

    @classmethod
    def parse(cls, text: str, encoder: str = ENCODERS[0], heads: Sequence[int] | None = None, field: str = "ablation") -> Self:
        """The ablation that a text describes.

        Args:
            text: As people write it.
            encoder: The encoder that loses the terms, where the text names no place.
            heads: The heads that lose the terms, where the text names no place. None: all.
            field: The argument or flag that errors name.

        Raises:
            InputError: The text is no ablation, or a term or a place does not exist.
        """
        if heads is not None and not len(heads):
            raise InputError("heads=[]: is empty; expected numbers of heads such as [0, 2], or nothing for all heads")
        place = encoder, (), tuple(heads or ())
        if text.strip() == NONE:
            return cls((), 0.0, NONE, *place)
        first, *rest = (cls._parsed(part, place, field) for part in text.split(";"))
        return dataclasses.replace(first, also=tuple(rest))

    @classmethod
    def _parsed(cls, text: str, place: Place, field: str) -> Self:
        """One ablation of those that `;` joins."""
        who, match = f"{field}: {text!r}", _TEXT.fullmatch(text.strip())
        if match is None:
            raise InputError(f"{who} is not an ablation; {_FORM}")
        control = match["control"] or NONE
        if control not in (NONE, *CONTROL_KINDS):
            raise InputError(f"{who} is not an ablation{suggest(control, CONTROL_KINDS)}; {_FORM}")
        if match["place"] is not None:
            place = parse_place("".join(match["place"].split()), who)
        terms = tuple(GATES[term] for term in parse_terms("".join(match["terms"].split()), field))
        return cls(terms, parse_number(match["scale"] or "0", who), control, *place)

    @property
    def parts(self) -> tuple["Ablation", ...]:
        """What is ablated at the same time, each alone: nothing for `none`."""
        alone = dataclasses.replace(self, also=())
        return (*((alone,) if self.terms else ()), *(part for other in self.also for part in other.parts))

    @property
    def clause(self) -> Clause:
        """The gates that scale the terms, without `also`."""
        scale = float(self.scale)
        return Clause(self.encoder, self.layers, self.heads, tuple(GATES.index(term) for term in self.terms), (scale, scale, 0, 1))

    @property
    def columns(self) -> dict[str, object]:
        """The ablation as cells of a table, by COLUMNS. `layer` and `head` are NaN where it is not one. What differs between
        ablations that are made at the same time is joined by `;`, or NaN.
        """
        parts = self.parts or (self,)
        one = lambda values: float(values[0]) if len(set(values)) == 1 else np.nan
        joined = lambda texts: ";".join(dict.fromkeys(texts))
        return {
            "terms": joined("+".join(part.terms) or NONE for part in parts),
            "scale": one([part.scale if part.terms else 1.0 for part in parts]),
            "control": joined(part.control for part in parts),
            "encoder": joined(part.encoder for part in parts),
            "layer": one([part.layers[0] if len(part.layers) == 1 else np.nan for part in parts]),
            "head": one([part.heads[0] if len(part.heads) == 1 else np.nan for part in parts]),
            "heads": joined("+".join(map(str, part.heads)) or "all" for part in parts),
        }

    def __str__(self) -> str:
        return ";".join(part._text() for part in self.parts) or NONE

    def _text(self) -> str:
        place = place_text(self.encoder, self.layers, self.heads)
        control = "" if self.control == NONE else f"{self.control} "
        scale = f"={number_text(self.scale)}" if place or self.scale else ""
        return f"{place}{control}{'+'.join(self.terms)}{scale}"


def labelled(
    asked: Iterable[str | Ablation], encoder: str = ENCODERS[0], heads: Sequence[int] | None = None
) -> dict[str, Ablation]:
    """Ablations by the label that tables have, each once: the text as it was asked, or `str` of a record.

    Raises:
        InputError: As of `Ablation.parse`; or one label stands for two ablations.
    """
    found: dict[str, Ablation] = {}
    for one in asked:
        record = one if isinstance(one, Ablation) else Ablation.parse(one, encoder, heads, "--ablations")
        label = str(one).strip()
        if found.setdefault(label, record).parts != record.parts:
            clash = f"--ablations: {label!r} is asked of {found[label].columns} and of {record.columns}"
            raise InputError(f"{clash}; ask for one of them, or write its place, such as text.h0:EP=0")
    return found


def described(table: Table, records: dict[str, Ablation] | None = None) -> Table:
    """A table with a column `ablation`, with COLUMNS beside it.

    Args:
        table: One row a model and ablation. Columns that it has already stay as they are.
        records: The ablation of each label. None: a table of an older version, which has labels alone; these are parsed.
    """
    if set(COLUMNS) <= set(table):
        return table
    labels = table["ablation"].tolist()
    records = labelled(dict.fromkeys(labels)) if records is None else records
    cells = {label: record.columns for label, record in records.items()}
    return table | {name: np.array([cells[label][name] for label in labels]) for name in COLUMNS if name not in table}
