"""A result is read only as what it was computed from: this checkpoint, this question, this code."""

import dataclasses
import importlib.util
import json
import shutil
import sys

import numpy as np
import pytest

from conftest import tiny_sweep
from experiments.studies import measures, stages, study
from experiments.studies.study import Part, Study
from lrjax import stats
from lrjax.errors import InputError
from lrjax.storage import results, workdir
from lrjax.training import loop
from lrjax.training.run import models_table

PARTS = {"default": Part("diversity", ("strongest", "shares", "late_gain"))}


@pytest.fixture(scope="module")
def answered(trained, tmp_path_factory):
    """A study of one tiny sweep of seeds 0 and 1, with its answers."""
    answered = Study(tmp_path_factory.mktemp("study"), PARTS)
    shutil.copytree(trained[0], answered.path("default"))
    answered.make("default", PARTS["default"].answers)
    return answered


@pytest.fixture
def made(answered, tmp_path):
    """The same, to be changed."""
    shutil.copytree(answered.folder, tmp_path / "made")
    return Study(tmp_path / "made", PARTS)


@pytest.fixture(scope="module")
def later():
    """A sweep of other seeds, trained."""
    return loop.advance(loop.start(tiny_sweep(first_seed=50)))


def replace(folder, run):
    """Train another sweep in a folder, with --overwrite."""
    workdir.open_run(folder, run.sweep, overwrite=True)
    workdir.save(folder, run)


@pytest.mark.slow
def test_no_result_of_a_sweep_that_was_overwritten_is_read(made, later):
    answers = PARTS["default"].answers
    assert made.has("default") and made.make("default", answers) == []
    replace(made.path("default"), later)
    assert not made.has("default")
    for name in answers:
        with pytest.raises(InputError, match=f"{name}.csv: is not there"):
            made.answer("default", name)
    assert made.make("default", answers) == list(answers)
    assert set(made.models("default")["seed"].tolist()) == set(made.answer("default", "strongest")["seed"].tolist()) == {50, 51}


def test_a_result_of_another_checkpoint_is_not_read_wherever_it_came_from(made, later, tmp_path):
    """As when a folder of results is copied beside other checkpoints; with its own checkpoints it is read anywhere."""
    shutil.copytree(made.path("default"), tmp_path / "elsewhere/default")
    assert Study(tmp_path / "elsewhere", PARTS).has("default")
    replace(tmp_path / "other/default", later)
    shutil.copytree(made.path("default") / "study", tmp_path / "other/default/study")
    other = Study(tmp_path / "other", PARTS)
    assert not other.has("default")
    with pytest.raises(InputError, match=r"strongest.csv: was computed from another checkpoint; make it again"):
        other.answer("default", "strongest")
    assert set(other.make("default", PARTS["default"].answers)) == set(PARTS["default"].answers)


def test_a_change_of_question_or_code_makes_results_again(made, monkeypatch):
    monkeypatch.setitem(study.ANSWERS, "late_gain", lambda run: measures.late_gain(run) | {"more": np.ones(4)})
    assert made.make("default", ["late_gain"]) == ["late_gain"] and "more" in made.answer("default", "late_gain")
    monkeypatch.setattr(results, "code_of", lambda function: "new")
    with pytest.raises(InputError, match=r"strongest.csv: was computed from another code"):
        made.answer("default", "strongest")
    assert made.make("default", ["strongest"]) == ["strongest"]


@pytest.mark.slow
def test_a_table_without_its_own_record_is_not_read(made):
    path = made.path("default") / "study/strongest.csv"
    record = path.with_name("strongest.csv.json")
    path.write_text(path.read_text().replace("4", "5"))
    with pytest.raises(InputError, match="has no record of what it was computed from"):
        made.answer("default", "strongest")
    made.make("default", ["strongest"])
    for damage in ("", "{", "[1]", '{"digest": 1}'):
        record.write_text(damage)
        assert not made.has("default")
    record.unlink()
    assert made.make("default", ["strongest"]) == ["strongest"] and made.has("default")


