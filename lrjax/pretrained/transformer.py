"""The forward pass of a pretrained encoder, by origin: tokens -> blocks -> readout -> projection.

CLIP, SigLIP and DINOv2 run through the same code; their configs and the parameters that they have tell them apart. The residual
stream is kept split by origin: E (patches, words, the class token), P (position rows), M (what MLPs wrote), B (biases). LayerNorm
is linear once its scale is given, so every score is an exact sum over (origin of the query, origin of the key), and every value
over origins. A stream merged into one origin gives the same outputs, faster.

Blocks are stacked along a first axis, and one scan runs them. What an analysis wants of a layer it takes inside the scan
(`observe`), so that large arrays are never kept.

Axes: l layers, o, c origins of query and key, q, t query and key tokens, h heads, k d_head, d d_model, m width of the MLP,
e d_embed, p positions.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from lrjax.models.attention import Block, LayerNorm, normalise, out_of_heads, project, read_by_head, scores_by_head
from lrjax.pretrained import terms
from lrjax.pretrained.config import EncoderConfig
from lrjax.pretrained.terms import GATES, ORIGINS, TERM_GRID, VALUE_GRID


@struct.dataclass
class Pool:
    """Parameters of SigLIP's readout: a learned query `probe` [d] attends to all tokens; then a LayerNorm and an MLP."""

    probe: jax.Array
    block: Block


@struct.dataclass
class Transformer:
    """Parameters of one encoder.

    Attributes:
        E: What makes tokens: rows of words [v, d], or the weights of patches [3 * size * size, d].
        P: Position rows [p, d].
        cls: The class token [d], where there is one.
        patch_bias: The bias of patches [d], where there is one.
        norm_in: The LayerNorm before the first block (CLIP's vision encoder).
        blocks: The blocks, every array with a first axis of layers. LayerScale is part of W_O, b_O, W_out and b_out.
        norm_out: The LayerNorm of the readout.
        W_proj: The projection [d, e], where there is one, and its bias b_proj [e].
        pool: SigLIP's readout.
    """

    E: jax.Array
    P: jax.Array
    blocks: Block
    norm_out: LayerNorm
    cls: jax.Array | None = None
    patch_bias: jax.Array | None = None
    norm_in: LayerNorm | None = None
    W_proj: jax.Array | None = None
    b_proj: jax.Array | None = None
    pool: Pool | None = None


@struct.dataclass
class LayerState:
    """What a layer holds that can be frozen: the scales of its two LayerNorms [t], its pattern [h, q, t], what its MLP wrote [q,
    d].
    """

    attention_scale: jax.Array
    mlp_scale: jax.Array
    pattern: jax.Array
    mlp: jax.Array


@struct.dataclass
class States:
    """What a whole encoder holds that can be frozen: every layer's, stacked [l, ...], and the scales of the outer LayerNorms."""

    layers: LayerState
    scale_in: jax.Array | None
    scale_out: jax.Array
    pool: LayerState | None


@struct.dataclass
class Interventions:
    """What is done to one encoder; every default means that nothing is done.

    Attributes:
        gates: Factors [depth, h, 20] on the terms of every layer, in the order of `terms.GATES`; SigLIP's readout is one layer
            more.
        frozen: The states of the forward pass without the gates. LayerNorm keeps these scales, MLPs write what they wrote, and a
            head whose scores have no gate keeps its pattern: what is left is the direct effect.
    """

    gates: jax.Array | None = None
    frozen: States | None = None


@struct.dataclass
class LayerCache:
    """What one layer computed, by origin.

    Attributes:
        residual: The stream [o, t, d] before the layer.
        x: The stream after LayerNorm [o, t, d].
        q: Queries [o, q, h, k], over sqrt(d_head).
        k: Keys [o, t, h, k].
        v: Values [o, t, h, k], gated.
        scores: What softmax sees [h, q, t]: gated, masked.
        state: What can be frozen.
    """

    residual: jax.Array
    x: jax.Array
    q: jax.Array
    k: jax.Array
    v: jax.Array
    scores: jax.Array
    state: LayerState


@struct.dataclass
class Output:
    """One sequence through an encoder.

    Attributes:
        embedding: The embedding [e], not yet a unit vector.
        by_origin: Its parts [o, e]; they sum to it.
        observed: What `observe` took of the layers, stacked [l, ...].
        observed_pool: What `observe` took of SigLIP's readout.
        states: What can be frozen.
    """

    embedding: jax.Array
    by_origin: jax.Array
    observed: Any
    observed_pool: Any
    states: States


def term_scores(cache: LayerCache) -> jax.Array:
    """The sixteen terms [o, c, h, q, t] of a layer's scores, before gates; over o and c they sum to QK^T / sqrt(d_head)."""
    return jnp.einsum("oqhk,cthk->ochqt", cache.q, cache.k)


def by_origin(parts: dict[int, jax.Array]) -> jax.Array:
    """Streams [t, d] by their origin, stacked [o, t, d]; those that are not given are 0."""
    zero = jnp.zeros_like(next(iter(parts.values())))
    return jnp.stack([parts.get(origin, zero) for origin in range(len(ORIGINS))])


