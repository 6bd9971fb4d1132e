"""Attention with its terms in the open: every score is a sum over (origin of the query, origin of the key).

The residual stream is kept split by origin: E (token embeddings), P (position embeddings), B (biases). With Q = sum_o q_o and
K = sum_o k_o over origins o, the score Q.K / sqrt(d_head) is the sum of the nine TERMS, named query first: EP is token query x
position key. A *gate* multiplies each term of each head; values are split the same way into VE, VP, VB.

EB, PB and BB are constant along a row of scores, so softmax ignores them: they stand in `term_logits`, and are not added in
`attn_scores` (b_K then has no gradient, instead of rounding noise that Adam would amplify).

Axes: o, c origins of query and key, q, t query and key tokens, h heads, k d_head, d d_model, v token ids.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

ORIGINS = "EPB"
TERMS = ("EE", "EP", "PE", "PP", "EB", "PB", "BE", "BP", "BB")
ROW_CONSTANT = ("EB", "PB", "BB")
VALUES = ("VE", "VP", "VB")
GATES = TERMS + VALUES  # the last axis of every gate array

TERM_GRID = np.array([[GATES.index(query + key) for key in ORIGINS] for query in ORIGINS])  # [o, c] -> index into GATES
VALUE_GRID = np.array([GATES.index("V" + origin) for origin in ORIGINS])  # [o] -> index into GATES


@struct.dataclass
class Block:
    """Parameters of one attention block: W_Q, W_K, W_V [d, h, k]; W_O [h, k, d]; b_Q, b_K, b_V [h, k]; b_O [d]."""

    W_Q: jax.Array
    W_K: jax.Array
    W_V: jax.Array
    W_O: jax.Array
    b_Q: jax.Array
    b_K: jax.Array
    b_V: jax.Array
    b_O: jax.Array


@struct.dataclass
class Trace:
    """What one block computed: `terms` [9, h, q, t] in the order of TERMS; `attn_scores` (gated, masked), `pattern` [h, q, t]; and
    `values` (gated) [3, t, h, k] in the order of ORIGINS.
    """

    terms: jax.Array
    attn_scores: jax.Array
    pattern: jax.Array
    values: jax.Array


def project(streams: jax.Array, W: jax.Array, b: jax.Array | None = None) -> jax.Array:
    """Queries, keys or values of every origin: streams [o, t, d] -> [o, t, h, k]; the bias belongs to the last origin."""
    projected = jnp.einsum("otd,dhk->othk", streams, W)
    return projected if b is None else projected.at[-1].add(b)


def term_logits(q: jax.Array, k: jax.Array) -> jax.Array:
    """All nine terms [9, h, q, t], over sqrt(d_head), of split queries and keys [3, t, h, k]; they sum to QK^T."""
    grid = jnp.einsum("oqhk,cthk->ochqt", q, k) / np.sqrt(q.shape[-1])
    origin = [(ORIGINS.index(term[0]), ORIGINS.index(term[1])) for term in TERMS]
    return jnp.stack([grid[o, c] for o, c in origin])


def gated_queries(q: jax.Array, gates: jax.Array) -> jax.Array:
    """What each origin of the key is scored against: sum_o gate[h, o, c] q_o, for c in E, P. [3, q, h, k] -> [2, q, h, k].

    Already over sqrt(d_head). Keys of origin B are left out: they make a row's constant.
    """
    gate = gates[:, TERM_GRID[:, :2]]  # [h, o, c]
    return jnp.einsum("hoc,oqhk->cqhk", gate, q) / np.sqrt(q.shape[-1])


def attend(block: Block, gates: jax.Array, streams: jax.Array, allowed: jax.Array) -> tuple[jax.Array, Trace | None]:
    """One block with residual: the definition that `encoder.read_tables` contracts.

    streams [o, t, d], split in three origins or merged in one; a merged stream has no terms: gates are not read, the trace
    is None. gates [h, 12]; allowed [t, t] bool. Returns streams [o, t, d] and the trace.
    """
    split = len(streams) == 3
    q = project(streams, block.W_Q, block.b_Q)
    if split:
        k = project(streams[:2], block.W_K)
        scores = jnp.einsum("cqhk,cthk->hqt", gated_queries(q, gates), k)
    else:
        scores = jnp.einsum("oqhk,othk->hqt", q, project(streams, block.W_K)) / np.sqrt(q.shape[-1])
    scores = jnp.where(allowed, scores, -jnp.inf)
    pattern = jax.nn.softmax(scores, axis=-1)
    v = project(streams, block.W_V, block.b_V)
    if split:
        v = v * gates[:, VALUE_GRID].T[:, None, :, None]
    written = jnp.einsum("hqt,othk,hkd->oqd", pattern, v, block.W_O).at[-1].add(block.b_O)
    trace = Trace(term_logits(q, project(streams, block.W_K, block.b_K)), scores, pattern, v) if split else None
    return streams + written, trace