def test_a_record_is_readable_and_says_what_was_asked_of_what(made):
    found = json.loads((made.path("default") / "study/strongest.csv.json").read_text())
    assert found["checkpoint"] == workdir.identity(made.path("default")) and found["checkpoint"].startswith("step 20, ")
    assert found["analysis"] == "study: strongest" and "gradient.strongest" in found["arguments"]["function"]
    assert set(found) == {"checkpoint", "analysis", "arguments", "code", "version", "digest"}


def test_an_archive_is_read_as_one_and_only_where_the_folder_has_no_sweep_of_that_part(made, later, tmp_path):
    archive = dataclasses.replace(made, kept=tmp_path / "kept")
    archive.keep()
    assert not archive.archived("default") and not list(archive.archive_notes())
    made_from = json.loads((tmp_path / "kept/default/made_from.json").read_text())
    assert made_from == {"checkpoint": workdir.identity(made.path("default"))}
    replace(made.path("default"), later)
    assert not archive.has("default") and not archive.archived("default") and archive.tables("default") == made.path("default")
    with pytest.raises(InputError, match=r"strongest.csv: is not there"):
        archive.answer("default", "strongest")
    assert [line.endswith("kept/default is not read") for line in archive.archive_notes()] == [True]
    gone = dataclasses.replace(archive, folder=tmp_path / "nothing")
    for _ in range(2):  # archives of earlier versions do not say what they were made from
        assert gone.archived("default") and set(gone.answer("default", "strongest")["seed"].tolist()) == {0, 1}
        assert [line.endswith("the archived ones of " + str(tmp_path / "kept/default")) for line in gone.archive_notes()] == [True]
        (tmp_path / "kept/default/made_from.json").unlink(missing_ok=True)
    archive.make("default", PARTS["default"].answers)
    assert not archive.archived("default") and set(archive.answer("default", "strongest")["seed"].tolist()) == {50, 51}


def test_an_archive_is_not_read_of_a_part_that_is_begun_here(tmp_path):
    """By hand-made tables: another sweep, with other seeds, was begun in the folder and stopped."""
    begun = Study(tmp_path / "own", {"part": Part("diversity", ("late_gain",))}, tmp_path / "kept")
    for path in ("models.csv", "analysis/late_gain.csv"):
        stats.write_csv(tmp_path / "kept/part" / path, {"seed": np.arange(2), "unseen_pair": np.ones(2)})
    assert begun.archived("part") and begun.has("part")
    (begun.path("part")).mkdir(parents=True)
    (begun.path("part") / "config.json").write_text("{}")
    assert not begun.archived("part") and not begun.has("part")
    with pytest.raises(InputError, match=r"own/part"):
        begun.models("part")
    with pytest.raises(InputError, match=r"own/part"):
        begun.answer("part", "late_gain")
    assert len(list(begun.archive_notes())) == 1


def test_the_tables_of_a_finished_sweep_are_those_of_its_checkpoint(made):
    """As after a kill between the last save and its tables."""
    folder, wanted = made.path("default"), tiny_sweep()
    models = (folder / "models.csv").read_bytes()
    stats.write_csv(folder / "models.csv", models_table(loop.start(wanted)))
    made.train("default", wanted)
    assert (folder / "models.csv").read_bytes() == models


def test_the_stages_of_a_search_are_read_only_from_their_sweeps_and_from_the_stage_before(trained, later, tmp_path):
    folder, search = tmp_path / "search", stages.ONE_HEAD
    table = lambda k: {"x": np.full(3, k)}
    assert search.tables(folder) == {}
    for stage in ("screen", "full", "confirm"):
        shutil.copytree(trained[0], folder / stage)
    for k, stage in enumerate(search.after):  # `how` has no sweep of its own
        search.write(folder, stage, table(k))
    assert list(search.tables(folder)) == ["screen", "full", "confirm", "how"]
    search.write(folder, "screen", table(9))
    assert list(search.tables(folder)) == ["screen"], "`full` was chosen from another table, and the rest from `full`"
    search.write(folder, "full", table(1))
    replace(folder / "confirm", later)
    assert list(search.tables(folder)) == ["screen", "full"], "`confirm`, and `how` with it, was computed from another sweep"
    for stage in ("screen", "full", "confirm"):
        shutil.rmtree(folder / stage)
    assert list(search.tables(folder)) == ["screen", "full", "confirm", "how"], "without sweeps it is an archive"


