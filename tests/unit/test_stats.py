import numpy as np
import pytest
from scipy import stats as scipy_stats

from lrjax import stats


@pytest.mark.parametrize("n", [2, 4, 8, 16, 40])
def test_numbers_have_students_interval_at_every_n(n):
    values = np.random.default_rng(n).normal(size=n)
    expected = scipy_stats.t.interval(0.95, n - 1, loc=np.mean(values), scale=scipy_stats.sem(values))
    np.testing.assert_allclose(stats.mean_interval(values), (np.mean(values), *expected))


def test_students_interval_by_hand():
    """Of 0 and 1 the standard error is 1/2, and t of one degree of freedom at .975 is 12.706."""
    np.testing.assert_allclose(stats.mean_interval([0.0, 1.0]), (0.5, 0.5 - 12.7062 / 2, 0.5 + 12.7062 / 2), atol=1e-4)


@pytest.mark.parametrize(("k", "n"), [(0, 64), (0, 1), (3, 8), (8, 8), (16, 16)])
def test_truth_values_have_wilsons_interval_also_where_none_or_all_are_true(k, n):
    expected = scipy_stats.binomtest(k, n).proportion_ci(method="wilson")
    found = stats.mean_interval(np.arange(n) < k)
    np.testing.assert_allclose(found, (k / n, *expected), atol=1e-9)
    assert found[1] < found[2] and stats.share_interval(np.arange(n) < k) == found


def test_a_share_is_of_truth_values_alone():
    with pytest.raises(TypeError, match="expected truth values, got float64"):
        stats.share_interval(np.array([0.0, 1.0]))
    assert np.isnan(stats.mean_interval(np.array([], bool))).all()


def test_an_interval_is_cut_where_asked_and_no_further():
    values = [1.0, 1.0, 0.9]
    assert stats.mean_interval(values)[2] > 1
    assert stats.mean_interval(values, stats.ACCURACY) == (*stats.mean_interval(values)[:2], 1.0)
    assert stats.format_interval(values, within=stats.ACCURACY).endswith(", 1.000]")
    assert np.isnan(stats.mean_interval([0.5], stats.ACCURACY)[1:]).all()


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
    assert stats.format_interval([0.5, 0.7, 0.6], signed=True) == "+0.600 [+0.352, +0.848]"


def test_of_two_models_the_values_are_printed():
    """Student's interval of two numbers is 12.7 times as wide as they are apart."""
    assert stats.format_interval([0.7, np.nan, 0.5], within=stats.ACCURACY) == "0.500 and 0.700"
    assert stats.format_interval([0.5, -0.25], signed=True, digits=2) == "-0.25 and +0.50"
    mean, _, high = stats.mean_interval([0.7, 0.5])
    assert stats.pair_text(mean, high, 2) == "0.50 and 0.70", "a table has the interval alone"
    assert stats.format_interval([True, False]).startswith("0.500 ["), "a share has an interval that is no wider than its scale"


def test_tables_are_joined_by_model():
    """A model that the other table leaves out is NaN; its order does not matter."""
    table, other = {"model": np.array([0, 1, 2])}, {"model": np.array([2, 0]), "ratio": np.array([5.0, 3.0])}
    np.testing.assert_array_equal(stats.joined(table, other, ["ratio"])["ratio"], [3, np.nan, 5])
