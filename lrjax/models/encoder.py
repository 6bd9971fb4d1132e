"""One encoder for images and captions: E[token] + P[position] -> blocks -> readout token -> projection -> L2 norm.

`run` is the definition, for any depth and every variant: it keeps the residual stream split by origin. `lookup_tables` computes the
same faster for one block, and says when it applies.

Axes: v token ids, p positions, h heads, k d_head, d d_model, e d_embed.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from lrjax.models import positions as places
from lrjax.models.attention import EVERY, MLP, Block, BlockCache, LayerNorm, dropper, normalise, project
from lrjax.models.block import run_block, scale_of
from lrjax.models.interventions import Interventions
from lrjax.terms import GATES


@struct.dataclass
class Encoder:
    """Parameters: E [v, d], P [p, d], blocks, W_proj [d, e] (None: the embedding is what the readout token holds); the
    LayerNorm of the readout, where it has one.
    """

    E: jax.Array
    P: jax.Array
    blocks: tuple[Block, ...]
    W_proj: jax.Array | None
    norm: LayerNorm | None = None


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """The static side of an encoder. d_head 0: d_model / n_heads. mlp_ratio 0: no MLP; otherwise its width over d_model.
    position_rows: how many rows P is trained with (0: one a position). n_repeats: how often the layers run, with the same weights.
    norm: `pre`, LayerNorm before attention, MLP and readout; `post`, after each residual (then the readout is of norm already).
    """

    n_tokens: int
    n_positions: int
    n_layers: int
    n_heads: int
    d_model: int
    d_embed: int
    causal: bool
    d_head: int = 0
    positions: str = "learned"
    layer_norm: bool = False
    mlp_ratio: int = 0
    position_rows: int = 0
    n_repeats: int = 1
    norm: str = "pre"
    dropout: float = 0.0
    projects: bool = True

    @property
    def depth(self) -> int:
        """How many blocks a sequence passes: the layers of the first pass, then those of the second, ..."""
        return self.n_layers * self.n_repeats

    def drops(self, dropout_key: jax.Array | None) -> bool:
        """Whether there is dropout: in training, with a key, at a rate above 0."""
        return dropout_key is not None and self.dropout > 0

    @property
    def k(self) -> int:
        """d_head."""
        return self.d_head or self.d_model // self.n_heads

    def unit_gates(self) -> jax.Array:
        """All gates 1: [depth, n_heads, 12]."""
        return jnp.ones((self.depth, self.n_heads, len(GATES)))

    def geometry(self, q: jax.Array, t: jax.Array) -> places.Geometry:
        """What places q of queries and t of keys add to attention."""
        return places.find(self.positions).geometry(self.n_heads, self.k, q, t, self.causal)

    def trained_positions(self) -> np.ndarray:
        """1 for the rows [p] of P that training may change."""
        return places.find(self.positions).trained_rows(self.position_rows or self.n_positions, has_cls=not self.causal)


def init(key: jax.Array, encoder_config: EncoderConfig, e_scale: jax.Array, p_scale: jax.Array) -> Encoder:
    """Initial values: E, P normal of the given scales (each row from its own id), W uniform +-1/sqrt(d), biases 0.

    LayerNorm starts as 1 and 0, an MLP as uniform +-1/sqrt(fan-in).
    """
    d, h, k = encoder_config.d_model, encoder_config.n_heads, encoder_config.k
    bound = d**-0.5
    norm = LayerNorm(jnp.ones(d), jnp.zeros(d)) if encoder_config.layer_norm else None
    before, after = (norm, None) if encoder_config.norm == "pre" else (None, norm)

    def rows(key, n):
        return jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (d,)))(jnp.arange(n))

    def mlp(key):
        m = encoder_config.mlp_ratio * d
        W_in, W_out = jax.random.uniform(key, (2, d * m), minval=-1, maxval=1)
        return MLP(bound * W_in.reshape(d, m), jnp.zeros(m), m**-0.5 * W_out.reshape(m, d), jnp.zeros(d))

    def block(key):
        W_Q, W_K, W_V, W_O = jax.random.uniform(key, (4, d * h * k), minval=-bound, maxval=bound)
        bias = jnp.zeros((h, k))
        W_Q, W_K, W_V = (w.reshape(d, h, k) for w in (W_Q, W_K, W_V))
        attention = Block(W_Q, W_K, W_V, W_O.reshape(h, k, d), bias, bias, bias, jnp.zeros(d), norm=before, after=after)
        if not encoder_config.mlp_ratio:
            return attention
        return dataclasses.replace(attention, mlp=mlp(jax.random.fold_in(key, 1)), mlp_norm=before, mlp_after=after)

    key_E, key_P, key_proj, key_blocks = (jax.random.fold_in(key, i) for i in range(4))
    drawn = rows(key_P, encoder_config.position_rows or encoder_config.n_positions)
    return Encoder(
        E=e_scale * rows(key_E, encoder_config.n_tokens),
        P=places.find(encoder_config.positions).initial(drawn, e_scale, p_scale, has_cls=not encoder_config.causal),
        blocks=tuple(block(jax.random.fold_in(key_blocks, i)) for i in range(encoder_config.n_layers)),
        W_proj=bound * jax.random.normal(key_proj, (d, encoder_config.d_embed)) if encoder_config.projects else None,
        norm=before,
    )


def passes(params: Encoder, encoder_config: EncoderConfig) -> tuple[Block, ...]:
    """The blocks in the order in which they run, [depth]."""
    return params.blocks * encoder_config.n_repeats


def projected(params: Encoder, x: jax.Array) -> jax.Array:
    """What the readout token holds [..., d] -> the embedding before it is made a unit vector [..., e]."""
    return x if params.W_proj is None else x @ params.W_proj


@struct.dataclass
class Scales:
    """LayerNorm's scales in one sequence: of every block before (or after) attention [t] and its MLP [t] (None if there is none),
    and at the readout [1].
    """

    attention: tuple[jax.Array | None, ...]
    mlp: tuple[jax.Array | None, ...]
    readout: jax.Array | None


@struct.dataclass
class EncoderOutput:
    """What an encoder computes for one sequence.

    Attributes:
        embedding: [e], of norm 1.
        caches: One `BlockCache` for each block whose origins are split.
        residual_by_origin: [o, q, d], the residual stream behind the last block, before the readout's LayerNorm. What the last
            MLP wrote has origin B.
        scales: The scales of LayerNorm.
    """

    embedding: jax.Array
    caches: tuple[BlockCache, ...]
    residual_by_origin: jax.Array
    scales: Scales


def run(
    params: Encoder,
    interventions: Interventions,
    ids: jax.Array,
    encoder_config: EncoderConfig,
    readout: int,
    *,
    split: bool = True,
    query_slice: slice = EVERY,
) -> EncoderOutput:
    """Run one sequence of token ids through the encoder: the definition of the forward pass.

    Args:
        params: Parameters of the encoder.
        interventions: What is done to the forward pass.
        ids: [T] token ids, or [T, c] where the token of a position is the sum of up to c rows of E (EMPTY where there are fewer).
        encoder_config: The shape of the encoder.
        readout: The position that is read out.
        split: As of `run_tokens`.
        query_slice: As of `run_tokens`.

    Returns:
        The output: embedding, caches, residual stream, scales of LayerNorm.
    """
    n_tokens, d_model = params.E.shape
    drops = encoder_config.drops(interventions.dropout_key)
    as_they_are = params.blocks[0].norm is None and not drops  # the first block reads rows of E and P as they are
    tabled = not split and ids.ndim == 1 and as_they_are and n_tokens <= d_model  # more would cost more
    precomputed_qkv = first_block_qkv(params, ids) if tabled else ()
    tokens = tokens_of(params, ids)
    return run_tokens(
        params,
        interventions,
        tokens,
        encoder_config,
        readout,
        split=split,
        query_slice=query_slice,
        precomputed_qkv=precomputed_qkv,
    )


def first_block_qkv(params: Encoder, ids: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Queries, keys and values [1, T, h, k] of the first block, for ids [T], a merged stream and no LayerNorm.

    W_Q, W_K and W_V multiply the rows of E and P, instead of every token of every sequence of a batch. Keys are without b_K.
    """
    block, one_hot = params.blocks[0], jax.nn.one_hot(ids, len(params.E))

    def of(W, b=None):
        of_token, of_position = project(params.E[None], W), project(params.P[None, : len(ids)], W, b)
        return jnp.einsum("tv,ovhk->othk", one_hot, of_token) + of_position

    return of(block.W_Q, block.b_Q), of(block.W_K), of(block.W_V, block.b_V)


