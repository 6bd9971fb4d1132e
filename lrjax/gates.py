"""Gates: a number per (encoder, layer, head, term) that multiplies the term; one mechanism for ablation, dose-response, pruning,
training-time ablation and annealing.

People write gates as text: clauses joined by `;`, each `[where:]TERMS=value`, on top of gates that are all 1 (`none`). Spaces and
the order of clauses, terms, layers and heads mean nothing: a model holds its gates in one form, `canonical`, so that equal gates
are equal values of an axis.

    EP=0                          no EP in vision, all layers and heads
    text:EP+PP=0                  no EP and PP in the text encoder
    vision.h0.h2:EP=0.5           half of EP in heads 0 and 2 (`.L1` selects a layer)
    EP=1>0@2000-2500              EP fades from 1 to 0 between training steps 2000 and 2500
"""

import functools
import itertools
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from lrjax.errors import InputError, suggest
from lrjax.terms import GATES

NONE = "none"
ENCODERS = ("vision", "text")
LARGEST = 1e30  # what a gate must be below, for float32 to hold it


@struct.dataclass
class Gates:
    """Gates of both encoders, each [n_layers, n_heads, 12] in the order of `terms.GATES`. Layers that run several times with
    the same weights (`n_repeats`) have gates of their own each time: those of the first pass, then of the second, ...
    """

    vision: jax.Array
    text: jax.Array


@struct.dataclass
class GateSchedule:
    """Gates as a function of the training step: g0 + (g1 - g0) clip((step - s0) / (s1 - s0), 0, 1), gate by gate."""

    g0: Gates
    g1: Gates
    s0: Gates
    s1: Gates

    def at(self, step: jax.Array | int) -> Gates:
        """The gates in force at a training step."""

        def gate(g0, g1, s0, s1):
            return g0 + (g1 - g0) * jnp.clip((step - s0) / (s1 - s0), 0.0, 1.0)

        return jax.tree.map(gate, self.g0, self.g1, self.s0, self.s1)


_CLAUSE = re.compile(r"(?:(?P<where>[^:=]*):)?(?P<terms>[^:=]*)=(?P<g0>[^>@=]+)(?:>(?P<g1>[^@]+)@(?P<s0>[0-9]+)-(?P<s1>[0-9]+))?")
_FORM = "`none`, or clauses [vision|text][.L<layer>][.h<head>]:TERM+TERM=value[>value@step-step] joined by `;`"


class Clause(NamedTuple):
    """One clause: which layers and heads (none named: all) of an encoder, which terms, and `values`: the gate at first, the gate at
    last, the first and the last step of the change; (g0, g0, 0, 1) if there is none.
    """

    encoder: str
    layers: tuple[int, ...]
    heads: tuple[int, ...]
    terms: tuple[int, ...]
    values: tuple[float, float, int, int]

    def __str__(self) -> str:
        where = place_text(self.encoder, self.layers, self.heads)
        *values, s0, s1 = self.values
        g0, g1 = map(number_text, values)
        return f"{where}{'+'.join(GATES[term] for term in self.terms)}={g0}" + (f">{g1}@{s0}-{s1}" if g0 != g1 else "")


def place_text(encoder: str, layers: Sequence[int], heads: Sequence[int]) -> str:
    """The text form of a place, such as `vision.L0.h1:`. Empty for what it is by default: vision, all layers and heads."""
    places = [encoder, *(f"L{layer}" for layer in layers), *(f"h{head}" for head in heads)]
    return "" if places == [ENCODERS[0]] else ".".join(places) + ":"


def number_text(value: float) -> str:
    """The shortest text of a gate's value that reads back the same."""
    return repr(value + 0.0).removesuffix(".0")  # + 0: there is no -0


def parse_gates(text: str, n_layers: dict[str, int], n_heads: int) -> GateSchedule:
    """The schedule that `text` describes, as NumPy arrays, for encoders of n_heads heads and `n_layers[encoder]` layers, counted as
    often as they run.

    Raises InputError if the text, a term, a layer, a head or a value is not one.
    """
    return schedule_of(clauses(text), n_layers, n_heads, f"gates {text!r}")


def schedule_of(found: Sequence[Clause], n_layers: dict[str, int], n_heads: int, field: str) -> GateSchedule:
    """The schedule of clauses, as `parse_gates`. Raises InputError that names `field` if a layer or a head does not exist."""

    def full(value) -> dict[str, Any]:
        return {e: np.full((n_layers[e], n_heads, len(GATES)), value, np.float32) for e in ENCODERS}

    schedule = {"g0": full(1), "g1": full(1), "s0": full(0), "s1": full(1)}
    for clause in found:
        layers, heads = places_of(clause, n_layers[clause.encoder], n_heads, field)
        at = np.ix_(layers, heads, clause.terms)
        for name, value in zip(schedule, clause.values, strict=True):
            schedule[name][clause.encoder][at] = value
    return GateSchedule(**{name: Gates(**arrays) for name, arrays in schedule.items()})


def places_of(clause: Clause, depth: int, n_heads: int, field: str) -> tuple[Sequence[int], Sequence[int]]:
    """The layers and the heads that a clause acts on, in an encoder of `depth` layers. Raises InputError that names `field` if one
    of them does not exist.
    """
    if bad := [layer for layer in clause.layers if layer >= depth]:
        raise InputError(f"{field}: layer {bad[0]} is out of range; expected 0..{depth - 1} in {clause.encoder}")
    return clause.layers or range(depth), check_heads(clause.heads or range(n_heads), n_heads, field)


