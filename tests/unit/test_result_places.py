"""Where results are written: no question, checkpoint or user's file is ever overwritten by another."""

import dataclasses
import shutil
import sys

import numpy as np
import pytest
from absl import flags

from conftest import many_commands, tiny_sweep
from experiments import common
from experiments.studies.study import Part, Study
from lrjax import stats
from lrjax.errors import InputError
from lrjax.storage import results, workdir


@pytest.mark.slow
def test_commands_and_studies_never_write_each_others_tables(trained, tmp_path, capsys):
    """`shares` and `values` are names of both."""
    folder = tmp_path / "default"
    commands = [("decompose", [f"--ckpt={folder}"]), ("values", [f"--ckpt={folder}"])]
    shutil.copytree(trained[0], folder)
    asked = Study(tmp_path, {"default": Part("diversity", ("shares", "values"))})
    done = many_commands(commands)
    assert [d.returncode for d in done] == [0] * len(done), [d.stderr for d in done]
    before = {p: p.read_bytes() for p in folder.rglob("*.csv*")}
    assert asked.make("default", ["shares", "values"]) == ["shares", "values"]
    assert all(p.read_bytes() == content for p, content in before.items())
    shares = asked.answer("default", "shares")
    assert "head" not in shares and "head" in stats.read_csv(folder / "analysis/shares.csv")
    figures = [p for p in (folder / "figures").iterdir() if p.suffix != ".json"]
    assert all(results._record_of(p) for p in [*figures, *(folder / "analysis").glob("*.csv")])
    # and all of it goes with --overwrite, but for what is the user's: made, or changed, by hand
    (folder / "analysis/mine.csv").write_text("mine")
    (folder / "analysis/values.csv").write_text("changed")
    workdir.open_run(folder, tiny_sweep(), overwrite=True)
    assert "mine.csv and 1 more files: kept, no record says that lrjax made it" in capsys.readouterr().err
    assert {p.name for p in folder.glob("*/*")} == {"mine.csv", "values.csv"}


def test_every_flag_that_is_given_is_in_the_name_and_the_record(trained, tmp_path, monkeypatch):
    """Two questions of one command are two files, whatever flag tells them apart."""
    given = flags.FlagValues()
    shared = {"flag_values": given, "module_name": "experiments.common"}
    flags.DEFINE_string("ckpt", str(trained[0]), "", **shared)
    flags.DEFINE_string("out", str(tmp_path), "", **shared)
    flags.DEFINE_string("where", None, "", **shared)
    flags.DEFINE_list("labels", None, "", **shared)
    own = {"flag_values": given, "module_name": sys.argv[0]}
    flags.DEFINE_list("axes", ["n_labels", "n2"], "", **own)
    flags.DEFINE_bool("pruning", True, "", **own)
    given.mark_as_parsed()
    monkeypatch.setattr(flags, "FLAGS", given)
    named = lambda: common.place("analysis", "factors", "csv")[0].name
    assert named() == "factors.csv" and common.place("analysis", "factors", "csv")[1].arguments == {}
    given.axes, given.labels, given.pruning = ["n2", "lr"], ["4"], False
    assert named() == "factors_N4_axes-n2-lr_pruning-False.csv"
    assert common.place("analysis", "factors", "csv")[1].arguments == {"labels": ["4"], "axes": ["n2", "lr"], "pruning": False}


def test_a_place_that_another_question_has_is_not_overwritten(tmp_path):
    table, path = {"x": np.arange(2)}, tmp_path / "t.csv"
    first = results.Record("step 1, a", "one", {"labels": ("5", "15")}, "c")
    results.write(results.place(path, first), table, first)
    later = dataclasses.replace(first, checkpoint="step 2, b", code="d")
    assert results.place(path, later) == path, "the same question to another checkpoint replaces its answer"
    for other in (dataclasses.replace(first, analysis="two"), dataclasses.replace(first, arguments={"labels": ("5",)})):
        there = results.place(path, other)
        assert there != path and there.suffix == ".csv"
        results.write(there, table, other)
        assert results.place(path, other) == there
    assert len(list(tmp_path.glob("*.csv"))) == 3 and results.holds(path, first) and not results.holds(path, later)


def test_a_place_that_another_checkpoint_has_is_not_overwritten_outside_the_workdir(tmp_path):
    """In a folder of --out several sweeps may answer; each has its own files there, and finds them again."""
    table, path = {"x": np.arange(2)}, tmp_path / "t.csv"
    first = results.Record("step 1, a", "one", {}, "c")
    results.write(path, table, first)
    other = dataclasses.replace(first, checkpoint="step 2, b")
    there = results.place(path, other, any_checkpoint=False)
    assert there != path and results.place(path, first, any_checkpoint=False) == path
    results.write(there, table, other)
    assert results.place(path, other, any_checkpoint=False) == there and results.holds(path, first)
    third = results.place(path, dataclasses.replace(first, checkpoint="step 3, c"), any_checkpoint=False)
    assert third not in (path, there)


@pytest.mark.parametrize("recorded", [False, True])
def test_a_users_own_file_is_kept_and_a_line_says_so(recorded, tmp_path, capsys, monkeypatch):
    """One without a record, or with that of the table that was there before it was changed by hand."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    table, path, record = {"x": np.arange(2)}, tmp_path / "t.csv", results.Record("step 1, a", "one", {}, "c")
    if recorded:
        results.write(path, table, record)
    path.write_text("mine")
    there = results.place(path, record)
    assert there != path and there.suffix == ".csv"
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{path}: kept, no record says that lrjax made it" in error
    results.write(there, table, record)
    assert results.place(path, record) == there and path.read_text() == "mine" and results.holds(there, record)


def test_what_is_written_to_out_never_replaces_the_answer_of_another_checkpoint(tmp_path, monkeypatch):
    """In the workdir a later checkpoint's answer does."""
    given = flags.FlagValues()
    for name in ("ckpt", "out", "where"):
        flags.DEFINE_string(name, None, "", flag_values=given, module_name="experiments.common")
    given.mark_as_parsed()
    monkeypatch.setattr(flags, "FLAGS", given)
    monkeypatch.setattr(workdir, "root", lambda path: path)
    placed = {}
    for out in (None, str(tmp_path / "a"), str(tmp_path / "oo")):
        for n in (1, 2):
            given.ckpt, given.out = str(tmp_path / "a"), out
            monkeypatch.setattr(common, "_checkpoint", f"step {n}, x")
            path, record = common.place("analysis", "shares", "csv")
            results.write(path, {"x": np.arange(n)}, record)
            placed[out, n] = path
    assert placed[None, 1] == placed[None, 2] == placed[str(tmp_path / "a"), 2] == tmp_path / "a/analysis/shares.csv"
    assert placed[str(tmp_path / "oo"), 1] != placed[str(tmp_path / "oo"), 2]


def test_a_table_that_is_being_replaced_is_read_when_its_record_is_there(tmp_path, monkeypatch):
    """A writer replaces a table, then its record. Between the two a reader waits; what never gets its record is never read."""
    path, record = tmp_path / "t.csv", results.Record("step 1, a", "one", {}, "c")
    results.write(path, {"x": np.arange(2)}, record)
    content = stats.csv_text(table := {"x": np.arange(3)}).encode()
    path.write_bytes(content)
    waited = []
    monkeypatch.setattr("time.sleep", waited.append)
    with pytest.raises(InputError, match="has no record"):
        results.read(path, record)
    monkeypatch.setattr("time.sleep", lambda seconds: results.sign(path, record, content))
    np.testing.assert_array_equal(results.read(path, record)["x"], table["x"])
    assert waited
