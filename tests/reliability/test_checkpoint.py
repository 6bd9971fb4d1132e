"""A checkpoint is what was saved, or an error that says what is wrong; never another number."""

import dataclasses
import hashlib
import json
import resource
import shutil

import chex
import jax
import numpy as np
import pytest

from conftest import inodes, tiny_sweep
from lrjax import devices
from lrjax.errors import InputError, SaveError, Unusable
from lrjax.storage import checkpoint, code_version, orbax_folder, serialization, step_folders, workdir
from lrjax.training import loop
from lrjax.training.programs import init_program

EVERY = slice(None)
ARRAYS = {"a": {"0": np.arange(600, dtype=np.float32).reshape(3, 200), "count": np.arange(3)}, "b": {"h": np.float32(2.5)}}


def newest(path):
    return step_folders.candidates(path)[0]


@pytest.fixture
def saved(tmp_path):
    for step in (10, 20, 30):
        checkpoint.save(tmp_path / "checkpoints", step, ARRAYS, {"note": ["x", 1.5, None]})
    return tmp_path


def test_arrays_come_back_to_the_bit(saved):
    arrays, meta = checkpoint.load(newest(saved))
    for got, want in (
        (arrays["a"]["0"], ARRAYS["a"]["0"]),
        (arrays["a"]["count"], ARRAYS["a"]["count"]),
        (arrays["b"]["h"], ARRAYS["b"]["h"]),
    ):
        np.testing.assert_array_equal(got, want)
        assert got.dtype == want.dtype and isinstance(got, np.ndarray)
    assert meta["note"] == ["x", 1.5, None] and meta["step"] == 30 and meta["format"] == checkpoint.FORMAT
    assert {"jax", "flax", "orbax-checkpoint"} <= set(meta["versions"])


def test_a_path_means_the_newest_step_or_itself(saved):
    step = saved / "checkpoints" / "30"
    assert newest(saved) == newest(saved / "checkpoints") == newest(step) == step
    assert [p.name for p in step_folders.saved_steps(saved / "checkpoints")] == ["20", "30"], "the newest KEEP stay"


def test_an_empty_or_half_written_step_is_no_step(saved):
    (saved / "checkpoints" / "99").mkdir()
    left = [saved / "checkpoints" / name for name in ("40.unfinished", "50.unfinished.orbax-checkpoint-tmp", "30.replaced")]
    for folder in left:
        folder.mkdir()
    with pytest.raises(InputError, match="is empty: no checkpoint was finished there"):
        checkpoint.load(saved / "checkpoints" / "99")
    assert set(step_folders.stale_tmp_dirs(saved / "checkpoints")) == set(left)
    checkpoint.save(saved / "checkpoints", 40, ARRAYS, {})
    assert {p.name for p in (saved / "checkpoints").iterdir()} == {"30", "40"}, "the next save clears up"


def damages(path, ways=EVERY):
    """Put a file into every broken state in turn, or into some of them, and back."""
    data = path.read_bytes()
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if data else b"x"
    broken = [damaged for damaged in (None, data + b"x", flipped, data[:middle], b"") if damaged != data]
    for damaged in broken[ways]:
        path.unlink(missing_ok=True)
        if damaged is not None:
            path.write_bytes(damaged)
        yield
    path.write_bytes(data)


def test_any_damage_is_named(saved):
    """Every file truncated, flipped, emptied, lengthened and removed in turn."""
    step = saved / "checkpoints" / "30"
    files = [p for p in step.rglob("*") if p.is_file()]
    assert len(files) > 5
    for path in files:
        for _ in damages(path):
            with pytest.raises(Unusable) as error:
                checkpoint.load(step)
            said = str(error.value)
            assert said.startswith(f"{step}: damaged checkpoint (") and "\n" not in said
            assert path.relative_to(step).as_posix() in said or path.name == checkpoint.DIGESTS
            assert f"an older step is there: {saved / 'checkpoints' / '20'}" in said
    checkpoint.load(step)


