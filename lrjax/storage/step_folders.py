"""The folders of steps in a folder of checkpoints, by name.

`300` is an evaluation, `300+75` a stop 75 steps into the interval after it.
"""

import contextlib
import os
import re
import shutil
from pathlib import Path

from lrjax.errors import InputError, first_line

KEEP_STOPS = 2  # newest stops kept after the last evaluation
TMP = ".unfinished"  # behind the name of a step that is being written
REPLACED = ".replaced"  # behind the name of a step whose place another takes
_NAME = re.compile(r"([0-9]+)(?:\+([0-9]+))?")


def name_of(step: int, steps_past_eval: int = 0) -> str:
    """The name of a step's folder: `300`, or `300+75`."""
    return f"{step}+{steps_past_eval}" if steps_past_eval else f"{step}"


def place_of(step_folder: Path) -> tuple[int, int] | None:
    """Where a step stands: (evaluation, steps since); None if that is no step's name."""
    match = _NAME.fullmatch(step_folder.name)
    return (int(match[1]), int(match[2] or 0)) if match else None


def known_place(step_folder: Path) -> tuple[int, int]:
    """`place_of` a folder that is known to be a step."""
    return place_of(step_folder) or (0, 0)


def step_of(step_folder: Path) -> int:
    """The step of the evaluation that a step folder is, or that it comes after."""
    return known_place(step_folder)[0]


def is_evaluation(step_folder: Path) -> bool:
    """Whether a step is an evaluation, rather than a stop between two."""
    return known_place(step_folder)[1] == 0


def is_step(path: Path) -> bool:
    """Whether a path is one step, by its name, rather than a workdir that is called by a number."""
    return place_of(path) is not None and not os.path.isdir(path / "checkpoints")


def saved_steps(directory: Path) -> list[Path]:
    """The steps of a `checkpoints` folder by name, oldest first, whole or not: `load` tells."""
    steps = [p for p in directory.iterdir() if place_of(p) and p.is_dir()] if directory.is_dir() else []
    return sorted(steps, key=known_place)


def candidates(path: Path) -> list[Path]:
    """The step folders (resolved) that `path` may mean, best first: itself, or those of a workdir or of its `checkpoints`.

    Raises InputError if there is none.
    """
    try:
        path.stat()
    except PermissionError as error:
        raise InputError(f"--ckpt={path}: may not be read ({first_line(error)}); get permission to read it") from error
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


def stale_tmp_dirs(directory: Path) -> list[Path]:
    """What failed or killed saves have left in a `checkpoints` folder, and what may be removed.

    A step that was being replaced may not, as long as no other step has its name (`bring_back_replaced`).
    """

    def is_left(path: Path) -> bool:
        match = _NAME.match(path.name)
        behind = path.name[match.end() :] if match else ""
        if behind == REPLACED:  # a folder, or a link to one
            return os.path.lexists(_replaced_place(path))
        return behind.startswith(TMP) and path.is_dir() and not path.is_symlink()

    return [path for path in directory.iterdir() if is_left(path)] if directory.is_dir() else []


def _replaced_place(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(REPLACED))


def bring_back_replaced(directory: Path) -> None:
    """Give a step that was being replaced its name again, if no other step has that name now.

    Only the process that writes in the folder may call this. A step that cannot be renamed stays for the next call.
    """
    for path in directory.glob(f"*{REPLACED}"):
        place = _replaced_place(path)
        if place_of(place) and not os.path.lexists(place):
            with contextlib.suppress(OSError):
                os.rename(path, place)


def remove(path: Path, ignore_errors: bool = False) -> None:
    """Remove a folder. Of a link the link is removed, and its target stays."""
    try:
        if path.is_symlink():
            path.unlink()
        else:
            shutil.rmtree(path, ignore_errors=ignore_errors)
    except OSError:
        if not ignore_errors:
            raise


def outdated(directory: Path, newest: Path, keep: int) -> list[Path]:
    """The steps that the newest one makes superfluous. Those said to be after it were refused when the run was restored."""
    steps = saved_steps(directory)
    before = [p for p in steps if known_place(p) <= known_place(newest)]
    evaluations = [p for p in before if is_evaluation(p)][-keep:]  # -0 is all of them
    stops = [p for p in before if not evaluations or known_place(p) > known_place(evaluations[-1])][-KEEP_STOPS:]
    return [p for p in steps if p not in evaluations and p not in stops and not p.is_symlink()]
