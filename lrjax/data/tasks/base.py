"""What a task is: scenes, captions, splits and evaluation sets. Everything else (encoders, losses, sweeps, checkpoints, tables,
ablations) is shared by all tasks and knows them through what stands here.

A task lives in one file of `lrjax/data/tasks`, as a frozen dataclass named TASK there. Its fields are its options, and a config
names it by its file: `task="grid:height=4,width=6"`. Half of every batch are images of one object, "[x] [in-image] [EOT]"; what
else is seen and said is the task's.

Axes: B images of a batch, S edits of an image, A = n_heldout + n_labels_max labels, n images of an evaluation set, c captions,
k labels of a caption or image, R captions that an image may have, F hard negatives of a caption.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from lrjax.data.scenes import (
    EMPTY,
    FIRST_LABEL,
    PAIR_CAPTION,
    SINGLE_CAPTION,
    SINGLE_CAPTION_OF_FOUR,
    SequenceTemplate,
    TokenEdits,
    label_name,
)


@struct.dataclass
class Batch:
    """B images, and one caption of each.

    Where every batch is drawn anew, the first B/2 images show one object, the others several. In a batch of a finite set the two
    kinds are mixed: then `label` is [B], all edits are [S, B], and `kind` says which of the entries of an image is meant.

    Attributes:
        images: Edits [S, B] of the task's image template.
        label: [B/2], the label of each image of one object. It is the caption of such an image, too.
        captions: One TokenEdits a caption template of the task, [S, B/2] in all: the captions of the images of several objects.
        hard_negatives: The same captions with their labels exchanged.
        kind: None, or [B] in a batch of a finite set: 0 where the caption is of one object, f + 1 where it has the task's f-th
            caption template.
    """

    images: TokenEdits
    label: jax.Array
    captions: tuple[TokenEdits, ...]
    hard_negatives: tuple[TokenEdits, ...]
    kind: jax.Array | None = None


@struct.dataclass
class Captions:
    """All c captions of a task, numbered: first one for each label, then those of each caption template in turn.

    Attributes:
        edits: One TokenEdits a caption template of the task. The captions of one object are not among them: see `of_one`.
        exists: [c] bool, whether this model has the caption.
        names: [k, c], the labels that the caption names. One of them is repeated where they are fewer than k.
    """

    edits: tuple[TokenEdits, ...]
    exists: jax.Array
    names: jax.Array


@struct.dataclass
class EvalSet:
    """The n images of one evaluation set, and what is true of them. A caption is given by its number in the task's `captions`.

    Attributes:
        images: Edits [S, n] of the task's image template.
        swapped: The same images with their objects exchanged, [S, n]: what was true of an image is false of the swapped one.
        weight: [n], 0 for an image that is no part of the set.
        labels: [k, n], labels of an image.
        true: [R, n], captions of the image.
        is_true: [R, n] bool, whether that caption is true of the image.
        hard_negatives: [F, R, n], for each caption F captions of the same labels that are not true.
        candidates: First and end of the captions among which images are retrieved; `true` and `hard_negatives` count from it.
        looked_at: [], how many images, from the first on, may count; all others have weight 0. None: all may.
    """

    images: TokenEdits
    swapped: TokenEdits
    weight: jax.Array
    labels: jax.Array
    true: jax.Array
    is_true: jax.Array
    hard_negatives: jax.Array
    candidates: tuple[int, int | None] = struct.field(pytree_node=False, default=(0, None))
    looked_at: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class Task:
    """The facts that every task is made with; options of its own are further fields. All of it is static.

    `data`, `distinct` and `single_caption_length` are the config's fields of these names.
    """

    n_heldout: int
    n_labels_max: int
    L: int
    relations: str
    data: str = "resampled"
    distinct: bool = False
    single_caption_length: int = 3

    RELATIONS: ClassVar[dict[str, tuple[str, ...]]]  # what the config's `relations` may be -> the words of captions
    SETS: ClassVar[tuple[str, ...]] = ("single", "seen_pair", "unseen_pair")  # the evaluation sets
    # set -> names of the F hard negatives, where there are several
    HARD_NEGATIVES: ClassVar[dict[str, tuple[str, ...]]] = {}
    objects_per_scene: ClassVar[int] = 2  # of an image of several objects; a model needs so many labels
    # names of the first tokens
    SPECIAL: ClassVar[tuple[str, ...]] = ("background", "CLS", "EOT", "in-image", "left-of", "right-of")
    PHRASES: ClassVar[dict[str, str]] = {  # name of a relation's token -> how people read the token
        "in-image": "is in the image",
        "left-of": "is on the left of",
        "right-of": "is on the right of",
        "above": "is above",
        "below": "is below",
    }
    n_first: ClassVar[int] = FIRST_LABEL  # the first label's token id
    grid_shape: ClassVar[tuple[int, int] | None] = None  # rows and columns of tokens of an image, if it has two dimensions

    @property
    def n_labels_total(self) -> int:
        """A: how many labels exist, held-out ones first."""
        return self.n_heldout + self.n_labels_max

    @property
    def n_tokens(self) -> int:
        """How many token ids images have; captions have n_first + n_labels_total."""
        return self.n_first + self.n_labels_total

    @property
    def single_token_objects(self) -> bool:
        """Whether an image shows objects alone, a token each: no distractors, no patches."""
        return self.n_edits == self.objects_per_scene and self.n_tokens == self.n_first + self.n_labels_total

    @property
    def words(self) -> tuple[str, ...]:
        """The relation words that captions use."""
        return self.RELATIONS[self.relations]

    def metric_breakdown(self, name: str) -> tuple[str, ...]:
        """Names of the R captions that an image of the set `name` may have, if each has an accuracy of its own; else empty."""
        return ()

    @property
    def image(self) -> SequenceTemplate:
        """The template of an image."""
        raise NotImplementedError

    @property
    def single_caption(self) -> SequenceTemplate:
        """The template of a caption of one object."""
        return SINGLE_CAPTION if self.single_caption_length == 3 else SINGLE_CAPTION_OF_FOUR

    @property
    def caption_templates(self) -> tuple[SequenceTemplate, ...]:
        """The templates of captions of several objects."""
        return (PAIR_CAPTION,)

    @property
    def repeated(self) -> bool:
        """Whether the places of a finite set are drawn with replacement."""
        return self.data == "fixed" and not self.distinct

    @property
    def captions_per_image(self) -> int:
        """How many captions, each an item of the finite set, an image of several objects has."""
        return 1

    def n_items(self, n_labels: Any, n1: Any, n2: Any) -> Any:
        """How many items the finite set of a model has: a whole number, or a traced one."""
        groups = 1
        for i in range(self.objects_per_scene):
            groups *= n_labels - i
        return (self.n_heldout + n_labels) * n1 + groups * n2 * self.captions_per_image

    @property
    def caption_length(self) -> int:
        """How many tokens the longest caption has."""
        return max(len(template.tokens) for template in (self.single_caption, *self.caption_templates))

    @property
    def n_edits(self) -> int:
        """S: how many edits an image has at most."""
        raise NotImplementedError

    @property
    def n_places(self) -> int:
        """How many places one object may have: n1 of them are trained."""
        raise NotImplementedError

    @property
    def n_layouts(self) -> int:
        """How many layouts a group of labels may have: n2 of them are trained."""
        raise NotImplementedError

    @property
    def layouts(self) -> np.ndarray:
        """All ways to place the objects of one image, in reading order: places [n_layouts, objects]."""
        raise NotImplementedError

    @property
    def pixel_grid_shape(self) -> tuple[int, int]:
        """Rows and columns of pixels of an image."""
        return 1, self.L

    def pixels_of(self, place: int) -> tuple[int, ...]:
        """The pixels, numbered in reading order, that an object at a place fills."""
        return (place,)

    def render(self, labels: Sequence[int], places: Sequence[int]) -> TokenEdits:
        """The edits [S] of one image: `labels` at `places`, in reading order. One object, or `objects_per_scene` of them."""
        raise NotImplementedError

    def true_and_swapped(self, labels: Sequence[int], places: Sequence[int]) -> tuple[list[int], list[int]]:
        """Two lists of numbers of captions: those that are true of one image, and those that are true of it with its objects
        exchanged.
        """
        raise NotImplementedError

    def check(self) -> tuple[str, Any, str] | None:
        """(option, value, what was expected) of the first option that is not possible; None if all are."""
        return None

    def splits(self, key: jax.Array) -> Any:
        """Which places and layouts a model trains on, from its own key: a pytree, drawn per id, so that padding is inert."""
        raise NotImplementedError

    def batch(self, key: jax.Array, splits: Any, hyper: Any, batch_size: int) -> Batch:
        """A batch, of the labels, places and layouts that `hyper` says are trained. `hyper.zipf` is None where no model of the
        program follows Zipf's law.
        """
        raise NotImplementedError

    def items(self, key: jax.Array, splits: Any, hyper: Any, number: jax.Array) -> Batch:
        """The items of these numbers [B] of a model's finite set, as a batch that mixes kinds. What an item shows beside its place
        is drawn from `key` and its number.
        """
        raise NotImplementedError

    def captions(self, hyper: Any) -> Captions:
        """All captions, and which of them a model has."""
        raise NotImplementedError

    def of_set(self, name: str, names: jax.Array) -> jax.Array:
        """Which captions [c] are true of some image of an evaluation set, by the labels [k, c] that they name: one label in
        `single`, several trained ones in seen sets, several held-out ones in unseen sets. Places do not count, so a sample of
        images has the captions of the whole set. `EvalSet.candidates` says which caption templates are meant.
        """
        of_one = (names == names[:1]).all(0)
        if name == "single":
            return of_one
        heldout = names < self.n_heldout
        return (heldout if name.startswith("unseen") else ~heldout).all(0) & ~of_one

    def eval_sets(self, key: jax.Array, splits: Any, hyper: Any, exhaustive: bool | jax.Array) -> dict[str, EvalSet]:
        """The evaluation sets, SETS. If not `exhaustive`, a set of many images is a fixed sample of them, drawn with `key`.

        Where `exhaustive` is traced, [] bool, arrays have room for all images, and `looked_at` says how many are meant.
        """
        raise NotImplementedError

    # ---- for people ----

    def token_names(self) -> list[str]:
        """Names of all token ids."""
        special = [*self.SPECIAL, *(f"distractor {i + 1}" for i in range(self.n_first - len(self.SPECIAL)))]
        of_label = (self.n_tokens - self.n_first) // self.n_labels_total  # a token for each pixel of a patch
        labels = (label_name(a, self.n_heldout) for a in range(self.n_labels_total))
        return special + [f"{name} at {i + 1}" if of_label > 1 else name for name in labels for i in range(of_label)]

    def position_names(self) -> list[str]:
        """Names of the positions of an image."""
        return ["CLS", *map(str, range(1, len(self.image.tokens)))]


def combinations(*sizes: int) -> tuple[jax.Array, ...]:
    """All combinations of numbers below `sizes`, the last one fastest: an array [n] each.

    They are never one array, as `jnp.indices` makes it: of rows of a stack that is reshaped, XLA (jaxlib 0.10.2) makes Triton
    kernels for an NVIDIA GPU that do not compile.
    """
    return tuple(x.reshape(-1) for x in jnp.meshgrid(*map(jnp.arange, sizes), indexing="ij"))


def token_of(task: Task, label: jax.Array) -> jax.Array:
    """The token of a label; EMPTY for an absent label (below 0)."""
    return jnp.where(label < 0, EMPTY, label + task.n_first)
