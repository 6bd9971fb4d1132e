"""How a file is written, wherever lrjax writes one: whole or not at all, by any number of processes at once."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

TEMPORARY = ".lrjax-*.tmp"  # a process that was killed may leave one: no other process reads it or writes to it


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file, and make its folder if there is none. Readers see the old content or the new one, never a part.

    Every call writes to a temporary file of its own in the same folder, so that any number of processes and threads may write the
    same file: the last one wins. When this returns, the content is on the disk.

    Args:
        path: the file.
        content: what it shall hold; text is written as UTF-8, its line ends as they are.

    Raises:
        OSError: with the name of the file, if it cannot be written. What was there before still is.
    """
    temporary = path.with_name(TEMPORARY.replace("*", uuid.uuid4().hex))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:  # of a full disk names no file
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OSError(error.errno, f"cannot be written ({error.strerror or error})", str(path)) from error
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to the disk, such as the name of a file that was renamed. Some file systems do not need this, and
    refuse it.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Bring everything in a folder to the disk, before the folder is renamed."""
    for place, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(place, name), "rb+") as file:  # Windows brings to the disk only what may be written
                os.fsync(file.fileno())
        sync_folder(Path(place))


def stale_tmp_files(folder: Path) -> Iterator[Path]:
    """The temporary files in a folder that killed processes have left, or that others are writing."""
    return folder.glob(TEMPORARY) if folder.is_dir() else iter(())
