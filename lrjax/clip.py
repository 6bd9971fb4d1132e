"""The two towers of one model: their shapes, initial values and random streams, and the embeddings of scenes and captions.

All of a model's randomness derives from its seed alone, through one named stream each.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from lrjax import encoder
from lrjax.config import Hyper, Static
from lrjax.encoder import Encoder, Shape
from lrjax.gates import Gates
from lrjax.scenes import (
    FIRST_LABEL,
    PAIR_CAPTION,
    SINGLE_CAPTION,
    Scene,
    image_form,
    image_slots,
    pair_caption_slots,
    single_caption_slots,
)
from lrjax.splits import Splits, make_splits

MAX_LOG_SCALE = np.log(100.0)
STREAMS = ("init", "splits", "batches", "evaluation")


@struct.dataclass
class CLIP:
    """Parameters of one model; log_scale is the learnable log logit scale []."""

    vision: Encoder
    text: Encoder
    log_scale: jax.Array


def stream(seed: jax.Array, name: str) -> jax.Array:
    """The key of one of a model's random STREAMS."""
    return jax.random.fold_in(jax.random.key(seed), STREAMS.index(name))


def shapes(static: Static) -> dict[str, Shape]:
    """The shapes of both towers."""
    names = ("n_heads", "d_model", "d_embed", "d_head", "positions", "layer_norm", "mlp_ratio")
    common = dict(n_tokens=FIRST_LABEL + static.n_names) | {name: getattr(static, name) for name in names}
    return {
        "vision": Shape(n_positions=static.L + 1, n_layers=static.n_layers_vision, causal=False, **common),
        "text": Shape(n_positions=len(PAIR_CAPTION.template), n_layers=static.n_layers_text, causal=True, **common),
    }


def unit_gates(static: Static) -> Gates:
    """All gates 1: no ablation."""
    return Gates(**{name: shape.unit_gates() for name, shape in shapes(static).items()})


def init_clip(static: Static, hyper: Hyper) -> CLIP:
    """Initial values of one model, from its seed."""
    keys = jax.random.split(stream(hyper.seed, "init"))
    towers = {
        name: encoder.init(key, shape, hyper.e_scale, hyper.p_scale)
        for key, (name, shape) in zip(keys, shapes(static).items(), strict=True)
    }
    return CLIP(**towers, log_scale=jnp.log(hyper.logit_scale))


def model_splits(static: Static, hyper: Hyper) -> Splits:
    """The splits of one model, from its seed."""
    return make_splits(stream(hyper.seed, "splits"), static.n_labels_max, static.n_heldout, static.L)


def embed_images(
    static: Static, params: CLIP, gates: Gates, scenes: Scene, split: bool = True, frozen_at: Gates | None = None
) -> jax.Array:
    """Unit embeddings [..., e] of scenes [...]. Without `split`, gates in depth count as 1 (see `encoder.run`).

    frozen_at: the gates under which LayerNorm's scales are taken.
    """
    batch, shape = (image_form(static.L), image_slots(scenes)), shapes(static)["vision"]
    at = None if frozen_at is None else frozen_at.vision
    return encoder.encode(params.vision, gates.vision, (batch,), shape, split=split, shift=gates.vision_shift, frozen_at=at)[0]


def embed_captions(
    static: Static,
    params: CLIP,
    gates: Gates,
    label: jax.Array,
    left: jax.Array,
    right: jax.Array,
    word: jax.Array,
    split: bool = True,
    frozen_at: Gates | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Unit embeddings [..., e] of captions: "`label` is in the image", and of the pair (left, right) said with `word` (0 or 1)."""
    batches = (SINGLE_CAPTION, single_caption_slots(label)), (PAIR_CAPTION, pair_caption_slots(left, right, word))
    at = None if frozen_at is None else frozen_at.text
    return encoder.encode(params.text, gates.text, batches, shapes(static)["text"], split=split, frozen_at=at)
