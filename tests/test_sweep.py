"""Tables of models as programs: compiled once, reproducible, resumable, in as many programs as there are shapes."""

import csv
import dataclasses
import json
import shutil
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conftest import TINY, tiny_model, tiny_sweep, untrained
from lrjax import config, devices, stats
from lrjax.errors import InputError, Unusable
from lrjax.plotting.style import left_out
from lrjax.stats import select
from lrjax.storage import serialization, workdir
from lrjax.training import loop, memory
from lrjax.training.programs import evaluate_program, init_program, make_programs, slab_size, split_program, train_chunk
from lrjax.training.run import divergences, history_table, models_table


def train_in(folder, wanted, **flags):
    run = workdir.open_run(folder, wanted, **flags)
    return loop.advance(run, on_evaluation=partial(workdir.save, folder))


@pytest.mark.slow
def test_the_chunk_compiles_once_whatever_seeds_and_labels():
    """Counted by jax itself: one compilation a run, whatever its seeds, label counts and steps; one for the default sweep."""
    for wanted in (tiny_sweep(n_labels=(2, 3, 4, 6), seeds=1, steps=30), tiny_sweep(n_labels=(6,), seeds=4, steps=50)):
        train_chunk.clear_cache()
        loop.advance(loop.start(wanted))
        assert train_chunk._cache_size() == 1
    programs = make_programs(config.make_sweep(config.get_config()))
    assert len(programs) == 1 and len(programs[0].rows) == 40


def test_history_has_every_model_at_every_evaluation(trained):
    _, run = trained
    table = history_table(run)
    assert table["step"].tolist() == [0] * 4 + [10] * 4 + [20] * 4
    assert table["n_labels"].tolist() == [4, 4, 6, 6] * 3 and table["seed"].tolist() == [0, 1] * 6
    assert np.isnan(table["loss"][:4]).all() and (table["loss"][4:] > 0).all()
    assert ((table["unseen_pair_order"] >= 0) & (table["unseen_pair_order"] <= 1)).all()


def test_reported_figures_are_the_mean_of_the_last_three_evaluations():
    run = loop.advance(loop.start(tiny_sweep(steps=50)))
    k = run.history.metrics.index("unseen_pair_order")
    expected = np.mean([values[:, k] for values in run.history.values[-3:]], 0)
    np.testing.assert_allclose(models_table(run)["unseen_pair_order"], expected, rtol=1e-6)


def test_the_last_evaluation_is_of_all_images_under_the_gates_in_force_and_training_takes_its_state():
    models = [tiny_model(n_labels=4, seed=seed, gates="EP+PP=1>0@0-1", lr=0.0) for seed in range(2)]
    run = loop.advance(untrained(*models))
    (p,), (state,), history = run.programs, run.states, history_table(run)
    splits, names = split_program(p.static, p.hyper), ("seen_pair_order", "unseen_pair_order")

    def asked(exhaustive, step):
        found = evaluate_program(p.static, exhaustive, p.hyper, splits, state.params, jnp.int32(step), (), devices.mesh())
        return [np.asarray(found[name]) for name in names]

    for step in (0, 1):
        np.testing.assert_array_equal([history[name][history["step"] == step] for name in names], asked(True, step))
    assert any((x != y).any() for x, y in zip(asked(True, 0), asked(True, 1), strict=True)), "gates have gone to 0"
    (seen, unseen), (sampled, again) = asked(True, 1), asked(False, 1)
    assert (seen != sampled).any() and (unseen == again).all()
    states = devices.place(init_program(p.static, p.hyper), devices.mesh())
    train_chunk(p.static, p.hyper, splits, states, jnp.int32(0), 1, devices.mesh())
    assert all(x.is_deleted() for x in jax.tree.leaves(states)), "donated: a state is held once"


def test_losses_fall(trained):
    _, run = trained
    first, last = (run.history.values[i][:, 0] for i in (1, -1))
    assert (last < first).all()


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


def through_a_checkpoint(run):
    arrays, meta = serialization.run_to_arrays(run)
    return serialization.run_from_arrays(arrays, json.loads(json.dumps(meta)))


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


def test_a_stop_where_slabs_stand_apart_needs_the_same_slabs(monkeypatch):
    asked = iter(range(99))
    run = loop.advance(loop.start(dataclasses.replace(tiny_sweep(), slab=2)), stop=lambda: next(asked) == 3)
    arrays, meta = serialization.run_to_arrays(run)
    assert run.place == (0, 10) and sorted(arrays["models"]["at"]) == [0, 0, 10, 10]
    with pytest.raises(Unusable, match="slabs stood apart that are one slab on these devices; use an evaluation"):
        serialization.run_from_arrays(arrays, meta | {"slab": 4})


def test_checkpoints_are_as_often_as_asked():
    for often, expected in ((0, [0, 10, 20, 30]), (20, [0, 20, 30]), (5, [0, (0, 5), 10, (10, 5), 20, (20, 5), 30])):
        places, wanted = [], dataclasses.replace(tiny_sweep(steps=30), checkpoint_every=often)
        loop.advance(loop.start(wanted), on_checkpoint=lambda run: places.append(run.place))
        assert places == [p if isinstance(p, tuple) else (p, 0) for p in expected]


