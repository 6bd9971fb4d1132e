"""Does one rotation, fitted on trained labels, take a held-out label's vector in vision to its vector in text?

Orthogonal Procrustes: with X, Y [labels, d] the rows of vision and text, centred by the means of the N trained labels, and the SVD
U S V^T of X^T Y over trained labels, R = U_r V_r^T maximises tr(R^T X^T Y) among partial isometries of rank r. Only singular values
above CUT of the largest are kept, and at most min(N - 1, d): centring takes one dimension, and what is left is rounding. R is an
isometry on the span that the trained labels fix; what is orthogonal to it goes to 0. So a held-out row can only be matched by the
part that lies `inside` that span: with N - 1 < d the rotation is not determined, and no held-out label can show it whole.

On held-out labels, in both directions (X R to Y, Y R^T to X), averaged: `cosine` of a label's image with itself; `retrieval`, its
nearest neighbour among held-out labels; `retrieval_all`, among all labels of the model. Three fits: `before` (no rotation),
`rotation`, and `control`: the mean over rotations of the same rank fitted on randomly permuted correspondences of trained labels.
`cosine_inside` compares inside the span alone. Nearest neighbours among all labels are harder than N says: targets of trained
labels lie in the span whole, those of held-out labels in part.

Spaces: `E`, the rows as they are trained; `OV`, what attention to a label writes to the embedding, E W_V W_O W_proj summed over
heads (one block of attention alone: elsewhere it has no such single form); `embedding`, that of the label alone: the mean over its
images (every pixel), and its caption. The last two live in the space that training aligns and need no rotation; E has no reason to
be aligned.

Axes: A labels, held-out first, d dimensions of a space.
"""

import dataclasses

import jax
import jax.numpy as jnp
import xarray as xr

from lrjax.analysis.models import map_models, row_of
from lrjax.config import Hyper, Static, depths
from lrjax.data.captions import of_one
from lrjax.data.scenes import single_scene
from lrjax.data.splits import Splits
from lrjax.gates import Gates
from lrjax.models.attention import into_heads, out_of_heads
from lrjax.models.clip import CLIP, embed_captions, embed_images, rng_stream
from lrjax.models.encoder import Encoder, projected
from lrjax.models.interventions import Interventions
from lrjax.models.retrieval import TIE
from lrjax.terms import GATES
from lrjax.training.run import Run

CUT = 1e-5  # singular values below this share of the largest are rounding: float32 leaves about d eps = 1.5e-5 / sqrt(d) of it
FITS = ("before", "rotation", "control")
MEASURES = ("cosine", "retrieval", "retrieval_all", "cosine_trained", "cosine_inside")


def procrustes(X: jax.Array, Y: jax.Array, weight: jax.Array, n: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The partial isometry R [d, d] that best takes the n rows of X [A, d] with weight 1 to those of Y, and which of its singular
    directions are kept.

    The SVD of X^T Y, through the QR of each: few labels make it a small one.
    """
    (Q_x, R_x), (Q_y, R_y) = (jnp.linalg.qr((rows * weight[:, None]).T) for rows in (X, Y))
    U, singular, Vt = jnp.linalg.svd(R_x @ R_y.T)
    keep = (singular > CUT * singular[0]) & (jnp.arange(len(singular)) < n - 1)
    return (Q_x @ (U * keep[None])) @ (Vt @ Q_y.T), keep


def rows(static: Static, params: CLIP, gates: Gates) -> dict[str, tuple[jax.Array, jax.Array]]:
    """The label rows (vision [A, d], text [A, d]) in each space."""
    row = row_of(static, "align")
    found = {"E": (params.vision.E[row.n_first :], params.text.E[row.n_first :])}
    if "OV" in spaces(static):
        found["OV"] = written(params.vision, gates.vision, row.n_first), written(params.text, gates.text, row.n_first)
    label, place = jnp.indices((static.n_labels_total, static.L))
    scenes = single_scene(label, place, static.L)
    images = embed_images(static, params, Interventions(gates.vision), row.image_edits(scenes)).mean(1)
    (captions,) = embed_captions(static, params, Interventions(gates.text), (of_one(row),))
    return found | {"embedding": (images, captions)}


def written(encoder_params: Encoder, gates: jax.Array, n_first: int) -> jax.Array:
    """What a unit of every head's attention to a label (tokens from n_first on) writes to the embedding [A, e], in a one-block
    encoder.
    """
    (block,), VE = encoder_params.blocks, gates[0, :, GATES.index("VE")]
    values = into_heads(encoder_params.E[n_first:], block.W_V) * VE[None, :, None]
    return projected(encoder_params, out_of_heads(values, block.W_O))


def spaces(static: Static) -> tuple[str, ...]:
    """The spaces that models of these shapes have."""
    linear = set(depths(static).values()) == {1} and not (static.layer_norm or static.mlp_ratio)
    return ("E", "OV", "embedding") if linear else ("E", "embedding")


def permutations(static: Static, hyper: Hyper, count: int) -> jax.Array:
    """Random correspondences [count, A] of the trained labels, from the model's seed; drawn per label, so that padding is inert."""
    key = jax.random.fold_in(rng_stream(hyper.seed, "evaluation"), 2)
    label = jnp.arange(static.n_labels_total)

    def one(k):
        random = jax.vmap(lambda a: jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, k), a)))(label)
        order = jnp.argsort(jnp.where(trained(static, hyper), random, jnp.inf))  # trained labels come first, shuffled
        return jnp.roll(order, static.n_heldout)

    return jax.vmap(one)(jnp.arange(count))


