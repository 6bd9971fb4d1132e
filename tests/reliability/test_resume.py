"""A run that is stopped anywhere resumes to the same bits, whatever the lengths of its models."""

import dataclasses
import json

import chex
import numpy as np
import pytest

from conftest import inodes, tiny_sweep, train_in
from lrjax.errors import InputError, Unusable
from lrjax.storage import serialization, workdir
from lrjax.training import loop, memory
from lrjax.training.programs import train_chunk
from lrjax.training.run import history_table, models_table


def test_same_config_twice_gives_the_same_files(trained, tmp_path):
    folder, run = trained
    train_in(tmp_path / "again", run.sweep)
    for name in ("models.csv", "history.csv"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


class Stop(Exception):
    pass


def test_an_interrupted_run_resumes_to_the_same_bits(trained, tmp_path):
    folder, whole = trained

    def stop_after_10(run):
        workdir.save(tmp_path / "w", run)
        if run.step == 10:
            raise Stop

    with pytest.raises(Stop):
        loop.advance(workdir.open_run(tmp_path / "w", whole.sweep), on_evaluation=stop_after_10)
    with pytest.raises(InputError, match="unfinished run \\(step 10 of 20\\); continue it with --resume"):
        workdir.open_run(tmp_path / "w", whole.sweep)
    resumed = train_in(tmp_path / "w", whole.sweep, resume=True)
    chex.assert_trees_all_equal(resumed.states, whole.states)
    assert (folder / "history.csv").read_bytes() == (tmp_path / "w" / "history.csv").read_bytes()
    assert (folder / "models.csv").read_bytes() == (tmp_path / "w" / "models.csv").read_bytes()


def test_a_finished_run_trains_on_to_the_bits_of_one_that_was_as_long_from_the_start(trained, tmp_path):
    folder, whole = trained
    train_in(tmp_path / "w", short := dataclasses.replace(whole.sweep, steps=10))
    with pytest.raises(InputError, match="unfinished run \\(step 10 of 20\\); continue it with --resume"):
        workdir.open_run(tmp_path / "w", whole.sweep)
    assert workdir.open_run(tmp_path / "w", short).finished  # nothing was touched
    longer = train_in(tmp_path / "w", whole.sweep, resume=True)
    chex.assert_trees_all_equal(longer.states, whole.states)
    for name in ("models.csv", "history.csv"):
        assert (folder / name).read_bytes() == (tmp_path / "w" / name).read_bytes()
    assert json.loads((folder / "config.json").read_text()) == json.loads((tmp_path / "w" / "config.json").read_text())
    with pytest.raises(InputError, match="holds another sweep \\(steps is 20 there, 10 here\\)"):
        workdir.open_run(tmp_path / "w", short, resume=True)


def test_a_stop_before_the_first_longer_checkpoint_goes_on(trained, tmp_path):
    """config.json is written first, and says more steps than the newest checkpoint then."""
    _, whole = trained
    train_in(tmp_path / "w", dataclasses.replace(whole.sweep, steps=10))
    opened = workdir.open_run(tmp_path / "w", whole.sweep, resume=True)
    assert (opened.step, opened.finished) == (10, False)
    again = train_in(tmp_path / "w", whole.sweep, resume=True)
    chex.assert_trees_all_equal(again.states, whole.states)


@pytest.mark.parametrize("change", [dict(eval_every=5), dict(epochs=2, evaluations=2)], ids=str)
def test_only_more_steps_are_gone_on_to(change):
    sweep = tiny_sweep(steps=20)
    longer = dataclasses.replace(sweep, steps=40)
    assert loop.goes_on_to(sweep, sweep) and loop.goes_on_to(sweep, longer) and not loop.goes_on_to(longer, sweep)
    assert not loop.goes_on_to(sweep, dataclasses.replace(longer, **change))


def through_a_checkpoint(run):
    arrays, meta = serialization.run_to_parts(run)
    return serialization.run_from_parts(arrays, json.loads(json.dumps(meta)))


@pytest.mark.slow
def test_a_stop_at_any_chunk_resumes_to_the_same_bits(monkeypatch):
    """Two slabs that take turns, stopped at every moment there is: within an interval, before and after one slab is evaluated."""
    monkeypatch.setattr(memory, "CHUNK", 5)
    wanted = dataclasses.replace(tiny_sweep(), slab=2)
    whole = loop.advance(loop.start(wanted))
    places = []
    for moment in range(1, 30):
        asked = iter(range(1, 99))
        run = loop.advance(loop.start(wanted), stop=lambda: next(asked) == moment)
        places.append(run.place)
        if not run.evaluations:
            continue  # nothing to lose yet, and nothing is saved
        run = loop.advance(through_a_checkpoint(run))
        chex.assert_trees_all_equal(run.states, whole.states)
        np.testing.assert_array_equal(run.history.values, whole.history.values)
        np.testing.assert_array_equal(run.history.steps, whole.history.steps)
        assert run.place == (20, 0)
    between = [(step, ahead) for step in (0, 10) for ahead in (5, 10, 15, 20)]
    assert set(places) == {(0, 0), (10, 0), (20, 0), *between} and places[-1] == (20, 0)


def test_a_slab_that_has_not_trained_since_is_not_saved_again(tmp_path, monkeypatch):
    """Of two slabs that take turns, a checkpoint between two evaluations writes the one that has gone on."""
    monkeypatch.setattr(memory, "CHUNK", 5)
    wanted = dataclasses.replace(tiny_sweep(), slab=2, checkpoint_every=5)
    loop.advance(
        loop.start(wanted),
        on_checkpoint=lambda run: workdir.save(tmp_path, run),
        stop=lambda: (tmp_path / "checkpoints/0+5").exists(),
    )
    before, now = (inodes(tmp_path / "checkpoints" / name) for name in ("0", "0+5"))
    linked = {name.split("/")[1] for name in now if now[name] == before.get(name)}
    assert linked == {"program_0_1", "history"} and "program_0_0" in {name.split("/")[1] for name in now}


def test_a_stop_where_slabs_stand_apart_needs_the_same_slabs(monkeypatch):
    asked = iter(range(99))
    run = loop.advance(loop.start(dataclasses.replace(tiny_sweep(), slab=2)), stop=lambda: next(asked) == 3)
    arrays, meta = serialization.run_to_parts(run)
    assert run.place == (0, 10) and sorted(arrays["models"]["at"]) == [0, 0, 10, 10]
    with pytest.raises(Unusable, match="slabs stood apart that are one slab on these devices; use an evaluation"):
        serialization.run_from_parts(arrays, meta | {"slab": 4})


def test_checkpoints_are_as_often_as_asked():
    for often, expected in ((0, [0, 10, 20, 30]), (20, [0, 20, 30]), (5, [0, (0, 5), 10, (10, 5), 20, (20, 5), 30])):
        places, wanted = [], dataclasses.replace(tiny_sweep(steps=30), checkpoint_every=often)
        loop.advance(loop.start(wanted), on_checkpoint=lambda run: places.append(run.place))
        assert places == [p if isinstance(p, tuple) else (p, 0) for p in expected]


def test_where_a_chunk_ends_changes_no_bit():
    """The same program, asked for one step at a time: how many it makes is traced."""
    wanted = tiny_sweep(steps=10)
    once, often = (loop.advance(loop.start(dataclasses.replace(wanted, checkpoint_every=every))) for every in (0, 1))
    chex.assert_trees_all_equal(once.states, often.states)


def epochs_sweep(**fields):
    """Two lengths: 3 and 4 labels have 24 and 37 items, so 3 and 4 batches of 8 an epoch."""
    more = dict(data="fixed", epochs=4, evaluations=2, batch_size=8, n1=2, n2=2, n_heldout=3, n_labels=(3, 4))
    return tiny_sweep(**more | fields)


def test_models_of_different_lengths_share_one_compilation_and_none_runs_past_its_end(monkeypatch):
    monkeypatch.setattr(memory, "CHUNK", 5)
    train_chunk.clear_cache()
    told = []
    run = loop.advance(loop.start(epochs_sweep()), on_chunk=lambda steps, loss: told.append(steps))
    assert train_chunk._cache_size() == 1
    assert run.at == [12, 16] and [p.evaluated_at for p in run.programs] == [(0, 6, 12), (0, 8, 16)]
    assert sum(told) == run.model_steps == 2 * (12 + 16), "no step is made that is not needed"
    assert all(int(count) == at for state, at in zip(run.states, run.at, strict=True) for count in state.opt_state[0].count)
    history = history_table(run)
    assert history["step"].tolist() == [0, 0, 0, 0, 6, 6, 8, 8, 12, 12, 16, 16]
    assert history["evaluation"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert run.finished and np.isfinite(models_table(run)["loss"]).all()
    assert "(models train for 12 or 16 steps)" in loop.plan(run)


@pytest.mark.slow
def test_a_model_of_a_sweep_of_lengths_is_the_model_alone():
    together, alone = (loop.advance(loop.start(epochs_sweep(**more))) for more in ({}, {"n_labels": (4,)}))
    np.testing.assert_allclose(
        models_table(together)["loss"][2:], models_table(alone)["loss"], rtol=1e-5, err_msg="16 steps of tiny models"
    )


@pytest.mark.slow
def test_a_stop_at_any_chunk_of_different_lengths_resumes_to_the_same_bits(monkeypatch):
    monkeypatch.setattr(memory, "CHUNK", 5)
    whole = loop.advance(loop.start(epochs_sweep()))
    places = set()
    for moment in range(1, 16):
        asked = iter(range(1, 99))
        run = loop.advance(loop.start(epochs_sweep()), stop=lambda: next(asked) == moment)
        if not run.evaluations:
            continue
        places.add(run.place)
        run = loop.advance(through_a_checkpoint(run))
        chex.assert_trees_all_equal(run.states, whole.states)
        np.testing.assert_array_equal(run.history.values, whole.history.values)
        np.testing.assert_array_equal(run.history.steps, whole.history.steps)
    assert {(0, 0), (0, 5), (0, 6), (0, 11), (8, 0), (8, 5), (16, 0)} <= places


@pytest.mark.slow
def test_a_run_of_the_format_before_is_read(monkeypatch):
    """Format 2 had one step of all models, programs that were ahead of it, and evaluations that waited for the others."""
    monkeypatch.setattr(memory, "CHUNK", 5)
    for moment in (3, 4):
        asked = iter(range(99))
        run = loop.advance(loop.start(dataclasses.replace(tiny_sweep(), slab=2)), stop=lambda: next(asked) == moment)
        arrays, meta = serialization.run_to_parts(run)
        models, history, made = arrays.pop("models"), arrays["history"], run.evaluations
        old = {"steps": history["steps"][:made, 0], "values": history["values"][:made]}
        pending = models["evaluated"] > made
        waiting = history["values"][made] if pending.any() else np.full_like(old["values"][0], np.nan)
        interval = {"ahead": models["at"] - run.step, "pending": pending, "values": waiting}
        again = serialization.run_from_parts(arrays | {"history": old, "interval": interval}, meta | {"pending": meta["metrics"]})
        chex.assert_trees_all_equal(loop.advance(again).states, loop.advance(run).states)
        np.testing.assert_array_equal(again.history.values, run.history.values)


def test_a_run_of_a_version_that_measured_less_goes_on(trained):
    """What it did not measure is empty in the evaluations before; all else is the same to the bit."""
    stopped = loop.advance(loop.start(tiny_sweep()), stop=lambda: True)
    arrays, meta = serialization.run_to_parts(stopped)
    before = [name for name in meta["metrics"] if "_in_set" not in name]
    values = arrays["history"]["values"][..., [meta["metrics"].index(name) for name in before]]
    history = arrays["history"] | {"values": values}
    run = serialization.run_from_parts(arrays | {"history": history}, meta | {"metrics": before})
    found, expected = history_table(loop.advance(run)), history_table(trained[1])
    assert list(found) == list(expected)
    for name, column in expected.items():
        new = "_in_set" in name
        np.testing.assert_array_equal(found[name][4 * new :], column[4 * new :])
        assert not new or np.isnan(found[name][:4]).all()


def test_a_measure_that_is_new_in_the_middle_is_named(trained):
    history = trained[1].history
    with pytest.raises(InputError) as error:
        history.record(1, np.arange(4), 10, {"ratio": np.zeros(4)})
    assert str(error.value) == "measures: ratio is new, the run so far has none; resume with the same measures"
