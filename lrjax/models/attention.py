"""Attention with its terms in the open: every score is a sum over (origin of the query, origin of the key).

The residual stream is kept split by origin: E (token embeddings), P (position embeddings), B (biases). With Q = sum_o q_o and
K = sum_o k_o over origins o, the score Q.K / sqrt(d_head) is the sum of the nine TERMS, named query first: EP is token query x
position key. A *gate* multiplies each term of each head; values are split the same way into VE, VP, VB.

EB, PB and BB are constant along a row of scores, so softmax ignores them: they stand in `term_logits`, and are not added in
`attn_scores` (b_K then has no gradient, instead of rounding noise that Adam would amplify). Not so under rotary positions, where
they depend on the offset, nor under LayerNorm in depth, whose scale varies along the row, nor in depth in training with dropout,
which varies too: there they are added.

LayerNorm is linear once its scale is given: each origin is centred, scaled and weighed by itself, and the norm's bias is of origin
B. So with the scale as it is in the forward pass (*frozen*, when something is taken away upstream) the terms stay exact, whether it
stands before attention or after it. An MLP is not linear: what it writes has no origin.

Axes: o, c origins of query and key, q, t query and key tokens, h heads, k d_head, d d_model, v token ids, m width of the MLP.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from lrjax.models.positions import Geometry, rotate
from lrjax.terms import GATES, ORIGINS, TERM_GRID, TERMS, VALUE_GRID

NORM_EPS = 1e-5
EVERY = slice(None)
FEW_KEYS = 8  # captions have 4 tokens; images of 8 places or more have more than 8
ByHead = Callable[[jax.Array, jax.Array], jax.Array]


@struct.dataclass
class LayerNorm:
    """Parameters of a LayerNorm: gamma, beta [d]."""

    gamma: jax.Array
    beta: jax.Array


@struct.dataclass
class MLP:
    """Parameters of an MLP with GELU: W_in [d, m], b_in [m], W_out [m, d], b_out [d]."""

    W_in: jax.Array
    b_in: jax.Array
    W_out: jax.Array
    b_out: jax.Array


@struct.dataclass
class Block:
    """Parameters of one block: W_Q, W_K, W_V [d, h, k]; W_O [h, k, d]; b_Q, b_K, b_V [h, k]; b_O [d]. Where the encoder has them:
    the LayerNorm before attention, an MLP, and the LayerNorm before it; or `after`, the LayerNorm of the stream that attention has
    written to, and `mlp_after`, of the one that the MLP has.
    """

    W_Q: jax.Array
    W_K: jax.Array
    W_V: jax.Array
    W_O: jax.Array
    b_Q: jax.Array
    b_K: jax.Array
    b_V: jax.Array
    b_O: jax.Array
    norm: LayerNorm | None = None
    mlp: MLP | None = None
    mlp_norm: LayerNorm | None = None
    after: LayerNorm | None = None
    mlp_after: LayerNorm | None = None


@struct.dataclass
class BlockCache:
    """What one block computed: `terms` [9, h, q, t] in the order of TERMS; `attn_scores` (gated, masked), `pattern` [h, q, t];
    `values` (gated) [3, t, h, k] in the order of ORIGINS; and what its MLP wrote [q, d], None if it has none.
    """

    terms: jax.Array
    attn_scores: jax.Array
    pattern: jax.Array
    values: jax.Array
    mlp: jax.Array | None = None


def norm_scale(residual: jax.Array) -> jax.Array:
    """LayerNorm's scale 1 / sigma [t] of a stream, split or merged [o, t, d]."""
    return jax.lax.rsqrt(jnp.var(residual.sum(0), -1) + NORM_EPS)


def normalise(norm: LayerNorm | None, residual: jax.Array, scale: jax.Array | None = None) -> jax.Array:
    """LayerNorm of the residual stream [o, t, d], origin by origin. `scale` [t] takes the place of the stream's own scale, where it
    is given. Without a norm the stream is returned as it is.
    """
    if norm is None:
        return residual
    scale = norm_scale(residual) if scale is None else scale
    centred = residual - residual.mean(-1, keepdims=True)
    return (centred * scale[None, :, None] * norm.gamma[None, None]).at[-1].add(norm.beta)


def dropper(key: jax.Array, rate: float, sites: int, T: int, d: int) -> Callable[..., jax.Array]:
    """Dropout of one sequence of T tokens at a number of sites: drop(site, x [o, q, d], rows), where x is some rows of the T. A
    share `rate` of the entries becomes 0, the same ones in every origin; the other entries are divided by 1 - rate.
    """
    kept = jax.random.bernoulli(key, 1 - rate, (sites, T, d))  # at once: to draw is most of what compiling a step of dropout costs
    return lambda site, x, query_slice=EVERY: jnp.where(kept[site, query_slice], x / (1 - rate), 0)


