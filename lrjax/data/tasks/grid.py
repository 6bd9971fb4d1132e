"""Two dimensions: objects of size x size pixels anywhere on a grid of height x width pixels, never on one another.

A token is a patch of patch x patch pixels, flattened in reading order; CLS is read out. A patch of one pixel is its label, or
background. A larger one may hold part of an object, or of two, and is embedded linearly, as in ViT: a vector of its own
(background's), and for every pixel that shows a label one more, of the label and the pixel's place in the patch.

An object stands to the left of another if all of it does, so that what is said is strictly true; of two objects that do not
overlap at least one of left, right, above, below holds. Layouts in which no word of `relations` is true are left out.
"""

import dataclasses
import itertools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.data.scenes import BACKGROUND, CLS, EMPTY, FIRST_LABEL, Scene, SequenceTemplate, TokenEdits
from lrjax.data.tasks.pairs import Pairs

MOST_LAYOUTS = 4096  # every pair of labels keeps an order of them all


@dataclasses.dataclass(frozen=True)
class Grid(Pairs):
    """`grid:height=4,width=4,size=1,patch=1`, in pixels."""

    height: int = 4
    width: int = 4
    size: int = 1
    patch: int = 1

    RELATIONS: ClassVar = {
        "left": ("left",),
        "left+right": ("left", "right"),
        "left+above": ("left", "above"),
        "all": ("left", "right", "above", "below"),
    }
    SPECIAL: ClassVar = (*Pairs.SPECIAL, "above", "below")
    n_first: ClassVar = FIRST_LABEL + 2

    def check(self) -> tuple[str, Any, str] | None:
        for name in ("height", "width"):
            if not (2 <= getattr(self, name) <= 32 and getattr(self, name) % max(self.patch, 1) == 0):
                return name, getattr(self, name), f"2..32, a multiple of patch={self.patch}"
        if not 1 <= self.size <= 8 or 2 * self.size > min(self.height, self.width):
            return "size", self.size, "1..8, at most half of height and of width"
        if not 1 <= self.patch <= 8:
            return "patch", self.patch, "1..8"
        if self.n_layouts > MOST_LAYOUTS:
            return "height", self.height, f"a smaller grid: it has {self.n_layouts} layouts, of at most {MOST_LAYOUTS}"
        return None if self.L == 10 else ("L", self.L, "10, which a grid does not read: give height and width")

    @property
    def grid_shape(self) -> tuple[int, int]:
        return self.height // self.patch, self.width // self.patch

    @property
    def n_tokens(self) -> int:
        return self.n_first + self.n_labels_total * self.patch**2

    @property
    def image(self) -> SequenceTemplate:
        rows, columns = self.grid_shape
        adds = self.patch > 1
        return SequenceTemplate((CLS,) + (BACKGROUND,) * (rows * columns), EMPTY if adds else BACKGROUND, readout=0, adds=adds)

    @property
    def n_edits(self) -> int:
        return 2 * self.size**2

    @property
    def corners(self) -> np.ndarray:
        """The upper left pixel (row, column) of every place, [n_places, 2], in reading order."""
        return np.array(list(itertools.product(range(self.height - self.size + 1), range(self.width - self.size + 1))))

    @property
    def n_places(self) -> int:
        return (self.height - self.size + 1) * (self.width - self.size + 1)

    @property
    def pixel_grid_shape(self) -> tuple[int, int]:
        return self.height, self.width

    def pixels_of(self, place: int) -> tuple[int, ...]:
        row, column = self.corners[place].tolist()
        inside = itertools.product(range(row, row + self.size), range(column, column + self.size))
        return tuple(y * self.width + x for y, x in inside)

    @property
    def filled(self) -> float:
        """How many pixels of a patch that shows an object show it, the mean over such patches of all places."""
        edges = self.corners // self.patch, (self.corners + self.size - 1) // self.patch  # the first and the last patch, by axis
        patches = (edges[1] - edges[0] + 1).prod(-1)
        return self.size**2 * len(patches) / patches.sum()

    @property
    def layouts(self) -> np.ndarray:
        first, second = np.triu_indices(self.n_places, 1)
        apart = np.abs(self.corners[second] - self.corners[first]) >= self.size  # in rows, in columns
        offsets = [apart[:, 0] if word in ("above", "below") else apart[:, 1] for word in self.words]
        return np.stack([first, second], 1)[np.any(offsets, 0)]

    def relations_of(self, scene: Scene) -> tuple[jax.Array, jax.Array, jax.Array]:
        apart = jnp.asarray(self.corners)[scene.j] - jnp.asarray(self.corners)[scene.i]  # [..., 2]
        found = []
        for word in self.words:
            distance = apart[..., 0] if word in ("above", "below") else apart[..., 1]
            found.append(
                (
                    jnp.where(distance > 0, scene.left, scene.right),
                    jnp.where(distance > 0, scene.right, scene.left),
                    (jnp.abs(distance) >= self.size) | (scene.left == scene.right),
                )
            )
        first, second, is_true = (jnp.stack(parts) for parts in zip(*found, strict=True))
        return first, second, is_true

    def image_edits(self, scene: Scene) -> TokenEdits:
        pixel = np.array(list(itertools.product(range(self.size), range(self.size))))  # of an object, [size^2, 2]
        scene = jax.tree.map(lambda x: jnp.asarray(x)[None], scene)  # each field [1, ...], beside the pixels
        tokens, positions = [], []
        for label, place in ((scene.left, scene.i), (scene.right, scene.j)):
            y, x = (jnp.asarray(self.corners[:, axis])[place] + pixel[:, axis, *(None,) * (place.ndim - 1)] for axis in (0, 1))
            within = y % self.patch * self.patch + x % self.patch
            tokens.append(jnp.where(label < 0, EMPTY, self.n_first + label * self.patch**2 + within))
            positions.append(1 + y // self.patch * self.grid_shape[1] + x // self.patch)
        return TokenEdits(jnp.concatenate(tokens), jnp.concatenate(positions))

    def position_names(self) -> list[str]:
        rows, columns = self.grid_shape
        return ["CLS", *(f"{row + 1},{column + 1}" for row in range(rows) for column in range(columns))]


TASK = Grid
