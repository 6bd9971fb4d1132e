"""The study of tasks: its claims and their page."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.configs import autoregressive_wide
from experiments.studies import task_claims, tasks
from experiments.studies.measures import late_gain
from experiments.studies.study import TASKS, Study
from experiments.studies.verdicts import judge
from lrjax import stats
from lrjax.analysis.ablate import GRID_ABLATIONS, TASK_ABLATIONS
from lrjax.analysis.gradient import NAMES
from lrjax.storage import results, workdir
from studies_by_hand import drawn, measured


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The study of other tasks with drawn numbers; what is taken away was learned (.8 or more)."""
    ablated = {"ablation": (*TASK_ABLATIONS, *GRID_ABLATIONS)}, None
    answers = dict.fromkeys(("task_ablate", "grid_ablate", "chain_ablate", "reader_ablate"), ablated)
    answers |= {
        "late_gain": ({}, None),
        "strongest": ({}, NAMES),
        "directions": ({}, ("ratio_least", "apart", "head_horizontal", "head_vertical")),
        "monotone": ({}, ("monotone",)),
        "grid_heads": ({"head": range(4)}, ("gradient_horizontal", "gradient_vertical", "label_spread")),
        "grid_maps": (
            {"head": range(4), "row": (1, 2), "column": (1, 2, 3)},
            ("score", "gradient_horizontal", "gradient_vertical"),
        ),
        "attends_to": ({"word": ("first", "second"), "head": range(4)}, ("prefers_right",)),
        "reading": ({}, ("bias_shift", "gradient_first", "gradient_second")),
    }
    return drawn(tmp_path_factory.mktemp("study"), TASKS, answers, measured, low=0.8)


@pytest.mark.slow
def test_every_claim_finds_its_models_in_its_sweep(study):
    """What a claim selects exists in the config that the sweep is trained from: 2 values each, one a seed."""
    assert len({claim.key for claim in tasks.CLAIMS}) == len(tasks.CLAIMS)
    for claim in tasks.CLAIMS:
        verdict = judge(claim, study, claim.part)
        assert verdict.n == 2 and claim.low < claim.high, f"{claim.key}: {verdict}"


@pytest.mark.slow
@pytest.mark.usefixtures("blank_figures")
def test_the_page_has_every_world_and_one_table(study, tmp_path):
    tasks.build(study, tmp_path / "report", None)
    page = (tmp_path / "report" / "tasks.html").read_text()
    assert all(f'<a id="{claim.key}"></a>' in page for claim in tasks.CLAIMS)
    assert page.count("<figure>") == len([*(tmp_path / "report" / "figures").iterdir()]) > 2 * len(TASKS)
    assert autoregressive_wide.get_config().d_model == tasks.WIDE and len(tasks.parameters()) == 4
    assert {*TASKS, "all"} == {p.stem for p in (tmp_path / "report" / "tasks").iterdir()}
    rows = tasks.table(study)
    assert {row["task"] for row in rows} == {tasks.TITLES[part] for part in TASKS} and len({len(row) for row in rows}) == 1
    tasks.build(Study(tmp_path / "empty", TASKS), tmp_path / "other", None)
    assert (tmp_path / "other" / "tasks.md").read_text().count("Not tested: the sweep") == len(TASKS)


@pytest.mark.slow
@pytest.mark.usefixtures("blank_figures")
def test_a_sweep_that_is_gone_keeps_its_place_in_the_page(study, tmp_path, monkeypatch):
    monkeypatch.setattr(workdir, "identity", lambda path: "step 3000, as if it were there")
    own = Study(tmp_path / "own", TASKS)

    def write(where, part, change=lambda table: table):
        """The tables of a sweep, as if it had been trained there and asked."""
        stats.write_csv(where.path(part) / "models.csv", change(study.models(part)))
        for name in TASKS[part].answers:
            assert not where.has(part) or where.archived(part)
            path, record = where._result(part, name)
            results.write(path, change(study.answer(part, name)), record)

    for part in TASKS:
        write(own, part)
    kept, times = tmp_path / "report" / "tasks", lambda **took: {"what": np.array([*took]), "seconds": np.array([*took.values()])}
    stats.write_csv(own.folder / "times.csv", times(zipf=60.0, three=120.0))
    dataclasses.replace(own, kept=kept).keep()
    again = Study(tmp_path / "runs", TASKS, kept)
    assert tasks.table(again) == tasks.table(study)
    # a sweep that is trained here, its answers too, is shown from here; one that is not whole yet, from what was kept
    assert again.tables("zipf") == kept / "zipf"
    write(again, "zipf", lambda table: table | {"unseen_pair": np.zeros(len(table["seed"]))})
    stats.write_csv(again.folder / "times.csv", times(zipf=30.0, grid=40.0))
    assert again.tables("zipf") == again.path("zipf") and (again.models("zipf")["unseen_pair"] == 0).all()
    # the times are those of what is shown: of grid, which is not whole here, nothing was kept
    assert dict(zip(*(again.times()[name].tolist() for name in ("what", "seconds")), strict=True)) == {"three": 120.0, "zipf": 30.0}
    again.keep()
    after = Study(tmp_path / "nothing", TASKS, kept)
    assert (after.models("zipf")["unseen_pair"] == 0).all() and (after.models("three")["unseen_pair"] > 0).all()


def test_sweeps_are_compared_by_the_seeds_that_both_have():
    one = {"seed": np.array([0, 1, 2, 3]), "n_labels": np.full(4, 25), "top1": np.array([0.0, 0.1, 0.2, 0.3])}
    other = {"seed": np.array([3, 5, 1, 1]), "n_labels": np.array([25, 25, 25, 5]), "top1": np.array([0.5, 0.6, 0.7, 0.8])}
    tables = SimpleNamespace(models={"one": one, "other": other}.get)
    np.testing.assert_allclose(task_claims.less_of("top1", 25, "other", {})(tables, "one"), [0.1 - 0.7, 0.3 - 0.5])


def test_what_rose_at_the_end_of_training(trained):
    """Of evaluations at steps 0, 10, 20: the last less the one nearest to 70 % of the steps, by model."""
    run = trained[1]
    assert [set(steps) for steps in run.history.steps] == [{0}, {10}, {20}]
    values, found = np.stack(run.history.values), late_gain(run)  # [evaluation, model, metric]
    for i, name in enumerate(run.history.metrics):
        np.testing.assert_allclose(found[name], values[2, :, i] - values[1, :, i])
    assert found["seed"].tolist() == [0, 1, 0, 1] and found["n_labels"].tolist() == [4, 4, 6, 6]
