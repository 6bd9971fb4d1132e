"""The three generalisations, by retrieval between images and all captions that are valid for a model.

single: held-out positions of every label. seen_pair: trained pairs at held-out layouts. unseen_pair: all ordered pairs of the
held-out labels at all layouts. Of each: top-1; for pairs also `order` (the true caption above the swapped one) and `label_set`
(the best caption names the right labels, in any order). Text -> image has the suffix `_t2i`: an image's caption retrieves among
the images of the same set. A tie between a caption (image) and its swapped one counts 1/2 everywhere, so chance is 1/2.

Axes: n images, R relation words, A labels, c captions: a caption is (word, left, right), and (0, x, x) is "x is in the image".
"""

import jax
import jax.numpy as jnp

from lrjax.clip import CLIP, embed_captions, embed_images, stream
from lrjax.config import Hyper, Static
from lrjax.gates import Gates
from lrjax.scenes import Scene, layouts, single_scene, swapped
from lrjax.splits import Splits, draw_pair, pair_scenes

METRICS = tuple(
    name + direction
    for direction in ("", "_t2i")
    for name in (
        "single",
        *(f"{pairs}{measure}" for pairs in ("seen_pair", "unseen_pair") for measure in ("", "_order", "_label_set")),
    )
)
SAMPLE = 2048  # seen-pair images during training
EXHAUSTIVE_LIMIT = 2**17  # above so many (more than 54 labels), the final evaluation samples too: FINAL_SAMPLE images
FINAL_SAMPLE = 2**14
BLOCK = 2**22  # similarities held at a time
TIE = 1e-6  # cosines closer than this are equal: the rounding of a product of unit vectors is a tenth of it


def evaluate(static: Static, hyper: Hyper, splits: Splits, params: CLIP, gates: Gates, exhaustive: bool) -> dict[str, jax.Array]:
    """All METRICS of one model, each [] in 0..1. `exhaustive`: seen_pair on all its images rather than a fixed sample."""
    with jax.default_matmul_precision(static.matmul_precision):
        A, R = static.n_names, static.n_words
        word, left, right = jnp.indices((R, A, A))
        singles, captions = embed_captions(static, params, gates, jnp.arange(A), left, right, word)
        captions = jnp.where((left == right)[..., None], singles, captions)
        exists = jnp.arange(A) < static.n_heldout + hyper.n_labels
        valid = exists[:, None] & exists & ((left != right) | (word == 0))

        metrics = {}
        for name, (scenes, weight) in image_sets(static, hyper, splits, exhaustive).items():
            embed = lambda scenes: embed_images(static, params, gates, scenes)
            found = retrieve(captions, valid, scenes, weight, embed)
            metrics |= {name + measure: value for measure, value in found.items() if name + measure in METRICS}
        return metrics


def image_sets(static: Static, hyper: Hyper, splits: Splits, exhaustive: bool) -> dict[str, tuple[Scene, jax.Array]]:
    """The images of each evaluation: scenes [n] and their weight [n], 0 where padding or training makes them no part of it."""
    h, N, L = static.n_heldout, static.n_labels_max, static.L
    label, rank = jnp.indices((static.n_names, L)).reshape(2, -1)
    single = single_scene(label, splits.positions[label, rank].astype(jnp.int32), L)
    single_weight = (rank >= hyper.n1) & (label < h + hyper.n_labels)

    n_layouts = L * (L - 1) // 2
    x, y, layout = jnp.indices((h, h, n_layouts)).reshape(3, -1)
    unseen = Scene(x, y, *jnp.asarray(layouts(L))[layout].T)

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
    sets = {"single": (single, single_weight), "seen_pair": (seen, seen_weight), "unseen_pair": (unseen, x != y)}
    return {name: (scenes, weight.astype(jnp.float32)) for name, (scenes, weight) in sets.items()}


def retrieve(captions: jax.Array, valid: jax.Array, scenes: Scene, weight: jax.Array, embed) -> dict[str, jax.Array]:
    """Retrieval metrics of one set of images, both directions, by suffix: "", "_order", "_label_set", and these with "_t2i".

    captions [R, A, A, e] unit embeddings, valid [R, A, A]; scenes [n], weight [n]; embed: scenes -> unit embeddings.
    """
    R, A = captions.shape[:2]
    n = len(weight)
    left, right = scenes.left, jnp.where(scenes.right < 0, scenes.left, scenes.right)
    word = jnp.arange(R)[:, None]
    true, false = ((word * A + a) * A + b for a, b in ((left, right), (right, left)))  # caption numbers [R, n]
    flat, valid = captions.reshape(R * A * A, -1), valid.reshape(-1)

    # Blocks of images against all captions: nothing larger than a block is held.
    block = min(n, max(1, BLOCK // len(flat)))
    pad = -n % block

    def against_captions(block):
        scenes, weight, true, false = block
        similarity = embed(scenes) @ flat.T  # [block, c]
        best = jnp.where(valid, similarity, -jnp.inf).max(1)
        best_image = jnp.where(weight[:, None] > 0, similarity, -jnp.inf).max(0)
        of = lambda caption: jnp.take_along_axis(similarity, caption, 1)
        mirrored = jnp.einsum("be,bre->br", embed(swapped(scenes)), flat[true])
        return best, best_image, of(true), of(false), mirrored

    blocks = jax.tree.map(
        lambda x: jnp.pad(x, [(0, pad)] + [(0, 0)] * (x.ndim - 1)).reshape(-1, block, *x.shape[1:]),
        (scenes, weight, true.T, false.T),
    )
    best, best_image, *rest = jax.lax.map(against_captions, blocks)
    best, best_image = best.reshape(-1)[:n], best_image.max(0)
    own, swap, mirrored = (x.reshape(-1, R)[:n].T for x in rest)  # [R, n]

    def mean(credit):  # [R, n] or [n]
        return (credit * weight).sum() / (weight.sum() * (credit.size // n))

    # the best caption that is true of the image, and that would be true of the swapped one
    own_top, swap_top = own.max(0), swap.max(0)
    # for each caption the best image that it is true of, and that its swap is true of
    seen = weight > 0
    own_image = jnp.full(len(flat), -jnp.inf).at[true].max(jnp.where(seen, own, -jnp.inf))[true]
    swap_image = jnp.full(len(flat), -jnp.inf).at[false].max(jnp.where(seen, swap, -jnp.inf))[true]
    is_pair, top_image = left != right, best_image[true]

    def top1(own, swap, best):
        return (own >= best - TIE) * jnp.where(is_pair & (abs(own - swap) <= TIE), 0.5, 1.0)

    def label_set(own, swap, best):
        return jnp.maximum(own, swap) >= best - TIE

    def order(a, b):
        return jnp.where(abs(a - b) <= TIE, 0.5, jnp.where(a > b, 1.0, 0.0))

    return {
        "": mean(top1(own_top, swap_top, best)),
        "_order": mean(order(own, swap)),
        "_label_set": mean(label_set(own_top, swap_top, best)),
        "_t2i": mean(top1(own_image, swap_image, top_image)),
        "_order_t2i": mean(order(own, mirrored)),
        "_label_set_t2i": mean(label_set(own_image, swap_image, top_image)),
    }