def project(residual: jax.Array, W: jax.Array, b: jax.Array | None = None) -> jax.Array:
    """Queries, keys or values of every origin: residual [o, t, d] -> [o, t, h, k]; the bias belongs to the last origin."""
    projected = into_heads(residual, W)
    return projected if b is None else projected.at[-1].add(b)


def into_heads(x: jax.Array, W: jax.Array) -> jax.Array:
    """x [..., d] times W [d, h, k]: [..., h, k].

    The heads stand side by side in one matrix. From a product with three axes XLA makes transposes of the weights and of their
    gradient. These take 14 % of a training step of 50 pairs on a CPU, and 7 % of one of 256.
    """
    d, h, k = W.shape
    return (x @ W.reshape(d, h * k)).reshape(*x.shape[:-1], h, k)


def out_of_heads(x: jax.Array, W_O: jax.Array) -> jax.Array:
    """x [..., h, k] times W_O [h, k, d]: [..., d], as one matrix product (`into_heads`)."""
    h, k, d = W_O.shape
    return x.reshape(*x.shape[:-2], h * k) @ W_O.reshape(h * k, d)


def term_logits(q: jax.Array, k: jax.Array, geometry: Geometry) -> jax.Array:
    """All nine terms [9, h, q, t], divided by sqrt(d_head), of split queries [3, q, h, k] and keys [3, t, h, k]. Their sum is QK^T,
    plus the scores that `geometry` adds, if it adds any.
    """
    q, k = rotate(q, geometry.angles_q), rotate(k, geometry.angles_t)
    grid = jnp.einsum("oqhk,cthk->ochqt", q, k) / np.sqrt(q.shape[-1])
    origin = [(ORIGINS.index(term[0]), ORIGINS.index(term[1])) for term in TERMS]
    terms = jnp.stack([grid[o, c] for o, c in origin])
    return terms if geometry.bias is None else terms.at[TERMS.index("PP")].add(geometry.bias)


def gated_queries(q: jax.Array, gates: jax.Array, n_keys: int) -> jax.Array:
    """What each origin of the key is scored against: the sum over o of gate[h, o, c] q_o, for the first n_keys origins c. [3, q, h,
    k] -> [c, q, h, k], divided by sqrt(d_head) already.
    """
    gate = gates[:, TERM_GRID[:, :n_keys]]  # [h, o, c]
    return jnp.einsum("hoc,oqhk->cqhk", gate, q) / np.sqrt(q.shape[-1])


def key_origins(block: Block, geometry: Geometry) -> int:
    """How many origins of keys make a difference. B makes none where what it adds is constant along a row."""
    return 2 if geometry.angles_t is None and block.norm is None and block.after is None else 3


def key_bias(block: Block, geometry: Geometry) -> jax.Array | None:
    """b_K where it makes a difference, which is where keys turn with their position; else None."""
    return None if geometry.angles_t is None else block.b_K


def split_keys(block: Block, x: jax.Array, geometry: Geometry) -> jax.Array:
    """Keys [c, t, h, k] of the first origins of a residual stream [c, t, d]; with b_K where it makes a difference."""
    k = project(x, block.W_K)
    bias = key_bias(block, geometry)
    return k if bias is None else k.at[-1].add(bias)


def merged_keys(block: Block, x: jax.Array, geometry: Geometry, precomputed_qkv: Sequence[jax.Array]) -> jax.Array:
    """The same [1, t, h, k] of a merged stream [1, t, d], from `precomputed_qkv` where these are given."""
    k = project(x, block.W_K) if not precomputed_qkv else precomputed_qkv[1]
    bias = key_bias(block, geometry)
    return k if bias is None else k + bias[None, None]


def scores_by_head(q: jax.Array, k: jax.Array) -> jax.Array:
    """Queries [c, q, h, k] times keys [c, t, h, k], summed over origins: [h, q, t]."""
    product = lambda q, k: jnp.einsum("cqhk,cthk->hqt", q, k)
    sums = lambda q, k: (q[:, :, None] * k[:, None]).sum((0, -1)).transpose(2, 0, 1)
    return _product_or_sums(product, sums, q.shape[1], k.shape[1])(q, k)


def read_by_head(pattern: jax.Array, v: jax.Array) -> jax.Array:
    """Attention [h, q, t] times values [o, t, h, k]: [o, q, h, k]."""
    product = lambda pattern, v: jnp.einsum("hqt,othk->oqhk", pattern, v)
    sums = lambda pattern, v: (pattern.transpose(1, 2, 0)[None, ..., None] * v[:, None]).sum(2)
    return _product_or_sums(product, sums, *pattern.shape[1:])(pattern, v)


