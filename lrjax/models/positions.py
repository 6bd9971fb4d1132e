"""Kinds of position encoding: one interface, and the kinds that ship with lrjax.

A kind says what P holds, which of its rows are trained, and what positions add to attention beside the residual stream. To add one,
write a subclass of `PositionEncoding` (or an instance with other attributes) and add its line to `lrjax.kinds.POSITIONS`. No other
code asks which kind a model has: it asks what the kind says. docs/guides/extend.md has an example. This file imports no encoder, so
that the validation of configs may ask it.

Axes: p positions, r rows of P, h heads, q, t query and key positions, k d_head, d d_model.
"""

import dataclasses
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from lrjax.fields import require
from lrjax.kinds import POSITIONS
from lrjax.registry import resolve
from lrjax.terms import POSITION_TERMS

if TYPE_CHECKING:
    from lrjax.data.tasks.base import Task
    from lrjax.declarations import Model

BASE = 10_000.0


@struct.dataclass
class Geometry:
    """What positions add to attention, beside the residual stream.

    Attributes:
        allowed: [q, t] bool, which keys a query may attend to.
        bias: [h, q, t], a function of two positions alone, so that it stands in PP. None: there is none.
        angles_q, angles_t: [., k / 2], by which queries and keys turn. None: they do not.
        gate_mask: [q, t], where gates act (those of values at keys t that some query has). None: everywhere.
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


@dataclasses.dataclass(frozen=True)
class PositionEncoding:
    """A kind of position encoding. As it stands here: P has a trained row for each position.

    Attributes:
        has_P: Whether there is a P. Without it no term and no value has origin P, but those of `position_terms`.
        trained: Whether training changes P.
        cls_row: Whether CLS has a row of P. Without it P_0 is 0 and stays 0.
        turns: Whether queries and keys turn by their positions. Then every term depends on the offset of query and key.
        position_terms: The terms with which a score depends on the key's position, whatever token stands there.
        caution: What to mind when terms are taken away, as a sentence. Empty: what holds of every trained or fixed P.
    """

    has_P: bool = True
    trained: bool = True
    cls_row: bool = True
    turns: bool = False
    position_terms: tuple[str, ...] = POSITION_TERMS
    caution: str = ""

    def check(self, model: "Model", task: "Task") -> None:
        """Raises InputError that names the field, if the kind is not possible with a model's other fields and its task."""
        require("e_scale", model.e_scale, self.trained or model.e_scale > 0, "above 0 where positions are not learned")

    def layout(self, grid_shape: tuple[int, int] | None) -> np.ndarray | None:
        """Which rows of P add up to each position of an image, [p, r]. None: P has a row for each position.

        Args:
            extent: rows and columns of tokens of the image, if it has two dimensions.
        """
        return None

    def initial(self, drawn: jax.Array, e_scale: jax.Array, p_scale: jax.Array, has_cls: bool) -> jax.Array:
        """P [r, d] before training.

        Args:
            drawn: [r, d], normal numbers of standard deviation 1, each row from a key of its own.
            e_scale, p_scale: [], the config's initial scales of tokens and positions.
            has_cls: whether position 0 is that of CLS.
        """
        return p_scale * drawn * self.trained_rows(len(drawn), has_cls)[:, None]

    def trained_rows(self, n_rows: int, has_cls: bool) -> np.ndarray:
        """1 for the rows [r] of P that training may change, 0 for the others."""
        rows = np.full(n_rows, self.trained, np.float32)
        if has_cls and not self.cls_row:
            rows[0] = 0
        return rows

    def geometry(self, n_heads: int, d_head: int, q: jax.Array, t: jax.Array, causal: bool) -> Geometry:
        """What query positions q [Q] and key positions t [T] add to attention."""
        offset = q[:, None] - t[None]
        return Geometry(offset >= 0 if causal else jnp.ones_like(offset, bool))


