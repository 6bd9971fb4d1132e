"""The three generalisations, by retrieval between images and all captions that are valid for a model.

single: held-out positions of every label. seen_pair: trained pairs at held-out layouts. unseen_pair: all ordered pairs of the
held-out labels at all layouts. Of each: top-1; for pairs also `order` (the true caption above the swapped one) `label_set` (the
best caption names the right labels, in any order) and `labels` (the share of an image's labels that the best caption names). Text
-> image has the suffix `_t2i`: an image's caption retrieves among the images of the same set. Who ties for the best shares the
credit, so a model that tells nothing apart is at chance, and an order at a tie counts 1/2. A model that is not a number has
accuracy NaN.

Axes: n images, R relation words, A labels, c captions: a caption is (word, left, right), and (0, x, x) is "x is in the image".
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.clip import CLIP, embed_captions, embed_images, stream
from lrjax.config import Hyper, Static
from lrjax.gates import Gates
from lrjax.scenes import Scene, layouts, single_scene, swapped
from lrjax.splits import Splits, draw_pair, pair_scenes

SETS = ("single", "seen_pair", "unseen_pair")
_PAIRS = ("", "_order", "_label_set", "_labels", "_t2i", "_order_t2i", "_label_set_t2i")
_SUFFIXES = {"single": ("", "_t2i"), "seen_pair": _PAIRS, "unseen_pair": _PAIRS}
METRICS = tuple(
    name + suffix
    for to_image in (False, True)
    for name in SETS
    for suffix in _SUFFIXES[name]
    if suffix.endswith("_t2i") == to_image
)
MEASURES = {
    "unseen_pair_order": "order",
    "unseen_pair": "top-1",
    "unseen_pair_label_set": "label set",
}  # of unseen pairs, as people read them
SAMPLE = 2048  # seen-pair images during training
EXHAUSTIVE_LIMIT = 2**17  # above so many (more than 54 labels), the final evaluation samples too: FINAL_SAMPLE images
FINAL_SAMPLE = 2**14
BLOCK = 2**22  # similarities held at a time
TIE = 1e-6  # cosines closer than this are equal: the rounding of a product of unit vectors is a tenth of it


def evaluate(
    static: Static,
    hyper: Hyper,
    splits: Splits,
    params: CLIP,
    gates: Gates,
    exhaustive: bool,
    sets: tuple[str, ...] = SETS,
    split: bool = True,
    frozen_at: Gates | None = None,
) -> dict[str, jax.Array]:
    """The METRICS of one model on `sets`, each [] in 0..1. `exhaustive`: seen_pair on all its images rather than a fixed sample.

    split False: all gates are 1, so streams need not be told apart (`encoder.run`). frozen_at: the gates under which LayerNorm's
    scales are taken.
    """
    with jax.default_matmul_precision(static.matmul_precision):
        A, R = static.n_names, static.n_words
        word, left, right = jnp.indices((R, A, A))
        singles, captions = embed_captions(static, params, gates, jnp.arange(A), left, right, word, split, frozen_at)
        captions = jnp.where((left == right)[..., None], singles, captions)
        exists = jnp.arange(A) < static.n_heldout + hyper.n_labels
        valid = exists[:, None] & exists & ((left != right) | (word == 0))

        metrics = {}
        images = image_sets(static, hyper, splits, exhaustive)
        for name in sets:
            embed = lambda scenes: embed_images(static, params, gates, scenes, split, frozen_at)
            found = retrieve(captions, valid, *images[name], embed)
            metrics |= {name + suffix: found[suffix] for suffix in _SUFFIXES[name]}
        return metrics


def image_sets(static: Static, hyper: Hyper, splits: Splits, exhaustive: bool) -> dict[str, tuple[Scene, jax.Array]]:
    """The images of each evaluation: scenes [n] and their weight [n], 0 where padding or training makes them no part of it."""
    h, N, L = static.n_heldout, static.n_labels_max, static.L
    label, rank = jnp.indices((static.n_names, L)).reshape(2, -1)
    single = single_scene(label, splits.positions[label, rank].astype(jnp.int32), L)
    single_weight = (rank >= hyper.n1) & (label < h + hyper.n_labels)

    n_layouts = L * (L - 1) // 2
    unseen = unseen_pairs(h, L)
    if exhaustive and N * N * n_layouts <= EXHAUSTIVE_LIMIT:
        u, v, rank = jnp.indices((N, N, n_layouts)).reshape(3, -1)
        seen_weight = (rank >= hyper.n2) & (u != v) & (u < hyper.n_labels) & (v < hyper.n_labels)
    else:
        n = FINAL_SAMPLE if exhaustive else SAMPLE
        keys = jax.random.split(stream(hyper.seed, "evaluation"))
        u, v = draw_pair(keys[0], (n,), hyper.n_labels)
        rank = jax.random.randint(keys[1], (n,), hyper.n2, n_layouts)
        seen_weight = jnp.ones(n, bool)
    seen = pair_scenes(splits, u, v, rank, h)
    sets = {"single": (single, single_weight), "seen_pair": (seen, seen_weight), "unseen_pair": (unseen, jnp.ones(len(unseen.i)))}
    return {name: (scenes, weight.astype(jnp.float32)) for name, (scenes, weight) in sets.items()}


def unseen_pairs(n_heldout: int, L: int) -> Scene:
    """All ordered pairs of the held-out labels at all layouts, in this order: 900 scenes by default."""
    x, y, layout = np.indices((n_heldout, n_heldout, L * (L - 1) // 2)).reshape(3, -1)
    x, y, layout = (values[x != y] for values in (x, y, layout))
    return jax.tree.map(jnp.asarray, Scene(x, y, *layouts(L)[layout].T))


def retrieve(captions: jax.Array, valid: jax.Array, scenes: Scene, weight: jax.Array, embed) -> dict[str, jax.Array]:
    """Retrieval metrics of one set of images, both directions, by suffix: "", "_order", "_label_set", "_labels", "_t2i" ...

    captions [R, A, A, e] unit embeddings, valid [R, A, A]; scenes [n], weight [n]; embed: scenes -> unit embeddings.
    """
    R, A = captions.shape[:2]
    left, right = scenes.left, jnp.where(scenes.right < 0, scenes.left, scenes.right)
    word = jnp.arange(R)[:, None]
    true, false = ((word * A + a) * A + b for a, b in ((left, right), (right, left)))  # caption numbers [R, n]
    flat, valid = captions.reshape(R * A * A, -1), valid.reshape(-1)

    best_caption, ties, named, best_image, ties_image, own, swap, mirrored = _compare(
        flat, valid, scenes, weight > 0, true, false, embed
    )

    def share(hits, caption):  # of a caption's best images, the share that is among `hits` [R, n] of that caption
        return (jnp.zeros(len(flat)).at[caption].add(hits) / jnp.maximum(ties_image, 1))[true]

    def order(a, b):
        return jnp.where(abs(a - b) <= TIE, 0.5, jnp.where(a > b, 1.0, 0.0))

    counts = (weight > 0) & valid[true]  # [R, n]: one object is said in one way

    def mean(credit):  # [R, n] or [n]; a model that is not a number has no accuracy
        weights = weight * (counts if credit.ndim == 2 else 1)
        value = jnp.where(weights > 0, credit * weights, 0).sum() / weights.sum()
        return jnp.where(jnp.isfinite(jnp.where(counts, own, 0)).all(), value, jnp.nan)

    hits, hits_swapped = ((x >= best_caption - TIE).sum(0) / jnp.maximum(ties, 1) for x in (own, swap))
    is_pair = left != right
    own_images, swapped_images = (share((x >= best_image[c] - TIE) & counts, c) for x, c in ((own, true), (swap, false)))
    return {
        "": mean(hits),
        "_order": mean(order(own, swap)),
        "_label_set": mean(hits + hits_swapped * is_pair),
        "_labels": mean(named),
        "_t2i": mean(own_images),
        "_order_t2i": mean(order(own, mirrored)),
        "_label_set_t2i": mean(own_images + swapped_images * is_pair),
    }


def _compare(flat: jax.Array, valid: jax.Array, scenes: Scene, used: jax.Array, true: jax.Array, false: jax.Array, embed):
    """All similarities of images [n] to captions [c], a block of images at a time: held whole they are too many, so made twice.

    true, false [R, n]: numbers of each image's caption and its swapped one. Returns, of each image [n], its best similarity and
    how many captions tie for it and which share of its labels they name; of each caption [c] the same over images; the
    similarities [R, n] of each image to its caption, to the swapped one, and of the swapped image to its caption.
    """
    n = len(used)
    block = min(n, max(1, BLOCK // len(flat)))
    pad = -n % block
    blocks = jax.tree.map(
        lambda x: jnp.pad(x, [(0, pad)] + [(0, 0)] * (x.ndim - 1)).reshape(-1, block, *x.shape[1:]),
        (scenes, used, true.T, false.T),
    )

    def similarities(scenes, used):  # [block, c]: to captions that exist, of images that count
        return jnp.where(used[:, None] & valid, embed(scenes) @ flat.T, -jnp.inf)

    def best(block):
        similarity = similarities(*block[:2])
        return similarity.max(1), similarity.max(0)

    best_caption, best_image = jax.lax.map(best, blocks)
    best_image = best_image.max(0)  # [c]

    A = math.isqrt(len(flat) // len(true))
    said = jnp.arange(len(flat)) // A % A, jnp.arange(len(flat)) % A  # the two labels of a caption

    def compare(args):
        (scenes, used, true, false), best_caption = args
        similarity = similarities(scenes, used)
        wins = similarity >= best_caption[:, None] - TIE
        names = [(said[0] == x[:, None]) | (said[1] == x[:, None]) for x in (scenes.left, scenes.right)]
        named = (wins * (1.0 * names[0] + names[1])).sum(1) / jnp.maximum(wins.sum(1), 1) / 2
        of = lambda caption: jnp.take_along_axis(similarity, caption, 1)
        ties = wins.sum(1), named, (similarity >= best_image - TIE).sum(0)
        mirrored = jnp.einsum("be,bre->br", embed(swapped(scenes)), flat[true])
        return *ties, of(true), of(false), mirrored

    ties, named, ties_image, *rest = jax.lax.map(compare, (blocks, best_caption))
    ties, named, best_caption = (x.reshape(-1)[:n] for x in (ties, named, best_caption))
    own, swap, mirrored = (x.reshape(-1, len(true))[:n].T for x in rest)
    return best_caption, ties, named, best_image, ties_image.sum(0), own, swap, mirrored
