"""A workdir is its sweep's: nothing else is overwritten, and nothing of others is touched."""

import dataclasses
import shutil
from functools import partial

import chex
import numpy as np
import pytest

from conftest import tiny_sweep, train_in
from lrjax.errors import InputError
from lrjax.storage import workdir
from lrjax.training import loop


def test_another_sweep_is_refused_by_its_first_difference(trained):
    folder, _ = trained
    before = sorted(p.relative_to(folder) for p in folder.rglob("*"))
    for other, difference in (
        (tiny_sweep(lr=(0.01,)), "lr is 0.001 there, 0.01 here"),
        (tiny_sweep(steps=10), "steps is 20 there, 10 here"),
        (dataclasses.replace(tiny_sweep(), eval_every=5), "eval_every is 10 there, 5 here"),
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
