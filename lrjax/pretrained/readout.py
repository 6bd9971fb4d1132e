"""The readout's row of scores, by term: what the analyses of a pretrained encoder look at.

Of images the row is that of the class token where there is one. SigLIP has none: there it is the mean over all patches, and its
readout, a learned query that attends once to all patches, is one layer more. Of texts the row is that of the token that is read.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrjax import surroundings
from lrjax.pretrained.config import EncoderConfig
from lrjax.pretrained.model import Model, run_one
from lrjax.pretrained.transformer import LayerCache, Transformer, unit_gates

# What is taken of a layer, given the position that is read: a module's function, whose identity is part of a compiled program.
Observe = Callable[[LayerCache, EncoderConfig, jax.Array], Any]


class Sequences(NamedTuple):
    """What one encoder is given: its name ("vision" or "text"), pixels or ids [n, ...], and the positions that are read [n]."""

    encoder: str
    rows: np.ndarray
    readouts: np.ndarray


def sequences_of(model: Model, given: np.ndarray | Sequence[str]) -> Sequences:
    """Pictures [n, 3, H, W] or captions as what their encoder is given. Tokens after the last one that is read are left out where
    no token sees what follows it: they change nothing.

    Raises:
        InputError: The pixels are of another shape, or the captions are none.
    """
    if isinstance(given, np.ndarray | jax.Array):
        pixels = model._checked(np.asarray(given))
        return Sequences("vision", pixels, np.zeros(len(pixels), np.int32))
    ids = model._words(given)
    readouts = model.readouts(ids)
    assert model.config.text is not None
    return Sequences("text", ids[:, : readouts.max() + 1] if model.config.text.causal else ids, readouts)


def query_row(cache: LayerCache, config: EncoderConfig, readout: jax.Array) -> jax.Array:
    """The readout's query by origin [o, h, k], over sqrt(d_head)."""
    return cache.q.mean(1) if config.has_pool else cache.q[:, readout]


def pattern_row(cache: LayerCache, config: EncoderConfig, readout: jax.Array) -> jax.Array:
    """The readout's pattern [h, t]."""
    pattern = cache.state.pattern
    return pattern.mean(1) if config.has_pool else pattern[:, readout]


def is_seen(cache: LayerCache, config: EncoderConfig, readout: jax.Array) -> jax.Array:
    """Which keys the readout sees [t]: 1, or 0 for what follows it in a causal encoder."""
    at = jnp.arange(cache.k.shape[1])
    return (at <= readout).astype(jnp.float32) if config.causal else jnp.ones(len(at))


def patch_keys(keys: jax.Array, config: EncoderConfig) -> jax.Array:
    """The keys of patches [o, t, h, k], without the class token's."""
    return keys[:, 1:] if config.has_cls else keys


def layer_names(config: EncoderConfig) -> list[str]:
    """Names of the layers that have scores: 0, 1, ..., and SigLIP's readout."""
    return [*map(str, range(config.n_layers)), *(["pool"] if config.has_pool else [])]


@surroundings.pinned(transfers=True)
def observed_of(model: Model, given: np.ndarray | Sequence[str], observe: Observe) -> list[Any]:
    """What `observe` takes of every layer of an encoder, a picture or a caption at a time: for each a pytree of arrays [depth, ...]
    over layers, SigLIP's readout last.

    Args:
        model: The model, whose gates stay in force.
        given: Pictures [n, 3, H, W], or captions.
        observe: What is taken.
    """
    encoder, rows, readouts = sequences_of(model, given)
    config, params, gates = model._encoder(encoder)
    gates = unit_gates(config) if gates is None else gates
    one = partial(_observed, config, observe, model.frozen, params, gates)
    return [jax.device_get(one(*each)) for each in zip(rows, readouts, strict=True)]


@partial(jax.jit, static_argnums=(0, 1, 2))
def _observed(config: EncoderConfig, observe: Observe, frozen: bool, params: Transformer, gates: jax.Array, sequence, readout):
    found = run_one(config, params, gates, frozen, sequence, readout, lambda cache: observe(cache, config, readout))
    if found.observed_pool is None:
        return found.observed
    return jax.tree.map(lambda layers, pool: jnp.concatenate([layers, pool[None]]), found.observed, found.observed_pool)


def mean_of(found: Sequence[Any]) -> Any:
    """The mean over pictures, or over captions."""
    return jax.tree.map(lambda *arrays: np.mean(arrays, 0), *found)
