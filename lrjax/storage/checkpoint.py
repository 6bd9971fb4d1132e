"""Orbax, behind one door: no other file imports it.

A checkpoint is data, never code: nested dicts of arrays and a JSON `meta`, in `<directory>/<name>/`. `300` is an evaluation,
`300+75` a stop 75 steps into the interval after it. Orbax keeps no checksum of its own (a flipped byte restores as a silently
wrong number), takes an empty folder for a step and raises what it likes. So `meta` has a digest of every array, DIGESTS one of
every other file, and both are verified before a number is used. A save is written aside, read back, and only then renamed to its
place: whenever a process is killed, all steps that were there still are.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import os
import re
import shutil
import stat
from pathlib import Path, PurePosixPath
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from lrjax import devices, paths
from lrjax.errors import InputError, SaveError, Unusable
from lrjax.storage import code_version, files

FORMAT = 3  # 1 had no diverged_at; in 2 all models shared one step
KEEP_STOPS = 2  # newest stops kept after the last evaluation
OTHER_FILES = 2**18  # bytes of a checkpoint beside its arrays, generously
PACKAGES = ("lrjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
SOURCE = "lrjax source"  # what identifies the code; the version of lrjax does not
DIGESTS = "digests.json"
_NAME = re.compile(r"([0-9]+)(?:\+([0-9]+))?")
_TMP, _REPLACED = ".unfinished", ".replaced"
_OF_SYSTEMS = (
    ".DS_Store",
    "._*",
    ".nfs*",
    "Thumbs.db",
    "desktop.ini",
)  # files that appear beside ours, and go again, by themselves


def versions() -> dict[str, str]:
    """The installed versions that a result depends on, and the digest of lrjax's own source."""

    def version(package):
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return "unknown"

    return {package: version(package) for package in PACKAGES} | {SOURCE: code_version.source_digest()}


def digests(arrays: Any) -> dict[str, str]:
    """SHA-256 of every leaf's type, shape and bytes, by its path."""

    def digest(leaf):
        leaf = np.ascontiguousarray(leaf)
        return hashlib.sha256(f"{leaf.dtype.str}{leaf.shape}".encode() + leaf.tobytes()).hexdigest()

    leaves = jax.tree_util.tree_flatten_with_path(arrays)[0]
    return {jax.tree_util.keystr(path): digest(leaf) for path, leaf in leaves}


def identity(meta: dict) -> str:
    """What names a checkpoint wherever its folder stands: its step, and a digest of the digests of its arrays."""
    return f"step {meta['step']}, {hashlib.sha256(json.dumps(meta['digests'], sort_keys=True).encode()).hexdigest()}"


def differences(meta: dict) -> str:
    """What decides a result and is not as it was where a checkpoint was written, and what follows; empty if all of it is."""
    if not meta:
        return ""
    then, now = ({**m.get("versions", {}), **m.get("machine", {})} for m in (meta, _here()))
    names = [name for name in now if then.get(name) != now[name]]
    for values, commit in ((then, meta.get("commit")), (now, code_version.commit())):
        if SOURCE in values and commit:
            values[SOURCE] += f" at commit {commit}"
    said = ", ".join(f"{name} {now[name]} (was {then.get(name, 'not recorded')})" for name in names)
    outcome = (
        "results may differ by what changed in lrjax" if SOURCE in names else "the same within tolerance, no longer to the bit"
    )
    return f"{said}: {outcome}" if names else ""


def _here() -> dict:
    return {"versions": versions(), "machine": devices.machine(), "commit": code_version.commit()}


def save(directory: Path, step: int, arrays: dict, meta: dict, steps_past_eval: int = 0, keep: int = 2) -> None:
    """Write nested dicts of arrays and a JSON-able meta as step `step`, or a stop `steps_past_eval` steps after it.

    `keep`: how many of the newest evaluations stay; all, if 0.

    When this returns, the step is complete and has been read back; only then are older ones dropped. Of several processes the first
    writes. Raises SaveError if it cannot be done: what was there before still is.
    """
    try:
        if devices.first_process():
            _write(directory, name_of(step, steps_past_eval), arrays, {**meta, "format": FORMAT, "step": step, **_here()}, keep)
    finally:
        devices.wait_for_all(f"step {step} is saved")


