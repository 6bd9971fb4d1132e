"""The readout's row of scores, by term: what the analyses of a pretrained image encoder look at.

The row is that of the class token where there is one. SigLIP has none: there it is the mean over all patches, and its readout, a
learned query that attends once to all patches, is one layer more.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrjax import surroundings
from lrjax.pretrained.config import EncoderConfig
from lrjax.pretrained.model import Model, run_one
from lrjax.pretrained.transformer import LayerCache, Transformer, unit_gates

Observe = Callable[[LayerCache, EncoderConfig], Any]  # a module's function: its identity is part of a compiled program


def query_row(cache: LayerCache, config: EncoderConfig) -> jax.Array:
    """The readout's query by origin [o, h, k], over sqrt(d_head)."""
    return cache.q[:, 0] if config.has_cls else cache.q.mean(1)


def patch_keys(keys: jax.Array, config: EncoderConfig) -> jax.Array:
    """The keys of patches [o, t, h, k], without the class token's."""
    return keys[:, 1:] if config.has_cls else keys


def layer_names(config: EncoderConfig) -> list[str]:
    """Names of the layers that have scores: 0, 1, ..., and SigLIP's readout."""
    return [*map(str, range(config.n_layers)), *(["pool"] if config.has_pool else [])]


@surroundings.pinned(transfers=True)
def observed_of(model: Model, pixels: np.ndarray, observe: Observe) -> list[Any]:
    """What `observe` takes of every layer of the image encoder, a picture at a time: for each picture a pytree of arrays
    [depth, ...] over layers, SigLIP's readout last.
    """
    pixels = model._checked(pixels)
    config, params, gates = model._encoder("vision")
    gates = unit_gates(config) if gates is None else gates
    return [jax.device_get(_observed(config, observe, model.frozen, params, gates, image)) for image in pixels]


@partial(jax.jit, static_argnums=(0, 1, 2))
def _observed(config: EncoderConfig, observe: Observe, frozen: bool, params: Transformer, gates: jax.Array, image: jax.Array):
    found = run_one(config, params, gates, frozen, image, 0, lambda cache: observe(cache, config))
    if found.observed_pool is None:
        return found.observed
    return jax.tree.map(lambda layers, pool: jnp.concatenate([layers, pool[None]]), found.observed, found.observed_pool)


def mean_of(found: Sequence[Any]) -> Any:
    """The mean over pictures."""
    return jax.tree.map(lambda *arrays: np.mean(arrays, 0), *found)
