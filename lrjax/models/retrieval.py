"""Retrieval between images and captions, by the cosines of their embeddings: accuracies of sets of images, in both directions.

Who ties for the best shares the credit, so a model that tells nothing apart is at chance, and an order at a tie counts 1/2. A model
that is not a number has accuracy NaN. What the images are, and what is true of them, the task says (`tasks.base.EvalSet`).

Sets with the same candidates go through one loop over blocks of images: every line here is compiled once for all of them.

Axes: s sets, n images of all sets (each set filled up to whole blocks), b blocks, c captions, R captions that an image may have, F
ways to get one wrong, k labels, e dimensions of embeddings.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from lrjax.data.scenes import TokenEdits
from lrjax.data.tasks.base import EvalSet

BLOCK = 512  # images compared at a time
SIMILARITIES = 2**22  # similarities held at a time, which makes blocks smaller where captions are many
TIE = 1e-6  # cosines closer than this are equal: the rounding of a product of unit vectors is a tenth of it
EXACT = jax.lax.Precision.HIGHEST  # cosines are float32 whatever the precision of the model, or TIE would be below their rounding

Embed = Callable[[TokenEdits], jax.Array]


@struct.dataclass
class Candidates:
    """The captions among which the images of some sets are retrieved.

    Attributes:
        embedded: [c, e], unit embeddings.
        exists: [c] bool, whether the model has the caption.
        in_set: [s, c] bool, which of those that exist are a set's own.
        names: [k, c], the labels that a caption names.
    """

    embedded: jax.Array
    exists: jax.Array
    in_set: jax.Array
    names: jax.Array


@struct.dataclass
class Compared:
    """What is known of images [...] once they are compared with all captions.

    Attributes:
        embedded: [..., e], unit embeddings.
        threshold: [...], from which similarity on a caption ties for the best of all.
        ties: [...], how many captions do.
        threshold_in_set: [...], the same among the captions of the image's set.
        ties_in_set: [...].
        named: [...], which share of an image's labels the best captions name.
        own: [..., R], similarities to the image's captions.
        hard_negatives: [..., F, R], to the wrong ones.
        swapped: [..., R], of the image with its objects exchanged to the image's captions.
    """

    embedded: jax.Array
    threshold: jax.Array
    ties: jax.Array
    threshold_in_set: jax.Array
    ties_in_set: jax.Array
    named: jax.Array
    own: jax.Array
    hard_negatives: jax.Array
    swapped: jax.Array


@struct.dataclass
class Blocks:
    """The images of all sets, in blocks of one size; a set is filled up to whole blocks.

    Attributes:
        images: Leaves [b, images of a block, ...].
        set_number: [b], of which set a block is.
        looked_at: [b] bool, whether some image of the block may count.
        spans: The first block of each set, and the one after its last.
    """

    images: EvalSet
    set_number: jax.Array
    looked_at: jax.Array
    spans: tuple[tuple[int, int], ...] = struct.field(pytree_node=False)

    def by_set(self, reduce: Callable, x: jax.Array) -> jax.Array:
        """Numbers of blocks [b, ...], reduced to numbers of sets [s, ...]."""
        return jnp.stack([reduce(x[first:end], 0) for first, end in self.spans])


def retrieve(
    candidates: Candidates,
    eval_sets: Sequence[EvalSet],
    embed: Embed,
    words: tuple[str, ...] = (),
    ways: tuple[str, ...] = (),
) -> tuple[dict[str, jax.Array], list[jax.Array]]:
    """Retrieval metrics of sets of images, both directions.

    Args:
        candidates: The captions.
        eval_sets: The s sets; R, F and k are the same in all.
        embed: Edits [S, n] -> unit embeddings [n, e].
        words: Names of the R captions of an image, to tell apart the order of each.
        ways: Names of the F ways to get a caption wrong, likewise.

    Returns:
        The metrics [s] by suffix: "", "_order", "_label_set", "_labels", "_t2i" ...; and the embeddings [n, e] of each set's
        images, 0 where an image is not looked at.
    """
    blocks = in_blocks(eval_sets, min(BLOCK, max(1, SIMILARITIES // len(candidates.exists))))
    compared, best_image = _compare(candidates, blocks, embed)
    ties_image = _ties_of_images(candidates, blocks, compared.embedded, best_image)
    metrics = _metrics(candidates, blocks, compared, best_image, ties_image, words, ways)
    of_images = [compared.embedded[first:end] for first, end in blocks.spans]
    flat = [x.reshape(-1, x.shape[-1])[: len(each.weight)] for x, each in zip(of_images, eval_sets, strict=True)]
    return metrics, flat


def in_blocks(eval_sets: Sequence[EvalSet], most: int) -> Blocks:
    """The images of sets in blocks of at most `most` images."""
    sizes = [len(each.weight) for each in eval_sets]
    size = min(most, max(sizes))
    counts = [-(-n // size) for n in sizes]
    ends = np.cumsum(counts).tolist()
    every = [dataclasses.replace(each, looked_at=None) for each in eval_sets]
    looked_at = [n if each.looked_at is None else each.looked_at for n, each in zip(sizes, eval_sets, strict=True)]
    return Blocks(
        images=jax.tree.map(lambda *x: jnp.concatenate([cut(one, size) for one in x]), *every),
        set_number=jnp.asarray(np.repeat(np.arange(len(sizes)), counts)),
        looked_at=jnp.concatenate([jnp.arange(b) * size < n for b, n in zip(counts, looked_at, strict=True)]),
        spans=tuple(zip([0, *ends[:-1]], ends, strict=True)),
    )


def cut(x: jax.Array, size: int) -> jax.Array:
    """An array [..., n] in blocks [b, size, ...]. The last block is filled up with 0."""
    x = jnp.moveaxis(x, -1, 0)
    x = jnp.pad(x, [(0, -len(x) % size)] + [(0, 0)] * (x.ndim - 1))
    return x.reshape(-1, size, *x.shape[1:])


def _compare(candidates: Candidates, blocks: Blocks, embed: Embed) -> tuple[Compared, jax.Array]:
    """What is known of each image, leaves [b, images of a block, ...], and of each caption its best similarity to an image of each
    set, [s, c].
    """

    @jax.jit  # traced once, for its shapes and for its values
    def look(block: EvalSet, set_number):
        both = jax.tree.map(lambda *x: jnp.moveaxis(jnp.concatenate(x), 0, -1), block.images, block.swapped)
        embedded, of_swapped = jnp.split(embed(both), 2)
        similarity = _similarities(candidates, embedded, block.weight)
        best_in_set = similarity.max(1, where=candidates.in_set[set_number][None], initial=-jnp.inf)
        threshold = similarity.max(1) - TIE
        # A caption of the set that ties for the best of all is its set's best, too.
        threshold_in_set = jnp.where(best_in_set >= threshold, threshold, best_in_set - TIE)
        wins = similarity >= threshold[:, None]
        is_named = [(candidates.names[None] == label[:, None, None]).any(1) for label in block.labels.T]  # [block, c] each
        of = lambda captions: jnp.take_along_axis(similarity, captions.reshape(len(captions), -1), 1).reshape(captions.shape)
        compared = Compared(
            embedded=embedded,
            threshold=threshold,
            ties=wins.sum(1),
            threshold_in_set=threshold_in_set,
            ties_in_set=(candidates.in_set[set_number][None] & (similarity >= threshold_in_set[:, None])).sum(1),
            named=(wins * (1.0 * sum(is_named))).sum(1) / jnp.maximum(wins.sum(1), 1) / len(is_named),
            own=of(block.true),
            hard_negatives=of(block.hard_negatives),
            swapped=jnp.einsum("be,bre->br", of_swapped, candidates.embedded[block.true], precision=EXACT),
        )
        return compared, similarity.max(0)

    def look_or_skip(args):
        block, set_number, looked_at = args
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(look, block, set_number))
        return jax.lax.cond(looked_at, look, lambda *_: nothing, block, set_number)

    compared, best = jax.lax.map(look_or_skip, (blocks.images, blocks.set_number, blocks.looked_at))
    return compared, blocks.by_set(jnp.max, jnp.where(blocks.looked_at[:, None], best, -jnp.inf))


def _ties_of_images(candidates: Candidates, blocks: Blocks, embedded: jax.Array, best_image: jax.Array) -> jax.Array:
    """Of each caption how many images of a set tie for the best, [s, c]. All similarities are too many to be held, so they are made
    again.
    """

    def count(embedded, weight, set_number):
        return (_similarities(candidates, embedded, weight) >= best_image[set_number][None] - TIE).sum(0)

    def count_or_skip(args):
        *block, looked_at = args
        return jax.lax.cond(looked_at, count, lambda *_: jnp.zeros(len(candidates.exists), int), *block)

    of_blocks = jax.lax.map(count_or_skip, (embedded, blocks.images.weight, blocks.set_number, blocks.looked_at))
    return blocks.by_set(jnp.sum, of_blocks)


def _similarities(candidates: Candidates, embedded: jax.Array, weight: jax.Array) -> jax.Array:
    """Similarities [block, c] of images that count to captions that exist; of others -inf."""
    cosines = jnp.matmul(embedded, candidates.embedded.T, precision=EXACT)
    return jnp.where((weight > 0)[:, None] & candidates.exists[None], cosines, -jnp.inf)


def _metrics(
    candidates: Candidates,
    blocks: Blocks,
    compared: Compared,
    best_image: jax.Array,
    ties_image: jax.Array,
    words: tuple[str, ...],
    ways: tuple[str, ...],
) -> dict[str, jax.Array]:
    """The metrics [s], by suffix, from what `_compare` and `_ties_of_images` found. Here B is [b, images of a block]."""
    images, own, wrong = blocks.images, compared.own, compared.hard_negatives
    exists = (images.weight > 0)[..., None] & candidates.exists[images.true]  # [B, R]
    counts = exists & images.is_true
    differs = images.hard_negatives != images.true[..., None, :]  # [B, F, R]; one object has no order
    of_labels = counts | (exists & differs[..., 0, :])  # captions of the image's labels, of a word that is true of it or not
    wrong_of_labels = of_labels[..., None, :] & differs
    of_all, of_set = (compared.threshold, compared.ties), (compared.threshold_in_set, compared.ties_in_set)
    label_set = lambda best: _share_of_captions(own, of_labels, *best) + _share_of_captions(wrong, wrong_of_labels, *best)
    of_images = partial(_share_of_images, blocks, best_image, ties_image)
    images_of_labels = of_images(own, images.true, of_labels)
    for way in range(wrong.shape[2]):
        images_of_labels += of_images(wrong[..., way, :], images.hard_negatives[..., way, :], wrong_of_labels[..., way, :])
    by_way = _order(own[..., None, :], wrong)
    order, each = by_way.mean(2), images.weight[..., None] * counts
    credits = {  # of images [B], or of their captions [B, R]; and what each weighs
        "": (_share_of_captions(own, counts, *of_all), images.weight),
        "_in_set": (_share_of_captions(own, counts, *of_set), images.weight),
        "_order": (order, each),
        "_label_set": (label_set(of_all), images.weight),
        "_label_set_in_set": (label_set(of_set), images.weight),
        "_labels": (compared.named, images.weight),
        "_t2i": (of_images(own, images.true, counts), each),
        "_order_t2i": (_order(own, compared.swapped), each),
        "_label_set_t2i": (images_of_labels, each),
    }
    credits |= {f"_order_{word}": (order[..., i], each[..., i]) for i, word in enumerate(words)}
    credits |= {f"_order_{way}": (by_way[..., i, :], each) for i, way in enumerate(ways)}
    finite = blocks.by_set(jnp.all, jnp.isfinite(jnp.where(counts, own, 0)).all((1, 2)))
    finite &= jnp.isfinite(candidates.embedded).all(1).all(where=candidates.exists)
    return {suffix: jnp.where(finite, _mean(blocks, *credit), jnp.nan) for suffix, credit in credits.items()}


def _share_of_captions(similarity: jax.Array, counted: jax.Array, threshold: jax.Array, ties: jax.Array) -> jax.Array:
    """Of the best captions of each image [B] the share that has one of these similarities, among those that are counted.

    similarity, counted: [B, R], or [B, F, R]. threshold, ties: [B], as of `Compared`.
    """
    reached = similarity >= threshold.reshape(*threshold.shape, *[1] * (similarity.ndim - threshold.ndim))
    return (reached & counted).sum(range(2, similarity.ndim)) / jnp.maximum(ties, 1)


def _share_of_images(
    blocks: Blocks, best_image: jax.Array, ties_image: jax.Array, similarity: jax.Array, captions: jax.Array, counted: jax.Array
) -> jax.Array:
    """Of the best images of each image's true captions the share that has this similarity to these captions, among those that are
    counted. All but best_image and ties_image [s, c] are [B, R], and so is the result.
    """
    numbered = lambda captions: captions + best_image.shape[1] * blocks.set_number[:, None, None]  # a set's captions are its own
    caption = numbered(captions)
    hits = (similarity >= best_image.reshape(-1)[caption] - TIE) & counted
    shares = jnp.zeros(best_image.size).at[caption].add(hits) / jnp.maximum(ties_image.reshape(-1), 1)
    return shares[numbered(blocks.images.true)]


def _mean(blocks: Blocks, credit: jax.Array, weights: jax.Array) -> jax.Array:
    """The weighted mean [s] of credits of images [B] or of their captions [B, R]."""
    total = lambda x: blocks.by_set(jnp.sum, x.sum(range(1, x.ndim)))
    return total(jnp.where(weights > 0, credit * weights, 0)) / total(weights)


def _order(a: jax.Array, b: jax.Array) -> jax.Array:
    """1 where a is above b, 0 where it is below, 1/2 at a tie."""
    return jnp.where(abs(a - b) <= TIE, 0.5, jnp.where(a > b, 1.0, 0.0))
