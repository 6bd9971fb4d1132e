"""The data law `fixed`: a finite set of images and captions, which epochs go through in a fresh random order (paper, section 2.1).

The items of a model's set are numbered: first the n1 images of every label, then the n2 images of every group of labels that stand
together. What an item shows is a function of its number and of the model's splits, so the set is never stored. The order of an
epoch is a permutation that can be read at any index, so that a batch is a function of (seed, step) alone and resuming is exact.

Axes: B items of a batch, n places or layouts.
"""

import jax
import jax.numpy as jnp
import numpy as np

ROUNDS = 6  # of the Feistel network; four already pass tests of randomness, two more cost nothing that can be measured


def first_appearance_ranks(key: jax.Array, n: int) -> jax.Array:
    """n draws from n places with replacement, each as the rank of its place in the order in which places first appear, [n].

    With a random order of the places, place `order[ranks[t]]` is the t-th draw. The first m draws show the places of rank 0 to
    `ranks[:m].max()`, so the rest of the order is held out.
    """
    drawn = jax.random.randint(key, (n,), 0, n)
    by_place = jnp.argsort(drawn, stable=True)
    begins = jnp.diff(drawn[by_place], prepend=-1) != 0
    first_in_group = jax.lax.cummax(jnp.where(begins, jnp.arange(n), 0))
    first_draw = jnp.zeros(n, jnp.int32).at[by_place].set(by_place[first_in_group].astype(jnp.int32))
    is_new = first_draw == jnp.arange(n)
    return (jnp.cumsum(is_new) - 1)[first_draw].astype(jnp.uint8 if n <= 256 else jnp.uint16)


def permuted(key: jax.Array, index: jax.Array, n: jax.Array) -> jax.Array:
    """Where a random permutation of 0..n-1, drawn with `key`, sends `index` [B]; n may be traced, up to 2^31 - 1.

    A Feistel network permutes a rectangle a x b of at least n cells. A cell beyond n is sent on until it comes back inside, which
    is a permutation of 0..n-1 (cycle-walking).
    """
    n = jnp.asarray(n, jnp.uint32)
    a = _root_above(n)
    b = (n + a - 1) // a
    keys = jax.random.bits(key, (ROUNDS,))

    def network(cell):
        left, right = cell // b, cell % b
        for i in range(ROUNDS):
            if i % 2:
                right = (right + _hash(left ^ keys[i]) % b) % b
            else:
                left = (left + _hash(right ^ keys[i]) % a) % a
        return left * b + right

    cell = network(index.astype(jnp.uint32))
    cell = jax.lax.while_loop(lambda c: (c >= n).any(), lambda c: jnp.where(c >= n, network(c), c), cell)
    return cell.astype(jnp.int32)


def _root_above(n: jax.Array) -> jax.Array:
    """The least whole number whose square is at least n (up to rounding, which costs a few more cells, never one too few)."""
    root = jnp.sqrt(n.astype(jnp.float32)).astype(jnp.uint32)
    root = root + (root * root < n)
    return jnp.maximum(root, 1)


def _hash(x: jax.Array) -> jax.Array:
    """A mixing of 32 bits (Mueller's finaliser): every input bit changes every output bit with probability near 1/2."""
    for _ in range(2):
        x = (x ^ (x >> 16)) * np.uint32(0x45D9F3B)
    return x ^ (x >> 16)


def batch_items(key: jax.Array, step: jax.Array, n_items: jax.Array, batch_size: int) -> jax.Array:
    """The items [B] of the batch of a training step, given the key of a model's epochs.

    An epoch has n_items // batch_size batches; what is left over is in none of them.
    """
    per_epoch = jnp.maximum(n_items // batch_size, 1)
    first = step % per_epoch * batch_size
    return permuted(jax.random.fold_in(key, step // per_epoch), first + jnp.arange(batch_size), n_items)
