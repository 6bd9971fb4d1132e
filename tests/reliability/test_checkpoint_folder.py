"""What else is in the folder of a checkpoint, and what may not be read there, never makes a sound checkpoint a damaged one."""

import contextlib
import errno
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from lrjax.errors import InputError, SaveError, Unusable
from lrjax.storage import checkpoint, orbax_folder, step_folders, workdir

ARRAYS = {"a": {"x": np.arange(600, dtype=np.float32).reshape(3, 200)}}


@pytest.fixture
def saved(tmp_path):
    for step in (20, 30):
        checkpoint.save(tmp_path / "checkpoints", step, ARRAYS, {})
    return tmp_path


STRAYS = (".DS_Store", "Thumbs.db", "._meta", ".nfs0000000000c0ffee", "metadata~", ".metadata.swp", "notes.txt")


def drop_strays(folder):
    """What systems and people leave in folders; the paths."""
    strays = [place / name for place in (folder, *(p for p in folder.rglob("*") if p.is_dir())) for name in STRAYS]
    for path in strays:
        path.write_text("not ours")
    return strays


def test_what_is_not_ours_in_a_checkpoint_is_ignored(saved):
    folder = saved / "checkpoints"
    drop_strays(folder)
    (folder / "30" / "state" / "a folder").mkdir()
    (folder / "30" / "dangling").symlink_to("nowhere")
    os.mkfifo(folder / "30" / "state" / "a pipe that nobody writes to")
    shutil.copytree(folder / "30", folder / "30.backup", ignore=lambda *_: ["a pipe that nobody writes to"], symlinks=True)
    np.testing.assert_array_equal(checkpoint.load(saved / "checkpoints" / "30")[0]["a"]["x"], ARRAYS["a"]["x"])
    checkpoint.save(folder, 40, ARRAYS, {})
    assert [p.name for p in step_folders.saved_steps(folder)] == ["30", "40"]
    assert (folder / "30.backup").is_dir() and (folder / ".DS_Store").is_file(), "the user's own"


def test_what_a_system_drops_during_a_save_may_go(saved, monkeypatch):
    """File systems make such files beside ours, and take them away again."""
    dropped = []
    monkeypatch.setattr(checkpoint, "_ask_for_room", lambda file, _: dropped.extend(drop_strays(file.parent)))
    checkpoint.save(saved / "checkpoints", 40, ARRAYS, {})
    for path in dropped[: STRAYS.index("metadata~")]:
        (saved / "checkpoints" / "40" / "state" / path.name).unlink()
    checkpoint.load(saved / "checkpoints" / "40")


def test_a_digest_is_of_a_file_in_the_checkpoint(saved):
    """Not of whatever path stands in a file from anywhere."""
    digests = saved / "checkpoints" / "30" / checkpoint.DIGESTS
    digests.write_text("{}")
    with pytest.raises(Unusable, match=f"damaged checkpoint \\({checkpoint.DIGESTS} is missing or is not what was saved"):
        checkpoint.load(digests.parent)
    for name in ("/dev/zero", "../20/state/a/manifest.ocdbt", "state", "\0"):
        digests.write_text(json.dumps({name: "0"}))
        with pytest.raises(Unusable, match="damaged checkpoint"):
            checkpoint.load(digests.parent)


def test_a_step_that_is_empty_is_said_to_be_that(saved, trained, tmp_path, capsys):
    """As a file system leaves it that makes folders at once and files later, or never."""
    shutil.rmtree(saved / "checkpoints" / "30")
    (saved / "checkpoints" / "30").mkdir()
    said = f"{saved}/checkpoints/30: is empty: no checkpoint was finished there"
    for _ in range(2):
        with pytest.raises(Unusable) as error:
            checkpoint.load(saved / "checkpoints" / "30")
        assert str(error.value) == f"{said}; an older step is there: {saved}/checkpoints/20"
        (saved / "checkpoints/30/.DS_Store").write_text("not ours")
    shutil.copytree(trained[0], tmp_path / "w")
    (tmp_path / "w/checkpoints/30").mkdir()
    workdir.restore(tmp_path / "w")
    said = f"warning: {tmp_path}/w/checkpoints/30: is empty: no checkpoint was finished there; skipped, step 20 is used\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("end", "fails"),
    [(KeyboardInterrupt, step_folders.TMP), (OSError, step_folders.TMP), (OSError, (step_folders.TMP, step_folders.REPLACED))],
)
@pytest.mark.parametrize("link", [False, True])
def test_a_step_that_was_to_be_replaced_is_there_if_no_other_comes(saved, monkeypatch, end, fails, link):
    """Its place is empty between two renames: a process may be killed there, and renames may fail from there on."""
    folder, rename = saved / "checkpoints", os.rename
    if link:
        rename(folder / "30", saved / "elsewhere")
        (folder / "30").symlink_to(saved / "elsewhere")

    def ends_at_the_second(source, target):
        if str(source).endswith(fails):
            raise end
        rename(source, target)

    monkeypatch.setattr(checkpoint.os, "rename", ends_at_the_second)
    with pytest.raises(KeyboardInterrupt if end is KeyboardInterrupt else SaveError):
        checkpoint.save(folder, 30, {"a": {"x": np.zeros(3)}}, {})
    monkeypatch.undo()
    checkpoint.save(folder, 40, ARRAYS, {})
    np.testing.assert_array_equal(checkpoint.load(folder / "30")[0]["a"]["x"], ARRAYS["a"]["x"])
    assert {p.name for p in folder.iterdir()} == {"30", "40"}


