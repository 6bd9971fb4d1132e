"""Retrieval between images and captions, by the cosines of their embeddings: accuracies of sets of images, in both directions.

Who ties for the best shares the credit, so a model that tells nothing apart is at chance, and an order at a tie counts 1/2. A model
that is not a number has accuracy NaN. What the images are, and what is true of them, the task says (`tasks.base.EvalSet`).

Sets with the same candidates go through one loop over blocks of images: every line here is compiled once for all of them.

Axes: s sets, n images of all sets (each set filled up to whole blocks), b blocks, B images of a block, c captions, R captions that
an image may have, F ways to get one wrong, k labels, e dimensions of embeddings.
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
class Counted:
    """Which captions of images [...] are counted.

    Attributes:
        true: [..., R] bool, those that are true of the image and that the model has.
        of_labels: [..., R] bool, those of its labels, of a word that is true of it or not.
        wrong: [..., F, R] bool, the wrong ones of its labels.
    """

    true: jax.Array
    of_labels: jax.Array
    wrong: jax.Array


@struct.dataclass
class Compared:
    """What is known of the images of a block [B] once they are compared with all captions.

    Attributes:
        threshold: [B], from which similarity on a caption ties for the best of all.
        ties: [B], how many captions do.
        threshold_in_set: [B], the same among the captions of the image's set.
        ties_in_set: [B].
        named: [B], which share of an image's labels the best captions name.
        own: [B, R], similarities to the image's captions.
        hard_negatives: [B, F, R], to the wrong ones.
        swapped: [B, R], of the image with its objects exchanged to the image's captions.
    """

    threshold: jax.Array
    ties: jax.Array
    threshold_in_set: jax.Array
    ties_in_set: jax.Array
    named: jax.Array
    own: jax.Array
    hard_negatives: jax.Array
    swapped: jax.Array


@struct.dataclass
class Seen:
    """What a block of images [B] gives.

    Attributes:
        embedded: [B, e], unit embeddings.
        best: [c], the best similarity of each caption to an image.
        sums: By the suffix of a metric, the sum of credits and the sum of what they weigh, [2].
        broken: [] bool, whether a similarity that counts is no number.
    """

    embedded: jax.Array
    best: jax.Array
    sums: dict[str, jax.Array]
    broken: jax.Array


@struct.dataclass
class BestImages:
    """The images that tie for the best of each caption [c], or of each caption of each set [s, c].

    Attributes:
        ties: How many there are.
        true: Of how many of them the caption is true.
        of_labels: Of how many of them the caption names the labels.
        weight: What images of which the caption is true weigh, the best ones and all others.
    """

    ties: jax.Array
    true: jax.Array
    of_labels: jax.Array
    weight: jax.Array


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
    seen = _look_at_images(candidates, blocks, embed, words, ways)
    best_image = blocks.by_set(jnp.max, jnp.where(blocks.looked_at[:, None], seen.best, -jnp.inf))
    sums = {suffix: blocks.by_set(jnp.sum, of_blocks) for suffix, of_blocks in seen.sums.items()}
    sums |= _look_at_captions(candidates, blocks, seen.embedded, best_image)
    finite = jnp.isfinite(candidates.embedded).all(1).all(where=candidates.exists) & ~blocks.by_set(jnp.any, seen.broken)
    metrics = {suffix: jnp.where(finite, sum_[:, 0] / sum_[:, 1], jnp.nan) for suffix, sum_ in sums.items()}
    of_images = [seen.embedded[first:end] for first, end in blocks.spans]
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


def _look_at_images(candidates: Candidates, blocks: Blocks, embed: Embed, words: tuple[str, ...], ways: tuple[str, ...]) -> Seen:
    """What the images of each block give, leaves [b, ...]; 0 of a block that is not looked at."""

    @jax.jit  # traced once, for its shapes and for its values
    def look(block, set_number):
        both = jax.tree.map(lambda *x: jnp.moveaxis(jnp.concatenate(x), 0, -1), block.images, block.swapped)
        embedded, of_swapped = jnp.split(embed(both), 2)
        similarity = _similarities(candidates, embedded, block.weight)
        swapped = jnp.einsum("be,bre->br", of_swapped, candidates.embedded[block.true], precision=EXACT)
        compared, counted = _compare(candidates, block, set_number, similarity, swapped), _counted(candidates, block)
        sums = _sums_of_images(block, compared, counted, words, ways)
        broken = ~jnp.isfinite(jnp.where(counted.true, compared.own, 0)).all()
        return Seen(embedded, similarity.max(0), sums, broken)

    return _map_blocks(look, blocks, blocks.images, blocks.set_number)


def _map_blocks(look: Callable, blocks: Blocks, *of_blocks):
    """What `look` returns of each block that is looked at, and 0 of others; leaves [b, ...], as those of its arguments are."""

    def look_or_skip(args):
        looked_at, *of_block = args
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(look, *of_block))
        return jax.lax.cond(looked_at, look, lambda *_: nothing, *of_block)

    return jax.lax.map(look_or_skip, (blocks.looked_at, *of_blocks))


def _compare(candidates: Candidates, block: EvalSet, set_number: jax.Array, similarity: jax.Array, swapped: jax.Array) -> Compared:
    """What is known of the images of a block from their similarities [B, c]."""
    in_set = candidates.in_set[set_number][None]
    best_in_set = similarity.max(1, where=in_set, initial=-jnp.inf)
    threshold = similarity.max(1) - TIE
    # A caption of the set that ties for the best of all is its set's best, too.
    threshold_in_set = jnp.where(best_in_set >= threshold, threshold, best_in_set - TIE)
    wins = similarity >= threshold[:, None]
    is_named = [(candidates.names[None] == label[:, None, None]).any(1) for label in block.labels.T]  # [B, c] each
    of = lambda captions: jnp.take_along_axis(similarity, captions.reshape(len(captions), -1), 1).reshape(captions.shape)
    return Compared(
        threshold=threshold,
        ties=wins.sum(1),
        threshold_in_set=threshold_in_set,
        ties_in_set=(in_set & (similarity >= threshold_in_set[:, None])).sum(1),
        named=(wins * (1.0 * sum(is_named))).sum(1) / jnp.maximum(wins.sum(1), 1) / len(is_named),
        own=of(block.true),
        hard_negatives=of(block.hard_negatives),
        swapped=swapped,
    )


def _counted(candidates: Candidates, block: EvalSet) -> Counted:
    """Which captions of the images of a block are counted."""
    exists = (block.weight > 0)[:, None] & candidates.exists[block.true]
    true = exists & block.is_true
    differs = block.hard_negatives != block.true[:, None, :]  # one object has no order
    of_labels = true | (exists & differs[:, 0])
    return Counted(true, of_labels, of_labels[:, None, :] & differs)


def _sums_of_images(
    block: EvalSet, compared: Compared, counted: Counted, words: tuple[str, ...], ways: tuple[str, ...]
) -> dict[str, jax.Array]:
    """Of the metrics that images tell, by suffix: the sum of credits and of what they weigh, [2]."""
    own, wrong = compared.own, compared.hard_negatives
    of_all, of_set = (compared.threshold, compared.ties), (compared.threshold_in_set, compared.ties_in_set)
    label_set = lambda best: _share(own, counted.of_labels, *best) + _share(wrong, counted.wrong, *best)
    by_way = _order(own[:, None, :], wrong)  # [B, F, R]
    order, each = by_way.mean(1), block.weight[:, None] * counted.true
    credits = {  # of images [B], or of their captions [B, R]; and what each weighs
        "": (_share(own, counted.true, *of_all), block.weight),
        "_in_set": (_share(own, counted.true, *of_set), block.weight),
        "_order": (order, each),
        "_label_set": (label_set(of_all), block.weight),
        "_label_set_in_set": (label_set(of_set), block.weight),
        "_labels": (compared.named, block.weight),
        "_order_t2i": (_order(own, compared.swapped), each),
    }
    credits |= {f"_order_{word}": (order[:, i], each[:, i]) for i, word in enumerate(words)}
    credits |= {f"_order_{way}": (by_way[:, i], each) for i, way in enumerate(ways)}
    total = lambda credit, weight: jnp.stack([jnp.where(weight > 0, credit * weight, 0).sum(), weight.sum()])
    return {suffix: total(*both) for suffix, both in credits.items()}


def _share(similarity: jax.Array, counted: jax.Array, threshold: jax.Array, ties: jax.Array) -> jax.Array:
    """Of the best captions of each image [B] the share that has one of these similarities, among those that are counted.

    similarity, counted: [B, R], or [B, F, R]. threshold, ties: [B], as of `Compared`.
    """
    reached = similarity >= threshold.reshape(-1, *[1] * (similarity.ndim - 1))
    return (reached & counted).sum(range(1, similarity.ndim)) / jnp.maximum(ties, 1)


def _look_at_captions(candidates: Candidates, blocks: Blocks, embedded: jax.Array, best_image: jax.Array) -> dict[str, jax.Array]:
    """Of the metrics that captions tell, by suffix: the sum of credits and of what they weigh, [s, 2].

    The best image of a caption is known when all blocks have been compared. All similarities are too many to be held, so they are
    made again. A caption's credit is the share of its best images of which it is true. It weighs as much as all images of which
    it is true.
    """
    n = len(candidates.exists)

    @jax.jit  # traced once, for its shapes and for its values
    def look(embedded, block, set_number):
        is_best = _similarities(candidates, embedded, block.weight) >= best_image[set_number][None] - TIE
        counted = _counted(candidates, block)
        true = _by_caption(block.true, counted.true, n)
        of_labels = _by_caption(block.true, counted.of_labels, n) + _by_caption(block.hard_negatives, counted.wrong, n)
        return BestImages(
            ties=is_best.sum(0, dtype=jnp.float32),
            true=(is_best * true).sum(0),
            of_labels=(is_best * of_labels).sum(0),
            weight=jnp.matmul(block.weight, true, precision=EXACT),
        )

    found = jax.tree.map(partial(blocks.by_set, jnp.sum), _map_blocks(look, blocks, embedded, blocks.images, blocks.set_number))
    share = lambda hits: hits / jnp.maximum(found.ties, 1)
    total = lambda hits: jnp.stack([(share(hits) * found.weight).sum(1), found.weight.sum(1)], 1)
    return {"_t2i": total(found.true), "_label_set_t2i": total(found.of_labels)}


def _by_caption(captions: jax.Array, counted: jax.Array, n: int) -> jax.Array:
    """How often each of n captions is among those of an image [B, ...] that are counted: [B, n].

    Numbers of captions are compared, and nothing is scattered: XLA compiles a scatter for a TPU slowly.
    """
    found = jnp.zeros((len(captions), n))
    for caption, is_counted in zip(captions.reshape(len(captions), -1).T, counted.reshape(len(counted), -1).T, strict=True):
        found += (caption[:, None] == jnp.arange(n)[None]) & is_counted[:, None]
    return found


def _similarities(candidates: Candidates, embedded: jax.Array, weight: jax.Array) -> jax.Array:
    """Similarities [B, c] of images that count to captions that exist; of others -inf."""
    cosines = jnp.matmul(embedded, candidates.embedded.T, precision=EXACT)
    return jnp.where((weight > 0)[:, None] & candidates.exists[None], cosines, -jnp.inf)


def _order(a: jax.Array, b: jax.Array) -> jax.Array:
    """1 where a is above b, 0 where it is below, 1/2 at a tie."""
    return jnp.where(abs(a - b) <= TIE, 0.5, jnp.where(a > b, 1.0, 0.0))
