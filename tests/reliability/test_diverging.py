"""A model that diverges is frozen and left out, and its neighbours never know."""

import csv
import dataclasses

import chex
import jax
import numpy as np
import pytest

from conftest import tiny_sweep, train_in
from lrjax import stats
from lrjax.plotting.style import left_out
from lrjax.storage import workdir
from lrjax.training import loop
from lrjax.training.run import divergences, history_table, models_table


@pytest.fixture(scope="module")
def diverged(tmp_path_factory):
    """Two sweeps that differ in the second of 2 learning rates, absurd in one: workdir and run of that, run of the other."""
    folder = tmp_path_factory.mktemp("diverged")
    run = train_in(folder, tiny_sweep(n_labels=(6,), lr=(1e-3, 1e30)))
    return folder, run, loop.advance(loop.start(tiny_sweep(n_labels=(6,), lr=(1e-3, 1e-2))))


@pytest.mark.slow
def test_a_diverged_model_is_frozen_and_its_neighbours_never_know(diverged):
    _, run, healthy = diverged
    assert run.diverged_at.mask.tolist() == [True, True, False, False] and healthy.diverged_at.mask.all()
    assert all(0 < step < 5 for step in run.diverged_at.compressed())
    first_two = lambda run: jax.tree.map(lambda x: x[:2], run.states[0])
    chex.assert_trees_all_equal(first_two(run), first_two(healthy))
    np.testing.assert_array_equal(np.stack(run.history.values)[:, :2], np.stack(healthy.history.values)[:, :2])
    assert np.isnan(run.history.values[-1][2:]).all() and np.isfinite(run.history.values[-1][:2]).all()
    longer = loop.advance(loop.start(dataclasses.replace(run.sweep, steps=30)))
    gone = lambda run: jax.tree.map(lambda x: x[2:], run.states[0].params)
    chex.assert_trees_all_equal(gone(run), gone(longer))


@pytest.mark.slow
def test_a_diverged_model_is_reported_and_left_out(diverged):
    folder, run, healthy = diverged
    with open(folder / "models.csv") as file:
        rows = list(csv.DictReader(file))
    at = [str(step) for step in run.diverged_at.compressed()]
    assert [row["diverged_at"] for row in rows] == ["", "", *at] and [row["loss"] == "" for row in rows] == [False] * 2 + [True] * 2
    table = models_table(run)
    assert stats.counted(table["loss"]) == "2 of 4"
    assert stats.mean_interval(table["loss"]) == stats.mean_interval(models_table(healthy)["loss"][:2])
    said = divergences(run)
    assert said.startswith(f"diverged, frozen and left out: 2 of 4 (model 2 at step {at[0]}, model 3 at step {at[1]})")
    assert divergences(healthy) == ""
    assert left_out(table) == left_out(history_table(run)) == "; 2 diverged models left out"
    assert left_out(models_table(healthy)) == ""


@pytest.mark.slow
def test_an_analysis_never_takes_a_diverged_model_for_a_model(diverged):
    folder, run, _ = diverged
    restored = workdir.restore(folder)
    for x in jax.tree.leaves(restored.states[0].params):
        assert np.isfinite(x[:2]).all() and np.isnan(x[2:]).all()
    assert workdir.open_run(folder, run.sweep).diverged_at.tolist() == run.diverged_at.tolist()
