"""Which positions and layouts a model trains on, and the batches drawn from them. All drawn per id, so padding is inert.

Axes: A = n_heldout + n_labels_max labels, N_max trained labels, L positions, K = L(L-1)/2 layouts, B batch.
"""

import jax
import jax.numpy as jnp
from flax import struct

from lrjax.scenes import Scene, layouts, single_scene


@struct.dataclass
class Splits:
    """Per label and per ordered pair of trained labels a random order of its places; the first n1 (n2) are trained.

    positions: [A, L] uint8, label -> pixels. pairs: [N_max, N_max, K] uint8, (left, right) -> indices into `layouts(L)`.
    """

    positions: jax.Array
    pairs: jax.Array


def make_splits(key: jax.Array, n_labels_max: int, n_heldout: int, L: int) -> Splits:
    """Splits of one model. Label a is drawn from fold_in(key, a), pair (x, y) from its two ids: N and padding change nothing."""
    label_key, pair_key = jax.random.split(key)
    n_layouts = L * (L - 1) // 2

    def order(key, n):
        """A random order of n places: the ranks of random numbers (compiles faster than a sort; the index breaks ties)."""
        bits, index = jax.random.bits(key, (n,)), jnp.arange(n)
        before = (bits < bits[:, None]) | ((bits == bits[:, None]) & (index < index[:, None]))
        return before.sum(1).astype(jnp.uint8)

    def pair(x, y):
        return order(jax.random.fold_in(jax.random.fold_in(pair_key, x), y), n_layouts)

    labels, trained = jnp.arange(n_heldout + n_labels_max), jnp.arange(n_labels_max)
    return Splits(
        positions=jax.vmap(lambda a: order(jax.random.fold_in(label_key, a), L))(labels),
        pairs=jax.vmap(lambda x: jax.vmap(lambda y: pair(x, y))(trained))(trained),
    )


def draw_pair(key: jax.Array, shape: tuple[int, ...], n_labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Ordered pairs (x, y), x != y, uniform over the n_labels(n_labels-1): two index arrays of `shape`."""
    x_key, y_key = jax.random.split(key)
    x = jax.random.randint(x_key, shape, 0, n_labels)
    y = jax.random.randint(y_key, shape, 0, n_labels - 1)
    return x, y + (y >= x)


def pair_scenes(splits: Splits, x: jax.Array, y: jax.Array, rank: jax.Array, n_heldout: int) -> Scene:
    """The scene of trained labels (x, y) in the rank-th layout of their split; arrays of one shape [...]."""
    L = splits.positions.shape[-1]
    layout = jnp.asarray(layouts(L))[splits.pairs[x, y, rank]]
    return Scene(x + n_heldout, y + n_heldout, layout[..., 0], layout[..., 1])


def sample_batch(
    key: jax.Array, splits: Splits, n_labels, n1, n2, *, batch_size: int, n_heldout: int, n_words: int
) -> tuple[Scene, Scene, jax.Array]:
    """One batch: B/2 one-object scenes, B/2 two-object scenes, and the relation word (0 or 1) of each of the latter, each [B/2].

    Uniform over n_labels + n_heldout labels and their n1 trained positions; uniform over ordered pairs and their n2 layouts.
    """
    half = (batch_size // 2,)
    keys = jax.random.split(key, 5)
    label = jax.random.randint(keys[0], half, 0, n_heldout + n_labels)
    place = splits.positions[label, jax.random.randint(keys[1], half, 0, n1)].astype(jnp.int32)
    x, y = draw_pair(keys[2], half, n_labels)
    pairs = pair_scenes(splits, x, y, jax.random.randint(keys[3], half, 0, n2), n_heldout)
    word = jax.random.randint(keys[4], half, 0, n_words)
    return single_scene(label, place, splits.positions.shape[-1]), pairs, word