def test_a_link_to_a_step_is_replaced_again_and_again(saved):
    """And what it leads to is let be."""
    folder = saved / "checkpoints"
    (folder / "30").rename(saved / "elsewhere")
    (folder / "30").symlink_to(saved / "elsewhere")
    for _ in range(2):
        checkpoint.save(folder, 30, ARRAYS, {})
    assert {p.name for p in folder.iterdir()} == {"20", "30"} and not (folder / "30").is_symlink()
    assert (saved / "elsewhere" / checkpoint.DIGESTS).is_file()


def test_a_sweep_that_is_overwritten_leaves_no_step_to_bring_back(trained, tmp_path):
    shutil.copytree(trained[0], tmp_path / "w")
    (tmp_path / "w/checkpoints/20").rename(tmp_path / "w/checkpoints/20.replaced")
    workdir.open_run(tmp_path / "w", trained[1].sweep, overwrite=True)
    assert not [*(tmp_path / "w/checkpoints").iterdir()]


def test_a_run_goes_on_from_a_step_that_was_to_be_replaced(trained, tmp_path):
    shutil.copytree(trained[0], tmp_path / "w")
    (tmp_path / "w/checkpoints/20").rename(tmp_path / "w/checkpoints/20.replaced")
    assert workdir.open_run(tmp_path / "w", trained[1].sweep).step == 20


def test_a_part_is_a_folder_in_the_checkpoint(saved):
    """Not whatever path stands in a file from anywhere."""
    step, elsewhere = saved / "checkpoints" / "30", saved / "checkpoints" / "20" / "state" / "a"
    meta = orbax_folder.read_json(step / "meta")
    for name in ("../../20/state/a", str(elsewhere), "..", "", "a/../a"):
        shutil.rmtree(step / "meta")
        orbax_folder.write_json(step / "meta", meta | {"digests": {name: meta["digests"]["a"]}})
        files = {file: checkpoint._file_digest(step, file) for file in checkpoint._files(step) if file != checkpoint.DIGESTS}
        (step / checkpoint.DIGESTS).write_text(json.dumps(files))
        with pytest.raises(Unusable, match=r"damaged checkpoint .* is no name of a part"):
            checkpoint.load(step)


def test_room_is_asked_for_all_that_is_to_be_written_before_a_byte_of_it_is(saved, monkeypatch):
    asked = []

    def ask(file, arrays):
        asked.append(set(arrays))
        assert not any((file.parent / "state" / name).exists() for name in arrays)

    monkeypatch.setattr(checkpoint, "_ask_for_room", ask)
    checkpoint.save(saved / "checkpoints", 40, ARRAYS | {"b": {"x": np.ones(3)}, "c": {"x": np.ones(4)}}, {})
    assert asked == [{"b", "c"}], "a part that is linked takes no room"


@contextlib.contextmanager
def without_privileges():
    """As a user to whom permissions apply."""
    if root := os.geteuid() == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_what_may_not_be_read_is_not_called_damaged(trained):
    """Neither is an older step used in its place, nor is it advised to start again."""
    with tempfile.TemporaryDirectory() as outside:  # a folder of pytest's is closed to other users
        folder = Path(outside, "w")
        shutil.copytree(trained[0], folder)
        for path in (folder.parent, folder, *folder.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
        step = folder / "checkpoints" / "20"
        restores = (workdir.restore, lambda path: workdir.open_run(path, trained[1].sweep, resume=True))
        for name in (checkpoint.DIGESTS, "meta/metadata", "state/models/manifest.ocdbt", "state/models", "state", "meta", "."):
            for mode in (0o000, 0o444) if (step / name).is_dir() else (0o000,):
                (step / name).chmod(mode)
                for restore in restores:
                    with without_privileges(), pytest.raises(InputError) as error:
                        restore(folder)
                    said = str(error.value)
                    assert said.startswith(f"{step}: may not be read (") and "ermission" in said, (name, mode, said)
                    assert "damaged" not in said and "overwrite" not in said and "\n" not in said
                (step / name).chmod(0o777)
        (folder / "checkpoints").chmod(0)
        with without_privileges(), pytest.raises((InputError, PermissionError), match="ermission"):
            workdir.restore(folder)
        (folder / "checkpoints").chmod(0o777)
        folder.parent.chmod(0)
        with without_privileges(), pytest.raises((InputError, PermissionError), match="ermission"):
            workdir.restore(folder)
        folder.parent.chmod(0o777)
        with without_privileges():
            assert workdir.restore(folder).step == 20


def test_what_cannot_be_read_for_another_reason_is_said_and_an_older_step_is_used(trained, tmp_path, monkeypatch, capsys):
    shutil.copytree(trained[0], tmp_path / "w")
    read = Path.read_bytes

    def fails(path):
        if path.name == "manifest.ocdbt" and "20" in path.parts:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", fails)
    assert workdir.restore(tmp_path / "w").step == 10
    assert f"warning: {tmp_path}/w/checkpoints/20: cannot be read ([Errno 5] Input/output error: " in capsys.readouterr().err