def _write(directory: Path, name: str, arrays: dict, meta: dict, keep: int) -> None:
    tmp_dir, place = directory / (name + _TMP), directory / name
    try:
        _remove(stale_tmp_dirs(directory))
        tmp_dir.mkdir(parents=True)
        arrays = jax.tree.map(np.asarray, arrays)
        _ask_for_room(tmp_dir, arrays)
        with _orbax(ocp.StandardCheckpointHandler, tmp_dir) as (orbax, folder):
            orbax.save(folder / "state", args=ocp.args.StandardSave(arrays))
        with _orbax(ocp.JsonCheckpointHandler, tmp_dir) as (orbax, folder):
            orbax.save(folder / "meta", args=ocp.args.JsonSave({**meta, "digests": digests(arrays)}))
        (tmp_dir / DIGESTS).write_text(json.dumps({name: _file_digest(tmp_dir, name) for name in _files(tmp_dir)}))
        load(tmp_dir)
        files.sync_tree(tmp_dir)
        if place.exists():  # refused when the run was restored, or as good as this one
            os.rename(place, directory / (name + _REPLACED))
        os.rename(tmp_dir, place)
        files.sync_folder(directory)
    except Exception as error:  # Orbax raises six types for a bad disk, bare Exception among them
        _remove(stale_tmp_dirs(directory))
        raise SaveError(f"{place}: could not be saved ({_first_line(error)})") from error
    _remove([*stale_tmp_dirs(directory), *_outdated(directory, place, keep)])


def _ask_for_room(folder: Path, arrays: dict) -> None:
    """Raise OSError if the disk has none for these arrays. TensorStore would find out too, in pages, from threads that live on."""
    if hasattr(os, "posix_fallocate"):
        with open(folder / "room", "wb") as file:
            os.posix_fallocate(file.fileno(), 0, sum(x.nbytes for x in jax.tree.leaves(arrays)) + OTHER_FILES)
        os.unlink(folder / "room")


def stale_tmp_dirs(directory: Path) -> list[Path]:
    """What saves that failed or were killed have left in a `checkpoints` folder."""
    folders = [p for p in directory.iterdir() if p.is_dir() and not p.is_symlink()] if directory.is_dir() else []
    return [p for p in folders if (match := _NAME.match(p.name)) and p.name[match.end() :].startswith((_TMP, _REPLACED))]


def _outdated(directory: Path, newest: Path, keep: int) -> list[Path]:
    """The steps that the newest one makes superfluous. Those said to be after it were refused when the run was restored."""
    steps = saved_steps(directory)
    before = [p for p in steps if _known_place(p) <= _known_place(newest)]
    evaluations = [p for p in before if is_evaluation(p)][-keep:]  # -0 is all of them
    stops = [p for p in before if not evaluations or _known_place(p) > _known_place(evaluations[-1])][-KEEP_STOPS:]
    return [p for p in steps if p not in evaluations and p not in stops and not p.is_symlink()]


