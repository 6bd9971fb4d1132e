"""One block of an encoder: attention, then an MLP, each with its LayerNorm, where the block has them."""

import dataclasses
from collections.abc import Callable, Sequence

import jax

from lrjax.models.attention import Block, BlockCache, LayerNorm, attend, norm_scale, normalise
from lrjax.models.positions import Geometry

Drop = Callable[[jax.Array], jax.Array]


def scale_of(norm: LayerNorm | None, residual: jax.Array, given: jax.Array | None) -> jax.Array | None:
    """The scale [t] of a LayerNorm, if there is one: the one given, or the residual's own."""
    return None if norm is None else norm_scale(residual) if given is None else given


def apply_mlp(block: Block, x: jax.Array, scale: jax.Array | None = None) -> jax.Array:
    """What a block's MLP writes to the stream x [t, d], after attention."""
    mlp = block.mlp
    assert mlp is not None
    hidden = normalise(block.mlp_norm, x[None], scale)[0] @ mlp.W_in + mlp.b_in[None]
    return jax.nn.gelu(hidden) @ mlp.W_out + mlp.b_out[None]


def run_block(
    block: Block,
    gates: jax.Array,
    residual: jax.Array,
    geometry: Geometry,
    query_slice: slice,
    given: tuple[jax.Array | None, jax.Array | None],
    precomputed_qkv: Sequence[jax.Array],
    drops: Sequence[Drop] | None,
    merges: bool,
) -> tuple[jax.Array, BlockCache | None, tuple[jax.Array | None, jax.Array | None]]:
    """Run one sequence through one block: attention, then its MLP if it has one, each with its LayerNorm if it has one.

    Args:
        block, gates, residual, query_slice, precomputed_qkv: As of `attention.attend`.
        geometry: What positions add between all queries and all keys.
        given: LayerNorm's scales at attention and at the MLP. None: the sequence's own.
        drops: Dropout of what attention writes, and of what the MLP writes. None: no dropout.
        merges: Whether the stream is merged behind an MLP.

    Returns:
        The residual stream [o, q, d], the cache, and the scales [t] at attention and at the MLP.
    """
    scale = scale_of(block.norm, residual, given[0])
    residual, cache = attend(
        block, gates, residual, geometry.of_queries(query_slice), query_slice, scale, precomputed_qkv, drops[0] if drops else None
    )
    scale = scale_of(block.after, residual, given[0]) if block.norm is None else scale
    residual = normalise(block.after, residual, scale)
    mlp_scale = scale_of(block.mlp_norm, residual, given[1])
    if block.mlp is not None:
        written = apply_mlp(block, residual.sum(0), mlp_scale)
        written = drops[1](written) if drops else written
        residual = residual.at[-1].add(written)
        residual = residual.sum(0, keepdims=True) if merges else residual
        mlp_scale = scale_of(block.mlp_after, residual, given[1]) if block.mlp_norm is None else mlp_scale
        residual = normalise(block.mlp_after, residual, mlp_scale)
        cache = cache and dataclasses.replace(cache, mlp=written)
    return residual, cache, (scale, mlp_scale)