def clauses(text: str, names: Sequence[str] = GATES) -> list[Clause]:
    """The clauses of gates, as they stand; `names` are the gates that there are, GATES first. Raises InputError if the text is not
    gates.
    """
    return [] if text.strip() == NONE else [_clause(clause, text, names) for clause in text.split(";")]


@functools.cache
def canonical(text: str) -> str:
    """The one form of gates: what is set to the same in the same place is one clause. `text` itself if it is not gates, or sets a
    gate twice: then order matters.
    """
    try:
        found = clauses(text)
    except InputError:
        return text
    if not found or _overlap(found):
        return text if found else NONE
    together: dict[Clause, set[int]] = {}
    for clause in found:
        together.setdefault(clause._replace(terms=()), set()).update(clause.terms)
    kept = sorted(
        (ENCODERS.index(clause.encoder), clause._replace(terms=tuple(sorted(terms)))) for clause, terms in together.items()
    )
    return ";".join(str(clause) for _, clause in kept)


def check_gates(text: str, steps: int) -> None:
    """Raise InputError that names the clause if gates contradict, or one never acts in so many steps of training."""
    for clause in once(clauses(text)):
        g0, g1, first, _ = clause.values
        if g0 == g1 == 1:
            raise InputError(f"gates: {str(clause)!r} never acts: a gate is 1 if nothing sets it; leave it out")
        if g0 == 1 and first >= steps - 1:  # the steps are 0..steps - 1, and the first of a change still has g0
            raise InputError(f"gates: {str(clause)!r} never acts in {steps} steps of training; start it earlier, or leave it out")


def in_steps(text: str, share: float) -> str:
    """Gates that change at this share of the steps at which those of `text` do."""

    def earlier(clause):
        g0, g1, first, last = clause.values
        first, last = int(first * share), math.ceil(last * share)
        return clause._replace(values=(g0, g1, first, max(last, first + 1)))

    return ";".join(str(earlier(clause)) for clause in clauses(text)) or NONE


def once(found: list[Clause]) -> list[Clause]:
    """The clauses themselves, if they set each gate once. Raises InputError that names two that do not."""
    if both := _overlap(found):
        raise InputError(f"gates: {str(both[0])!r} and {str(both[1])!r} set the same gate; give each gate once")
    return found


def _overlap(found: list[Clause]) -> tuple[Clause, Clause] | None:
    """Two clauses that set one gate, if there are such."""
    share = lambda a, b: not a or not b or bool(set(a) & set(b))
    for a, b in itertools.combinations(found, 2):
        if a.encoder == b.encoder and share(a.layers, b.layers) and share(a.heads, b.heads) and set(a.terms) & set(b.terms):
            return a, b
    return None


def _clause(given: str, text: str, names: Sequence[str]) -> Clause:
    """One clause of gates `text`. Raises InputError if it is none."""
    match = _CLAUSE.fullmatch(re.sub(r"\s", "", given))
    if not match:
        raise InputError(f"gates: {given!r} is not a gate; expected {_FORM}")
    field = f"gates {text!r}"
    encoder, layers, heads = parse_place(match["where"] or ENCODERS[0], field)
    terms, g0 = parse_terms(match["terms"], field, names), parse_number(match["g0"], field)
    values = (g0, g0, 0, 1)
    if match["g1"] is not None:
        g1, first, last = parse_number(match["g1"], field), int(match["s0"]), int(match["s1"])
        if last <= first:
            raise InputError(f"gates: {given!r} must end after it starts; give steps as @first-last with last > first")
        values = (g0, g1, first, last) if g1 != g0 else values
    return Clause(encoder, layers, heads, tuple(terms), values)


def parse_terms(text: str, field: str, names: Sequence[str] = GATES) -> list[int]:
    """`EP+PP` -> indices into `names`. Raises InputError that names `field` if one does not exist."""
    for term in text.split("+"):
        if term not in names:
            raise InputError(f"{field}: term {term!r} does not exist{suggest(term, names)}; expected terms of {' '.join(names)}")
    return [names.index(term) for term in text.split("+")]


def check_heads(heads, n_heads: int, field: str) -> list[int]:
    """`heads` themselves, if all are heads. Raises InputError that names `field` otherwise."""
    for head in heads:
        if not 0 <= head < n_heads:
            raise InputError(f"{field}: head {head} is out of range; expected 0..{n_heads - 1}")
    return list(heads)


def parse_place(where: str, field: str) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """`vision.L0.h1` -> encoder, layers, heads. Raises InputError that names `field` if it is no place."""
    encoder, *rest = where.split(".")
    if encoder not in ENCODERS:
        raise InputError(f"{field}: encoder {encoder!r} does not exist{suggest(encoder, ENCODERS)}; expected vision or text")
    if bad := [part for part in rest if not re.fullmatch(r"[Lh][0-9]+", part)]:
        raise InputError(f"{field}: {bad[0]!r} is neither a layer nor a head; expected L<layer> or h<head>")
    layers, heads = (tuple(sorted({int(part[1:]) for part in rest if part[0] == kind})) for kind in "Lh")
    return encoder, layers, heads


def parse_number(text: str, field: str) -> float:
    """The value of a gate. Raises InputError that names `field` if it is no finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) < LARGEST:
        raise InputError(f"{field}: {text!r} is not a finite number; expected a gate such as 0 or 0.5")
    return value
