"""Shares of variance, on tables whose answer is known."""

import numpy as np
import pytest

from lrjax.analysis.factors import explained, shares
from lrjax.errors import InputError


def grid(effect, seeds=4):
    n, n2, seed = (x.ravel() for x in np.meshgrid([5, 15, 25], [1, 40], np.arange(seeds), indexing="ij"))
    return {"n_labels": n, "n2": n2, "seed": seed, "top1": effect(n, n2, seed)}


@pytest.mark.parametrize(
    ("effect", "which"),
    [
        (lambda n, n2, seed: 0.1 * n, 0),
        (lambda n, n2, seed: 0.1 * n2, 1),
        (lambda n, n2, seed: (n - 15.0) * (n2 - 20.5), 2),
        (lambda n, n2, seed: 0.1 * seed, 3),
    ],
)
def test_one_cause_explains_all(effect, which):
    found = explained(grid(effect), "top1")
    np.testing.assert_allclose(found["share"], np.eye(4)[which], atol=1e-9)


def test_shares_sum_to_one_and_intervals_hold_them():
    rng = np.random.default_rng(0)
    found = explained(grid(lambda n, n2, seed: 0.02 * n + 0.1 * rng.normal(size=len(n)), seeds=8), "top1")
    assert found["factor"].tolist() == ["n_labels", "n2", "n_labels x n2", "seeds"]
    np.testing.assert_allclose(found["share"].sum(), 1)
    assert (found["low"][0] < found["share"][0]) and (found["share"][0] < found["high"][0]) and found["share"][0] > 0.4
    np.testing.assert_allclose(shares(rng.normal(size=(3, 2, 5))).sum(), 1)


def test_a_grid_with_a_hole_is_refused():
    table = {name: column[1:] for name, column in grid(lambda n, n2, seed: 0.0 + n).items()}
    with pytest.raises(InputError, match="needs every seed at every n_labels x n2"):
        explained(table, "top1")
    with pytest.raises(InputError, match="--axes=n_labels,n2: n2 takes one value"):
        explained({k: v[table["n2"] == 1] for k, v in table.items()}, "top1", b="n2")
