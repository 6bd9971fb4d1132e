"""The compiled programs that are kept in a folder, so that the second run starts at once."""

import functools
import os
from pathlib import Path

import jax
from jax._src import lru_cache

from lrjax import paths
from lrjax.errors import warn
from lrjax.storage.files import write_atomically


def use_compilation_cache() -> None:
    """Keep compiled programs in the user's cache folder (or in JAX_COMPILATION_CACHE_DIR): the second run starts at once.

    Where there is no home, or jax cannot open a folder of such a name, none are kept, and that is said. Where the folder cannot be
    written, jax warns and compiles.
    """
    elsewhere = "compiled programs are not kept; to keep them, set JAX_COMPILATION_CACHE_DIR to another folder"
    if not (folder := jax.config.values.get("jax_compilation_cache_dir")):
        try:
            folder = str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lrjax" / "xla")
        except RuntimeError:  # neither HOME nor a passwd entry, as of a container's user
            warn(f"no home folder is known: {elsewhere}")
    if folder and not paths.is_utf8(folder):
        warn(f"{folder!r}: its name is not UTF-8 in this locale: {elsewhere}")
        folder = None
    jax.config.update("jax_compilation_cache_dir", folder)
    write_whole_entries()


def write_whole_entries() -> None:
    """Have jax write an entry of its cache to a temporary file, which is then renamed. An entry that is there is replaced.

    jax (0.7.2 to 0.10.2) writes an entry in place. A full disk or a kill then leaves a part of the entry, and jax never writes that
    entry again, so every later process warns and compiles. jax writes to an entry that is there only where it could not read the
    entry, so replacing it mends it.
    """
    in_place = lru_cache.LRUCache.put
    if hasattr(in_place, "__wrapped__"):  # done already
        return

    @functools.wraps(in_place)
    def put(self, key: str, value: bytes) -> None:
        folder = Path(str(self.path))
        if self.eviction_enabled or not folder.is_dir():  # a bucket's address is no folder
            return in_place(self, key, value)
        write_atomically(folder / f"{key}{lru_cache._CACHE_SUFFIX}", value)

    lru_cache.LRUCache.put = put