def _product_or_sums(product: ByHead, sums: ByHead, n_queries: int, n_keys: int) -> ByHead:
    """Which of two ways to compute the same is the better one for these numbers of queries and keys.

    A product of a few tokens, for each head and sequence, is mostly overhead. XLA compiles sums for a TPU faster, and makes fewer
    kernels of them for a GPU. A CPU computes sums for one query faster, and sums for several more slowly. The figures stand in
    docs/development/performance.md. `matmul_precision` applies to products alone: sums have the precision of their arrays.
    """
    if n_keys > FEW_KEYS:
        return product
    if n_queries == 1:
        return sums
    return lambda *x: jax.lax.platform_dependent(*x, cpu=product, default=sums)


def scores_of(scored: jax.Array, k: jax.Array, geometry: Geometry, bias: jax.Array | None) -> jax.Array:
    """Scores [h, q, t] of keys k [c, t, h, k] and what their origins are scored against [c, q, h, k], with the bias of places."""
    scores = scores_by_head(rotate(scored, geometry.angles_q), rotate(k, geometry.angles_t))
    return scores if bias is None else scores + bias


def ungated_scores(q: jax.Array, k: jax.Array, geometry: Geometry) -> jax.Array:
    """The scores [h, q, t] of queries q [o, q, h, k] and keys k [c, t, h, k] by origin, as they are where all gates are 1."""
    whole = gated_queries(q, jnp.ones((q.shape[2], len(GATES)), q.dtype), len(k))
    return scores_of(whole, k, geometry, geometry.bias)


def gated_scores(q: jax.Array, k: jax.Array, gates: jax.Array, geometry: Geometry) -> jax.Array:
    """The same under gates [h, 12]; where `geometry.gate_mask` is false, as they are where all gates are 1."""
    bias = None if geometry.bias is None else geometry.bias * gates[:, GATES.index("PP"), None, None]
    scores = scores_of(gated_queries(q, gates, len(k)), k, geometry, bias)
    if geometry.gate_mask is None:
        return scores
    return jnp.where(geometry.gate_mask, scores, ungated_scores(q, k, geometry))


def gated_values(v: jax.Array, gates: jax.Array, gate_mask: jax.Array | None) -> jax.Array:
    """Values [3, t, h, k] by origin under gates [h, 12]; with a mask [q, t], those of keys that no query reads under gates stay."""
    of_values = gates[:, VALUE_GRID].T[:, None, :, None]
    return v * (of_values if gate_mask is None else jnp.where(gate_mask.any(0)[:, None, None], of_values, 1))


def attend(
    block: Block,
    gates: jax.Array,
    residual: jax.Array,
    geometry: Geometry,
    query_slice: slice = EVERY,
    scale: jax.Array | None = None,
    precomputed_qkv: Sequence[jax.Array] = (),
    drop: Callable[[jax.Array], jax.Array] | None = None,
) -> tuple[jax.Array, BlockCache | None]:
    """Attention with residual: the definition that `lookup_tables.read_tables` contracts.

    Args:
        block: Parameters of the block.
        gates: Gates [h, 12] of its terms and values. They are not read if the residual stream is merged.
        residual: The residual stream [o, t, d], split into three origins (o = 3) or merged (o = 1).
        geometry: What positions add, between the queries of `query_slice` and all keys, [q, t].
        query_slice: Which queries are computed.
        scale: [t], the scale of LayerNorm. None: LayerNorm's own.
        precomputed_qkv: Queries, keys and values [1, t, h, k] of a merged residual stream, keys without b_K. Empty: computed here.
        drop: Dropout of what attention writes [o, q, d]. None: no dropout.

    Returns:
        The residual stream [o, q, d] after the block's attention, and the cache; None for a merged stream, which has no terms.
    """
    split, x = len(residual) == 3, normalise(block.norm, residual, scale)
    q = project(x[:, query_slice], block.W_Q, block.b_Q) if not precomputed_qkv else precomputed_qkv[0][:, query_slice]
    if split:
        k = split_keys(block, x[: key_origins(block, geometry) if drop is None else len(ORIGINS)], geometry)
        scores = gated_scores(q, k, gates, geometry)
    else:
        k = merged_keys(block, x, geometry, precomputed_qkv)
        scores = scores_of(q / np.sqrt(q.shape[-1]), k, geometry, geometry.bias)
    scores = jnp.where(geometry.allowed, scores, -jnp.inf)
    pattern = jax.nn.softmax(scores, axis=-1)
    v = project(x, block.W_V, block.b_V) if not precomputed_qkv else precomputed_qkv[2]
    v = gated_values(v, gates, geometry.gate_mask) if split else v
    written = out_of_heads(read_by_head(pattern, v), block.W_O).at[-1].add(block.b_O)
    cache = None
    if split:
        cache = BlockCache(term_logits(q, project(x, block.W_K, block.b_K), geometry), scores, pattern, v)
    return residual[:, query_slice] + (written if drop is None else drop(written)), cache
