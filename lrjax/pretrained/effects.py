"""What does a gate do to the margin of captions over their swaps: exactly, many gates as one program, and at first order, all at
once.

The margin of a picture is its logit with the true caption minus that with the swapped one.
"""

import itertools
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from lrjax import surroundings
from lrjax.errors import InputError
from lrjax.gates import parse_terms
from lrjax.models.encoder import l2_normalize
from lrjax.pretrained.config import EncoderConfig
from lrjax.pretrained.model import Model, run_one
from lrjax.pretrained.readout import layer_names
from lrjax.pretrained.result import Result, grid_table, table
from lrjax.pretrained.terms import GATES
from lrjax.pretrained.transformer import Transformer, unit_gates

PICTURES_PER_PASS = 4  # of a backward pass, which keeps what every layer computed
GATES_PER_PASS = 4  # gates that are computed side by side; more run after one another in the same program


class EvalSet(NamedTuple):
    """Pictures with the captions that are true of them and those with the objects swapped.

    Attributes:
        pixels: [n, 3, H, W].
        true, swapped: Captions, one a picture.
    """

    pixels: np.ndarray
    true: Sequence[str]
    swapped: Sequence[str]

    @surroundings.pinned(transfers=True)
    def direction(self, model: Model) -> np.ndarray:
        """What an image's unit embedding is multiplied with to give its margin [n, e]."""
        if not len(self.pixels) == len(self.true) == len(self.swapped):
            sizes = f"{len(self.pixels)} pictures, {len(self.true)} true and {len(self.swapped)} swapped captions"
            raise InputError(f"eval_set: has {sizes}; expected as many of each")
        texts = model.embed_texts([*self.true, *self.swapped])
        assert model.params.logit_scale is not None  # a model with a text encoder has one
        n = len(self.true)
        return np.exp(float(model.params.logit_scale)) * (texts[:n] - texts[n:])


def margins(model: Model, eval_set: EvalSet) -> np.ndarray:
    """The margins [n] of an evaluation set under a model's gates."""
    return (model.embed_images(eval_set.pixels) * eval_set.direction(model)).sum(-1)


@surroundings.pinned(transfers=True)
def first_order(model: Model, eval_set: EvalSet) -> Result:
    """What every gate of the image encoder at zero would change in the mean margin, at first order: minus its derivative.

    One backward pass gives all of them. It is exact for small changes alone: `single_gates` says what a gate really does.

    Returns:
        A row a layer, head and gate (sixteen terms, four parts of values): `effect`, the change of the mean margin.
    """
    pixels, directions = model._checked(eval_set.pixels), eval_set.direction(model)
    config, params, gates = model._encoder("vision")
    gates = unit_gates(config) if gates is None else gates
    total, n = np.zeros(gates.shape), len(pixels)
    for i in range(0, n, PICTURES_PER_PASS):
        rows = np.arange(i, i + PICTURES_PER_PASS)
        weights = (rows < n).astype(np.float32)  # one shape, so one program
        rows = np.minimum(rows, n - 1)
        total += np.asarray(_slopes(config, params, gates, pixels[rows], directions[rows] * weights[:, None]))
    axes = {"layer": layer_names(config), "head": range(config.n_heads), "term": GATES}
    found = grid_table(model.name, axes, {"effect": -total / n})
    return Result("first_order", found, ("effect",), ("layer", "head", "term"), by=("model", "layer", "term"), signed=True)


@partial(jax.jit, static_argnums=0)
def _slopes(config: EncoderConfig, params: Transformer, gates: jax.Array, pixels: jax.Array, directions: jax.Array) -> jax.Array:
    """Derivatives [depth, h, 20] of the sum of margins."""
    return jax.grad(lambda gates: _margins(config, params, gates, False, pixels, directions).sum())(gates)