def tokens_of(params: Encoder, ids: jax.Array) -> jax.Array:
    """Rows of E of a sequence, [T, d]."""
    return params.E[ids] if ids.ndim == 1 else jnp.where((ids >= 0)[..., None], params.E[ids], 0).sum(1)


def of_origin_E(tokens: jax.Array) -> jax.Array:
    """Tokens [T, d] by origin [3, T, d]."""
    return jnp.pad(tokens[None], [(0, 2), (0, 0), (0, 0)])


def given_scales(
    params: Encoder,
    interventions: Interventions,
    tokens: jax.Array,
    encoder_config: EncoderConfig,
    readout: int,
    query_slice: slice,
) -> Scales | None:
    """LayerNorm's scales in place of the sequence's own: those under `norm_gates`, or those that are frozen. None: its own."""
    if interventions.norm_gates is None:
        return interventions.frozen_norm_scale
    under = dataclasses.replace(interventions, gates=interventions.norm_gates, norm_gates=None, dropout_key=None)
    return run_tokens(params, under, tokens, encoder_config, readout, query_slice=query_slice).scales


def dropping(encoder_config: EncoderConfig, dropout_key: jax.Array | None, T: int) -> Callable[..., jax.Array] | None:
    """`attention.dropper` for one sequence of T tokens; None where there is no dropout."""
    if dropout_key is None or not encoder_config.drops(dropout_key):
        return None
    return dropper(dropout_key, encoder_config.dropout, 1 + 2 * encoder_config.depth, T, encoder_config.d_model)


