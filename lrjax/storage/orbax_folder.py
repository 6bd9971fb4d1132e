"""Orbax, behind one door: no other file imports it. A folder holds nested dicts of arrays, or one value that JSON has.

Orbax keeps no checksum of its own: a flipped byte restores as a silently wrong number. `digests` tells arrays apart.
"""

import contextlib
import hashlib
import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from lrjax import paths


def digests(arrays: Any) -> dict[str, str]:
    """SHA-256 of every leaf's type, shape and bytes, by its path."""

    def digest(leaf):
        leaf = np.ascontiguousarray(leaf)
        found = hashlib.sha256(f"{leaf.dtype.str}{leaf.shape}".encode())
        found.update(leaf.reshape(-1).view(np.uint8).data)
        return found.hexdigest()

    leaves = jax.tree_util.tree_flatten_with_path(arrays)[0]
    return {jax.tree_util.keystr(path): digest(leaf) for path, leaf in leaves}


def write_arrays(folder: Path, arrays: dict) -> None:
    """Write nested dicts of NumPy arrays into a new folder. Orbax raises what it likes."""
    with _orbax(ocp.StandardCheckpointHandler, folder.parent) as (orbax, place):
        orbax.save(place / folder.name, args=ocp.args.StandardSave(arrays))


def read_arrays(folder: Path) -> dict:
    """The nested dicts of NumPy arrays of a folder. Orbax raises what it likes."""
    with _orbax(ocp.PyTreeCheckpointHandler, folder.parent) as (orbax, place):
        shape = orbax.metadata(place / folder.name)
        tree = getattr(shape, "item_metadata", shape)
        tree = getattr(tree, "tree", tree)
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        return orbax.restore(place / folder.name, args=ocp.args.PyTreeRestore(restore_args=as_numpy))


def write_json(folder: Path, value: Any) -> None:
    """Write what JSON has into a new folder. Orbax raises what it likes."""
    with _orbax(ocp.JsonCheckpointHandler, folder.parent) as (orbax, place):
        orbax.save(place / folder.name, args=ocp.args.JsonSave(value))


def read_json(folder: Path) -> Any:
    """What `write_json` wrote into a folder. Orbax raises what it likes."""
    with _orbax(ocp.JsonCheckpointHandler, folder.parent) as (orbax, place):
        return orbax.restore(place / folder.name)


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
