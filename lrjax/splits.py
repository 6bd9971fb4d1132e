"""Which places and layouts a model trains on, and how labels are drawn. All drawn per id, so padding is inert.

Axes: A = n_heldout + n_labels_max labels, N_max trained labels, L places (the pixels of a row), K layouts of two objects.
"""

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Splits:
    """Per label and per ordered pair of trained labels a random order of its places; the first n1 (n2) are trained.

    positions: [A, L], label -> places. pairs: [N_max, N_max, K], (first, second) -> layouts (of `three`: a key). The smallest type
    that holds them.
    """

    positions: jax.Array
    pairs: jax.Array


def order(key: jax.Array, n: int) -> jax.Array:
    """A random order of n places: the ranks of random numbers (the index breaks ties). By sorting, so that memory grows as n."""
    ranks = jnp.argsort(jnp.argsort(jax.random.bits(key, (n,))))
    return ranks.astype(jnp.uint8 if n <= 256 else jnp.uint16)


def make_splits(key: jax.Array, n_labels_max: int, n_heldout: int, n_places: int, n_layouts: int) -> Splits:
    """Splits of one model. Label a is drawn from fold_in(key, a), pair (x, y) from its two ids: N and padding change nothing."""
    label_key, pair_key = jax.random.split(key)

    def pair(x, y):
        return order(jax.random.fold_in(jax.random.fold_in(pair_key, x), y), n_layouts)

    labels, trained = jnp.arange(n_heldout + n_labels_max), jnp.arange(n_labels_max)
    return Splits(
        positions=jax.vmap(lambda a: order(jax.random.fold_in(label_key, a), n_places))(labels),
        pairs=jax.vmap(lambda x: jax.vmap(lambda y: pair(x, y))(trained))(trained),
    )


def frequencies(n_labels: jax.Array, zipf: jax.Array, n_max: int) -> jax.Array:
    """How often trained labels occur, [n_max], with mean 1 over the n_labels that there are: label r as r^-zipf (Zipf's law)."""
    rank = jnp.arange(1, n_max + 1)
    weight = jnp.where(rank <= n_labels, rank**-zipf, 0.0)
    return weight * n_labels / weight.sum()


def draw_label(key: jax.Array, shape: tuple[int, ...], n_labels, zipf, n_heldout: int, n_max: int) -> jax.Array:
    """Labels of `shape`, held-out ones and the n_labels trained ones: uniform, the latter by Zipf's law if zipf > 0."""
    uniform = jax.random.randint(key, shape, 0, n_heldout + n_labels)
    weight = jnp.concatenate([jnp.ones(n_heldout), frequencies(n_labels, zipf, n_max)])
    return jnp.where(zipf > 0, _weighted(jax.random.fold_in(key, 1), shape, weight), uniform)


def draw_together(key: jax.Array, k: int, shape: tuple[int, ...], n_labels, zipf, n_max: int) -> jax.Array:
    """k different labels of the n_labels trained ones, in any order: indices [k, *shape]. Uniform over all such lists; if zipf > 0
    each is drawn by Zipf's law among those that are left.
    """
    uniform, often = [], []
    weight = frequencies(n_labels, zipf, n_max)
    for i, one in enumerate(jax.random.split(key, k)):
        label = jax.random.randint(one, shape, 0, n_labels - i)
        for other in jnp.sort(jnp.stack(uniform), 0) if i else ():
            label += label >= other
        uniform.append(label)
        often.append(_weighted(jax.random.fold_in(one, 1), shape, weight))
        weight = weight * (often[-1][..., None] != jnp.arange(n_max))
    return jnp.where(zipf > 0, jnp.stack(often), jnp.stack(uniform))


def _weighted(key: jax.Array, shape: tuple[int, ...], weight: jax.Array) -> jax.Array:
    """Indices of `shape`, drawn in proportion to weight [..., n]; never one of weight 0."""
    below = jnp.cumsum(weight, -1)
    u = (1 - jax.random.uniform(key, shape)) * below[..., -1]  # in (0, sum]
    return jnp.argmax(below >= u[..., None], -1)