def _remove(folders: list[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _files(folder: Path) -> list[str]:
    """The files that were written into a folder, as they stand in DIGESTS."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return [p.relative_to(folder).as_posix() for p in files if not any(p.match(pattern) for pattern in _OF_SYSTEMS)]


def _file_digest(folder: Path, name: str) -> str | None:
    """SHA-256 of a file inside a folder; None if there is no such file. Raises OSError if it cannot be read."""
    path = folder / name
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        return None
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(path.stat().st_mode) else None
    except (FileNotFoundError, NotADirectoryError):
        return None


def _first_bad_file(folder: Path) -> str | None:
    """The first file of a step that is missing or is not what was saved. What DIGESTS does not list is not ours, and is let be."""
    try:
        expected = json.loads((folder / DIGESTS).read_text())
        bad = [name for name in sorted(expected) if _file_digest(folder, name) != expected[name]]
        return next(iter(bad), None) if expected else DIGESTS
    except (ValueError, TypeError, AttributeError):
        return DIGESTS


def name_of(step: int, steps_past_eval: int = 0) -> str:
    """The name of a step's folder: `300`, or `300+75`."""
    return f"{step}+{steps_past_eval}" if steps_past_eval else f"{step}"


def place_of(step_folder: Path) -> tuple[int, int] | None:
    """Where a step stands: (evaluation, steps since); None if that is no step's name."""
    match = _NAME.fullmatch(step_folder.name)
    return (int(match[1]), int(match[2] or 0)) if match else None


def _known_place(step_folder: Path) -> tuple[int, int]:
    """`place_of` a folder that is known to be a step."""
    return place_of(step_folder) or (0, 0)


def step_of(step_folder: Path) -> int:
    """The step of the evaluation that a step folder is, or that it comes after."""
    return _known_place(step_folder)[0]


def is_evaluation(step_folder: Path) -> bool:
    """Whether a step is an evaluation, rather than a stop between two."""
    return _known_place(step_folder)[1] == 0


def is_step(path: Path) -> bool:
    """Whether a path is one step, by its name, rather than a workdir that is called by a number."""
    return place_of(path) is not None and not os.path.isdir(path / "checkpoints")


def saved_steps(directory: Path) -> list[Path]:
    """The steps of a `checkpoints` folder by name, oldest first, whole or not: `load` tells."""
    steps = [p for p in directory.iterdir() if place_of(p) and p.is_dir()] if directory.is_dir() else []
    return sorted(steps, key=_known_place)


def candidates(path: Path) -> list[Path]:
    """The step folders (resolved) that `path` may mean, best first: itself, or those of a workdir or of its `checkpoints`.

    Raises InputError if there is none.
    """
    try:
        path.stat()
    except PermissionError as error:
        raise InputError(f"--ckpt={path}: may not be read ({_first_line(error)}); get permission to read it") from error
    except OSError:
        pass
    if not path.is_dir():
        raise InputError(f"--ckpt={path}: no such folder; give a workdir of experiments.sweep, its checkpoints, or one step")
    path = path.resolve()
    if is_step(path):
        return [path]
    steps = saved_steps(path / "checkpoints" if (path / "checkpoints").is_dir() else path)
    if not steps:
        raise InputError(f"--ckpt={path}: holds no checkpoint; give a workdir of experiments.sweep, its checkpoints, or one step")
    return steps[::-1]


def load(step_folder: Path) -> tuple[dict, dict]:
    """The arrays (NumPy) and meta of one step.

    Raises InputError if it is foreign, of a newer format, or may not be read; Unusable if it is damaged or cannot be read.
    """
    folder = step_folder.resolve()
    try:
        if bad := _first_bad_file(folder):
            raise _damaged(step_folder, f"{bad} is missing or is not what was saved")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _damaged(step_folder, f"not a complete checkpoint of lrjax: no {DIGESTS} in it") from error
    except OSError as error:
        raise _damaged(step_folder, error) from error
    try:
        with _orbax(ocp.JsonCheckpointHandler, folder) as (orbax, place):
            meta = orbax.restore(place / "meta")
    except InputError:  # of its name
        raise
    except Exception as error:
        raise _damaged(step_folder, error) from error
    if not isinstance(meta, dict) or not isinstance(meta.get("format"), int) or "digests" not in meta:
        raise InputError(f"{step_folder}: not a checkpoint of lrjax (its meta has no format); give a workdir or another step")
    if meta["format"] > FORMAT:
        raise InputError(f"{step_folder}: written in format {meta['format']}, newer than {FORMAT}, this lrjax's; upgrade lrjax")
    try:
        with _orbax(ocp.PyTreeCheckpointHandler, folder) as (orbax, place):
            shape = orbax.metadata(place / "state")
            tree = getattr(shape, "item_metadata", shape)
            tree = getattr(tree, "tree", tree)
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
            arrays = orbax.restore(place / "state", args=ocp.args.PyTreeRestore(restore_args=as_numpy))
    except Exception as error:
        raise _damaged(step_folder, error) from error
    if digests(arrays) != meta["digests"]:
        raise _damaged(step_folder, "the arrays are not the ones that were saved")
    return arrays, meta


def _damaged(folder: Path, cause) -> InputError:
    """The error to raise. A step that may not be read is sound for all we know: no older one is to be used in its place."""
    if isinstance(cause, PermissionError) or "PERMISSION_DENIED" in str(cause):
        return InputError(f"{folder}: may not be read ({_first_line(cause)}); get permission to read all of this folder")
    here = _known_place(folder)
    older = [p.name for p in saved_steps(folder.parent) if _known_place(p) < here and os.path.isfile(p / DIGESTS)]
    hint = f"an older step is there: {folder.parent / older[-1]}" if older else "no older step is there: bring back a copy"
    if folder.is_dir() and not _files(folder):
        return Unusable(f"{folder}: is empty: no checkpoint was finished there", hint)
    what = "cannot be read" if isinstance(cause, OSError) else "damaged checkpoint"
    return Unusable(f"{folder}: {what} ({_first_line(cause)})", hint)


def _first_line(cause) -> str:
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    return lines[0][:200]


@contextlib.contextmanager
def _orbax(handler, folder: Path):
    """A checkpointer of this process alone, which waits for no other, and `folder` by a name that it can open. Raises InputError if
    there is none. Orbax logs every save through absl; silent here.
    """
    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process{me}")
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with (
            paths.in_utf8(folder.resolve()) as place,
            ocp.Checkpointer(handler(multiprocessing_options=alone), multiprocessing_options=alone) as checkpointer,
        ):
            yield checkpointer, place
    finally:
        logger.setLevel(level)