def test_damage_never_gives_wrong_numbers(trained, tmp_path, capsys):
    """Every file of a sweep's newest step broken in one of the ways: analyses and --resume take the older step, and say so."""
    folder = tmp_path / "w"
    shutil.copytree(trained[0], folder)
    older = workdir.restore(folder / "checkpoints" / "10")
    for number, path in enumerate(sorted(p for p in (folder / "checkpoints" / "20").rglob("*") if p.is_file())):
        way = number % (5 if path.stat().st_size else 3)  # an empty file can be broken in three ways
        for _ in damages(path, slice(way, way + 1)):
            run = workdir.restore(folder) if number % 2 else workdir.open_run(folder, older.sweep, resume=True)
            chex.assert_trees_all_equal(run.states, older.states)
            np.testing.assert_array_equal(run.history.values, older.history.values)
            said = capsys.readouterr().err
            assert said.startswith(f"warning: {folder}/checkpoints/20: damaged checkpoint (") and said.count("\n") == 1
            assert said.endswith("; skipped, step 10 is used\n")
    assert workdir.restore(folder).step == 20 and capsys.readouterr().err == ""


def test_when_no_step_can_be_used_one_line_says_what_to_do(trained, tmp_path):
    folder = tmp_path / "w"
    shutil.copytree(trained[0], folder)
    for step in step_folders.saved_steps(folder / "checkpoints"):
        (step / "meta" / "metadata").write_text("{}")
    for restore in (workdir.restore, lambda path: workdir.open_run(path, trained[1].sweep, resume=True)):
        with pytest.raises(
            InputError,
            match=r"20: damaged .*metadata is missing or is not .*no older step can be used either: .* with --overwrite$",
        ):
            restore(folder)
    assert workdir.open_run(folder, trained[1].sweep, overwrite=True).step == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of TensorStore's threads
