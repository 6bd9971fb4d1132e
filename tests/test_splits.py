import jax
import numpy as np
import pytest

from lrjax.scenes import ABSENT, layouts
from lrjax.splits import make_splits, sample_batch

KEY = jax.random.key(3)


def test_every_label_and_pair_orders_all_its_places():
    splits = make_splits(KEY, n_labels_max=4, n_heldout=5, L=10)
    assert (np.sort(splits.positions, -1) == np.arange(10)).all() and splits.positions.shape == (9, 10)
    assert (np.sort(splits.pairs, -1) == np.arange(45)).all() and splits.pairs.shape == (4, 4, 45)


def test_splits_are_independent_per_label_and_ordered_pair():
    splits = make_splits(KEY, n_labels_max=6, n_heldout=5, L=10)
    assert len({row.tobytes() for row in np.asarray(splits.positions)}) == 11
    assert len({row.tobytes() for row in np.asarray(splits.pairs).reshape(-1, 45)}) == 36


def test_padding_is_inert_for_splits():
    small, large = (make_splits(KEY, n, n_heldout=5, L=10) for n in (4, 9))
    np.testing.assert_array_equal(small.positions, large.positions[:9])
    np.testing.assert_array_equal(small.pairs, large.pairs[:4, :4])


@pytest.mark.parametrize("padded", [4, 9])
def test_a_batch_is_half_singles_half_pairs_of_trained_places(padded):
    splits = make_splits(KEY, padded, n_heldout=5, L=10)
    n_labels, n1, n2 = 4, 3, 7
    draw = jax.jit(lambda key: sample_batch(key, splits, n_labels, n1, n2, batch_size=2000, n_heldout=5, n_words=2))
    singles, pairs, word = draw(KEY)
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


def test_padding_is_inert_for_batches():
    def draw(padded):
        splits = make_splits(KEY, padded, n_heldout=5, L=10)
        return sample_batch(KEY, splits, 4, 3, 7, batch_size=64, n_heldout=5, n_words=1)

    jax.tree.map(np.testing.assert_array_equal, draw(4), draw(9))


def test_one_relation_word_is_left_of():
    splits = make_splits(KEY, 4, n_heldout=5, L=10)
    assert (sample_batch(KEY, splits, 4, 3, 7, batch_size=64, n_heldout=5, n_words=1)[2] == 0).all()
