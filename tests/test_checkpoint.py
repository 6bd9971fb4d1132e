"""A checkpoint is what was saved, or an error that says what is wrong; never another number."""

import json
import shutil

import numpy as np
import pytest

from lrjax import checkpoint, workdir
from lrjax.errors import InputError

ARRAYS = {"a": {"0": np.arange(600, dtype=np.float32).reshape(3, 200), "count": np.arange(3)}, "h": np.float32(2.5)}


def newest(path):
    return checkpoint.candidates(path)[0]


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
        (arrays["h"], ARRAYS["h"]),
    ):
        np.testing.assert_array_equal(got, want)
        assert got.dtype == want.dtype and isinstance(got, np.ndarray)
    assert meta["note"] == ["x", 1.5, None] and meta["step"] == 30 and meta["format"] == checkpoint.FORMAT
    assert {"jax", "flax", "orbax-checkpoint"} <= set(meta["versions"])


def test_a_path_means_the_newest_step_or_itself(saved):
    step = saved / "checkpoints" / "30"
    assert newest(saved) == newest(saved / "checkpoints") == newest(step) == step
    assert [p.name for p in checkpoint.saved_steps(saved / "checkpoints")] == ["20", "30"], "the newest KEEP stay"


def test_an_empty_or_half_written_step_is_no_step(saved):
    (saved / "checkpoints" / "99").mkdir()
    left = [saved / "checkpoints" / name for name in ("40.unfinished", "50.unfinished.orbax-checkpoint-tmp", "30.replaced")]
    for folder in left:
        folder.mkdir()
    with pytest.raises(InputError, match="not a complete checkpoint"):
        checkpoint.load(saved / "checkpoints" / "99")
    assert set(checkpoint.leftovers(saved / "checkpoints")) == set(left)
    checkpoint.save(saved / "checkpoints", 40, ARRAYS, {})
    assert {p.name for p in (saved / "checkpoints").iterdir()} == {"30", "40"}, "the next save clears up"


def test_any_damage_is_named(saved):
    """Every file truncated, flipped and removed in turn."""
    step = saved / "checkpoints" / "30"
    files = [p for p in step.rglob("*") if p.is_file()]
    assert len(files) > 5
    for path in files:
        data = path.read_bytes()
        middle = len(data) // 2
        damages = [data[:middle], data + b"x"]
        if data:
            damages.append(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
        for damaged in damages:
            if damaged == data:
                continue
            path.write_bytes(damaged)
            with pytest.raises(InputError) as error:
                checkpoint.load(step)
            assert "damaged checkpoint" in str(error.value) and str(saved / "checkpoints" / "20") in str(error.value)
            assert "\n" not in str(error.value)
        path.unlink()
        with pytest.raises(InputError):
            checkpoint.load(step)
        path.write_bytes(data)
    checkpoint.load(step)


def test_leaf_digests_catch_what_file_digests_cannot(saved, monkeypatch):
    """Arrays that Orbax restores as other numbers, from files that are as they were written."""
    step = saved / "checkpoints" / "30"
    expected = checkpoint.digests(ARRAYS)
    assert checkpoint.digests({**ARRAYS, "h": np.float32(2.5000002)}) != expected
    assert checkpoint.digests({**ARRAYS, "h": np.float64(2.5)}) != expected
    monkeypatch.setattr(checkpoint, "digests", lambda arrays: {**expected, "more": ""})
    with pytest.raises(InputError, match="not the ones that were saved"):
        checkpoint.load(step)


def test_a_newer_format_is_refused(saved, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 7)
    checkpoint.save(saved / "checkpoints", 40, ARRAYS, {})
    monkeypatch.undo()
    with pytest.raises(InputError, match="written in format 7, newer than 2, this lrjax's; upgrade lrjax"):
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
    arrays["programs"]["0"]["params"]["vision"]["P"] = arrays["programs"]["0"]["params"]["vision"]["P"][:, :5]
    checkpoint.save(tmp_path / "checkpoints", 20, arrays, {k: meta[k] for k in ("sweep", "slab", "metrics")})
    with pytest.raises(InputError, match=r"params.vision.P is float32\(4, 5, 16\), expected float32\(4, 11, 16\)"):
        workdir.restore(tmp_path)


def test_a_moved_workdir_still_loads(trained, tmp_path):
    folder, run = trained
    shutil.copytree(folder, tmp_path / "übung mit leerzeichen")
    assert workdir.restore(tmp_path / "übung mit leerzeichen").sweep == run.sweep
    assert json.loads((folder / "config.json").read_text())["steps"] == 20
