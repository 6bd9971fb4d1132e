"""What does a gate do to the margin of captions over their swaps: exactly, many gates as one program, and at first order, all at
once?

The margin of a picture is its logit with the true caption minus that with the swapped one. Gates of the image encoder move the
picture's embedding, those of the text encoder the embeddings of both captions.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from lrjax import surroundings
from lrjax.errors import InputError, suggest
from lrjax.gates import ENCODERS, parse_terms
from lrjax.models.encoder import l2_normalize
from lrjax.pretrained.config import EncoderConfig
from lrjax.pretrained.model import Model, run_one
from lrjax.pretrained.readout import layer_names, sequences_of
from lrjax.pretrained.result import Result, grid_table, table
from lrjax.pretrained.terms import GATES
from lrjax.pretrained.transformer import Transformer, unit_gates

SEQUENCES_PER_PASS = 4  # of a backward pass, which keeps what every layer computed
GATES_PER_PASS = 4  # gates that are computed side by side; more run after one another in the same program
TIE = 1e-6  # margins that are smaller are a tie: float32 has no more digits

Gate = tuple[int, int, str]  # layer, head, terms such as "EP+PP"; SigLIP's readout is the last layer


def order_of(margins: np.ndarray) -> np.ndarray:
    """Whether the true caption is above the swapped one, by their margin: 1, 0, or 0.5 at a tie."""
    return np.where(abs(margins) < TIE, 0.5, margins > 0)


class EvalSet(NamedTuple):
    """Pictures with the captions that are true of them and those with the objects swapped.

    Attributes:
        pixels: [n, 3, H, W].
        true, swapped: Captions, one a picture.
    """

    pixels: np.ndarray
    true: Sequence[str]
    swapped: Sequence[str]


class _Side(NamedTuple):
    """What one encoder sees of an evaluation set of n pictures.

    Attributes:
        rows, readouts: Its sequences [m, ...], and the positions that are read [m].
        directions: What each unit embedding is multiplied with [m, e]: a picture's margin is the sum over its sequences. Of the
            image encoder these are the n pictures; of the text encoder the n true captions, then the n swapped ones.
    """

    rows: np.ndarray
    readouts: np.ndarray
    directions: np.ndarray

    def passes(self) -> Iterator[tuple[np.ndarray, ...]]:
        """A few sequences at a time, in one shape, so that there is one program: the last ones are filled up with directions 0."""
        n = len(self.rows)
        for start in range(0, n, SEQUENCES_PER_PASS):
            at = np.arange(start, start + SEQUENCES_PER_PASS)
            weights, at = (at < n).astype(np.float32), np.minimum(at, n - 1)
            yield self.rows[at], self.readouts[at], self.directions[at] * weights[:, None]


def _side(model: Model, eval_set: EvalSet, encoder: str) -> _Side:
    """What an encoder sees of an evaluation set. Raises InputError if there is no such encoder, or the set does not fit."""
    if encoder not in ENCODERS:
        raise InputError(f"encoder={encoder!r}: does not exist{suggest(str(encoder), ENCODERS)}; expected vision or text")
    if not isinstance(eval_set, EvalSet):
        raise InputError(f"eval_set={type(eval_set).__name__}: expected an EvalSet, such as probe.eval_set makes")
    n = len(eval_set.true)
    if not n == len(eval_set.pixels) == len(eval_set.swapped) or not n:
        sizes = f"{len(eval_set.pixels)} pictures, {n} true and {len(eval_set.swapped)} swapped captions"
        raise InputError(f"eval_set: has {sizes}; expected as many of each, and at least one")
    captions = [*eval_set.true, *eval_set.swapped]
    texts = model.embed_texts(captions)
    assert model.params.logit_scale is not None  # a model with a text encoder has one
    scale = np.exp(float(model.params.logit_scale))
    if encoder == "vision":
        _, rows, readouts = sequences_of(model, eval_set.pixels)
        return _Side(rows, readouts, scale * (texts[:n] - texts[n:]))
    _, rows, readouts = sequences_of(model, captions)
    images = scale * model.embed_images(eval_set.pixels)
    return _Side(rows, readouts, np.concatenate([images, -images]))


@surroundings.pinned(transfers=True)
def margins(model: Model, eval_set: EvalSet) -> np.ndarray:
    """The margins [n] of an evaluation set under a model's gates."""
    return (model.embed_images(eval_set.pixels) * _side(model, eval_set, "vision").directions).sum(-1)