@dataclasses.dataclass(frozen=True)
class Sinusoidal(PositionEncoding):
    """P is fixed: sines and cosines of 1 / 10000^(2i/d), as large as tokens are before training (e_scale)."""

    trained: bool = False

    def initial(self, drawn: jax.Array, e_scale: jax.Array, p_scale: jax.Array, has_cls: bool) -> jax.Array:
        p, d = drawn.shape
        angle = np.arange(p)[:, None] * BASE ** -(2 * (np.arange(d) // 2) / d)
        return e_scale * np.sqrt(2).astype(np.float32) * np.where(np.arange(d) % 2, np.cos(angle), np.sin(angle)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Rotary(PositionEncoding):
    """There is no P. Queries and keys turn by their positions after biases are added, so that scores depend on the offset."""

    has_P: bool = False
    trained: bool = False
    turns: bool = True
    position_terms: tuple[str, ...] = ("EB", "BB")
    caution: str = "there is no P, no EP, PE, PP, BP, PB or VP; EE, BE, EB and BB depend on the offset."

    def check(self, model: "Model", task: "Task") -> None:
        super().check(model, task)
        d_head = model.d_head or model.d_model // model.n_heads
        require("d_head", d_head, d_head % 2 == 0, "an even number, to rotate pairs")

    def geometry(self, n_heads: int, d_head: int, q: jax.Array, t: jax.Array, causal: bool) -> Geometry:
        rate = (BASE ** -(np.arange(d_head // 2) / (d_head // 2))).astype(np.float32)[None]
        plain = super().geometry(n_heads, d_head, q, t, causal)
        return dataclasses.replace(plain, angles_q=q[:, None] * rate, angles_t=t[:, None] * rate)


@dataclasses.dataclass(frozen=True)
class ALiBi(PositionEncoding):
    """There is no P. Scores have a fixed linear bias -m_h |q - t|, with m_h = 2^(-8 (h + 1) / n_heads)."""

    has_P: bool = False
    trained: bool = False
    position_terms: tuple[str, ...] = ("PP",)
    caution: str = "there is no P, no EP, PE, BP, PB or VP; PP is the fixed linear bias."

    def geometry(self, n_heads: int, d_head: int, q: jax.Array, t: jax.Array, causal: bool) -> Geometry:
        slope = 2.0 ** (-8 * (np.arange(n_heads) + 1) / n_heads)
        distance = jnp.abs(q[:, None] - t[None])
        plain = super().geometry(n_heads, d_head, q, t, causal)
        return dataclasses.replace(plain, bias=-slope[:, None, None].astype(np.float32) * distance[None])


@dataclasses.dataclass(frozen=True)
class RowColumn(PositionEncoding):
    """Of a grid: P has a row for CLS, one for each row and one for each column. The position of a token is a sum of two of them."""

    def check(self, model: "Model", task: "Task") -> None:
        super().check(model, task)
        expected = "a task of two dimensions for rows and columns, such as config.task='grid'"
        require("positions", model.positions, task.grid_shape is not None, expected)

    def layout(self, grid_shape: tuple[int, int] | None) -> np.ndarray | None:
        """[1 + rows * columns, 1 + rows + columns] of an image; None of text."""
        if grid_shape is None:
            return None
        rows, columns = grid_shape
        y, x = np.indices((rows, columns)).reshape(2, -1)
        parts = np.zeros((1 + rows * columns, 1 + rows + columns), np.float32)
        parts[0, 0] = 1
        parts[np.arange(len(y)) + 1, 1 + y] = 1
        parts[np.arange(len(x)) + 1, 1 + rows + x] = 1
        return parts


LEARNED = PositionEncoding()
LEARNED_NO_CLS = PositionEncoding(cls_row=False)
SINUSOIDAL, ROTARY, ALIBI, ROW_COLUMN = Sinusoidal(), Rotary(), ALiBi(), RowColumn()
NONE = PositionEncoding(  # an image equals its mirror
    has_P=False, trained=False, position_terms=(), caution="there is no P, no EP, PE, PP, BP, PB or VP."
)


def find(name: str) -> PositionEncoding:
    """The kind of that name in `lrjax.kinds.POSITIONS`. Raises KeyError if there is none."""
    return resolve(POSITIONS[name])


def with_trained_P() -> list[str]:
    """The names of the kinds whose P is trained."""
    return [name for name in POSITIONS if find(name).trained]


def rotate(x: jax.Array, angles: jax.Array | None) -> jax.Array:
    """Turn x [..., t, h, k], whose pairs are (i, i + k/2), by angles [t, k / 2] of its tokens; as it is where there are none."""
    if angles is None:
        return x
    a, b = jnp.split(x, 2, -1)
    angles = jnp.expand_dims(angles[:, None], tuple(range(x.ndim - 3)))
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1)
