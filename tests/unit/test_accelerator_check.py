"""The check of an accelerator: every stage is a command that can be, results are kept, and a second run goes on."""

import importlib
import json
from types import SimpleNamespace

import pytest

from conftest import command, long
from experiments import accelerator_check as check
from lrjax import config
from lrjax.errors import InputError


@pytest.fixture
def dry(monkeypatch, tmp_path):
    """A dry check in a folder, whose stages do nothing; the names of those that were run."""
    ran = []
    monkeypatch.setattr(check, "probe", lambda: ["cpu", "1", "0", "a CPU"])
    monkeypatch.setattr(check, "measure", lambda stage, *_: ran.append(stage.name) or {"seconds": 1.0, "ended": "finished"})
    for name, value in {"DRY": True, "FOLDER": str(tmp_path), "STAGES_WANTED": None}.items():
        given(monkeypatch, name, value)
    return ran


def given(monkeypatch, flag, value):
    """Have a flag of the command a value."""
    monkeypatch.setattr(check, flag, SimpleNamespace(value=value))


def test_a_second_run_goes_on_where_the_first_stopped(dry, monkeypatch, tmp_path):
    given(monkeypatch, "STAGES_WANTED", ["sweep_cold", "grid_objects"])
    check.main()
    assert dry == ["sweep_cold", "grid_objects"]
    given(monkeypatch, "STAGES_WANTED", None)
    check.main()
    assert sorted(dry) == sorted(stage.name for stage in check.STAGES), "each once"
    assert set(json.loads((tmp_path / "results.json").read_text())["stages"]) == set(dry)


def test_stages_end_with_the_budget(dry, monkeypatch, capsys):
    monkeypatch.setattr(check, "BUDGET", 3)
    check.main()
    assert len(dry) == 3 and "left out" in capsys.readouterr().out


def test_results_of_another_machine_are_not_mixed(dry, monkeypatch, tmp_path):
    check.main()
    monkeypatch.setattr(check, "probe", lambda: ["cpu", "1", "0", "another CPU"])
    with pytest.raises(InputError, match=rf"--folder={tmp_path}: holds a check of device='a CPU', and here it is 'another CPU'"):
        check.main()


def test_without_an_accelerator_the_check_says_so(dry, monkeypatch):
    given(monkeypatch, "DRY", False)
    with pytest.raises(InputError, match=r"no accelerator is found: .* give --dry"):
        check.main()


def test_a_stage_that_is_none_is_refused():
    with pytest.raises(InputError, match=r"--stages=sweep_worm: no such stage \(did you mean 'sweep_warm'\?\)"):
        check.chosen(["sweep_worm"])


@pytest.mark.parametrize("tiny", [False, True])
@pytest.mark.parametrize("stage", check.STAGES, ids=lambda stage: stage.name)
def test_every_stage_has_a_config_that_is_possible(stage, tiny):
    chosen = importlib.import_module(f"experiments.configs.{stage.config}").get_config()
    with chosen.unlocked(), chosen.ignore_type():
        for change in (*stage.changes, *(check.TINY if tiny else ())):
            key, _, value = change.partition("=")
            chosen[key] = eval(value)
    assert config.make_sweep(chosen).models


@long
@pytest.mark.slow
def test_a_dry_check_runs_and_compares_bits(tmp_path):
    stages = "deterministic,deterministic_again,on_cpu,throughput"
    done = command("accelerator_check", "--dry", f"--folder={tmp_path}", f"--stages={stages}")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "results.json").read_text())
    logs = "".join(path.read_text() for path in tmp_path.glob("*.log"))
    assert [result["ended"] for result in record["stages"].values()] == ["finished"] * 4, logs
    assert record["differences"] == {"deterministic_again": 0, "on_cpu": 0}
