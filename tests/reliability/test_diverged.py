"""Commands, and the answers of studies, on sweeps in which half of the models have diverged: these are left out."""

import re

import numpy as np
import pytest

from conftest import many_commands, tiny_model, tiny_sweep
from drawn_runs import drawn
from experiments.studies import answers
from experiments.studies.answers import ANSWERS
from experiments.studies.study import Study
from lrjax import config
from lrjax.analysis.selection import healthy, where
from lrjax.errors import InputError
from lrjax.stats import read_csv
from lrjax.storage import workdir
from lrjax.training import loop
from lrjax.training.run import divergences, model_columns, models_table

pytestmark = pytest.mark.slow

SHORT = dict(seeds=1, steps=4, eval_every=2, lr=(1e-3, 1e30), n_heldout=3, L=5, n1=2, n2=4)
SWEEPS = {  # what is asked of each, beside what is asked of a row
    "row": dict(n_labels=(4, 6), e_scale=(0.3, 1.0)),
    "deep": dict(n_labels=(4,), n_layers_vision=2, n_layers_text=2),
    "grid": dict(n_labels=(3,), task="grid:height=3,width=3", L=10),
    "three": dict(n_labels=(3,), task="three"),
    "reader": dict(n_labels=(3,), objective="autoregressive"),
}
OF_SWEEP = dict.fromkeys(("paths", "text_paths"), "deep") | {"chain_ablate": "three", "printed_chain_ablate": "three"}  # by answer
OF_SWEEP |= dict.fromkeys(("directions", "grid_heads", "grid_maps", "grid_ablate"), "grid")
OF_SWEEP |= dict.fromkeys(("attends_to", "reading", "reader_ablate", "printed_reader_ablate"), "reader")
# Every analysis opens its checkpoint through one door (`test_commands`). These read the table of models, the best and the worst
# model, one model each and another objective.
COMMANDS = {"factors": ["--axes=n_labels,e_scale"], "decompose": [], "gradient": [], "reader": []}


@pytest.fixture(scope="module")
def half_gone(tmp_path_factory):
    """A folder of SWEEPS, half of whose models have diverged."""
    folder = tmp_path_factory.mktemp("diverged")
    for name, fields in SWEEPS.items():
        run = drawn(tiny_sweep(**SHORT | fields))
        assert workdir.open_run(folder / name, run.sweep).step == 0
        workdir.save(folder / name, run)
        assert sorted(run.diverged_at.mask.tolist()) == [False] * (n := len(run.sweep.models) // 2) + [True] * n
    return folder


def test_commands_leave_them_out_and_say_so(half_gone, tmp_path):
    of_sweep = lambda name: [f"--ckpt={half_gone / name}", f"--out={tmp_path / name}"]
    commands = [(name, [*of_sweep("reader" if name == "reader" else "row"), *more]) for name, more in COMMANDS.items()]
    for (name, _), done in zip(commands, many_commands(commands), strict=True):
        assert (done.returncode, done.stderr) == (0, ""), f"{name}: {done.stderr}"
        assert re.match(r"diverged, frozen and left out: (4 of 8|1 of 2) \(model \d at step 1", done.stdout), name
    tables = [read_csv(path) for path in tmp_path.glob("row/analysis/*.csv")]
    models = {model for table in tables if "model" in table for model in table["model"].tolist()}
    assert models == {0, 1, 4, 5}, "healthy ones, by their numbers"


def test_a_sweep_of_nothing_else_is_refused_in_one_line(half_gone, tmp_path):
    arguments = [f"--ckpt={half_gone}/row", "--where=lr=1e30", f"--out={tmp_path}/made"]
    for done in many_commands([(name, arguments) for name in ("gradient", "ablate_ep")]):
        expected = "error: --ckpt: all 4 models have diverged: there is nothing to ask; train with a lower lr\n"
        assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)
    assert not (tmp_path / "made").exists()


def test_every_answer_of_a_study_is_of_healthy_models(half_gone, monkeypatch):
    """Ablations differ in what they take away: one is computed, and the others say of which models they are."""
    study = Study(half_gone)
    apart = {"pruning_of_four"}  # of 15 labels and four heads
    assert study.make("row", ["task_ablate"]) == ["task_ablate"]
    monkeypatch.setattr(answers, "ablate", lambda run, *terms, **options: model_columns(run.sweep))
    for name in SWEEPS:
        asked = [answer for answer in ANSWERS if OF_SWEEP.get(answer, "row") == name and answer not in apart]
        study.make(name, asked)
        numbers = set(np.flatnonzero(workdir.restore(half_gone / name).diverged_at.mask).tolist())
        for answer in asked:
            assert set(study.answer(name, answer)["model"].tolist()) == numbers, answer
    assert "unseen_pair" in study.answer("row", "task_ablate")
    with pytest.raises(InputError, match="no model has it"):
        ANSWERS["pruning_of_four"](workdir.restore(half_gone / "row"))


def test_the_healthy_part_of_a_run(half_gone):
    run = workdir.restore(half_gone / "row")
    part = healthy(run)
    assert part.sweep.numbers == (0, 1, 4, 5) and part.diverged_at.mask.all() and divergences(part) == ""
    assert healthy(part) is part
    with pytest.raises(InputError, match="all 4 models have diverged"):
        healthy(where(run, ["lr=1e30"]))


def test_a_moment_that_is_infinite_is_seen_though_the_loss_is_finite():
    """It stops its parameter for good: no loss would ever tell."""
    run = loop.start(config.Sweep(tuple(tiny_model(seed=seed) for seed in range(4)), steps=20, eval_every=10))

    def overflow(run):
        if run.step == 10:
            adam, *rest = run.states[0].opt_state
            adam.nu.text.E[1, 0] = np.inf
            run.states[0] = run.states[0].replace(opt_state=(adam, *rest))

    table = models_table(loop.advance(run, on_evaluation=overflow))
    assert run.diverged_at.tolist() == [None, 20, None, None]
    assert all(np.isfinite(leaf).all() for leaf in np.asarray(run.states[0].params.text.E))
    assert np.isnan(run.history.values[-1][1]).all() and np.isfinite(run.history.values[-1][[0, 2, 3]]).all()
    assert np.isnan(table["unseen_pair"][1])
