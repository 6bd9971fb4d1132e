"""Retrieval between images and captions, by the cosines of their embeddings: accuracies of one set of images, in both directions.

Who ties for the best shares the credit, so a model that tells nothing apart is at chance, and an order at a tie counts 1/2. A model
that is not a number has accuracy NaN. What the images are, and what is true of them, the task says (`tasks.base.EvalSet`).

Axes: n images, c captions, R captions that an image may have, F ways to get one wrong, k labels.
"""

from functools import partial

import jax
import jax.numpy as jnp

from lrjax.data.tasks.base import EvalSet

BLOCK = 2**22  # similarities held at a time
TIE = 1e-6  # cosines closer than this are equal: the rounding of a product of unit vectors is a tenth of it


def retrieve(
    captions: jax.Array,
    exists: jax.Array,
    in_set: jax.Array,
    names: jax.Array,
    eval_set: EvalSet,
    embed,
    words: tuple[str, ...] = (),
    ways: tuple[str, ...] = (),
) -> dict[str, jax.Array]:
    """Retrieval metrics of one set of images, both directions, by suffix: "", "_order", "_label_set", "_labels", "_t2i" ...

    captions [c, e] unit embeddings, exists [c], which of those that exist are the set's own [c], the labels that they name [k, c];
    embed: edits -> unit embeddings. `words` and `ways`: names of the R captions of an image, and of the F ways to get one wrong,
    to tell apart the order of each.
    """
    weight, true = eval_set.weight, eval_set.true
    of_all, of_set, named, best_image, ties_image, own, hard_negatives, swapped = _compare(
        captions, exists, in_set, names, eval_set, embed
    )

    def share(hits, caption):  # of a caption's best images, the share that is among `hits` [R, n] of that caption
        return (jnp.zeros(len(captions)).at[caption].add(hits) / jnp.maximum(ties_image, 1))[true]

    counts = (weight > 0)[None] & eval_set.is_true & exists[true]  # [R, n]

    finite = jnp.isfinite(jnp.where(counts, own, 0)).all()  # a model that is not a number has no accuracy
    mean = lambda credit, of=None: jnp.where(finite, _mean(credit, weight, counts, of), jnp.nan)
    differs = eval_set.hard_negatives != true[None]  # one object has no order
    names_all = counts | ((weight > 0)[None] & exists[true] & differs[0])  # whatever the word: it may be one that does not hold
    label_set = lambda best: _share(own, names_all, *best) + _share(hard_negatives, names_all[None] & differs, *best).sum(0)
    by_way = _order(own[None], hard_negatives)  # [F, R, n]
    of_images = lambda x, caption, counted: share((x >= best_image[caption] - TIE) & counted, caption)
    set_images = of_images(own, true, names_all)
    for x, caption, differ in zip(hard_negatives, eval_set.hard_negatives, differs, strict=True):
        set_images += of_images(x, caption, names_all & differ)
    return {
        "": mean(_share(own, counts, *of_all)),
        "_in_set": mean(_share(own, counts, *of_set)),
        "_order": mean(by_way.mean(0)),
        "_label_set": mean(label_set(of_all)),
        "_label_set_in_set": mean(label_set(of_set)),
        "_labels": mean(named),
        "_t2i": mean(of_images(own, true, counts)),
        "_order_t2i": mean(_order(own, swapped)),
        "_label_set_t2i": mean(set_images),
        **{f"_order_{word}": mean(by_way.mean(0), [word == other for other in words]) for word in words},
        **{f"_order_{way}": mean(by_way[i]) for i, way in enumerate(ways)},
    }


def _mean(credit: jax.Array, weight: jax.Array, counts: jax.Array, of: list[bool] | None = None) -> jax.Array:
    """The weighted mean [] of `credit`: [n], of images, or [R, n], of captions of images that count; of some of the R if given."""
    weights = weight[None] * counts if credit.ndim == 2 else weight
    weights = weights if of is None else weights * jnp.array(of)[:, None]
    return jnp.where(weights > 0, credit * weights, 0).sum() / weights.sum()


