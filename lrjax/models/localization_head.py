"""Explicit spatial supervision: a head that is asked where an object is, given its label and the image's embedding.

logits[place] = ((embedding @ M) * U[label]) @ V[place]: places are shared by all labels, so that a label can be found where it was
never trained. Its loss is added to the contrastive one with the weight `supervision`; that is weighed by `contrastive` (0:
supervision alone). The weight is what the encoder feels; the head itself learns in full, a probe at weight 0 (beside models that
have a head, in one program: alone such a model has none). Of tasks whose objects are one token each, in a row.

Axes: A labels, e d_embed, p places of an image, S objects, n images.
"""

import dataclasses
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from flax import struct

from lrjax.config import Hyper, Static
from lrjax.data.scenes import TokenEdits
from lrjax.data.tasks.base import Batch, EvalSet, Task
from lrjax.metrics import Metric, of_head

if TYPE_CHECKING:
    from lrjax.models.clip import CLIP


@struct.dataclass
class Head:
    """M [e, e], U [A, e], V [p, e]."""

    M: jax.Array
    U: jax.Array
    V: jax.Array


def init(key: jax.Array, task: Task, d_embed: int) -> Head:
    """M and V normal of variance 1 / e, U of 1; each label's row from its own id."""
    of_M, of_U, of_V = jax.random.split(key, 3)
    U = jax.vmap(lambda a: jax.random.normal(jax.random.fold_in(of_U, a), (d_embed,)))(jnp.arange(task.n_labels_total))
    V = jax.random.normal(of_V, (len(task.image.tokens) - 1, d_embed))
    return Head(d_embed**-0.5 * jax.random.normal(of_M, (d_embed, d_embed)), U, d_embed**-0.5 * V)


def logits(head: Head, embeddings: jax.Array, label: jax.Array) -> jax.Array:
    """Scores of all places [n, p] of objects of `label` [n] in images [n, e]."""
    return (embeddings @ head.M * head.U[label]) @ head.V.T


def loss(task: Task, head: Head, embeddings: jax.Array, images: TokenEdits) -> jax.Array:
    """The mean cross-entropy of the places of the objects that images [S, n] show."""
    there = images.tokens >= 0
    label, place = images.tokens - task.n_first, images.positions - 1
    scores = jnp.stack([logits(head, embeddings, jnp.maximum(one, 0)) for one in label])  # [S, n, p]
    right = jnp.take_along_axis(jax.nn.log_softmax(scores), place[..., None], -1)[..., 0]
    return -jnp.where(there, right, 0).sum() / there.sum()


def head_metrics(task: Task, head: Head, embeddings: jax.Array, images: TokenEdits, weight: jax.Array) -> dict[str, jax.Array]:
    """What the head knows of images [S, n] with weights [n], all of which show S objects. `place` is the share of objects whose
    likeliest place is right. `order_located` is the share of pairs of objects whose likeliest places are in the right order; a tie
    counts 1/2.
    """
    S = len(images.tokens)
    label, place = images.tokens - task.n_first, images.positions - 1
    found = jnp.stack([logits(head, embeddings, one).argmax(-1) for one in label])
    finite = jnp.where(weight > 0, jnp.isfinite(embeddings).all(-1), True).all()
    mean = lambda x: (x * weight).sum() / weight.sum()
    order = [jnp.sign(found[b] - found[a]) * jnp.sign(place[b] - place[a]) for a in range(S) for b in range(a + 1, S)]
    known = {"_place": mean((found == place).mean(0)), "_order_located": (1 + mean(jnp.stack(order).mean(0))) / 2}
    return {suffix: jnp.where(finite, value, jnp.nan) for suffix, value in known.items()}


@dataclasses.dataclass(frozen=True)
class LocalizationHead:
    """The head as an auxiliary objective of a model that embeds images."""

    def parameters(self, static: Static, key: jax.Array) -> dict[str, Head]:
        """Initial values of the field of `CLIP` that is the head's."""
        return {"places": init(key, static.task_object, static.d_embed)}

    def added_to(
        self, loss_of_pairs: jax.Array, task: Task, hyper: Hyper, params: "CLIP", images: jax.Array, batch: Batch
    ) -> jax.Array:
        """The loss of the batch with that of the head, each with its weight; images [B, e] are the embeddings of the batch's."""
        weight = hyper.supervision
        seen = weight * images + (1 - weight) * jax.lax.stop_gradient(images)
        assert params.places is not None
        where = loss(task, params.places, seen, batch.images)
        # the head always learns in full, so that at weight 0 it probes a model that never hears of it
        return hyper.contrastive * loss_of_pairs + where - (1 - weight) * jax.lax.stop_gradient(where)

    def metrics(self, name: str, task: Task, params: "CLIP", embedded: jax.Array, eval_set: EvalSet) -> dict[str, jax.Array]:
        """What the head knows of the images of the evaluation set `name`, whose embeddings are [n, e], by suffix; nothing of
        images of one object.
        """
        if not self.measured(name):
            return {}
        assert params.places is not None
        return head_metrics(task, params.places, embedded, eval_set.images, eval_set.weight)

    def measured(self, name: str) -> tuple[Metric, ...]:
        """What `metrics` has of the evaluation set `name`."""
        return of_head(name)
