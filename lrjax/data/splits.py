"""Which places and layouts a model trains on, and how labels are drawn. All drawn per id, so padding is inert.

Axes: A = n_heldout + n_labels_max labels, N_max trained labels, L places (the pixels of a row), K layouts of two objects.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from lrjax.data.finite_set import first_appearance_ranks


@struct.dataclass
class Splits:
    """Per label and per ordered pair of trained labels a random order of its places; the first n1 (n2) are trained.

    positions: [A, L], label -> places. pairs: [N_max, N_max, K], (first, second) -> layouts (of `three`: a key). The smallest type
    that holds them.

    Where draws may repeat (`finite_set`), position_draws [A, L] and pair_draws [N_max, N_max, K] are the draws, as ranks in these
    orders: the first n1 (n2) draws are trained. None where every place is drawn once: then draw t has rank t.
    """

    positions: jax.Array
    pairs: jax.Array
    position_draws: jax.Array | None = None
    pair_draws: jax.Array | None = None

    def trained_positions(self, n1: jax.Array, label: jax.Array) -> jax.Array:
        """How many of the first positions of a label [...] are trained."""
        return n1 if self.position_draws is None else ranks_seen(self.position_draws, n1)[label]

    def trained_layouts(self, n2: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        """How many of the first layouts of a pair of trained labels [...] are trained."""
        return n2 if self.pair_draws is None else ranks_seen(self.pair_draws, n2)[x, y]


def ranks_seen(draws: jax.Array, n: jax.Array) -> jax.Array:
    """How many different places the first n draws [..., n_max] show, given as ranks of first appearance."""
    return 1 + jnp.where(jnp.arange(draws.shape[-1]) < n, draws, 0).max(-1).astype(jnp.int32)


def at_draw(order: jax.Array, draws: jax.Array | None, group: tuple, t: jax.Array) -> jax.Array:
    """The place that draw t of a group of labels shows, from its `order` and `draws` of Splits."""
    return order[*group, t if draws is None else draws[*group, t]].astype(jnp.int32)


def order(key: jax.Array, n: jax.Array | int, n_max: int) -> jax.Array:
    """A random order of n places, the first n numbers of a row [n_max]: ranks of random numbers (the index breaks ties).

    The order is the same in rows of any length. It is made by sorting, so that memory grows as n_max.
    """
    is_place = jnp.arange(n_max) < n
    return jnp.argsort(jnp.argsort(jnp.where(is_place, jax.random.bits(key, (n_max,)), jnp.uint32(2**32 - 1))))


def smallest_type(n: int) -> type:
    """The smallest type of whole numbers below n, of those that splits have."""
    return jnp.uint8 if n <= 256 else jnp.uint16


def make_splits(key: jax.Array, n_labels_max: int, n_heldout: int, n_places: int, n_layouts: int, repeated: bool = False) -> Splits:
    """Splits of one model. Label a is drawn from fold_in(key, a), pair (x, y) from its two ids: N and padding change nothing.

    `repeated`: places are drawn with replacement (see `Splits`).
    """
    label_key, pair_key = jax.random.split(key)
    A, N = n_heldout + n_labels_max, n_labels_max
    each = jax.vmap(jax.random.fold_in, (None, 0))
    keys_of_labels = each(label_key, jnp.arange(A))
    keys_of_pairs = jax.vmap(each, (0, None))(each(pair_key, jnp.arange(N)), jnp.arange(N)).reshape(-1)

    # all orders are sorted as rows of one array: a TPU's compiler takes seconds for every sort
    n = jnp.asarray(np.repeat([n_places, n_layouts], [A, N * N]))
    ranks = jax.vmap(order, (0, 0, None))(jnp.concatenate([keys_of_labels, keys_of_pairs]), n, max(n_places, n_layouts))
    draws = lambda keys, n: jax.vmap(lambda key: first_appearance_ranks(jax.random.fold_in(key, 0), n))(keys)
    return Splits(
        positions=ranks[:A, :n_places].astype(smallest_type(n_places)),
        pairs=ranks[A:, :n_layouts].reshape(N, N, -1).astype(smallest_type(n_layouts)),
        position_draws=draws(keys_of_labels, n_places) if repeated else None,
        pair_draws=draws(keys_of_pairs, n_layouts).reshape(N, N, -1) if repeated else None,
    )


def frequencies(n_labels: jax.Array, zipf: jax.Array, n_max: int) -> jax.Array:
    """How often trained labels occur, [n_max], with mean 1 over the n_labels that there are: label r as r^-zipf (Zipf's law)."""
    rank = jnp.arange(1, n_max + 1)
    weight = jnp.where(rank <= n_labels, rank**-zipf, 0.0)
    return weight * n_labels / weight.sum()


def draw_scenes(
    keys: Sequence[jax.Array], k: int, n: int, hyper, n_heldout: int, n_max: int
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """What n images of one object and n of k objects show, from four keys.

    Returns:
        The label of one object [n], of all n_heldout + hyper.n_labels; the rank [n] of its place among n1; the trained labels of k
        objects [k, n]; the rank [n] of their layout among n2. All are uniform, except labels where hyper.zipf > 0. hyper.zipf None
        means that no model of the program follows Zipf's law.
    """
    one, place, several, layout = keys
    N, each = hyper.n_labels, tuple(jax.random.split(several, k))
    limits = (n_heldout + N, hyper.n1, *(N - i for i in range(k)), hyper.n2)
    label, place_rank, *below, layout_rank = draw_below((one, place, *each, layout), (n,), limits)
    labels = different(below)
    if hyper.zipf is not None:
        label = jnp.where(hyper.zipf > 0, zipf_label(one, n, N, hyper.zipf, n_heldout, n_max), label)
        labels = jnp.where(hyper.zipf > 0, zipf_labels(each, n, N, hyper.zipf, n_max), labels)
    return label, place_rank, labels, layout_rank


def draw_below(keys: Sequence[jax.Array], shape: tuple[int, ...], limits: Sequence[jax.Array | int]) -> jax.Array:
    """Uniform whole numbers below each limit, [len(keys), *shape]. A key gives the numbers that `jax.random.randint` draws from it.

    All are drawn in one call, since every call adds hundreds of instructions to the program that is compiled.
    """
    one = lambda key, limit: jax.random.randint(key, shape, 0, limit)
    return jax.vmap(one)(jnp.stack(keys), jnp.stack([jnp.asarray(limit, jnp.int32) for limit in limits]))


def draw_different(key: jax.Array, k: int, n: int, n_labels: jax.Array) -> jax.Array:
    """k different labels of the n_labels trained ones, in any order: indices [k, n], uniform over all such lists."""
    return different(tuple(draw_below(tuple(jax.random.split(key, k)), (n,), [n_labels - i for i in range(k)])))


def different(below: Sequence[jax.Array]) -> jax.Array:
    """k different labels [k, n] from k numbers [n]. The i-th number, below n_labels - i, counts the labels that are left."""
    labels: list[jax.Array] = []
    for label in below:
        for other in jnp.sort(jnp.stack(labels), 0) if labels else ():
            label += label >= other
        labels.append(label)
    return jnp.stack(labels)


def zipf_label(key: jax.Array, n: int, n_labels, zipf, n_heldout: int, n_max: int) -> jax.Array:
    """Labels [n]: held-out ones alike, the n_labels trained ones by Zipf's law."""
    weight = jnp.concatenate([jnp.ones(n_heldout), frequencies(n_labels, zipf, n_max)])
    return _weighted(jax.random.fold_in(key, 1), (n,), weight)


def zipf_labels(keys: Sequence[jax.Array], n: int, n_labels, zipf, n_max: int) -> jax.Array:
    """Different trained labels [len(keys), n]: each is drawn by Zipf's law among those that are left."""
    weight = frequencies(n_labels, zipf, n_max)
    labels = []
    for key in keys:
        labels.append(_weighted(jax.random.fold_in(key, 1), (n,), weight))
        weight = jnp.where(jax.nn.one_hot(labels[-1], n_max, dtype=bool), 0, weight)
    return jnp.stack(labels)


def _weighted(key: jax.Array, shape: tuple[int, ...], weight: jax.Array) -> jax.Array:
    """Indices of `shape`, drawn in proportion to weight [..., n]; never one of weight 0."""
    below = jnp.broadcast_to(jnp.cumsum(weight, -1), (*shape, weight.shape[-1]))
    u = (1 - jax.random.uniform(key, shape)) * below[..., -1]  # in (0, sum]
    return jnp.argmax(below >= u[..., None], -1)
