"""Who decides the order? Direct attribution of the decision to what is written to the readout token.

An image of an unseen pair is decided by its *margin*: its cosine with its caption minus its cosine with the swapped caption (SPEC's
`order` asks if it is above 0). Before the norm the image's embedding is a sum of vectors, and so the margin is a sum of numbers:

    margin = [ residual + sum over layers of (b_O + sum over heads, sources t, origins o of pattern_t v_o,t W_O) ] W_proj . d / |y|

with d = true caption - swapped caption (unit vectors) and |y| the norm of the image's embedding. The residual is the readout token
as it came in, E_cls + P_0. With LayerNorm each part is centred and scaled as the whole is, and its bias is a part; so is what an
MLP writes. The split is exact in any depth: every layer's heads write to the readout's stream directly. In later layers a source
is the place that is read, whose stream has by then read other places; origins are carried along.

In text, a caption's margin is its cosine with the image minus that with the mirrored image: d = image - mirrored image.

The residual and b_O are the same in every image, while d changes sign when two objects change places. So before the norm they add
up to exactly 0 over all pairs: they cannot know the order. Not so their spread: in an image they favour one of the two captions.

Attribution is direct, with every pattern as it is: what a part does through a later layer, or through the norm, is not its own.
Of a CLS that stands at one position alone, VE and VP of source CLS are a matter of convention (see `ablate`): read their sum.

Axes: s samples (an image and a relation word), h heads, o origins of values, t source positions, c roles of sources, l layers.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from lrjax.analysis.gradient import readout_template
from lrjax.analysis.models import check_encoder, depth_of, map_models, position_names, row_of, traced
from lrjax.config import Hyper, Static
from lrjax.data.scenes import Scene, captions_of, pair_caption_edits, render, swapped
from lrjax.data.splits import Splits
from lrjax.gates import Gates
from lrjax.models import encoder as encoders
from lrjax.models.attention import normalise
from lrjax.models.clip import CLIP, embed_captions, embed_images, encoder_configs
from lrjax.models.encoder import Encoder, EncoderConfig
from lrjax.models.interventions import Interventions
from lrjax.models.retrieval import TIE
from lrjax.terms import VALUES
from lrjax.training.run import Run

ROLES = {
    "vision": ("CLS", "left object", "right object", "background"),
    "text": ("left label", "right label", "relation word", "EOT"),
}


def contributions(
    encoder_params: Encoder, gates: jax.Array, ids: jax.Array, d: jax.Array, encoder_config: EncoderConfig, readout: int
):
    """Parts of (embedding before the norm) . d of one sequence ids [T], for d [e]; they sum to it. LayerNorm's scale is as it is.

    Returns what heads did not read (see `fixed_parts`) [part], heads [l, h, o, t], and the norm [] of the embedding.
    """
    found = encoders.run(encoder_params, Interventions(gates), ids, encoder_config, readout)
    blocks, scales, beta, b_O, mlp, heads = encoders.passes(encoder_params, encoder_config), found.scales, [], [], [], []

    def before(norm, scale, back, at=readout):
        """`back` [d], of what a LayerNorm gives, as that of what it is given."""
        if norm is None:
            return back
        beta.append(norm.beta @ back)
        weighed = norm.gamma * back
        return scale[at] * (weighed - weighed.mean())

    back = before(encoder_params.norm, scales.readout, d if encoder_params.W_proj is None else encoder_params.W_proj @ d, 0)
    for layer, (block, cache) in reversed(list(enumerate(zip(blocks, found.caches, strict=True)))):
        back = before(block.mlp_after, scales.mlp[layer], back)
        mlp += [cache.mlp[readout] @ back] if cache.mlp is not None else []
        back = before(block.after, scales.attention[layer], back)
        heads.append(jnp.einsum("ht,othk,hk->hot", cache.pattern[:, readout], cache.values, block.W_O @ back))
        b_O.append(block.b_O @ back)
    fixed = [(encoder_params.E[ids[readout]] + encoder_params.P[readout]) @ back, *b_O[::-1], *mlp[::-1]]
    y = normalise(encoder_params.norm, found.residual_by_origin.sum(0)[None, None, readout], scales.readout)[0, 0]
    fixed = jnp.stack([*fixed, sum(beta)] if beta else fixed)
    return fixed, jnp.stack(heads[::-1]), jnp.linalg.norm(encoders.projected(encoder_params, y))


def fixed_parts(encoder: str, static: Static) -> list[str]:
    """Names of what stands in the readout token beside what heads read: residual, b_O and MLP of every layer, LayerNorm's bias."""
    layers = _at_layer(encoder, static)
    mlp = [f"{layer}MLP" for layer in layers if static.mlp_ratio]
    return ["residual", *(f"{layer}b_O" for layer in layers), *mlp, *(["LayerNorm bias"] if static.layer_norm else [])]


