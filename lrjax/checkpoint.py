"""Orbax, behind one door: no other file imports it.

A checkpoint is data: nested dicts of arrays and a JSON `meta`, in `<directory>/<step>/`. Orbax keeps no checksum of its own (a
flipped byte restores as a silently wrong number) and takes an empty folder for a step. So `meta` has a digest of every array, and
a step is complete when its last file is there: DIGESTS, a digest of every other file. Both are verified before a number is used.
"""

import hashlib
import importlib.metadata
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from lrjax import devices
from lrjax.errors import InputError

FORMAT = 1
KEEP = 2  # newest steps kept
PACKAGES = ("lrjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
DIGESTS = "digests.json"
_ITEMS = ("state", "meta")


def versions() -> dict[str, str]:
    """The installed versions that a result depends on."""

    def version(package):
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return "unknown"

    return {package: version(package) for package in PACKAGES}


def digests(arrays: Any) -> dict[str, str]:
    """SHA-256 of every leaf's type, shape and bytes, by its path."""

    def digest(leaf):
        leaf = np.ascontiguousarray(leaf)
        return hashlib.sha256(f"{leaf.dtype.str}{leaf.shape}".encode() + leaf.tobytes()).hexdigest()

    leaves = jax.tree_util.tree_flatten_with_path(arrays)[0]
    return {jax.tree_util.keystr(path): digest(leaf) for path, leaf in leaves}


def save(directory: Path, step: int, arrays: dict, meta: dict) -> None:
    """Write nested dicts of arrays and a JSON-able meta as step `step`; complete when this returns. Old steps are dropped."""
    if devices.first_process() and directory.is_dir():
        for leftover in directory.iterdir():  # of a save that was killed: Orbax would take it for a step and refuse to save over it
            if leftover.name.isdigit() and not (leftover / DIGESTS).is_file():
                shutil.rmtree(leftover)
    devices.wait_for_all(f"leftovers of step {step} are gone")
    arrays = jax.tree.map(np.asarray, jax.device_get(arrays))
    meta = {**meta, "format": FORMAT, "versions": versions(), "step": step, "digests": digests(arrays)}
    options = ocp.CheckpointManagerOptions(max_to_keep=KEEP, enable_async_checkpointing=False)
    with _quiet(), ocp.CheckpointManager(directory.resolve(), options=options, item_names=_ITEMS) as manager:
        items = ocp.args.Composite(state=ocp.args.StandardSave(arrays), meta=ocp.args.JsonSave(meta))
        if not manager.save(step, args=items):
            raise OSError(f"{directory}: Orbax did not save step {step}")
    folder = directory / str(step)
    if not devices.first_process():
        return
    temporary = folder / (DIGESTS + ".tmp")
    temporary.write_text(json.dumps(_file_digests(folder)))
    os.replace(temporary, folder / DIGESTS)


def _file_digests(folder: Path) -> dict[str, str]:
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.startswith(DIGESTS))
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def find(path: Path) -> Path:
    """The step folder (resolved) that `path` means: itself, or the newest step of a workdir or of its `checkpoints`.

    Raises InputError if there is none.
    """
    if not path.is_dir():
        raise InputError(f"--ckpt={path}: no such folder; give a workdir of experiments.sweep, its checkpoints, or one step")
    path = path.resolve()
    if path.name.isdigit() and not (path / "checkpoints").is_dir():
        return path
    steps = saved_steps(path / "checkpoints" if (path / "checkpoints").is_dir() else path)
    if not steps:
        raise InputError(f"--ckpt={path}: holds no checkpoint; give a workdir of experiments.sweep, its checkpoints, or one step")
    return steps[-1]


def saved_steps(directory: Path) -> list[Path]:
    """The complete step folders of a `checkpoints` folder, oldest first: leftovers of an interrupted save are not among them."""
    steps = [p for p in directory.iterdir() if p.name.isdigit() and (p / DIGESTS).is_file()] if directory.is_dir() else []
    return sorted(steps, key=lambda p: int(p.name))


def load(step_folder: Path) -> tuple[dict, dict]:
    """The arrays (NumPy) and meta of one step. Raises InputError if it is foreign, of a newer format, or damaged."""
    folder = step_folder.resolve()
    if not (folder / DIGESTS).is_file():
        raise InputError(f"{step_folder}: not a complete checkpoint of lrjax (no {DIGESTS} in it); give a workdir or another step")
    try:
        expected, found = json.loads((folder / DIGESTS).read_text()), _file_digests(folder)
        bad = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    except (ValueError, TypeError, AttributeError):
        bad = [DIGESTS]
    if bad:
        raise _damaged(step_folder, f"{bad[0]} is missing or is not what was saved")
    try:
        with _quiet():
            meta = ocp.Checkpointer(ocp.JsonCheckpointHandler()).restore(folder / "meta")
    except Exception as error:  # Orbax raises six types for a bad checkpoint, bare Exception among them
        raise _damaged(step_folder, error) from error
    if not isinstance(meta, dict) or not isinstance(meta.get("format"), int) or "digests" not in meta:
        raise InputError(f"{step_folder}: not a checkpoint of lrjax (its meta has no format); give a workdir or another step")
    if meta["format"] > FORMAT:
        raise InputError(f"{step_folder}: written in format {meta['format']}, newer than {FORMAT}, this lrjax's; upgrade lrjax")
    try:
        with _quiet():
            handler = ocp.PyTreeCheckpointHandler()
            shape = ocp.Checkpointer(handler).metadata(folder / "state")
            tree = getattr(shape, "item_metadata", shape)
            tree = getattr(tree, "tree", tree)
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
            arrays = ocp.Checkpointer(handler).restore(folder / "state", args=ocp.args.PyTreeRestore(restore_args=as_numpy))
    except Exception as error:
        raise _damaged(step_folder, error) from error
    if digests(arrays) != meta["digests"]:
        raise _damaged(step_folder, "the arrays are not the ones that were saved")
    return arrays, meta


def _damaged(folder: Path, cause) -> InputError:
    older = [p.name for p in saved_steps(folder.parent) if p != folder and int(p.name) < int(folder.name)]
    hint = f"an older step is there: {folder.parent / older[-1]}" if older else "no older step is there"
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    return InputError(f"{folder}: damaged checkpoint ({lines[0][:120]}); {hint}")


class _quiet:
    """Orbax logs every save through absl; one line an evaluation is enough."""

    def __enter__(self):
        self.level = logging.getLogger("absl").level
        logging.getLogger("absl").setLevel(logging.ERROR)

    def __exit__(self, *_):
        logging.getLogger("absl").setLevel(self.level)