def trained(static: Static, hyper: Hyper) -> jax.Array:
    """Which labels [A] the model saw in pairs."""
    label = jnp.arange(static.n_labels_total)
    return (label >= static.n_heldout) & (label < static.n_heldout + hyper.n_labels)


def measure(X: jax.Array, Y: jax.Array, R: jax.Array, is_trained: jax.Array, h: int) -> dict[str, jax.Array]:
    """The MEASURES of one map R [d, d] from X to Y [A, d], both directions averaged; the first h labels are held out."""
    exists = is_trained | (jnp.arange(len(X)) < h)

    def one_way(source, target, span):
        similarity = _unit(source) @ _unit(target).T  # [A, A]
        own = jnp.diagonal(similarity)

        def nearest(among):
            candidates = jnp.where(among, similarity[:h], -jnp.inf)
            best = candidates >= candidates.max(1, keepdims=True) - TIE
            return (jnp.diagonal(best) / best.sum(1)).mean()  # ties share

        inside = (_unit(source) * _unit(target @ span)).sum(-1)[:h].mean()
        found = (
            own[:h].mean(),
            nearest(jnp.arange(len(X)) < h),
            nearest(exists),
            (own * is_trained).sum() / is_trained.sum(),
            inside,
        )
        return dict(zip(MEASURES, found, strict=True))

    return jax.tree.map(lambda *both: sum(both) / 2, one_way(X @ R, Y, R.T @ R), one_way(Y @ R.T, X, R @ R.T))


def _unit(x: jax.Array) -> jax.Array:
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-30)  # a row of zeros has cosine 0 with all


@dataclasses.dataclass(frozen=True)
class Align:
    """The question: MEASURES [space, fit] of one model; `rank` of the fits [space]; `inside` [space], the share of a held-out row's
    norm that lies in the fitted span, both encoders averaged; `above_control` [space], the share of controls of lower cosine.
    """

    count: int = 10  # permuted correspondences

    def __call__(self, static: Static, hyper: Hyper, splits: Splits, params: CLIP, gates: Gates) -> dict[str, jax.Array]:
        is_trained, h = trained(static, hyper), static.n_heldout
        shuffled = permutations(static, hyper, self.count)
        found = []
        for X, Y in rows(static, params, gates).values():
            X, Y = (rows - (rows * is_trained[:, None]).sum(0, keepdims=True) / hyper.n_labels for rows in (X, Y))
            R, keep = procrustes(X, Y, is_trained, hyper.n_labels)

            def control(order, X=X, Y=Y):
                return measure(X, Y, procrustes(X, Y[order], is_trained, hyper.n_labels)[0], is_trained, h)

            controls = jax.lax.map(control, shuffled)
            fits = (measure(X, Y, jnp.eye(len(R)), is_trained, h), measure(X, Y, R, is_trained, h))
            fits = (*fits, jax.tree.map(lambda x: x.mean(0), controls))
            of_space = jax.tree.map(lambda *x: jnp.stack(x), *fits)
            inside = [jnp.linalg.norm(a[:h] @ P, axis=-1) / jnp.linalg.norm(a[:h], axis=-1) for a, P in ((X, R), (Y, R.T))]
            of_space["rank"] = keep.sum().astype(jnp.float32)
            of_space["inside"] = jnp.stack(inside).mean()
            of_space["above_control"] = (controls["cosine"] < of_space["cosine"][1]).mean()
            found.append(of_space)
        return jax.tree.map(lambda *x: jnp.stack(x), *found)


def align(run: Run, n_labels=None, count: int = 10) -> xr.Dataset:
    """`Align` of all models: MEASURES [model, space, fit]; rank, inside, above_control [model, space]."""
    dims: dict[str, tuple[str, ...]] = dict.fromkeys(MEASURES, ("space", "fit"))
    dims |= dict.fromkeys(("rank", "inside", "above_control"), ("space",))
    return map_models(run, Align(count), dims, lambda static: {"space": spaces(static), "fit": FITS}, n_labels)
