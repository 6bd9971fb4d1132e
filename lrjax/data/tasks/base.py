"""What a task is: scenes, captions, splits and evaluation sets. Everything else (encoders, losses, sweeps, checkpoints, tables,
ablations) is shared by all tasks and knows them through what stands here.

A task lives in one file of `lrjax/data/tasks`, as a frozen dataclass named TASK there. Its fields are its options, and a config
names it by its file: `task="grid:height=4,width=6"`. Half of every batch are images of one object, "[x] [in-image] [EOT]"; what
else is seen and said is the task's.

Axes: B batch, S slots of an image, A = n_heldout + n_labels_max labels, n images, c captions, k labels of a caption or an image,
R captions that an image may have, F ways to get one wrong.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from lrjax.data.scenes import (
    BACKGROUND,
    EMPTY,
    FIRST_LABEL,
    PAIR_CAPTION,
    SINGLE_CAPTION,
    SINGLE_CAPTION_OF_FOUR,
    SequenceTemplate,
    TokenEdits,
    label_name,
    render,
    single_caption_edits,
)


@struct.dataclass
class Batch:
    """B images, slots [S, B] of the task's image form. The first B/2 are of one object, with labels `label` [B/2]; the others have
    the captions `said`, slots of each of the task's forms, B/2 in all. `wrong`: the same with their labels exchanged.

    A batch of a finite set mixes them: `kind` [B] says of which form each caption is, 0 of one object, f + 1 of the task's f-th
    form. Then label [B] and the slots [S, B] of every form are meant where the kind is theirs.
    """

    images: TokenEdits
    label: jax.Array
    said: tuple[TokenEdits, ...]
    wrong: tuple[TokenEdits, ...]
    kind: jax.Array | None = None


@struct.dataclass
class Captions:
    """The c captions among which images are retrieved: one for each label, then slots of each of the task's forms. exists [c]:
    whether this model has it; names [k, c]: its labels, one of them repeated where they are fewer than k.
    """

    said: tuple[TokenEdits, ...]
    exists: jax.Array
    names: jax.Array


@struct.dataclass
class Questions:
    """n images to retrieve, and what is true of them. Captions are numbers of the task's `captions`.

    images, mirrored: slots [S, n] of each image and of the same with its objects exchanged, so that what was true is false. weight
    [n]: 0 for what is no part of the set. labels [k, n]. true [R, n]: captions that are true where `holds` [R, n]; wrong [F, R, n]:
    for each F captions of the same labels that are not. among: the
    first and the end of the captions that are candidates, which are numbered from 0 there.
    """

    images: TokenEdits
    mirrored: TokenEdits
    weight: jax.Array
    labels: jax.Array
    true: jax.Array
    holds: jax.Array
    wrong: jax.Array
    among: tuple[int, int | None] = struct.field(pytree_node=False, default=(0, None))


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
    WRONG: ClassVar[dict[str, tuple[str, ...]]] = {}  # set -> names of the F ways to get a caption wrong, where there are several
    together: ClassVar[int] = 2  # how many labels stand together in an image: a model needs so many
    SPECIAL: ClassVar[tuple[str, ...]] = (
        "background",
        "CLS",
        "EOT",
        "in-image",
        "left-of",
        "right-of",
    )  # names of the first tokens
    PHRASES: ClassVar[dict[str, str]] = {  # name of a relation's token -> how people read the token
        "in-image": "is in the image",
        "left-of": "is on the left of",
        "right-of": "is on the right of",
        "above": "is above",
        "below": "is below",
    }
    n_first: ClassVar[int] = FIRST_LABEL  # the first label's token id
    extent: ClassVar[tuple[int, int] | None] = None  # rows and columns of tokens of an image, if it has two dimensions

    @property
    def n_labels_total(self) -> int:
        """A: how many labels exist, held-out ones first."""
        return self.n_heldout + self.n_labels_max

    @property
    def n_tokens(self) -> int:
        """How many token ids images have; captions have n_first + n_labels_total."""
        return self.n_first + self.n_labels_total

    @property
    def one_token(self) -> bool:
        """Whether an image shows objects alone, a token each: no distractors, no patches."""
        return self.n_slots == self.together and self.n_tokens == self.n_first + self.n_labels_total

    @property
    def words(self) -> tuple[str, ...]:
        """The relation words that captions use."""
        return self.RELATIONS[self.relations]

    def apart(self, name: str) -> tuple[str, ...]:
        """Names of the R captions that an image of a set may have, where accuracies tell them apart."""
        return ()

    @property
    def image(self) -> SequenceTemplate:
        """The form of an image."""
        raise NotImplementedError

    @property
    def single_caption(self) -> SequenceTemplate:
        """The form of a caption of one object."""
        return SINGLE_CAPTION if self.single_caption_length == 3 else SINGLE_CAPTION_OF_FOUR

    @property
    def said(self) -> tuple[SequenceTemplate, ...]:
        """The forms of captions, beside that of one object."""
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
        for i in range(self.together):
            groups *= n_labels - i
        return (self.n_heldout + n_labels) * n1 + groups * n2 * self.captions_per_image

    @property
    def caption_length(self) -> int:
        """How many tokens the longest caption has."""
        return max(len(form.template) for form in (self.single_caption, *self.said))

    @property
    def n_slots(self) -> int:
        """S: how many slots an image has."""
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
    def extent_in_pixels(self) -> tuple[int, int]:
        """Rows and columns of pixels of an image."""
        return 1, self.L

    def pixels_of(self, place: int) -> tuple[int, ...]:
        """The pixels, numbered in reading order, that an object at a place fills."""
        return (place,)

    def render(self, labels: Sequence[int], places: Sequence[int]) -> TokenEdits:
        """The slots [S] of one image: `labels` at `places`, in reading order, of one object or of as many as stand together."""
        raise NotImplementedError

    def relations_of(self, labels: Sequence[int], places: Sequence[int]) -> tuple[list[int], list[int]]:
        """Numbers of the captions that are true of one image, and of those that become true when its objects change places."""
        raise NotImplementedError

    def check(self) -> tuple[str, Any, str] | None:
        """(option, value, what was expected) of the first option that is not possible; None if all are."""
        return None

    def splits(self, key: jax.Array) -> Any:
        """Which places and layouts a model trains on, from its own key: a pytree, drawn per id, so that padding is inert."""
        raise NotImplementedError

    def batch(self, key: jax.Array, splits: Any, hyper: Any, batch_size: int) -> Batch:
        """A batch, of the labels, places and layouts that `hyper` says are trained."""
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
        images has the captions of the whole set. Which forms of captions are meant `Questions.among` says.
        """
        of_one = (names == names[:1]).all(0)
        if name == "single":
            return of_one
        heldout = names < self.n_heldout
        return (heldout if name.startswith("unseen") else ~heldout).all(0) & ~of_one

    def questions(self, key: jax.Array, splits: Any, hyper: Any, exhaustive: bool) -> dict[str, Questions]:
        """The evaluation sets, SETS. Not `exhaustive`: a fixed sample, drawn with `key`, where all are many."""
        raise NotImplementedError

    # ---- for people ----

    def token_names(self) -> list[str]:
        """Names of all token ids."""
        special = [*self.SPECIAL, *(f"nuisance {i + 1}" for i in range(self.n_first - len(self.SPECIAL)))]
        of_label = (self.n_tokens - self.n_first) // self.n_labels_total  # a token for each pixel of a patch
        labels = (label_name(a, self.n_heldout) for a in range(self.n_labels_total))
        return special + [f"{name} at {i + 1}" if of_label > 1 else name for name in labels for i in range(of_label)]

    def position_names(self) -> list[str]:
        """Names of the positions of an image."""
        return ["CLS", *map(str, range(1, len(self.image.template)))]


