"""The QK terms between rows of E, P and B: the one place that derives them, for training's tables and for the analyses.

`attention.attend`, the definition, scores the tokens of a sequence. Here keys are rows of the embeddings by themselves, and a query
is scored against all of them: first it goes back through W_K, then it meets the rows.

Axes: q queries, v token ids, p positions, h heads, k d_head, d d_model, c origins of the key.
"""

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.models.attention import Block, gated_queries, key_bias, key_origins, project
from lrjax.models.positions import Geometry, rotate
from lrjax.terms import GATES, TERMS

SINGLE_TERMS = np.eye(len(GATES), dtype=np.float32)[: len(TERMS)]  # gates [9, 12] that leave one term, in the order of TERMS


def qk_scores(
    block: Block, gate: jax.Array, queries: jax.Array, rows: tuple[jax.Array, jax.Array, jax.Array], geometry: Geometry
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """The gated scores of queries against every row of E and of P, over sqrt(d_head).

    Scores are linear in gates, so under SINGLE_TERMS they are the terms one by one. Terms that are constant along a row of scores,
    which softmax ignores, are left out.

    Args:
        block: The attention whose W_Q, W_K, b_Q and b_K score.
        gate: Gates [h, 12].
        queries: What queries are of, by origin [3, q, d]: rows of E, of P and of B. One query under rotary positions.
        rows: What keys are of: E [v, d], P [p, d], B [d].
        geometry: Between the positions of queries and all positions p.

    Returns:
        The scores of tokens [h, v, q], the scores of positions [h, q, p], and what biases and geometry add at positions [h, q, p],
        None where they add nothing. Under rotary positions the query turns with the key's position: scores of tokens are [h, v, p].
    """
    E, P, B = rows
    turned = geometry.angles_q is not None and geometry.angles_t is not None
    query = gated_queries(project(queries, block.W_Q, block.b_Q), gate, key_origins(block, geometry))  # [c, q, h, k]
    if geometry.angles_q is not None and geometry.angles_t is not None:
        query = rotate(query, geometry.angles_q - geometry.angles_t)  # [c, p, h, k]: turned against each key
    # one head's query beside zeros for the others: so W_K is read as it lies, which costs less than turning it head by head
    apart = jnp.einsum("cqhk,hg->cqhgk", query, np.eye(len(gate), dtype=np.float32))
    back = apart.reshape(*apart.shape[:3], -1) @ block.W_K.reshape(len(block.W_K), -1).T  # [c, q, h, d]
    of_tokens = jnp.einsum("qhd,vd->hvq", back[0], E)
    of_positions = jnp.einsum("qhd,pd->hqp", back[1], P)
    if turned:
        of_positions = jnp.diagonal(of_positions, axis1=1, axis2=2)[:, None]
    added = None
    if (b_K := key_bias(block, geometry)) is not None:
        added = ((back[2] @ B).T + jnp.einsum("qhk,hk->hq", query[2], b_K))[:, None]
    if geometry.bias is not None:
        added = geometry.bias * gate[:, GATES.index("PP"), None, None]
    return of_tokens, of_positions, added
