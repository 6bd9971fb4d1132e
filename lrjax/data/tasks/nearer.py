"""The object nearer to the middle of a row is named first, be it on the left or right: the example of docs/guides/extend.md."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from lrjax.data.tasks.row import Row


@dataclasses.dataclass(frozen=True)
class Nearer(Row):
    """`nearer`."""

    RELATIONS: ClassVar = {"nearer": ("left",)}  # what a config says -> the words of captions; "left" is only a token here
    PHRASES: ClassVar = Row.PHRASES | {"left-of": "is nearer to the middle than"}  # how people read that token

    def away(self, place):
        """How far a place is from the middle."""
        return abs(2 * place - (self.L - 1))

    @property
    def layouts(self):
        """All places of two objects of which one is nearer."""
        return super().layouts[self.away(super().layouts[:, 0]) != self.away(super().layouts[:, 1])]

    def relations_of(self, scene):
        """Which label is said first, which second, and whether that is true, for every word."""
        nearer = self.away(scene.i) < self.away(scene.j)
        first, second = jnp.where(nearer, scene.left, scene.right), jnp.where(nearer, scene.right, scene.left)
        return first[None], second[None], jnp.ones_like(first, bool)[None]


TASK = Nearer