def _margins(config, params, gates, frozen: bool, pixels, directions) -> jax.Array:
    """Margins [n] under gates of the image encoder."""
    embed = lambda image: l2_normalize(run_one(config, params, gates, frozen, image, 0).embedding)
    return (jax.vmap(embed)(pixels) * directions).sum(-1)


@surroundings.pinned(transfers=True)
def single_gates(
    model: Model,
    eval_set: EvalSet,
    terms: Sequence[str] = ("EP+PP+MP+BP",),
    doses: Sequence[float] = (0.0,),
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    places: Sequence[tuple[int, int]] | None = None,
    frozen: bool = False,
) -> Result:
    """What gates change in the margin, one layer and head at a time, recomputed; all of them in one compiled program.

    Args:
        model: The model; its own gates stay in force.
        eval_set: Pictures and captions.
        terms: What a gate is set on, each such as "EP" or "EP+PP+MP+BP".
        doses: The values of the gate; 0 takes the terms away.
        layers, heads: Which are gated; None: all. SigLIP's readout is the last layer.
        places: Pairs (layer, head) in place of `layers` and `heads`.
        frozen: Keep LayerNorm's scales, what MLPs wrote and other heads' patterns as they are without any gate.

    Returns:
        A row a layer, head, term and dose: `change` of the mean margin, `margin`, and `order`, the share of pictures whose true
        caption is above the swapped one (a tie counts half).
    """
    config, params, own = model._encoder("vision")
    own = np.asarray(unit_gates(config) if own is None else own)
    if places is None:
        every = _known(layers, config.depth, "layers"), _known(heads, config.n_heads, "heads")
        places = list(itertools.product(*every))
    wanted = [(place, text, dose) for place in places for text in terms for dose in doses]
    gates_of_each = np.stack([own, *(_gated(own, place, text, dose) for place, text, dose in wanted)])
    pixels, directions = model._checked(eval_set.pixels), eval_set.direction(model)
    parts = [slice(i, i + PICTURES_PER_PASS) for i in range(0, len(pixels), PICTURES_PER_PASS)]
    found = [np.asarray(_margins_of_gates(config, frozen, params, gates_of_each, pixels[part], directions[part])) for part in parts]
    found_margins = np.concatenate(found, 1)
    margin, order = found_margins.mean(1), (np.sign(found_margins) * 0.5 + 0.5).mean(1)
    names = layer_names(config)
    columns = {
        "layer": [names[layer] for (layer, _), _, _ in wanted],
        "head": [head for (_, head), _, _ in wanted],
        "term": [text for _, text, _ in wanted],
        "dose": [float(dose) for _, _, dose in wanted],
    }
    rows = table(model.name, **columns, change=margin[1:] - margin[0], margin=margin[1:], order=order[1:], frozen=frozen)
    by = ("model", "layer", "term", "dose")
    return Result("single_gates", rows, ("change", "order"), ("layer", "head", "term", "dose"), by=by, signed=True)


def _known(given: Sequence[int] | None, size: int, name: str) -> Sequence[int]:
    """Numbers of layers or heads, all if none are given. Raises InputError if one does not exist."""
    found = range(size) if given is None else given
    if bad := [i for i in found if not 0 <= i < size]:
        raise InputError(f"{name}: {bad[0]} is out of range; expected 0..{size - 1}")
    return found


def _gated(own: np.ndarray, place: tuple[int, int], text: str, dose: float) -> np.ndarray:
    """Gates with the terms of a text multiplied by a dose in one layer and head."""
    gates = own.copy()
    gates[place[0], place[1], parse_terms(text, "terms", GATES)] *= dose
    return gates


@partial(jax.jit, static_argnums=(0, 1))
def _margins_of_gates(
    config: EncoderConfig, frozen: bool, params: Transformer, gates_of_each: jax.Array, pixels, directions
) -> jax.Array:
    """Margins [w, n] under so many gates."""
    one = lambda gates: _margins(config, params, gates, frozen, pixels, directions)
    return jax.lax.map(one, gates_of_each, batch_size=GATES_PER_PASS)