def test_a_save_that_fails_leaves_what_was_there(saved, monkeypatch):
    """For whatever reason it fails, and at whatever moment; then there is room again."""
    folder = saved / "checkpoints"
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(SaveError, match=r"checkpoints/40: could not be saved \(\[Errno 27\] File too large\)$"):
            checkpoint.save(folder, 40, {"a": {"0": np.ones(600)}}, {})
        monkeypatch.setattr(checkpoint, "_ask_for_room", lambda *_: None)  # TensorStore finds out
        large = ARRAYS | {"large": {"x": np.random.default_rng(0).normal(size=10_000)}}
        with pytest.raises(SaveError, match=r"checkpoints/40: could not be saved \(OUT_OF_RANGE"):
            checkpoint.save(folder, 40, large, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    read = orbax_folder.read_arrays  # what is read back is not what was to be saved
    monkeypatch.setattr(orbax_folder, "read_arrays", lambda folder: jax.tree.map(np.zeros_like, read(folder)))
    with pytest.raises(SaveError, match="the arrays are not the ones that were saved"):
        checkpoint.save(folder, 40, large, {})
    monkeypatch.undo()
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    checkpoint.save(folder, 40, large, {})
    assert [p.name for p in step_folders.saved_steps(folder)] == ["30", "40"]


def test_a_part_that_has_not_changed_is_not_written_again(saved):
    """A step holds the same files as the one before, and is whole when that one is gone."""
    folder = saved / "checkpoints"
    changed = ARRAYS | {"b": {"h": np.float32(3.5)}}
    checkpoint.save(folder, 40, changed, {})
    before, now = inodes(folder / "30"), inodes(folder / "40")
    shared = {name for name in now if now[name] == before.get(name)}
    assert shared and shared == {name for name in now if name.startswith("state/a/")}
    shutil.rmtree(folder / "30")
    chex.assert_trees_all_equal(checkpoint.load(folder / "40")[0], changed)


def test_a_part_is_written_again_where_it_cannot_be_linked(saved, monkeypatch):
    """What is there is damaged, or the file system has no links."""
    folder = saved / "checkpoints"
    file = next(p for p in sorted((folder / "30" / "state" / "a").rglob("*")) if p.is_file() and p.stat().st_size)
    file.write_bytes(b"x" + file.read_bytes()[1:])
    checkpoint.save(folder, 40, ARRAYS, {})
    again = inodes(folder / "40")
    assert not {name for name, inode in inodes(folder / "30").items() if name.startswith("state/a/") and again.get(name) == inode}

    def refuse(*_, **__):
        raise OSError("no links here")

    monkeypatch.setattr(checkpoint.os, "link", refuse)
    checkpoint.save(folder, 50, ARRAYS, {})
    assert not set(inodes(folder / "50").values()) & set(again.values())
    chex.assert_trees_all_equal(checkpoint.load(folder / "50")[0], ARRAYS)


def misnamed(step):
    """DIGESTS has another name for a file of a part."""
    (step / checkpoint.DIGESTS).write_text((step / checkpoint.DIGESTS).read_text().replace("state/a/manifest", "statf/a/manifest"))


def emptied(step):
    (step / checkpoint.DIGESTS).write_text("{}")


def as_symbolic_links(step):
    for path in [p for p in (step / "state" / "a").rglob("*") if p.is_file()]:
        path.rename(step.parent.parent / path.name)
        path.symlink_to(step.parent.parent / path.name)


@pytest.mark.parametrize("harm", [misnamed, emptied, as_symbolic_links])
def test_a_step_is_whole_whatever_the_one_before_it_is(saved, harm):
    folder = saved / "checkpoints"
    harm(folder / "30")
    checkpoint.save(folder, 40, ARRAYS, {})
    shutil.rmtree(folder / "30")
    chex.assert_trees_all_equal(checkpoint.load(folder / "40")[0], ARRAYS)
    assert not any(p.is_symlink() for p in (folder / "40").rglob("*"))


def test_stops_between_evaluations_are_kept_until_the_next_one(saved):
    names = lambda: [p.name for p in step_folders.saved_steps(saved / "checkpoints")]
    for ahead in (2, 4, 6):
        checkpoint.save(saved / "checkpoints", 30, ARRAYS, {}, ahead)
    assert names() == ["20", "30", "30+4", "30+6"]
    checkpoint.save(saved / "checkpoints", 40, ARRAYS, {})
    assert names() == ["30", "40"]
    checkpoint.save(saved / "checkpoints", 30, ARRAYS, {})  # 40 was refused when the run was restored
    assert names() == ["30"]


def test_what_makes_bits_differ_is_said_on_resume(trained, tmp_path, capsys, monkeypatch):
    folder, whole = tmp_path / "w", trained[1]
    shutil.copytree(trained[0], folder)
    shutil.rmtree(folder / "checkpoints" / "20")
    workdir.open_run(folder, whole.sweep, resume=True)
    assert capsys.readouterr().err == ""
    then = devices.machine()
    monkeypatch.setattr(devices, "machine", lambda: {**then, "devices": 7})
    monkeypatch.setattr(checkpoint, "versions", lambda: {"jaxlib": "9.9"})
    workdir.open_run(folder, whole.sweep, resume=True)
    said = capsys.readouterr().err
    assert said.startswith("warning: resumed with jaxlib 9.9 (was ") and said.count("\n") == 1
    assert f"devices 7 (was {then['devices']}): the same within tolerance, no longer to the bit" in said


def test_other_code_is_said_on_resume(trained, tmp_path, capsys, monkeypatch):
    """Its version is the same; what identifies it is a digest of its source, and the commit tells people where to find it."""
    folder, whole = tmp_path / "w", trained[1]
    shutil.copytree(trained[0], folder)
    shutil.rmtree(folder / "checkpoints" / "20")
    source, commit = code_version.source_digest(), code_version.commit()
    monkeypatch.setattr(code_version, "commit", lambda: "another")
    workdir.open_run(folder, whole.sweep, resume=True)
    assert capsys.readouterr().err == "", "another commit with the same code is no difference"
    monkeypatch.setattr(code_version, "source_digest", lambda: "changed")
    workdir.open_run(folder, whole.sweep, resume=True)
    then = f"{source} at commit {commit}" if commit else source
    assert capsys.readouterr().err == (
        f"warning: resumed with lrjax source changed at commit another (was {then}): results may differ by what changed in lrjax\n"
    )
    meta = checkpoint.load(folder / "checkpoints" / "10")[1]
    del meta["versions"]["lrjax source"], meta["commit"]
    assert "lrjax source changed at commit another (was not recorded)" in checkpoint.differences(meta), "an earlier lrjax"
    assert checkpoint.differences({}) == "", "there is no checkpoint"


def write_old(step, parts, meta, format):
    """A step as formats up to 3 were: all arrays stood in one folder, and the models of a static shape together."""
    shapes = {}
    for name in sorted(name for name in parts if name.startswith("program_")):
        shapes.setdefault(name.split("_")[1], []).append(parts[name])
    others = {name: arrays for name, arrays in parts.items() if not name.startswith("program_")}
    together = {shape: jax.tree.map(lambda *x: np.concatenate(x), *slabs) for shape, slabs in shapes.items()}
    arrays = others | {"programs": together}
    step.mkdir(parents=True)
    orbax_folder.write_arrays(step / "state", arrays)
    orbax_folder.write_json(step / "meta", meta | {"format": format, "digests": checkpoint.digests(arrays)})
    written = [p for p in step.rglob("*") if p.is_file()]
    digests = {p.relative_to(step).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in written}
    (step / checkpoint.DIGESTS).write_text(json.dumps(digests))


def test_format_1_is_still_read(trained, tmp_path):
    """It had no diverged_at."""
    parts, meta = checkpoint.load(newest(trained[0]))
    del parts["program_0_0"]["diverged_at"]
    write_old(tmp_path / "checkpoints" / "20", parts, meta, 1)
    chex.assert_trees_all_equal(workdir.restore(tmp_path).states, trained[1].states)


def test_format_3_is_still_read_and_the_next_step_is_in_parts(tmp_path):
    """Two shapes, each in two slabs."""
    run = loop.start(dataclasses.replace(tiny_sweep(n_layers_text=(1, 2), n_labels=4, seeds=4), slab=2))
    run.states = [jax.device_get(init_program(program.static, program.hyper)) for program in run.programs]
    run.evaluated = [1] * 4
    run.history.record(0, np.arange(8), 0, {"top1": np.linspace(0, 1, 8)})
    parts, meta = serialization.run_to_parts(run)
    assert [name for name in parts if name.startswith("program_")] == ["program_0_0", "program_0_1", "program_1_0", "program_1_1"]
    write_old(tmp_path / "checkpoints" / "0", parts, meta | {"step": 0}, 3)
    restored = workdir.restore(tmp_path)
    chex.assert_trees_all_equal(restored.states, run.states)
    workdir.save(tmp_path, restored)
    assert set(checkpoint.load(tmp_path / "checkpoints" / "0")[0]) == set(parts)
    chex.assert_trees_all_equal(workdir.restore(tmp_path).states, run.states)


def test_leaf_digests_catch_what_file_digests_cannot(saved, monkeypatch):
    """Arrays that Orbax restores as other numbers, from files that are as they were written."""
    step = saved / "checkpoints" / "30"
    expected = checkpoint.digests({"h": np.float32(2.5)})
    assert checkpoint.digests({"h": np.float32(2.5000002)}) != expected
    assert checkpoint.digests({"h": np.float64(2.5)}) != expected
    monkeypatch.setattr(checkpoint, "digests", lambda arrays: {**expected, "more": ""})
    with pytest.raises(InputError, match="not the ones that were saved"):
        checkpoint.load(step)


def test_a_newer_format_is_refused(saved, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 7)
    checkpoint.save(saved / "checkpoints", 40, ARRAYS, {})
    monkeypatch.undo()
    with pytest.raises(InputError, match="written in format 7, newer than 4, this lrjax's; upgrade lrjax"):
        checkpoint.load(saved / "checkpoints" / "40")


def test_a_foreign_checkpoint_is_refused(saved):
    with pytest.raises(InputError, match="not a checkpoint of lrjax"):
        workdir.restore(saved)  # ours in form, but no sweep
    foreign = saved / "elsewhere" / "5"
    foreign.mkdir(parents=True)
    (foreign / "model.bin").write_bytes(b"weights")
    with pytest.raises(InputError, match="not a complete checkpoint of lrjax"):
        workdir.restore(foreign)


def test_a_path_with_nothing_says_so(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        workdir.restore(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no checkpoint"):
        workdir.restore(tmp_path)
    assert not (tmp_path / "nowhere").exists()


def test_parameters_of_another_shape_are_refused(trained, tmp_path):
    folder, _ = trained
    arrays, meta = checkpoint.load(newest(folder))
    vision = arrays["program_0_0"]["params"]["vision"]
    vision["P"] = vision["P"][:, :5]
    checkpoint.save(tmp_path / "checkpoints", 20, arrays, {k: meta[k] for k in ("sweep", "slab", "metrics")})
    with pytest.raises(InputError, match=r"params.vision.P is float32\(4, 5, 16\), expected float32\(4, 11, 16\)"):
        workdir.restore(tmp_path)


def test_a_moved_workdir_still_loads(trained, tmp_path):
    folder, run = trained
    shutil.copytree(folder, tmp_path / "übung mit leerzeichen")
    assert workdir.restore(tmp_path / "übung mit leerzeichen").sweep == run.sweep
    assert json.loads((folder / "config.json").read_text())["steps"] == 20