def _at_layer(encoder: str, static: Static) -> list[str]:
    depth = depth_of(static, encoder)
    return [f"L{layer} " if depth > 1 else "" for layer in range(depth)]


def samples(encoder: str, static: Static, params: CLIP, gates: Gates) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Every unseen-pair image with every relation word: ids [s, T] of the image (of its caption in text), directions d [s, e], and
    the role [s, T] of every position, an index into ROLES.
    """
    row, n_relations = row_of(static, "values"), static.n_relations
    scenes = jax.tree.map(lambda x: jnp.tile(x, n_relations), row.unseen())
    word = jnp.repeat(jnp.arange(n_relations), len(scenes.left) // n_relations)
    if encoder == "vision":
        grid = jnp.indices((n_relations, static.n_heldout, static.n_heldout))
        captions = embed_captions(static, params, Interventions(gates.text), captions_of(grid[1], grid[1], grid[2], grid[0]))[1]
        d = captions[word, scenes.left, scenes.right] - captions[word, scenes.right, scenes.left]
        edits = row.image_edits(scenes)
    else:
        images = (embed_images(static, params, Interventions(gates.vision), row.image_edits(s)) for s in (scenes, swapped(scenes)))
        d = next(images) - next(images)
        edits = pair_caption_edits(scenes.left, scenes.right, word)
    return render(readout_template(static, encoder), edits), d, roles(encoder, static, scenes, word)


def roles(encoder: str, static: Static, scenes: Scene, word: jax.Array) -> jax.Array:
    """The role [s, T] of every position, an index into ROLES[encoder]. *right of* names the right label first."""
    T = len(readout_template(static, encoder).tokens)
    place = jnp.arange(T)
    if encoder == "text":
        left_of = (word == 0)[:, None]
        return jnp.where(left_of, jnp.array([0, 2, 1, 3]), jnp.array([1, 2, 0, 3]))
    at = lambda pixel: place[None] == pixel[:, None] + 1
    return jnp.where(place == 0, 0, jnp.where(at(scenes.i), 1, jnp.where(at(scenes.j), 2, 3)))


def attribute(encoder: str, static: Static, hyper: Hyper, splits: Splits, params: CLIP, gates: Gates) -> dict[str, jax.Array]:
    """The question: of each part (see `part_names`) the mean and sd over samples of its contribution to the margin, its share of
    the mean margin, and order decided by the part alone and by all but it; of each (layer, head, origin, role) mean and sd, and
    the mean by position too.
    """
    traced(static, encoder, "values")
    ids, d, role = samples(encoder, static, params, gates)
    encoder_config, readout = encoder_configs(static)[encoder], readout_template(static, encoder).readout
    one = lambda ids, d: contributions(getattr(params, encoder), getattr(gates, encoder), ids, d, encoder_config, readout)
    *parts, norm = jax.vmap(one)(ids, d)
    fixed, heads = (x / norm.reshape(-1, *(1,) * (x.ndim - 1)) for x in parts)  # to cosines
    is_role = jax.nn.one_hot(role, len(ROLES[encoder]), dtype=bool)  # [s, t, c]
    sources = jnp.einsum("slhot,stc->slhoc", heads, is_role)
    whole = fixed.sum(1) + heads.sum((1, 2, 3, 4))
    columns = [whole[:, None], fixed, heads.sum((3, 4)).reshape(len(ids), -1)]
    columns = jnp.concatenate([*columns, sources.sum((1, 2, 3)), heads.sum((1, 2, 4))], 1)  # [s, part]
    return {
        "mean": columns.mean(0),
        "sd": columns.std(0),
        "before_norm": (columns * norm[:, None]).mean(0),
        "share": columns.mean(0) / whole.mean(),
        "order_alone": decided(columns),
        "order_without": decided(whole[:, None] - columns),
        "source_mean": sources.mean(0),
        "source_sd": sources.std(0),
        "position_mean": jnp.einsum("slhot,stc->lhoct", heads, is_role) / len(ids),
    }


def decided(margins: jax.Array) -> jax.Array:
    """The share of samples [s, ...] whose margin is above 0; ties count 1/2, as in `evaluate`."""
    return jnp.where(jnp.abs(margins) <= TIE, 0.5, margins > 0).mean(0)


def part_names(encoder: str, static: Static) -> list[str]:
    """Names of the parts: the whole margin; `fixed_parts` and the heads, which sum to it; then what the heads write, split again by
    the role of its source, and by the origin of the value.
    """
    heads = [f"{layer}head {h}" for layer in _at_layer(encoder, static) for h in range(static.n_heads)]
    return ["margin", *fixed_parts(encoder, static), *heads, *ROLES[encoder], *VALUES]


_QUESTIONS = {encoder: partial(attribute, encoder) for encoder in ROLES}  # made once: equal questions compile once
PARTS = ("mean", "sd", "before_norm", "share", "order_alone", "order_without")
SOURCES = ("source_mean", "source_sd")


def values(run: Run, encoder: str = "vision", n_labels=None) -> xr.Dataset:
    """`attribute` of all models: PARTS [model, part]; SOURCES [model, layer, head, value, role]; and position_mean, with the source
    position last. In cosines; `before_norm` is the mean of a part before it is divided by the embedding's norm.
    """
    source = ("layer", "head", "value", "role")
    dims = dict.fromkeys(PARTS, ("part",)) | dict.fromkeys(SOURCES, source) | {"position_mean": (*source, "position")}

    def coords(static):
        axes = {
            "layer": range(traced(static, encoder, "values")),
            "head": range(static.n_heads),
            "value": VALUES,
            "role": ROLES[encoder],
        }
        return axes | {"part": part_names(encoder, static), "position": position_names(static, encoder)}

    return map_models(run, _QUESTIONS[check_encoder(encoder)], dims, coords, n_labels)


def ranked(answer: xr.Dataset) -> xr.Dataset:
    """PARTS with each model's heads (of all layers) in the order of their mean contribution: "head #1" decides most. The number of
    a head means nothing across seeds.
    """
    names = answer.part.values.tolist()
    heads = [name for name in names if "head" in name]
    written = [name for name in names if name.endswith(("b_O", "MLP", "LayerNorm bias"))]
    constant = ["margin", "residual", *written]
    parts = answer[list(PARTS)]
    order = np.argsort(-parts["mean"].sel(part=heads).fillna(-np.inf).values, axis=1)
    by_rank = parts.sel(part=heads).drop_vars("part").isel(part=xr.DataArray(order, dims=("model", "part")))
    by_rank = by_rank.assign_coords(part=[f"head #{rank + 1}" for rank in range(len(heads))])
    rest = [name for name in names if name not in (*constant, *heads)]
    return xr.concat([parts.sel(part=constant), by_rank, parts.sel(part=rest)], "part")