def at_input(params: Encoder, tokens: jax.Array, split: bool, drop: Callable[..., jax.Array] | None) -> jax.Array:
    """The residual stream in front of the first block, [3, T, d] or merged [1, T, d]: tokens [T, d] or [3, T, d], and positions."""
    residual = of_origin_E(tokens) if tokens.ndim == 2 else tokens
    residual = residual.at[1].add(params.P[: tokens.shape[-2]])
    residual = residual if split else residual.sum(0, keepdims=True)
    return residual if drop is None else drop(0, residual)


def run_tokens(
    params: Encoder,
    interventions: Interventions,
    tokens: jax.Array,
    encoder_config: EncoderConfig,
    readout: int,
    *,
    split: bool = True,
    query_slice: slice = EVERY,
    precomputed_qkv: Sequence[jax.Array] = (),
) -> EncoderOutput:
    """Run one sequence of tokens through the encoder.

    Args:
        params: Parameters of the encoder.
        interventions: What is done to the forward pass.
        tokens: The sequence without positions: [T, d], of origin E, or [3, T, d] by origin.
        encoder_config: The shape of the encoder.
        readout: The position that is read out.
        split: Whether the residual stream keeps its three origins through every block. Then gates act and terms exist in every
            block. If not, the stream is merged, which is cheaper, and right only where all gates are 1. What an MLP writes has no
            origin, so behind an MLP the stream is merged in any case, and gates of later blocks are not read.
        query_slice: Which queries of the last block are computed, the readout among them.
        precomputed_qkv: What `first_block_qkv` returns, or empty.

    Returns:
        The output. It has a cache for every block whose stream is split.

    Raises:
        ValueError: `interventions.score_shift` is set, which only `lookup_tables` can apply.
    """
    if interventions.score_shift is not None:
        raise ValueError("a row of scores can be shifted in a one-block encoder only")
    gates = encoder_config.unit_gates() if interventions.gates is None else interventions.gates
    frozen = given_scales(params, interventions, tokens, encoder_config, readout, query_slice)
    T, last = tokens.shape[-2], encoder_config.depth - 1
    drop = dropping(encoder_config, interventions.dropout_key, T)
    residual = at_input(params, tokens, split, drop)
    geometry = dataclasses.replace(encoder_config.geometry(jnp.arange(T), jnp.arange(T)), gate_mask=interventions.gate_mask)
    caches, scales = [], []
    for layer, block in enumerate(passes(params, encoder_config)):
        wanted, qkv = query_slice if layer == last else EVERY, precomputed_qkv if layer == 0 else ()
        given = (None, None) if frozen is None else (frozen.attention[layer], frozen.mlp[layer])
        drops = drop and [partial(drop, site + 2 * layer, query_slice=wanted) for site in (1, 2)]
        residual, cache, used = run_block(block, gates[layer], residual, geometry, wanted, given, qkv, drops, merges=layer != last)
        caches.append(cache)
        scales.append(used)
    attention, mlps = zip(*scales, strict=True)
    embedding, at_readout = read_out(params, residual, readout - query_slice.indices(T)[0], frozen)
    return EncoderOutput(embedding, tuple(c for c in caches if c is not None), residual, Scales(attention, mlps, at_readout))


def read_out(params: Encoder, residual: jax.Array, row: int, frozen: Scales | None) -> tuple[jax.Array, jax.Array | None]:
    """The unit embedding [e] of one row of the residual stream [o, q, d], and LayerNorm's scale [1] at the readout."""
    x = residual.sum(0)[None, row]
    scale = scale_of(params.norm, x[None], None if frozen is None else frozen.readout)
    return l2_normalize(projected(params, normalise(params.norm, x[None], scale)[0, 0])), scale


def l2_normalize(x: jax.Array) -> jax.Array:
    """x over its L2 norm along the last axis."""
    return x * jax.lax.rsqrt((x * x).sum(-1, keepdims=True))
