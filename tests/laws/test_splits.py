import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax.config import Hyper
from lrjax.data.scenes import ABSENT, layouts
from lrjax.data.splits import draw_below, draw_different, draw_scenes, frequencies, order
from lrjax.data.tasks.row import Row

KEY = jax.random.key(3)


def row(n_labels_max, relations="left"):
    """The row of 10 pixels, and its splits."""
    task = Row(n_heldout=5, n_labels_max=n_labels_max, L=10, relations=relations)
    return task, task.splits(KEY)


def hyper(n_labels, n1, n2, zipf=0.0):
    """The values that a batch depends on."""
    return Hyper(**dict.fromkeys(Hyper.__dataclass_fields__)).replace(n_labels=n_labels, n1=n1, n2=n2, zipf=jnp.float32(zipf))


def test_every_label_and_pair_orders_all_its_places():
    _, splits = row(4)
    assert (np.sort(splits.positions, -1) == np.arange(10)).all() and splits.positions.shape == (9, 10)
    assert (np.sort(splits.pairs, -1) == np.arange(45)).all() and splits.pairs.shape == (4, 4, 45)


def test_memory_for_an_order_grows_with_its_places_alone():
    """Not with their square: every pair of labels of every model keeps an order of up to 4,096 layouts."""
    peak = [
        jax.jit(order, static_argnums=(1, 2)).lower(KEY, n, n).compile().memory_analysis().temp_size_in_bytes for n in (512, 4096)
    ]
    assert 0 < peak[1] <= 9 * peak[0], "8 times as many places, and a rest for what does not grow"


def test_an_order_is_the_same_in_a_longer_row():
    """Rows of different lengths are sorted together."""
    alone, in_row = order(KEY, 10, 10), order(KEY, 10, 45)
    np.testing.assert_array_equal(in_row[:10], alone)
    assert sorted(alone.tolist()) == list(range(10))


def test_splits_are_independent_per_label_and_ordered_pair():
    _, splits = row(6)
    assert len({row.tobytes() for row in np.asarray(splits.positions)}) == 11
    assert len({row.tobytes() for row in np.asarray(splits.pairs).reshape(-1, 45)}) == 36


def test_padding_is_inert_for_splits():
    small, large = (row(n)[1] for n in (4, 9))
    np.testing.assert_array_equal(small.positions, large.positions[:9])
    np.testing.assert_array_equal(small.pairs, large.pairs[:4, :4])


@pytest.mark.slow
@pytest.mark.parametrize("padded", [4, 9])
def test_a_batch_is_half_singles_half_pairs_of_trained_places(padded):
    (task, splits), n1, n2 = row(padded, "left+right"), 3, 7
    singles, pairs, word = jax.jit(lambda key: task.draw(key, splits, hyper(4, n1, n2), 2000))(KEY)
    assert singles.left.shape == pairs.left.shape == word.shape == (1000,)
    assert (singles.right == ABSENT).all()
    assert set(singles.left.tolist()) == set(range(9)), "held-out labels and trained ones"
    for label in range(9):
        places = set(singles.i[singles.left == label].tolist())
        assert places == set(splits.positions[label, :n1].tolist())
    assert set(pairs.left.tolist()) == set(pairs.right.tolist()) == set(range(5, 9)), "never a held-out label in a pair"
    assert (pairs.left != pairs.right).all() and (pairs.i < pairs.j).all()
    for x, y in ((5, 6), (6, 5), (8, 5)):
        mine = (pairs.left == x) & (pairs.right == y)
        drawn = {(int(i), int(j)) for i, j in zip(pairs.i[mine], pairs.j[mine], strict=True)}
        assert drawn <= {tuple(layouts(10)[k].tolist()) for k in splits.pairs[x - 5, y - 5, :n2]}
    # uniform over 12 ordered pairs: each count is binomial(1000, 1/12), within 5 standard deviations
    counts = np.bincount(np.asarray((pairs.left - 5) * 4 + pairs.right - 5), minlength=16)
    assert (abs(counts[counts > 0] - 1000 / 12) < 5 * np.sqrt(1000 / 12)).all() and (counts > 0).sum() == 12
    assert abs(int(word.sum()) - 500) < 5 * np.sqrt(250)


@pytest.mark.slow
def test_padding_is_inert_for_batches():
    def draw(padded):
        task, splits = row(padded)
        return task.draw(KEY, splits, hyper(4, 3, 7), 64)

    jax.tree.map(np.testing.assert_array_equal, draw(4), draw(9))


def test_one_relation_word_is_left_of():
    task, splits = row(4)
    assert (task.draw(KEY, splits, hyper(4, 3, 7), 64)[2] == 0).all()


def test_labels_occur_by_zipfs_law():
    """Every count is binomial, within 5 standard deviations; labels that a model does not have never occur."""
    n, h, N, padded, zipf = 20_000, 5, 4, 9, jnp.float32(1.0)
    law = np.array([1, 1 / 2, 1 / 3, 1 / 4]) / (1 + 1 / 2 + 1 / 3 + 1 / 4)
    np.testing.assert_allclose(frequencies(N, zipf, padded)[:N] / N, law, rtol=1e-6)
    within = lambda counts, p: (abs(counts - n * p) <= 5 * np.sqrt(n * p * (1 - p))).all()
    label, _, (x, y), _ = map(np.asarray, draw_scenes(jax.random.split(KEY, 4), 2, n, hyper(N, 3, 7, 1.0), h, padded))
    labels = np.bincount(label, minlength=h + padded)
    assert (
        within(labels[:h], np.full(h, 1 / (h + N))) and within(labels[h : h + N], law * N / (h + N)) and not labels[h + N :].any()
    )
    assert (x != y).all() and within(np.bincount(x, minlength=N), law)
    expected = np.array([sum(law[a] * law[b] / (1 - law[a]) for a in range(N) if a != b) for b in range(N)])
    assert within(np.bincount(y, minlength=N), expected)


def test_numbers_drawn_at_once_are_those_drawn_one_by_one():
    """Seeds mean the same batches as before all numbers of a batch were drawn in one call."""
    keys, limits = jax.random.split(KEY, 3), (9, jnp.int32(4), 100_000)
    one_by_one = [jax.random.randint(key, (50,), 0, limit) for key, limit in zip(keys, limits, strict=True)]
    np.testing.assert_array_equal(draw_below(keys, (50,), limits), one_by_one)


@pytest.mark.parametrize("k", [2, 3])
def test_a_law_that_no_model_follows_is_left_out_and_changes_no_image(k):
    keys, uniform = [jax.random.fold_in(KEY, i) for i in range(4)], hyper(4, 3, 7)
    without = uniform.replace(zipf=None)
    of = lambda values: draw_scenes(keys, k, 64, values, 5, 9)
    jax.tree.map(np.testing.assert_array_equal, of(uniform), of(without))
    assert len(str(jax.make_jaxpr(of)(without))) < len(str(jax.make_jaxpr(of)(uniform))) / 2, "nothing of Zipf's law is traced"


def test_different_labels_are_uniform_over_all_lists():
    n, N = 20_000, 4
    x, y, z = np.asarray(draw_different(KEY, 3, n, N))
    assert (x != y).all() and (x != z).all() and (y != z).all()
    counts = np.bincount((x * N + y) * N + z)
    expected = n / (N * (N - 1) * (N - 2))  # each count is binomial: within 5 standard deviations
    assert (counts > 0).sum() == 24 and (abs(counts[counts > 0] - expected) < 5 * np.sqrt(expected)).all()
