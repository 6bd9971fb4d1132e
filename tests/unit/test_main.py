"""The console script: short names of the commands."""

import importlib
import pkgutil
import tomllib

import pytest

import experiments
from conftest import ROOT
from experiments import main


def test_every_command_is_one_of_experiments():
    there = {module.name for module in pkgutil.iter_modules(experiments.__path__)}
    assert {*main.SHORT.values(), *main.ANALYSES, *main.REPORTS} <= there
    own = {"common", "main", "configs", "studies"}  # no commands
    assert there - own - {*main.SHORT.values(), *main.ANALYSES, *main.REPORTS} == {
        "accelerator_check",
        "compile_for",
        "one_head",
        "reference",
        "regime",
        "torture",
    }


@pytest.mark.parametrize(
    ("words", "module", "rest"),
    [
        (["sweep", "--workdir=x"], "experiments.sweep", ["--workdir=x"]),
        (["ablate", "--ckpt=x"], "experiments.ablate_ep", ["--ckpt=x"]),
        (["analyze", "gradient", "--ckpt=x"], "experiments.gradient", ["--ckpt=x"]),
        (["report", "paper"], "experiments.paper", []),
    ],
)
def test_a_command_line_is_a_module_and_its_arguments(words, module, rest):
    assert main.module_of(words) == (module, rest)


@pytest.mark.parametrize(
    ("words", "told"), [(["swep"], "'swep'"), (["analyze", "gradeint"], "gradient"), (["report"], "reproduce")]
)
def test_what_is_no_command_is_refused(words, told):
    with pytest.raises(SystemExit) as error:
        main.module_of(words)
    assert told in str(error.value) and str(error.value).startswith("error:")


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit) as ended:
        main.module_of(["help"])
    printed = capsys.readouterr().out
    assert ended.value.code == 0
    assert all(f"lrjax {name}" in printed for name in (*main.SHORT, *main.GROUPS))
    assert all(name in printed for names in main.GROUPS.values() for name in names)


def test_the_script_is_the_projects():
    module, name = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["lrjax"].split(":")
    assert getattr(importlib.import_module(module), name) is main.main