def noisy(key: jax.Array, batch: Batch, p: jax.Array, number: jax.Array | None = None) -> Batch:
    """The batch as someone tells it who confuses left and right: each caption says the opposite with probability p. With the
    `number` [B] of each item of a finite set, the same items always do.
    """
    said, wrong = [], []
    for i, (right, other) in enumerate(zip(batch.said, batch.wrong, strict=True)):
        of_form = jax.random.fold_in(key, i)
        if number is None:
            flip = jax.random.uniform(of_form, right.tokens.shape[1:]) < p
        else:
            flip = jax.vmap(lambda item, of_form=of_form: jax.random.uniform(jax.random.fold_in(of_form, item)))(number) < p
        choose = lambda a, b, flip=flip: jax.tree.map(lambda a, b: jnp.where(flip, a, b), a, b)
        said.append(choose(other, right))
        wrong.append(choose(right, other))
    return dataclasses.replace(batch, said=tuple(said), wrong=tuple(wrong))


def of_one(task: Task, label: jax.Array | None = None) -> tuple[SequenceTemplate, TokenEdits]:
    """Captions of one object of `label` [c]; of every label if none is given."""
    return task.single_caption, single_caption_edits(jnp.arange(task.n_labels_total) if label is None else label, task.n_first)


def all_captions(task: Task, captions: Captions) -> tuple[tuple[SequenceTemplate, TokenEdits], ...]:
    """Forms and slots of all captions of a task, in the order of their numbers."""
    return (of_one(task), *zip(task.said, captions.said, strict=True))


def batch_words(task: Task, batch: Batch) -> jax.Array:
    """The words [B, caption_length] of a batch's captions."""
    captions = (of_one(task, batch.label), *zip(task.said, batch.said, strict=True))
    return of_kind(batch.kind, [words_of(task, (caption,)) for caption in captions])


def of_kind(kind: jax.Array | None, parts: list[jax.Array]) -> jax.Array:
    """Arrays [B, ...] of every kind of caption as one: each row from the array of its `kind` [B]; side by side without kinds."""
    if kind is None:
        return jnp.concatenate(parts)
    chosen = parts[0]
    for i, part in enumerate(parts[1:], 1):
        chosen = jnp.where((kind == i).reshape(-1, *[1] * (part.ndim - 1)), part, chosen)
    return chosen


def words_of(task: Task, captions: tuple[tuple[SequenceTemplate, TokenEdits], ...]) -> jax.Array:
    """The words [c, caption_length] of captions, each a form and its slots [S, c']; the shorter ones end in background."""
    pad = lambda ids: jnp.pad(ids, [(0, 0), (0, task.caption_length - ids.shape[1])], constant_values=BACKGROUND)
    return jnp.concatenate([pad(render(*caption)) for caption in captions])


def combinations(*sizes: int) -> tuple[jax.Array, ...]:
    """All combinations of numbers below `sizes`, the last one fastest: an array [n] each.

    They are never one array, as `jnp.indices` makes it: of rows of a stack that is reshaped, XLA (jaxlib 0.10.2) makes Triton
    kernels for an NVIDIA GPU that do not compile.
    """
    return tuple(x.reshape(-1) for x in jnp.meshgrid(*map(jnp.arange, sizes), indexing="ij"))


def token_of(task: Task, label: jax.Array) -> jax.Array:
    """The token of a label, none of an absent one (below 0)."""
    return jnp.where(label < 0, EMPTY, label + task.n_first)