@surroundings.pinned(transfers=True)
def first_order(model: Model, eval_set: EvalSet, encoder: str = "vision", frozen: bool = False) -> Result:
    """What every gate of an encoder at zero would change in the mean margin, at first order: minus its derivative.

    One backward pass gives all of them. It is exact for small changes alone: `single_gates` says what a gate really does.

    Args:
        model: The model; its own gates stay in force, and what is frozen in it.
        eval_set: Pictures and captions.
        encoder: "vision" or "text".
        frozen: The direct effect alone, as of `Model.ablate`: LayerNorm's scales, what MLPs wrote and other heads' patterns stay.
            It is the derivative of a gate that begins to move; a head that has gates already recomputes its pattern in the exact
            effect, which is not continuous there.

    Returns:
        A row a layer, head and gate (sixteen terms, four parts of values): `effect`, the change of the mean margin. In `arrays`:
        `effect` [depth, head, 20].

    Raises:
        InputError: There is no such encoder, or as many pictures as captions are not given.
    """
    side, frozen = _side(model, eval_set, encoder), frozen or model.frozen
    config, params, gates = model._encoder(encoder)
    gates = unit_gates(config) if gates is None else gates
    slopes = [np.asarray(_slopes(config, frozen, params, gates, *part)) for part in side.passes()]
    effect = -np.sum(slopes, 0) / len(eval_set.true)
    axes = {"encoder": [encoder], "layer": layer_names(config), "head": range(config.n_heads), "term": GATES}
    found = grid_table(model.name, axes, {"effect": effect}) | {"frozen": np.full(effect.size, frozen)}
    keys, by = ("encoder", "layer", "head", "term"), ("model", "encoder", "layer", "term")
    return Result("first_order", found, ("effect",), keys, by=by, arrays={"effect": effect}, signed=True)


@partial(jax.jit, static_argnums=(0, 1))
def _slopes(config: EncoderConfig, frozen: bool, params: Transformer, gates: jax.Array, rows, readouts, directions) -> jax.Array:
    """Derivatives [depth, h, 20] of the sum of margins."""
    return jax.grad(lambda gates: _parts(config, frozen, params, gates, rows, readouts, directions).sum())(gates)


def _parts(config, frozen: bool, params, gates, rows, readouts, directions) -> jax.Array:
    """What each sequence adds to its margin [m], under gates of its encoder."""
    embed = lambda row, readout: l2_normalize(run_one(config, params, gates, frozen, row, readout).embedding)
    return (jax.vmap(embed)(rows, readouts) * directions).sum(-1)


def predicted(first: Result, gates: Sequence[Gate]) -> np.ndarray:
    """The first-order effects [w] of gates at zero: for each the sum over its terms. `first`: of `first_order`."""
    return np.array([first.arrays["effect"][layer, head, parse_terms(terms, "gates", GATES)].sum() for layer, head, terms in gates])


def strongest(first: Result, n: int, terms: Sequence[str] = GATES) -> list[Gate]:
    """The gates whose first-order effects are the greatest in size.

    Args:
        first: Of `first_order`.
        n: How many.
        terms: What a gate may be set on, such as "EP" or "EP+PP+MP+BP".
    """
    depth, n_heads, _ = first.arrays["effect"].shape
    every = list(itertools.product(range(depth), range(n_heads), terms))
    return [every[i] for i in np.argsort(-abs(predicted(first, every)), kind="stable")[:n]]


