"""Explicit spatial supervision: a head that is asked where an object is, given its label and the image's embedding.

logits[place] = embedding . W[label, :, place]. Its loss is added to the contrastive one with the weight `supervision`; that is
weighed by `contrastive` (0: supervision alone). Of tasks whose objects are one token each.

Axes: A labels, e d_embed, p places of an image, S objects, n images.
"""

import jax
import jax.numpy as jnp

from lrjax.scenes import Slots
from lrjax.tasks.base import Task

TOLD = ("_place", "_order_told")  # suffixes of what `told` finds


def init(key: jax.Array, task: Task, d_embed: int) -> jax.Array:
    """W [A, e, p], normal of variance 1 / e, each label from its own id."""
    shape = (d_embed, len(task.image.template) - 1)
    rows = jax.vmap(lambda a: jax.random.normal(jax.random.fold_in(key, a), shape))(jnp.arange(task.n_names))
    return d_embed**-0.5 * rows


def logits(W: jax.Array, embeddings: jax.Array, label: jax.Array) -> jax.Array:
    """Scores of all places [n, p] of objects of `label` [n] in images [n, e]."""
    every = jnp.einsum("ne,aep->nap", embeddings, W)
    return jnp.take_along_axis(every, label[:, None, None], 1)[:, 0]


def loss(task: Task, W: jax.Array, embeddings: jax.Array, images: Slots) -> jax.Array:
    """The mean cross-entropy of the places of the objects that images [S, n] show."""
    there = images.tokens >= 0
    label, place = images.tokens - task.n_first, images.positions - 1
    scores = jnp.stack([logits(W, embeddings, jnp.maximum(one, 0)) for one in label])  # [S, n, p]
    right = jnp.take_along_axis(jax.nn.log_softmax(scores), place[..., None], -1)[..., 0]
    return -jnp.where(there, right, 0).sum() / there.sum()


def told(task: Task, W: jax.Array, embeddings: jax.Array, images: Slots, weight: jax.Array) -> dict[str, jax.Array]:
    """What the head knows of images [S, n], of weight [n], that show all S objects: `place`, the share of objects whose likeliest
    place is right, and `order_told`, the share of pairs of objects whose likeliest places are in the right order (a tie counts
    1/2).
    """
    S = len(images.tokens)
    label, place = images.tokens - task.n_first, images.positions - 1
    found = jnp.stack([logits(W, embeddings, one).argmax(-1) for one in label])
    finite = jnp.where(weight > 0, jnp.isfinite(embeddings).all(-1), True).all()
    mean = lambda x: (x * weight).sum() / weight.sum()
    order = [jnp.sign(found[b] - found[a]) * jnp.sign(place[b] - place[a]) for a in range(S) for b in range(a + 1, S)]
    known = {"_place": mean((found == place).mean(0)), "_order_told": (1 + mean(jnp.stack(order).mean(0))) / 2}
    return {name: jnp.where(finite, known[name], jnp.nan) for name in TOLD}
