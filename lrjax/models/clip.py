"""The two towers of one model: their shapes, initial values and random streams, and the embeddings of scenes and captions.

All of a model's randomness derives from its seed alone, through one named stream each.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from lrjax import surroundings
from lrjax.config import Hyper, Model, Static, make_hyper, make_static
from lrjax.data.scenes import Form, Slots
from lrjax.data.splits import Splits
from lrjax.gates import ENCODERS, Gates
from lrjax.models import encoder, localization_head, lookup_tables
from lrjax.models import positions as places
from lrjax.models.encoder import Encoder, Shape

MAX_LOG_SCALE = np.log(100.0)
STREAMS = ("init", "splits", "batches", "evaluation", "noise", "items", "dropout")


@struct.dataclass
class CLIP:
    """Parameters of one model; log_scale is the learnable log logit scale [], bias that of the sigmoid loss [], places the head of
    `supervision`; None where a model has none.
    """

    vision: Encoder
    text: Encoder
    log_scale: jax.Array
    bias: jax.Array | None = None
    places: localization_head.Head | None = None


def stream(seed: jax.Array, name: str) -> jax.Array:
    """The key of one of a model's random STREAMS."""
    return jax.random.fold_in(jax.random.key(seed, impl=surroundings.PRNG), STREAMS.index(name))


def shapes(static: Static) -> dict[str, Shape]:
    """The shapes of both towers."""
    names = ("n_heads", "d_model", "d_embed", "d_head", "positions", "layer_norm", "mlp_ratio", "n_repeats", "norm", "dropout")
    task, common = static.world, {name: getattr(static, name) for name in names}
    of_vision = {"projects": static.projection == "both"}
    seen, spoken = len(task.image.template), task.caption_length
    said, layers = task.n_first + task.n_labels_total, (static.n_layers_vision, static.n_layers_text)
    if static.objective != "contrastive":  # vision writes tokens, text reads them and what is said (`reader`)
        vision, text = common | of_vision | {"d_embed": static.d_model}, common | {"d_embed": said}
        return {
            "vision": Shape(task.n_tokens, seen, layers[0], causal=False, **vision),
            "text": Shape(task.n_tokens, seen - 1 + spoken, layers[1], causal=True, **text),
        }
    rows = 0
    if static.positions == "row_column":  # learned, and laid out by `tower`
        common["positions"], rows = "learned", 1 + sum(task.extent)
    return {
        "vision": Shape(task.n_tokens, seen, layers[0], causal=False, position_rows=rows, **common, **of_vision),
        "text": Shape(said, spoken, layers[1], causal=True, **common),
    }


def unit_gates(static: Static) -> Gates:
    """All gates 1: no ablation."""
    return Gates(**{name: shape.unit_gates() for name, shape in shapes(static).items()})


@surroundings.pinned()
def shaped(model: Model) -> CLIP:
    """The shapes of one model's parameters."""
    return jax.eval_shape(partial(init_clip, make_static([model])), make_hyper(model))


def n_parameters(params) -> int:
    """How many numbers a tree of arrays or shapes holds."""
    return sum(x.size for x in jax.tree.leaves(params))


def init_clip(static: Static, hyper: Hyper) -> CLIP:
    """Initial values of one model, from its seed."""
    keys = jax.random.split(stream(hyper.seed, "init"))
    towers = {
        name: encoder.init(key, shape, hyper.e_scale, hyper.p_scale)
        for key, (name, shape) in zip(keys, shapes(static).items(), strict=True)
    }
    bias = (
        -jnp.log(static.batch_size - 1.0) if static.pair_loss == "sigmoid" else None
    )  # as many pairs belong together, at the start
    places = None
    if static.supervised:
        places = localization_head.init(jax.random.fold_in(stream(hyper.seed, "init"), 2), static.world, static.d_embed)
    return CLIP(**towers, log_scale=jnp.log(hyper.logit_scale), bias=bias, places=places)


def model_splits(static: Static, hyper: Hyper) -> Splits:
    """The splits of one model, from its seed."""
    return static.world.splits(stream(hyper.seed, "splits"))


def as_read(hyper: Hyper, params: CLIP) -> CLIP:
    """The parameters as the encoders read them: E times the model's token_multiplier. Training holds and decays E itself."""
    read = lambda encoder: encoder.replace(E=hyper.token_multiplier * encoder.E)
    return params.replace(vision=read(params.vision), text=read(params.text))


def tower(static: Static, params: CLIP, name: str) -> Encoder:
    """The encoder `vision` or `text` as it runs: with a row of P for every position, where P holds rows and columns of a grid."""
    found = getattr(params, name)
    if name == "vision" and static.positions == "row_column":
        found = found.replace(P=places.of_grid(*static.world.extent) @ found.P)
    return found


def own_key(dropout_key: jax.Array | None, name: str) -> jax.Array | None:
    """The key of the dropout of one tower in a training step; None if there is none."""
    return None if dropout_key is None else jax.random.fold_in(dropout_key, ENCODERS.index(name))


def embed_images(
    static: Static,
    params: CLIP,
    gates: Gates,
    images: Slots,
    split: bool = True,
    frozen_at: Gates | None = None,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """Unit embeddings [..., e] of images, slots [S, ...]. Without `split`, gates in depth count as 1 (see `encoder.run`).

    frozen_at: the gates under which LayerNorm's scales are taken. dropout_key: of a training step (None: no dropout).
    """
    batch, shape = (static.world.image, images), shapes(static)["vision"]
    more = dict(split=split, frozen_at=None if frozen_at is None else frozen_at.vision, dropout_key=own_key(dropout_key, "vision"))
    vision = tower(static, params, "vision")
    return lookup_tables.encode(vision, gates.vision, (batch,), shape, shift=gates.vision_shift, **more)[0]


def embed_captions(
    static: Static,
    params: CLIP,
    gates: Gates,
    captions: tuple[tuple[Form, Slots], ...],
    split: bool = True,
    frozen_at: Gates | None = None,
    dropout_key: jax.Array | None = None,
) -> tuple[jax.Array, ...]:
    """Unit embeddings [..., e] of captions, each a form and its slots [S, ...]; see `embed_images`."""
    more = dict(split=split, frozen_at=None if frozen_at is None else frozen_at.text, dropout_key=own_key(dropout_key, "text"))
    return lookup_tables.encode(params.text, gates.text, captions, shapes(static)["text"], **more)
