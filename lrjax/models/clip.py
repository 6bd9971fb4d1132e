"""The two encoders of one model: what they are, initial values and random streams, and the embeddings of scenes and captions.

All of a model's randomness derives from its seed alone, through one named stream each.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from lrjax import surroundings
from lrjax.config import Hyper, Model, Static, make_hyper, make_static
from lrjax.data.scenes import SequenceTemplate, TokenEdits
from lrjax.data.splits import Splits
from lrjax.gates import Gates
from lrjax.models import encoder, localization_head, lookup_tables, objectives
from lrjax.models import positions as places
from lrjax.models.encoder import Encoder, EncoderConfig
from lrjax.models.interventions import Interventions

MAX_LOG_SCALE = np.log(100.0)
RNG_STREAMS = ("init", "splits", "batches", "evaluation", "noise", "items", "dropout")


@struct.dataclass
class CLIP:
    """Parameters of one model. log_scale is the learnable log of the logit scale, []; bias is that of the sigmoid loss, []; places
    is the head of `supervision`. bias and places are None where a model has none.
    """

    vision: Encoder
    text: Encoder
    log_scale: jax.Array
    bias: jax.Array | None = None
    places: localization_head.Head | None = None


def rng_stream(seed: jax.Array, name: str) -> jax.Array:
    """The key of one of a model's random STREAMS."""
    return jax.random.fold_in(jax.random.key(seed, impl=surroundings.PRNG), RNG_STREAMS.index(name))


def encoder_configs(static: Static) -> dict[str, EncoderConfig]:
    """The shapes of both encoders, as the objective of the models has them."""
    return objectives.of(static).encoder_configs(static)


def encoder_fields(static: Static) -> dict[str, Any]:
    """The fields of `EncoderConfig` that are a model's own, whatever its encoders read."""
    names = ("n_heads", "d_model", "d_embed", "d_head", "positions", "layer_norm", "mlp_ratio", "n_repeats", "norm", "dropout")
    return {name: getattr(static, name) for name in names}


def unit_gates(static: Static) -> Gates:
    """All gates 1: no ablation."""
    return Gates(**{name: encoder_config.unit_gates() for name, encoder_config in encoder_configs(static).items()})


@surroundings.pinned()
def param_shapes(model: Model) -> CLIP:
    """The shapes of one model's parameters."""
    return jax.eval_shape(partial(init_clip, make_static([model])), make_hyper(model))


def n_parameters(params) -> int:
    """How many numbers a tree of arrays or shapes holds."""
    return sum(x.size for x in jax.tree.leaves(params))


def init_clip(static: Static, hyper: Hyper) -> CLIP:
    """Initial values of one model, from its seed."""
    keys = jax.random.split(rng_stream(hyper.seed, "init"))
    encoders = {
        name: encoder.init(key, encoder_config, hyper.e_scale, hyper.p_scale)
        for key, (name, encoder_config) in zip(keys, encoder_configs(static).items(), strict=True)
    }
    added = objectives.of(static).parameters(static, hyper)
    return CLIP(**encoders, log_scale=jnp.log(hyper.logit_scale), **added)


def model_splits(static: Static, hyper: Hyper) -> Splits:
    """The splits of one model, from its seed."""
    return static.task_object.splits(rng_stream(hyper.seed, "splits"))


def as_read(hyper: Hyper, params: CLIP) -> CLIP:
    """The parameters as the encoders read them: E times the model's token_multiplier. Training holds and decays E itself."""
    read = lambda encoder: dataclasses.replace(encoder, E=hyper.token_multiplier * encoder.E)
    return dataclasses.replace(params, vision=read(params.vision), text=read(params.text))


def encoder_as_run(static: Static, params: CLIP, name: str) -> Encoder:
    """The encoder `vision` or `text` as it runs: with a row of P for every position, though images may share rows of P."""
    found = getattr(params, name)
    layout = places.find(static.positions).layout(static.task_object.grid_shape)
    if name == "text" or layout is None:
        return found
    return dataclasses.replace(found, P=layout @ found.P)


def embed_images(static: Static, params: CLIP, interventions: Interventions, images: TokenEdits, split: bool = True) -> jax.Array:
    """Unit embeddings [..., e] of images, edits [S, ...], under interventions in the vision encoder. Without `split`, gates in
    depth count as 1 (see `encoder.run_tokens`).
    """
    vision, batches = encoder_as_run(static, params, "vision"), ((static.task_object.image, images),)
    return lookup_tables.encode(vision, interventions, batches, encoder_configs(static)["vision"], split=split)[0]


def embed_captions(
    static: Static,
    params: CLIP,
    interventions: Interventions,
    captions: tuple[tuple[SequenceTemplate, TokenEdits], ...],
    split: bool = True,
) -> tuple[jax.Array, ...]:
    """Unit embeddings [..., e] of captions, each a template and its edits [S, ...], under interventions in the text encoder; see
    `embed_images`.
    """
    return lookup_tables.encode(params.text, interventions, captions, encoder_configs(static)["text"], split=split)
