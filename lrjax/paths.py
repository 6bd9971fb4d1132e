"""Paths as users write them, and folders whose names are not UTF-8."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lrjax.errors import InputError

LINK = "link"


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


def given(path: str) -> str:
    """`expand` of a path that a user gave. Raises InputError if the path is empty."""
    if not path:  # which would mean the folder that the process runs in
        raise InputError("the path is empty; give a folder or file, such as runs/mine, or . for the folder you are in")
    return expand(path)


def as_path(path: str | Path) -> Path:
    """A Path as it is; of a string the Path that it means to a user. Raises InputError if it is neither, or empty."""
    if not isinstance(path, str | Path):
        raise InputError(f"path={path!r}: is no path; give a folder or file, such as 'runs/mine'")
    try:
        return Path(given(path)) if isinstance(path, str) else path
    except InputError as error:
        raise InputError(f"path={path!r}: {error}") from error


def is_utf8(path: str | Path) -> bool:
    """Whether a path can be written in UTF-8. A byte that Python could not decode, any but ASCII in a C locale, cannot."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


@contextlib.contextmanager
def in_utf8(folder: Path) -> Iterator[Path]:
    """A folder under a name that is UTF-8, as Orbax's are: its own, or that of a link to it, for as long as it is used.

    Raises InputError if it has no such name and no link to it can be made.
    """
    if is_utf8(folder):
        yield folder
        return
    with _link(folder) as tmp_dir:
        yield Path(tmp_dir) / LINK


def _link(folder: Path) -> tempfile.TemporaryDirectory:
    """A temporary folder with a LINK to `folder` in it."""
    try:
        tmp_dir = tempfile.TemporaryDirectory(prefix="lrjax-")
        (Path(tmp_dir.name) / LINK).symlink_to(folder, target_is_directory=True)
        return tmp_dir
    except OSError as error:
        raise InputError(
            f"{folder}: its name is not UTF-8 in this locale, and a temporary link to it cannot be made ({error}); rename it, or "
            "set TMPDIR to a writable folder"
        ) from error
