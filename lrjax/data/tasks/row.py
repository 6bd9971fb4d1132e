"""The paper's world: a row of L pixels, one or two objects of one pixel, the one on the left named first. With `distractors` so
many free pixels show one of `kinds` things that no caption speaks of.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.data.scenes import FIRST_LABEL, RELATIONS, Scene, SequenceTemplate, TokenEdits, image_template, layouts
from lrjax.data.tasks.base import token_of
from lrjax.data.tasks.pairs import Pairs


@dataclasses.dataclass(frozen=True)
class Row(Pairs):
    """`row:distractors=0,kinds=5`."""

    distractors: int = 0
    kinds: int = 5

    RELATIONS: ClassVar = RELATIONS

    def check(self) -> tuple[str, Any, str] | None:
        if self.distractors > self.L - 2:
            return "distractors", self.distractors, f"0..{self.L - 2}, the pixels that two objects leave free"
        if not 1 <= self.kinds <= 100:
            return "kinds", self.kinds, "1..100"
        return None

    @property
    def n_first(self) -> int:
        return FIRST_LABEL + (self.kinds if self.distractors else 0)

    @property
    def image(self) -> SequenceTemplate:
        return image_template(self.L)

    @property
    def n_edits(self) -> int:
        return 2 + self.distractors

    @property
    def n_places(self) -> int:
        return self.L

    @property
    def layouts(self) -> np.ndarray:
        return layouts(self.L)

    @property
    def captions_per_image(self) -> int:
        """All words are true of every pair, and each is said of every image."""
        return len(self.words)

    def image_edits(self, scene: Scene) -> TokenEdits:
        return TokenEdits(token_of(self, jnp.stack([scene.left, scene.right])), jnp.stack([scene.i, scene.j]) + 1)

    def relations_of(self, scene: Scene) -> tuple[jax.Array, jax.Array, jax.Array]:
        R = (len(self.words), *jnp.shape(scene.left))
        return jnp.broadcast_to(scene.left, R), jnp.broadcast_to(scene.right, R), jnp.ones(R, bool)

    def with_distractors(self, key: jax.Array, edits: TokenEdits) -> TokenEdits:
        if not self.distractors:
            return edits
        n = edits.tokens.shape[1]
        place_key, kind_key = jax.random.split(key)
        at = jax.nn.one_hot(edits.positions - 1, self.L, dtype=bool)
        taken = (at & (edits.tokens >= 0)[..., None]).any(0)  # [n, L]
        free = jnp.where(taken, -1.0, jax.random.uniform(place_key, taken.shape))
        positions = 1 + jax.lax.top_k(free, self.distractors)[1].T
        tokens = jax.random.randint(
            kind_key, (n, self.distractors), FIRST_LABEL, self.n_first
        ).T  # image by image: padding is inert
        return TokenEdits(jnp.concatenate([edits.tokens, tokens]), jnp.concatenate([edits.positions, positions]))


TASK = Row