def image_stream(params: Transformer, pixels: jax.Array, config: EncoderConfig) -> jax.Array:
    """The stream [4, t, d] of an image [3, H, W] before the first block: patches row by row, after the class token if there is
    one.
    """
    size, channels = config.patch_size, pixels.shape[0]
    rows, columns = pixels.shape[1] // size, pixels.shape[2] // size
    patches = pixels[:, : rows * size, : columns * size].reshape(channels, rows, size, columns, size)
    patches = patches.transpose(1, 3, 0, 2, 4).reshape(rows * columns, channels * size * size)
    tokens, bias = patches @ params.E, jnp.zeros((rows * columns, params.E.shape[1]))
    if params.patch_bias is not None:
        bias = bias + params.patch_bias[None]
    if params.cls is not None:
        tokens = jnp.concatenate([params.cls[None], tokens])
        bias = jnp.pad(bias, [(1, 0), (0, 0)])
    return by_origin({terms.E: tokens, terms.P: params.P, terms.B: bias})


def text_stream(params: Transformer, ids: jax.Array) -> jax.Array:
    """The stream [4, t, d] of the ids [t] of a text before the first block."""
    return by_origin({terms.E: params.E[ids], terms.P: params.P[: len(ids)]})


def scale_of(residual: jax.Array, eps: float, given: jax.Array | None = None) -> jax.Array:
    """LayerNorm's scale 1 / sigma [t] of a stream [o, t, d]: the one given, or its own."""
    return jax.lax.rsqrt(jnp.var(residual.sum(0), -1) + eps) if given is None else given


def activate(hidden: jax.Array, name: str) -> jax.Array:
    """What an MLP does to its hidden units [..., m]; SwiGLU has twice as many before as after."""
    if name == "quick_gelu":
        return hidden * jax.nn.sigmoid(1.702 * hidden)
    if name == "swiglu":
        gate, value = jnp.split(hidden, 2, -1)
        return jax.nn.silu(gate) * value
    return jax.nn.gelu(hidden, approximate=name == "gelu_tanh")


