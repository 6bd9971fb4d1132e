"""Scenes and captions on one row of L pixels: token ids, layouts, and how people read labels.

Token ids are one space for both encoders: background, specials, the held-out labels, then the trained labels. No id depends
on how many labels a model trains on, so a row of E means the same in every model of a sweep.

A sequence is a `SequenceTemplate` (static tokens, and the position that is read out) and a few `TokenEdits` of it: the objects
of an image, the words of a caption. The encoder reads the edits; it never needs a one-hot over background.

Axes: L pixels, T tokens of a sequence, S edits of a sequence, A = n_heldout + n_labels labels.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

BACKGROUND, CLS, EOT, IN_IMAGE, LEFT_OF, RIGHT_OF = range(6)
FIRST_EDIT_TOKEN, FIRST_LABEL = LEFT_OF, 6  # edits write relation words and labels (or the token that was there)
EMPTY = -1  # no token: what a template has where an edit always writes one
IS = CLS  # "is" in captions of one object with four tokens: no caption of CLIP has a CLS
WORDS = {"left": LEFT_OF, "right": RIGHT_OF, "above": 6, "below": 7}  # the last two in tasks whose labels begin later
REVERSED = ("right", "below")  # "b right of a" is "a left of b"
RELATIONS = {"left": ("left",), "left+right": ("left", "right")}  # data -> the relation words that its captions use


@dataclasses.dataclass(frozen=True)
class SequenceTemplate:
    """The static part of a sequence.

    Attributes:
        tokens: T token ids, before any edit.
        replaced: The token id that stands where edits write.
        readout: The position whose output is the embedding of the sequence.
        adds: Whether an edit's token is added to what stands at its position. Then several edits may have one position.
    """

    tokens: tuple[int, ...]
    replaced: int
    readout: int
    adds: bool = False


SINGLE_CAPTION = SequenceTemplate((EMPTY, IN_IMAGE, EOT, BACKGROUND), EMPTY, readout=2)
SINGLE_CAPTION_OF_FOUR = SequenceTemplate((EMPTY, IS, IN_IMAGE, EOT), EMPTY, readout=3)  # as the paper prints it
PAIR_CAPTION = SequenceTemplate((EMPTY, EMPTY, EMPTY, EOT), EMPTY, readout=3)


def image_template(L: int) -> SequenceTemplate:
    """`[CLS]` and L background pixels, read out at CLS."""
    return SequenceTemplate((CLS,) + (BACKGROUND,) * L, BACKGROUND, readout=0)


@struct.dataclass
class TokenEdits:
    """Tokens that are written into a template.

    Attributes:
        tokens: [S, ...] token ids; EMPTY where an edit writes nothing.
        positions: [S, ...] positions in the sequence. They differ within S, except where a token is EMPTY or the template adds.
    """

    tokens: jax.Array
    positions: jax.Array


def render(template: SequenceTemplate, edits: TokenEdits) -> jax.Array:
    """Write edits into a template.

    Args:
        template: The template, of T tokens.
        edits: Its edits [S, ...].

    Returns:
        Token ids [..., T]. If the template adds, [..., T, 1 + S]: all tokens of each position, EMPTY where there is none.
    """
    ids, T = jnp.asarray(template.tokens), len(template.tokens)
    at = lambda token, position: jax.nn.one_hot(position, T, dtype=bool) & (token[..., None] >= 0)
    filled = [(at(*edit), edit[0][..., None]) for edit in zip(edits.tokens, edits.positions, strict=True)]
    if template.adds:
        ids = jnp.broadcast_to(ids, (*edits.tokens.shape[1:], T))
        return jnp.stack([ids, *(jnp.where(here, token, EMPTY) for here, token in filled)], -1)
    for here, token in filled:
        ids = jnp.where(here, token, ids)
    return ids


@struct.dataclass
class Scene:
    """One or two objects: label `left` at place `i`, label `right` at place `j`; i < j if both are objects (on a grid `left` is
    then the one that is read first).

    Labels are indices 0..A-1 (held-out first), each field [...]. A scene of one object has right = ABSENT, and any j != i.
    """

    left: jax.Array
    right: jax.Array
    i: jax.Array
    j: jax.Array


ABSENT = -1  # the "label" of no object


def single_scene(label: jax.Array, i: jax.Array, L: int) -> Scene:
    """The scene of one object at place i of L. The absent object takes the next place and shows nothing."""
    return Scene(label, jnp.full_like(label, ABSENT), i, (i + 1) % L)


def swapped(scene: Scene) -> Scene:
    """The same layout with its two objects exchanged."""
    return dataclasses.replace(scene, left=scene.right, right=scene.left)


def single_caption_edits(label: jax.Array, n_first: int = FIRST_LABEL) -> TokenEdits:
    """`[x] [in-image] [EOT]`: one edit, [1, ...]. n_first: the token of the first label."""
    tokens = label[None] + n_first
    return TokenEdits(tokens, jnp.zeros_like(tokens))


def pair_edits(
    first: jax.Array, second: jax.Array, word: jax.Array, words: tuple[str, ...], n_first: int = FIRST_LABEL
) -> TokenEdits:
    """The three edits [3, ...] of a caption with one of `words`: `[a] [left-of] [b]`, but `[b] [right-of] [a]`: a word that is
    REVERSED names the second label first.
    """
    reverse = jnp.array([name in REVERSED for name in words])[word]
    a, b = jnp.where(reverse, second, first), jnp.where(reverse, first, second)
    tokens = jnp.stack([a + n_first, jnp.array([WORDS[name] for name in words])[word], b + n_first])
    return TokenEdits(tokens, jnp.indices(tokens.shape, sparse=True)[0] + jnp.zeros_like(tokens))


def pair_caption_edits(left: jax.Array, right: jax.Array, word: jax.Array) -> TokenEdits:
    """Three edits, [3, ...]: `[left] [left-of] [right]` where word = 0, `[right] [right-of] [left]` where word = 1."""
    return pair_edits(left, right, word, RELATIONS["left+right"])


def captions_of(
    label: jax.Array, left: jax.Array, right: jax.Array, word: jax.Array
) -> tuple[tuple[SequenceTemplate, TokenEdits], ...]:
    """Template and edits of "`label` is in the image", and of the caption of the pair (left, right) with `word` (0 or 1)."""
    return (SINGLE_CAPTION, single_caption_edits(label)), (PAIR_CAPTION, pair_caption_edits(left, right, word))


def layouts(L: int) -> np.ndarray:
    """All layouts i < j of two objects, in order: [L(L-1)/2, 2]."""
    return np.array(list(itertools.combinations(range(L), 2)))


def label_name(label: int, n_heldout: int) -> str:
    """What people see: `h1`..`h5` for the held-out labels, `1`..`N` for the trained ones."""
    return f"h{label + 1}" if label < n_heldout else str(label - n_heldout + 1)
