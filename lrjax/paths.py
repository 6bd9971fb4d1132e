"""Paths as users write them."""

import os
from pathlib import Path

from lrjax.errors import InputError


def expand(path: str) -> str:
    """A path with `~` and `~user` as a shell has them; a folder that has such a name is written `./~`.

    Raises InputError if there is no such user, or no home.
    """
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        user = path.replace(os.sep, "/").partition("/")[0]
        why = "the home folder is not known" if user == "~" else "there is no such user"
        raise InputError(f"{user!r}: {why}; give the folder in full, or ./{user} for a folder of this name")
    return expanded


def as_path(path: str | Path) -> Path:
    """A Path as it is; of a string the Path that it means to a user."""
    return Path(expand(path)) if isinstance(path, str) else path