@surroundings.pinned(transfers=True)
def single_gates(
    model: Model,
    eval_set: EvalSet,
    terms: Sequence[str] = ("EP+PP+MP+BP",),
    doses: Sequence[float] = (0.0,),
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    gates: Sequence[Gate] | None = None,
    encoder: str = "vision",
    frozen: bool = False,
) -> Result:
    """What gates change in the margin, one layer and head at a time, recomputed; all of them in one compiled program.

    Args:
        model: The model; its own gates stay in force, and what is frozen in it.
        eval_set: Pictures and captions.
        terms: What a gate is set on, each such as "EP" or "EP+PP+MP+BP".
        doses: The values of the gate; 0 takes the terms away.
        layers, heads: Which are gated; None: all. SigLIP's readout is the last layer.
        gates: Triples (layer, head, terms) in place of `terms`, `layers` and `heads`, such as `strongest` gives.
        encoder: "vision" or "text".
        frozen: Keep LayerNorm's scales, what MLPs wrote and other heads' patterns as they are without any gate.

    Returns:
        A row a layer, head, term and dose: `change` of the mean margin, `margin`, and `order`, the share of pictures whose true
        caption is above the swapped one (a tie counts half).

    Raises:
        InputError: There is no such encoder, layer, head or term, a dose is no number, or nothing is asked.
    """
    side, frozen = _side(model, eval_set, encoder), frozen or model.frozen
    config, params, own = model._encoder(encoder)
    own = np.asarray(unit_gates(config) if own is None else own)
    each = gates
    if each is None:
        places = _known(layers, config.depth, "layers"), _known(heads, config.n_heads, "heads")
        each = list(itertools.product(*places, _listed(terms, "terms")))
    wanted = list(itertools.product([_checked(gate, config) for gate in _listed(each, "gates")], _doses(doses)))
    gates_of_each = np.stack([own, *(_gated(own, gate, dose) for gate, dose in wanted)])
    found = np.concatenate([_parts_of_gates(config, frozen, params, gates_of_each, *part) for part in side.passes()], 1)
    n, m = len(eval_set.true), len(side.rows)
    rows = _rows(config, wanted, found[:, :m].reshape(len(found), m // n, n).sum(1))
    keys = ("encoder", "layer", "head", "term", "dose")
    by = (
        "model",
        *(key for key in keys if key != "head" or gates is not None),
    )  # of gates that were asked one by one no means over heads
    rows = table(model.name, encoder=encoder, **rows, frozen=frozen)
    return Result("single_gates", rows, ("change", "order"), keys, by=by, signed=True)


def _rows(config: EncoderConfig, wanted: Sequence[tuple[Gate, float]], found: np.ndarray) -> dict[str, Sequence]:
    """Columns of a table of gates and doses, from the margins [1 + w, n] without any of them and with each."""
    margin, order, names = found.mean(1), order_of(found).mean(1), layer_names(config)
    return {
        "layer": [names[layer] for (layer, _, _), _ in wanted],
        "head": [head for (_, head, _), _ in wanted],
        "term": [text for (_, _, text), _ in wanted],
        "dose": [dose for _, dose in wanted],
        "change": margin[1:] - margin[0],
        "margin": margin[1:],
        "order": order[1:],
    }


def _listed(given: Sequence, name: str) -> Sequence:
    """A list of at least one. Raises InputError if it is none."""
    if isinstance(given, str) or not isinstance(given, Sequence | np.ndarray | range) or not len(given):
        raise InputError(f"{name}={given!r}: expected a list, at least one")
    return given


def _known(given: Sequence[int] | None, size: int, name: str) -> Sequence[int]:
    """Numbers of layers or heads, all if none are given. Raises InputError if one does not exist."""
    found = range(size) if given is None else _listed(given, name)
    if bad := [i for i in found if not isinstance(i, int | np.integer) or not 0 <= i < size]:
        raise InputError(f"{name}: {bad[0]!r} is out of range; expected 0..{size - 1}")
    return found


def _doses(given: Sequence[float]) -> list[float]:
    """Doses as numbers. Raises InputError if one is no finite number."""
    if bad := [
        dose for dose in _listed(given, "doses") if not isinstance(dose, int | float | np.number) or not math.isfinite(dose)
    ]:
        raise InputError(f"doses: {bad[0]!r} is no finite number; expected factors such as 0 or 0.5")
    return [float(dose) for dose in given]


def _checked(gate: Gate, config: EncoderConfig) -> Gate:
    """A gate of an encoder. Raises InputError if it is none."""
    if not isinstance(gate, Sequence) or len(gate) != 3 or not isinstance(gate[2], str):
        raise InputError(f"gates: {gate!r} is no gate; expected a layer, a head and terms, such as (0, 1, 'EP')")
    layer, head, terms = gate
    _known([layer], config.depth, "gates: layer")
    _known([head], config.n_heads, "gates: head")
    parse_terms(terms, "terms", GATES)
    return gate


def _gated(own: np.ndarray, gate: Gate, dose: float) -> np.ndarray:
    """Gates with the terms of one layer and head multiplied by a dose."""
    layer, head, terms = gate
    gates = own.copy()
    gates[layer, head, parse_terms(terms, "terms", GATES)] *= dose
    return gates


@partial(jax.jit, static_argnums=(0, 1))
def _parts_of_gates(config, frozen: bool, params: Transformer, gates_of_each: jax.Array, rows, readouts, directions) -> jax.Array:
    """What sequences add to their margins [w, m] under so many gates."""
    one = lambda gates: _parts(config, frozen, params, gates, rows, readouts, directions)
    return jax.lax.map(one, gates_of_each, batch_size=GATES_PER_PASS)