def run_mlp(block: Block, x: jax.Array, config: EncoderConfig, scale: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """What a block's MLP writes [t, d] to the merged stream x [t, d], and its LayerNorm's scale [t]."""
    mlp = block.mlp
    assert mlp is not None
    scale = scale_of(x[None], config.norm_eps, scale)
    hidden = normalise(block.mlp_norm, x[None], scale)[0] @ mlp.W_in + mlp.b_in[None]
    return activate(hidden, config.activation) @ mlp.W_out + mlp.b_out[None], scale


def gated_scores(gates: jax.Array | None, q: jax.Array, k: jax.Array, allowed: jax.Array | None) -> jax.Array:
    """What softmax sees [h, q, t]: scores with their terms gated; -inf where a query does not see a key. The arguments are as of
    `attend`.
    """
    if gates is None:
        scores = jnp.einsum("qhk,thk->hqt", q.sum(0), k.sum(0))
    else:
        scores = scores_by_head(jnp.einsum("hoc,oqhk->cqhk", gates[:, TERM_GRID], q), k)
    return scores if allowed is None else jnp.where(allowed[None], scores, -jnp.inf)


def _frozen_without_gate(pattern, frozen, gates: jax.Array, q: jax.Array, k: jax.Array, allowed) -> jax.Array:
    """The patterns [h, q, t] of heads with a gate on their scores, and the frozen ones of all others.

    A frozen pattern has the derivative of a gate that begins to move, and none by the stream: so the derivative of an output by the
    gates is at first order what one gate alone does.
    """
    gated = (gates[:, TERM_GRID] != 1).any((1, 2))[:, None, None]
    moved = jax.nn.softmax(gated_scores(gates, *jax.lax.stop_gradient((q, k)), allowed), axis=-1)
    return jnp.where(gated, pattern, frozen + (moved - jax.lax.stop_gradient(moved)))


def attend(
    block: Block,
    gates: jax.Array | None,
    of_queries: jax.Array,
    of_keys: jax.Array,
    allowed: jax.Array | None,
    frozen: jax.Array | None,
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """What attention writes [o, q, d], and q, k, v, scores, pattern.

    Args:
        block: Its weights.
        gates: [h, 20]; None: all are 1.
        of_queries: The stream [o, q, d] that queries read, after LayerNorm.
        of_keys: The stream [o, t, d] that keys and values read.
        allowed: Which keys t a query q sees [q, t]; None: all.
        frozen: The pattern [h, q, t] of heads that have no gate on their scores.
    """
    q = project(of_queries, block.W_Q, block.b_Q) / np.sqrt(block.W_Q.shape[-1])
    k, v = project(of_keys, block.W_K, block.b_K), project(of_keys, block.W_V, block.b_V)
    if gates is not None:
        v = v * gates[:, VALUE_GRID].T[:, None, :, None]
    scores = gated_scores(gates, q, k, allowed)
    pattern = jax.nn.softmax(scores, axis=-1)
    if frozen is not None:
        pattern = frozen if gates is None else _frozen_without_gate(pattern, frozen, gates, q, k, allowed)
    written = out_of_heads(read_by_head(pattern, v), block.W_O).at[-1].add(block.b_O)
    return written, (q, k, v, scores, pattern)


def run_layer(
    block: Block,
    gates: jax.Array | None,
    frozen: LayerState | None,
    residual: jax.Array,
    allowed: jax.Array | None,
    config: EncoderConfig,
) -> tuple[jax.Array, LayerCache]:
    """One block: the stream [o, t, d] after it, and what it computed."""
    kept: dict[str, Any] = {} if frozen is None else {f.name: getattr(frozen, f.name) for f in dataclasses.fields(frozen)}
    scale = scale_of(residual, config.norm_eps, kept.get("attention_scale"))
    x = normalise(block.norm, residual, scale)
    written, (q, k, v, scores, pattern) = attend(block, gates, x, x, allowed, kept.get("pattern"))
    after = residual + written
    mlp, mlp_scale = run_mlp(block, after.sum(0), config, kept.get("mlp_scale"))
    mlp = kept.get("mlp", mlp)
    cache = LayerCache(residual, x, q, k, v, scores, LayerState(scale, mlp_scale, pattern, mlp))
    return after.at[terms.M if len(residual) > 1 else 0].add(mlp), cache


def run_pool(
    pool: Pool, gates: jax.Array | None, frozen: LayerState | None, stream: jax.Array, config: EncoderConfig
) -> tuple[jax.Array, LayerCache]:
    """SigLIP's readout of the stream [o, t, d] after LayerNorm: what it reads [o, 1, d]. The probe is a parameter, of origin B."""
    probe = jnp.zeros((len(stream), 1, stream.shape[-1])).at[-1, 0].set(pool.probe)
    kept = None if frozen is None else frozen.pattern
    written, (q, k, v, scores, pattern) = attend(pool.block, gates, probe, stream, None, kept)
    mlp, scale = run_mlp(pool.block, written.sum(0), config, None if frozen is None else frozen.mlp_scale)
    mlp = mlp if frozen is None else frozen.mlp
    state = LayerState(jnp.ones(stream.shape[1]), scale, pattern, mlp)
    return written.at[terms.M if len(stream) > 1 else 0].add(mlp), LayerCache(stream, stream, q, k, v, scores, state)


def run(
    params: Transformer,
    interventions: Interventions,
    stream: jax.Array,
    readout: jax.Array | int,
    config: EncoderConfig,
    observe: Callable[[LayerCache], Any] = lambda cache: None,
    split: bool = True,
) -> Output:
    """One sequence through an encoder.

    Args:
        params: Its parameters.
        interventions: What is done to it. Gates act only where the stream is split.
        stream: `image_stream` or `text_stream`, [4, t, d].
        readout: The position that is read; SigLIP's vision encoder has a readout of its own.
        config: Its static side.
        observe: What is taken of each layer.
        split: Whether the stream keeps its origins; merged, all is the same but cheaper, and there are no terms.
    """
    frozen, gates, n_layers = interventions.frozen, interventions.gates, config.n_layers
    assert split or gates is None, "gates act on a stream that is split by origin"
    residual = stream if split else stream.sum(0, keepdims=True)
    scale_in = None
    if params.norm_in is not None:
        scale_in = scale_of(residual, config.norm_eps, None if frozen is None else frozen.scale_in)
        residual = normalise(params.norm_in, residual, scale_in)
    n_tokens = residual.shape[1]
    allowed = jnp.tril(jnp.ones((n_tokens, n_tokens), bool)) if config.causal else None

    def layer(residual, of_layer):
        block, of_gates, of_frozen = of_layer
        residual, cache = run_layer(block, of_gates, of_frozen, residual, allowed, config)
        return residual, (observe(cache), cache.state)

    of_layers = (params.blocks, None if gates is None else gates[:n_layers], None if frozen is None else frozen.layers)
    residual, (observed, states) = jax.lax.scan(layer, residual, of_layers)
    at_readout = residual if params.pool is not None else jax.lax.dynamic_slice_in_dim(residual, readout, 1, axis=1)
    scale_out = scale_of(at_readout, config.norm_eps, None if frozen is None else frozen.scale_out)
    read = normalise(params.norm_out, at_readout, scale_out)
    observed_pool = pooled = None
    if params.pool is not None:
        of_pool = None if gates is None else gates[n_layers]
        read, cache = run_pool(params.pool, of_pool, None if frozen is None else frozen.pool, read, config)
        observed_pool, pooled = observe(cache), cache.state
    embedding = project_readout(params, read[:, 0])
    return Output(embedding.sum(0), embedding, observed, observed_pool, States(states, scale_in, scale_out, pooled))


def project_readout(params: Transformer, read: jax.Array) -> jax.Array:
    """The parts of the embedding [o, e] of what the readout holds [o, d]."""
    embedding = read if params.W_proj is None else read @ params.W_proj
    return embedding if params.b_proj is None else embedding.at[-1].add(params.b_proj)


def unit_gates(config: EncoderConfig) -> jax.Array:
    """All gates 1: [depth, h, 20]."""
    return jnp.ones((config.depth, config.n_heads, len(GATES)))
