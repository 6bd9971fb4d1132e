"""Gates: a number per (encoder, layer, head, term) that multiplies the term; one mechanism for ablation, dose-response, pruning,
training-time ablation and annealing.

People write gates as text: clauses joined by `;`, each `[where:]TERMS=value`, on top of gates that are all 1 (`none`).

    EP=0                          no EP in vision, all layers and heads
    text:EP+PP=0                  no EP and PP in the text encoder
    vision.h0.h2:EP=0.5           half of EP in heads 0 and 2 (`.L1` selects a layer)
    EP=1>0@2000-2500              EP fades from 1 to 0 between training steps 2000 and 2500
"""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from lrjax.attention import GATES
from lrjax.errors import InputError, suggest

NONE = "none"
ENCODERS = ("vision", "text")


@struct.dataclass
class Gates:
    """Gates of both encoders, each [n_layers, n_heads, 12] in the order of `attention.GATES`. Layers that run several times with
    the same weights (`n_repeats`) have gates of their own each time: those of the first pass, then of the second, ...

    vision_shift [n_heads, L + 1]: what is added to the CLS row of scores of a one-block vision encoder, by key position. With a
    gate of 0 it puts another row in a term's place: a control.
    """

    vision: jax.Array
    text: jax.Array
    vision_shift: jax.Array | None = None


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


def parse_gates(text: str, n_layers: dict[str, int], n_heads: int) -> GateSchedule:
    """The schedule that `text` describes, as NumPy arrays, for encoders of n_heads heads and `n_layers[encoder]` layers, counted as
    often as they run.

    Raises InputError if the text, a term, a layer, a head or a value is not one.
    """

    def full(value):
        return {e: np.full((n_layers[e], n_heads, len(GATES)), value, np.float32) for e in ENCODERS}

    schedule = {"g0": full(1), "g1": full(1), "s0": full(0), "s1": full(1)}
    for clause in [] if text == NONE else text.split(";"):
        match = _CLAUSE.fullmatch(clause)
        if not match:
            raise InputError(f"gates: {clause!r} is not a gate; expected {_FORM}")
        encoder, layers, heads = _where(match["where"] or "vision", n_layers, n_heads, text)
        at = np.ix_(layers, heads, parse_terms(match["terms"], f"gates {text!r}"))
        g0 = _number(match["g0"], text)
        values = {"g0": g0, "g1": g0 if match["g1"] is None else _number(match["g1"], text)}
        if match["g1"] is not None:
            values |= {"s0": int(match["s0"]), "s1": int(match["s1"])}
            if values["s1"] <= values["s0"]:
                raise InputError(f"gates: {clause!r} must end after it starts; give steps as @first-last with last > first")
        for name, value in values.items():
            schedule[name][encoder][at] = value
    return GateSchedule(**{name: Gates(**arrays) for name, arrays in schedule.items()})


def parse_terms(text: str, field: str) -> list[int]:
    """`EP+PP` -> indices into GATES. Raises InputError that names `field` if one does not exist."""
    for term in text.split("+"):
        if term not in GATES:
            raise InputError(f"{field}: term {term!r} does not exist{suggest(term, GATES)}; expected terms of {' '.join(GATES)}")
    return [GATES.index(term) for term in text.split("+")]


def check_heads(heads, n_heads: int, field: str) -> list[int]:
    """`heads` themselves, if all are heads. Raises InputError that names `field` otherwise."""
    for head in heads:
        if not 0 <= head < n_heads:
            raise InputError(f"{field}: head {head} is out of range; expected 0..{n_heads - 1}")
    return list(heads)


def _where(where: str, n_layers: dict[str, int], n_heads: int, text: str):
    """`vision.L0.h1` -> encoder, layers, heads."""
    encoder, *rest = where.split(".")
    if encoder not in ENCODERS:
        raise InputError(f"gates {text!r}: encoder {encoder!r} does not exist{suggest(encoder, ENCODERS)}; expected vision or text")
    if bad := [part for part in rest if not re.fullmatch(r"[Lh][0-9]+", part)]:
        raise InputError(f"gates {text!r}: {bad[0]!r} is neither a layer nor a head; expected L<layer> or h<head>")
    layers = [int(part[1:]) for part in rest if part[0] == "L"] or range(n_layers[encoder])
    heads = [int(part[1:]) for part in rest if part[0] == "h"] or range(n_heads)
    if bad := [layer for layer in layers if layer >= n_layers[encoder]]:
        raise InputError(f"gates {text!r}: layer {bad[0]} is out of range; expected 0..{n_layers[encoder] - 1} in {encoder}")
    return encoder, list(layers), check_heads(heads, n_heads, f"gates {text!r}")


def _number(text: str, whole: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) < 1e30:
        raise InputError(f"gates {whole!r}: {text!r} is not a finite number; expected a gate such as 0 or 0.5")
    return value
