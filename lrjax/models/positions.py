"""Kinds of position: what P holds, which of its rows are trained, and what places add to scores beside the residual stream.

    learned         a row of P per position, trained
    learned_no_cls  the same, without a row for CLS: P_0 is 0 and stays it
    sinusoidal      P is fixed: sines and cosines of 1 / 10000^(2i/d), as large as tokens are at the start (e_scale)
    rotary          no P; queries and keys turn by their position after biases are added, so that scores depend on the offset
    alibi           no P; a fixed linear bias -m_h |q - t| on scores, m_h = 2^(-8 (h + 1) / n_heads)
    none            nothing: an image equals its mirror
    row_column      of a grid: a row of P for CLS, one for each row and one for each column; a token's position is a sum of two

Axes: p positions, h heads, q, t query and key positions, k d_head, d d_model.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from lrjax.kinds import LEARNED

BASE = 10_000.0


@struct.dataclass
class Geometry:
    """What places add to attention. allowed [q, t] bool. bias [h, q, t] is a function of two positions alone, so it stands in PP;
    angles_q, angles_t [., k / 2] turn queries and keys; None where the kind of position has none. gated [q, t]: where gates act
    (those of values at keys t that some query has), None: everywhere.
    """

    allowed: jax.Array
    bias: jax.Array | None = None
    angles_q: jax.Array | None = None
    angles_t: jax.Array | None = None
    gate_mask: jax.Array | None = None

    def of_queries(self, query_slice: slice) -> "Geometry":
        """The same for some query rows alone."""
        cut = lambda x, axis: None if x is None else x[(slice(None),) * axis + (query_slice,)]
        return dataclasses.replace(
            self,
            allowed=self.allowed[query_slice],
            bias=cut(self.bias, 1),
            angles_q=cut(self.angles_q, 0),
            gate_mask=cut(self.gate_mask, 0),
        )


def geometry(positions: str, n_heads: int, d_head: int, q: jax.Array, t: jax.Array, causal: bool) -> Geometry:
    """The geometry between query positions q [Q] and key positions t [T]."""
    offset = q[:, None] - t[None]
    allowed = offset >= 0 if causal else jnp.ones_like(offset, bool)
    if positions == "alibi":
        slope = 2.0 ** (-8 * (np.arange(n_heads) + 1) / n_heads)
        return Geometry(allowed, bias=-slope[:, None, None].astype(np.float32) * jnp.abs(offset)[None])
    if positions == "rotary":
        rate = (BASE ** -(np.arange(d_head // 2) / (d_head // 2))).astype(np.float32)[None]
        return Geometry(allowed, angles_q=q[:, None] * rate, angles_t=t[:, None] * rate)
    return Geometry(allowed)


def of_grid(rows: int, columns: int) -> np.ndarray:
    """Which rows of a `row_column` P make up each position, [1 + rows * columns, 1 + rows + columns]."""
    y, x = np.indices((rows, columns)).reshape(2, -1)
    parts = np.zeros((1 + rows * columns, 1 + rows + columns), np.float32)
    parts[0, 0] = 1
    parts[np.arange(len(y)) + 1, 1 + y] = 1
    parts[np.arange(len(x)) + 1, 1 + rows + x] = 1
    return parts


def rotate(x: jax.Array, angles: jax.Array | None) -> jax.Array:
    """Turn x [..., t, h, k], whose pairs are (i, i + k/2), by angles [t, k / 2] of its tokens; as it is where there are none."""
    if angles is None:
        return x
    a, b = jnp.split(x, 2, -1)
    angles = jnp.expand_dims(angles[:, None], tuple(range(x.ndim - 3)))
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1)


def initial(positions: str, drawn: jax.Array, e_scale: jax.Array, p_scale: jax.Array, has_cls: bool) -> jax.Array:
    """P [p, d] before training, from unit normal rows `drawn` [p, d]."""
    if positions == "sinusoidal":
        p, d = drawn.shape
        angle = np.arange(p)[:, None] * BASE ** -(2 * (np.arange(d) // 2) / d)
        return e_scale * np.sqrt(2).astype(np.float32) * np.where(np.arange(d) % 2, np.cos(angle), np.sin(angle)).astype(np.float32)
    return p_scale * drawn * trained_rows(positions, len(drawn), has_cls)[:, None]


def trained_rows(positions: str, n_positions: int, has_cls: bool) -> np.ndarray:
    """1 for the rows [p] of P that training may change, 0 for the others."""
    rows = np.full(n_positions, positions in LEARNED, np.float32)
    if positions == "learned_no_cls" and has_cls:
        rows[0] = 0
    return rows
