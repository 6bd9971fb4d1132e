"""The paper's world: a row of L pixels, one or two objects of one pixel, the one on the left named first."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.scenes import RELATIONS, Form, Scene, Slots, image_form, layouts
from lrjax.tasks.base import token_of
from lrjax.tasks.pairs import Pairs


@dataclasses.dataclass(frozen=True)
class Row(Pairs):
    """`row`."""

    RELATIONS: ClassVar = RELATIONS

    @property
    def image(self) -> Form:
        return image_form(self.L)

    @property
    def n_slots(self) -> int:
        return 2

    @property
    def n_places(self) -> int:
        return self.L

    @property
    def layouts(self) -> np.ndarray:
        return layouts(self.L)

    def image_slots(self, scene: Scene) -> Slots:
        return Slots(token_of(self, jnp.stack([scene.left, scene.right])), jnp.stack([scene.i, scene.j]) + 1)

    def facts(self, scene: Scene) -> tuple[jax.Array, jax.Array, jax.Array]:
        R = (len(self.words), *jnp.shape(scene.left))
        return jnp.broadcast_to(scene.left, R), jnp.broadcast_to(scene.right, R), jnp.ones(R, bool)


TASK = Row
