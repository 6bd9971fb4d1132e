import numpy as np
import pytest
from scipy import stats as scipy_stats

from lrjax import stats


def test_few_values_have_a_t_interval():
    values = [0.8, 0.9, 0.7, 0.85]
    mean, low, high = stats.mean_interval(values)
    expected = scipy_stats.t.interval(0.95, 3, loc=np.mean(values), scale=scipy_stats.sem(values))
    np.testing.assert_allclose((mean, low, high), (np.mean(values), *expected))


def test_many_values_have_a_bootstrap_interval():
    values = np.random.default_rng(1).normal(size=40)
    mean, low, high = stats.mean_interval(values)
    reference = scipy_stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000).confidence_interval
    assert mean == values.mean()
    np.testing.assert_allclose((low, high), reference, atol=0.02)  # the noise of 10,000 resamples of a spread of 0.3
    assert stats.mean_interval(values) == (mean, low, high), "and the same one every time"


@pytest.mark.parametrize(("k", "n"), [(0, 64), (3, 8), (16, 16)])
def test_shares_have_wilsons_interval_also_where_none_or_all_succeed(k, n):
    expected = scipy_stats.binomtest(k, n).proportion_ci(method="wilson")
    np.testing.assert_allclose(stats.share_interval(np.arange(n) < k), (k / n, *expected), atol=1e-6)


def test_one_value_has_no_interval_and_nan_is_left_out():
    assert stats.mean_interval([0.5])[0] == 0.5 and np.isnan(stats.mean_interval([0.5])[1:]).all()
    assert stats.mean_interval([0.5, np.nan, 0.7])[0] == pytest.approx(0.6)
    assert np.isnan(stats.mean_interval([np.nan])).all()


def test_groups_and_selection():
    table = {"n": np.array([5, 10, 5]), "x": np.array([1.0, 2.0, 3.0])}
    assert {k: v.tolist() for k, v in stats.groups(table, ("n",)).items()} == {(5,): [0, 2], (10,): [1]}
    assert stats.select(table, table["n"] == 5)["x"].tolist() == [1.0, 3.0]
    assert stats.varying(table, ("n", "x", "absent")) == ("n", "x")


def test_csv_reads_back_the_same(tmp_path):
    import csv

    table = {"n": np.array([5, 7]), "x": np.array([0.1, np.nan], np.float32), "name": np.array(["EP+PP", "none"])}
    table["holds"] = np.array([True, False])
    stats.write_csv(tmp_path / "deep" / "t.csv", table)
    with open(tmp_path / "deep" / "t.csv") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"n": "5", "x": "0.1", "name": "EP+PP", "holds": "True"}, {"n": "7", "x": "", "name": "none", "holds": "False"}]
    again = stats.read_csv(tmp_path / "deep" / "t.csv")
    assert (
        again["holds"].tolist() == [True, False] and again["n"].tolist() == [5, 7] and again["name"].tolist() == ["EP+PP", "none"]
    )
    np.testing.assert_array_equal(again["x"].astype(np.float32), table["x"])
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["t.csv"]


def test_intervals_for_people():
    assert stats.format_interval([0.5]) == "0.500"
    assert stats.format_interval([0.5, 0.7], signed=True).startswith("+0.600 [-")


def test_tables_are_joined_by_model():
    """A model that the other table leaves out is NaN; its order does not matter."""
    table, other = {"model": np.array([0, 1, 2])}, {"model": np.array([2, 0]), "ratio": np.array([5.0, 3.0])}
    np.testing.assert_array_equal(stats.joined(table, other, ["ratio"])["ratio"], [3, np.nan, 5])