def test_where_a_chunk_ends_changes_no_bit():
    """The same program, asked for one step at a time: how many it makes is traced."""
    wanted = tiny_sweep(n_labels=(4,), steps=10)
    once, often = (loop.advance(loop.start(dataclasses.replace(wanted, checkpoint_every=every))) for every in (0, 1))
    chex.assert_trees_all_equal(once.states, often.states)


def test_a_chunk_is_short_on_a_slow_machine():
    (program,) = make_programs(config.make_sweep(config.get_config(seeds=1)))
    assert memory.chunk_steps(program) > 25
    (many,) = make_programs(config.make_sweep(config.get_config(seeds=40)))
    seconds = memory.chunk_steps(many) * memory.flops_of_model(many.static) * 200 / devices.slow_flops()
    assert memory.chunk_steps(many) < 5 and seconds <= memory.CHUNK_SECONDS
    (wide,) = make_programs(config.make_sweep(config.get_config(seeds=40, d_model=2048)))
    assert memory.chunk_steps(wide) == 1, "never none"


# ---- programs of different lengths ----


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


def test_slabs_of_several_lengths_have_one_size():
    sizes = lambda counts, slab=0, devices=1: slab_size(counts, slab, devices)
    assert sizes([16, 16]) == 16 and sizes([16, 8, 8]) == 8 and sizes([40]) == 40
    assert sizes([16, 16], slab=4) == 4 and sizes([6, 6], devices=4) == 8
    assert sizes([16, 1]) == 1, "nothing is padded"


@pytest.mark.slow
def test_a_run_of_the_format_before_is_read(monkeypatch):
    """Format 2 had one step of all models, programs that were ahead of it, and evaluations that waited for the others."""
    monkeypatch.setattr(memory, "CHUNK", 5)
    for moment in (3, 4):
        asked = iter(range(99))
        run = loop.advance(loop.start(dataclasses.replace(tiny_sweep(), slab=2)), stop=lambda: next(asked) == moment)
        arrays, meta = serialization.run_to_arrays(run)
        models, history, made = arrays.pop("models"), arrays["history"], run.evaluations
        old = {"steps": history["steps"][:made, 0], "values": history["values"][:made]}
        pending = models["evaluated"] > made
        waiting = history["values"][made] if pending.any() else np.full_like(old["values"][0], np.nan)
        interval = {"ahead": models["at"] - run.step, "pending": pending, "values": waiting}
        again = serialization.run_from_arrays(arrays | {"history": old, "interval": interval}, meta | {"pending": meta["metrics"]})
        chex.assert_trees_all_equal(loop.advance(again).states, loop.advance(run).states)
        np.testing.assert_array_equal(again.history.values, run.history.values)


# ---- models that diverge ----


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


@pytest.mark.slow
def test_several_programs_advance_together_and_keep_the_tables_order(tmp_path):
    models = [tiny_model(seed=s, n_heads=h) for s, h in ((0, 1), (0, 2), (1, 1), (1, 2))]
    wanted = config.Sweep(tuple(models), steps=10, eval_every=5)
    run = train_in(tmp_path / "w", wanted)
    assert [p.rows.tolist() for p in run.programs] == [[0, 2], [1, 3]]
    assert "2 programs\n      (models whose shapes differ compile apart)" in loop.plan(run)
    late = tiny_sweep(gates="EP=1>0@10-50", steps=20, eval_every=10)
    assert "\n      (gates 'EP=1>0@10-50' end at step 50, after the last, 20)" in loop.plan(loop.start(late))
    table = models_table(run)
    assert table["n_heads"].tolist() == [1, 2, 1, 2]
    alone = loop.advance(loop.start(config.Sweep((models[1], models[3]), steps=10, eval_every=5)))
    np.testing.assert_array_equal(table["loss"][[1, 3]], models_table(alone)["loss"])
    again = workdir.restore(tmp_path / "w")
    assert again.sweep == wanted
    chex.assert_trees_all_equal(run.states, again.states)


def test_measures_become_columns():
    def text_norm(static, hyper, splits, params, gates):
        return {"text_norm": (params.text.E**2).sum() ** 0.5}

    run = loop.advance(loop.start(tiny_sweep(steps=10)), measures=(text_norm,))
    table = history_table(run)
    assert list(table)[-1] == "text_norm" and (table["text_norm"] > 0).all()


def test_a_run_of_a_version_that_measured_less_goes_on(trained):
    """What it did not measure is empty in the evaluations before; all else is the same to the bit."""
    stopped = loop.advance(loop.start(tiny_sweep()), stop=lambda: True)
    arrays, meta = serialization.run_to_arrays(stopped)
    before = [name for name in meta["metrics"] if "_in_set" not in name]
    values = arrays["history"]["values"][..., [meta["metrics"].index(name) for name in before]]
    history = arrays["history"] | {"values": values}
    run = serialization.run_from_arrays(arrays | {"history": history}, meta | {"metrics": before})
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