# ---- the version of an analysis ----


def test_the_version_changes_with_any_code_that_can_influence_a_result_and_with_no_other(tmp_path, monkeypatch):
    """A package whose table names two analyses; one uses a helper, imported in a function, of a package that imports by name."""
    lab = tmp_path / "fakelab"
    sources = {
        "__init__": "",
        "table": "from fakelab import one\nfrom fakelab.two import LIMIT, two as asked\n"
        "TABLE = {\n    'one': lambda run: one.one(run),\n    'two': lambda run: asked(run, LIMIT),\n}\n",
        "one": "def one(run):\n    from fakelab.plugins import load\n    return load('a')",
        "two": "LIMIT = 3\ndef two(run, limit):\n    return run",
        "plugins/__init__": "import importlib\ndef load(name):\n    return importlib.import_module(f'fakelab.plugins.{name}')",
        "plugins/a": "",
    }
    for name, source in sources.items():
        (lab / f"{name}.py").parent.mkdir(exist_ok=True, parents=True)
        (lab / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    import fakelab.table

    def versions():
        for cached in (results.code_of, results.code_of_modules, results._package, results._imports):
            cached.cache_clear()
        return np.array([results.code_of(fakelab.table.TABLE[name]) for name in ("one", "two")])

    at_first = versions()
    for name, changes in (
        ("one", [1, 0]),
        ("two", [0, 1]),
        ("plugins/a", [1, 0]),
        ("plugins/__init__", [1, 0]),
        ("__init__", [1, 1]),
    ):
        (lab / f"{name}.py").write_text(sources[name] + "\nx = 1\n")
        assert (versions() != at_first).tolist() == [bool(change) for change in changes], name
        (lab / f"{name}.py").write_text(sources[name])
    assert (versions() == at_first).all()
    for name in [name for name in sys.modules if name.startswith("fakelab")]:
        del sys.modules[name]


def test_an_edit_during_a_run_changes_no_record_of_that_run(tmp_path, monkeypatch):
    """What a process runs is what was there when it began. Asked for early or late, its version is the same."""
    lab = tmp_path / "editlab"
    lab.mkdir()
    source = "TABLE = {\n    'one': lambda run: run,\n}\ndef two(run):\n    return 2\n"
    for name, text in (("__init__", ""), ("table", source), ("first", "def first(run):\n    return 1\n")):
        (lab / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    import editlab.first
    import editlab.table

    results.code_of(editlab.first.first)  # the package is known from here on
    cached = (results.code_of, results.code_of_modules, results._imports)
    told = lambda: (
        results.as_argument(editlab.table.TABLE["one"]),
        *map(results.code_of, (editlab.table.two, editlab.table.TABLE["one"])),
    )
    (lab / "table.py").write_text("import os\n" + source.replace("return 2", "return 3").replace("run: run", "run: 5"))
    late = told()
    assert late[0] == {"function": "'one': lambda run: run,"}
    (lab / "table.py").write_text(source)
    for function in (*cached, results._package):
        function.cache_clear()
    assert told() == late, "as if nobody had edited"
    for name in [name for name in sys.modules if name.startswith("editlab")]:
        del sys.modules[name]


def test_the_code_of_this_process_is_read_when_it_begins():
    spec = importlib.util.spec_from_file_location("results_anew", results.__file__)
    spec.loader.exec_module(anew := importlib.util.module_from_spec(spec))
    assert anew._package.cache_info().currsize, "before anything is asked"
    assert {"lrjax", "lrjax.storage.results", "lrjax.data.tasks.grid"} <= set(anew._package("lrjax"))


def test_the_version_of_an_analysis_is_of_the_model_and_not_of_figures_or_pages():
    modules = results.sources(("lrjax.analysis.gradient",))
    assert {
        "lrjax",
        "lrjax.models.attention",
        "lrjax.models.clip",
        "lrjax.models.encoder",
        "lrjax.training.programs",
        "lrjax.data.tasks.grid",
        "lrjax.xla",
    } <= set(modules)
    assert not [
        name for name in modules if name.startswith(("lrjax.plotting", "experiments.studies", "lrjax.cli.", "experiments.common"))
    ]