def _share(similarity: jax.Array, counted: jax.Array, least: jax.Array, ties: jax.Array) -> jax.Array:
    """Of the best captions of each image the share that has one of these similarities, among those that are counted. similarity,
    counted: [R, n], or [F, R, n]. least, ties [n]: see `_compare`. Returns [n], or [R, n].
    """
    of_rank = lambda x, rank: x.reshape((1,) * (rank - 1) + x.shape)
    hits = ((similarity >= of_rank(least, similarity.ndim)) & counted).sum(0)
    return hits / of_rank(jnp.maximum(ties, 1), hits.ndim)


def _order(a: jax.Array, b: jax.Array) -> jax.Array:
    """1 where a is above b, 0 where it is below, 1/2 at a tie."""
    return jnp.where(abs(a - b) <= TIE, 0.5, jnp.where(a > b, 1.0, 0.0))


def _compare(captions: jax.Array, exists: jax.Array, in_set: jax.Array, names: jax.Array, eval_set: EvalSet, embed):
    """All similarities of images [n] to captions [c], a block of images at a time: held whole they are too many, so made twice.

    Returns, of each image [n], from which similarity on a caption ties for the best and how many captions do, among all of them and
    among those `in_set`, and which share of its labels the best of all name; of each caption [c] its best similarity and how many
    images tie for it; the similarities of each image to its captions [R, n], to the wrong ones [F, R, n], and of its mirrored image
    to its captions [R, n].
    """
    n = len(eval_set.weight)
    block = min(n, max(1, BLOCK // len(captions)))
    blocks = jax.tree.map(partial(_in_blocks, block=block), eval_set)
    used = blocks.weight > 0

    def similarities(embedded, used):  # [block, c]: to captions that exist, of images that count
        return jnp.where(used[:, None] & exists[None], embedded @ captions.T, -jnp.inf)

    def best(block):
        images, mirrored, used, true = block
        both = jax.tree.map(lambda *x: jnp.moveaxis(jnp.concatenate(x), 0, -1), images, mirrored)
        embedded, of_mirrored = jnp.split(embed(both), 2)
        similarity = similarities(embedded, used)
        highest = similarity.max(1), similarity.max(1, where=in_set[None], initial=-jnp.inf), similarity.max(0)
        return embedded, *highest, jnp.einsum("be,bre->br", of_mirrored, captions[true])

    embedded, best_caption, best_in_set, best_image, swapped = jax.lax.map(best, (blocks.images, blocks.swapped, used, blocks.true))
    best_image = best_image.max(0)  # [c]
    least = best_caption - TIE
    least_in_set = jnp.where(best_in_set >= least, least, best_in_set - TIE)  # one that ties for the best of all ties with that

    def compare(args):
        embedded, used, labels, true, hard_negatives, least, least_in_set = args
        similarity = similarities(embedded, used)
        wins = similarity >= least[:, None]
        found = [(names[None] == label[:, None, None]).any(1) for label in labels.T]  # a label of each image [block, c]
        named = (wins * (1.0 * sum(found))).sum(1) / jnp.maximum(wins.sum(1), 1) / len(found)
        of = lambda caption: jnp.take_along_axis(similarity, caption.reshape(len(caption), -1), 1).reshape(caption.shape)
        ties_in_set = (in_set[None] & (similarity >= least_in_set[:, None])).sum(1)
        ties = wins.sum(1), ties_in_set, named, (similarity >= best_image[None] - TIE).sum(0)
        return *ties, of(true), of(hard_negatives)

    of_images = blocks.labels, blocks.true, blocks.hard_negatives
    ties, ties_in_set, named, ties_image, *rest = jax.lax.map(compare, (embedded, used, *of_images, least, least_in_set))
    flatten = lambda *arrays: [x.reshape(-1)[:n] for x in arrays]
    (named,), of_all, of_set = flatten(named), flatten(least, ties), flatten(least_in_set, ties_in_set)
    own, hard_negatives, swapped = (jnp.moveaxis(x.reshape(-1, *x.shape[2:])[:n], 0, -1) for x in (*rest, swapped))
    return of_all, of_set, named, best_image, ties_image.sum(0), own, hard_negatives, swapped


def _in_blocks(x: jax.Array, block: int) -> jax.Array:
    """An array [..., n] of images as blocks [n / block, block, ...]; the last block is filled up with 0."""
    x = jnp.moveaxis(x, -1, 0)
    x = jnp.pad(x, [(0, -len(x) % block)] + [(0, 0)] * (x.ndim - 1))
    return x.reshape(-1, block, *x.shape[1:])