def test_training_tells_its_progress():
    told = []
    loop.advance(loop.start(tiny_sweep()), on_chunk=lambda steps, loss: told.append((steps, loss)))
    assert [steps for steps, _ in told] == [40, 40] and all(np.isfinite(loss) for _, loss in told)


def test_models_table_names_its_axes_before_training():
    run = loop.start(tiny_sweep(betas=((0.9, 0.98), (0.5, 0.6))))
    table = models_table(run)
    assert {"seed", "n_labels", "n2", "beta1", "beta2", "gates"} <= set(table) and "loss" not in table
    assert set(select(table, table["beta1"] == 0.5)["beta2"].tolist()) == {0.6}


# ---- the workdir ----


def test_another_sweep_is_refused_by_its_first_difference(trained):
    folder, _ = trained
    before = sorted(p.relative_to(folder) for p in folder.rglob("*"))
    for other, difference in (
        (tiny_sweep(lr=(0.01,)), "lr is 0.001 there, 0.01 here"),
        (tiny_sweep(steps=30), "steps is 20 there, 30 here"),
        (tiny_sweep(seeds=1), "seed is \\(0, 1\\) there, 0 here"),
    ):
        with pytest.raises(InputError, match=difference):
            workdir.open_run(folder, other, resume=True)
    assert sorted(p.relative_to(folder) for p in folder.rglob("*")) == before


def test_a_finished_workdir_is_restored_and_not_trained(trained):
    folder, run = trained
    again = workdir.open_run(folder, run.sweep)
    assert again.finished
    np.testing.assert_array_equal(np.stack(again.history.values), np.stack(run.history.values))


def test_overwrite_removes_the_sweep_and_nothing_else(tmp_path):
    folder = tmp_path / "w"
    train_in(folder, tiny_sweep(steps=10))
    (folder / "notes.txt").write_text("mine")
    run = workdir.open_run(folder, tiny_sweep(steps=20), overwrite=True)
    assert run.step == 0 and (folder / "notes.txt").read_text() == "mine" and not (folder / "models.csv").exists()


def test_overwrite_spares_what_is_not_the_sweeps(tmp_path):
    folder = tmp_path / "w"
    run = workdir.open_run(folder, tiny_sweep(steps=10))
    loop.advance(run, on_evaluation=partial(workdir.save, folder))
    mine = [folder / "figures/thesis.png", folder / "checkpoints/notes.txt", folder / "analysis/mine.csv"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    workdir.open_run(folder, tiny_sweep(steps=10), overwrite=True)
    assert all(path.read_text() == "mine" for path in mine) and not (folder / "checkpoints/10").exists()
    with pytest.raises(InputError, match="--resume, --overwrite: one continues"):
        workdir.open_run(folder, tiny_sweep(steps=10), overwrite=True, resume=True)


@pytest.mark.parametrize("config", ['{"model_type": "bert"}', "[1]", "{", '{"format": 99, "versions": {}, "models": {}}'])
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_config_json_that_is_not_a_sweeps_protects_its_folder(tmp_path, config, overwrite):
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "models.csv").write_text("mine")
    with pytest.raises(InputError, match=r"config.json: (is not|written in format 99)"):
        workdir.open_run(tmp_path, tiny_sweep(), overwrite=overwrite)
    assert (tmp_path / "models.csv").read_text() == "mine" and (tmp_path / "config.json").read_text() == config


def test_a_save_that_was_killed_before_its_digests_can_be_made_again(trained, tmp_path):
    folder, whole = trained
    shutil.copytree(folder, tmp_path / "w")
    (tmp_path / "w/checkpoints/20/digests.json").unlink()
    resumed = train_in(tmp_path / "w", whole.sweep, resume=True)
    chex.assert_trees_all_equal(resumed.states, whole.states)
    assert workdir.restore(tmp_path / "w").step == 20


@pytest.mark.parametrize(
    "name", ["models.csv", "history.csv", "checkpoints/20/state", "analysis/mine.csv", "study/notes", "figures/a.png"]
)
def test_a_folder_without_a_sweep_that_has_files_of_a_sweeps_names_is_left_alone(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine")
    for overwrite in (True, False):
        with pytest.raises(InputError, match=f"has {name.partition('/')[0]} but no sweep .*; give another folder, or move it away"):
            workdir.open_run(tmp_path, tiny_sweep(), overwrite=overwrite)
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()] == [name]


def test_what_a_stranger_put_into_a_new_workdir_is_no_reason_to_refuse_it(tmp_path):
    """As `| tee runs/x/log.txt` and a scheduler's log do."""
    for name in ("log.txt", "slurm-123.out", "notes/idea.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    train_in(tmp_path, tiny_sweep(steps=10))
    workdir.open_run(tmp_path, tiny_sweep(steps=10, first_seed=5), overwrite=True)
    assert all((tmp_path / name).read_text() == "mine" for name in ("log.txt", "slurm-123.out", "notes/idea.txt"))


def test_models_of_a_config_file_train_like_models_from_python():
    wanted = tiny_sweep(n_labels=(4,), seeds=1, steps=10)
    assert wanted.models == (config.Model(**{**TINY, "n_labels": 4}),)
