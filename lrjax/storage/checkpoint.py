"""The steps of a run on disk, each verified before a number of it is used.

A checkpoint is data, never code: a JSON `meta` and parts, which are nested dicts of arrays, in `<directory>/<name>/`. `300` is an
evaluation, `300+75` a stop 75 steps into the interval after it. `meta` has a digest of every array, and DIGESTS one of every file:
Orbax has none, and takes an empty folder for a step. A save is written aside, read back, and only then renamed to its place:
whenever a process is killed, all steps that were there still are. The next run or save brings back one that was being replaced.

A part that the newest step holds already is not written again. The new step has its files as hard links, so that every step is
whole whichever others are removed. Of several processes the first one writes everything: in others Orbax writes no NumPy array.
"""

import hashlib
import importlib.metadata
import json
import os
import stat
from pathlib import Path, PurePosixPath

import jax
import numpy as np

from lrjax import devices
from lrjax.errors import InputError, SaveError, Unusable, first_line
from lrjax.storage import code_version, files, orbax_folder, step_folders
from lrjax.storage.orbax_folder import digests

FORMAT = 4  # 1 had no diverged_at; in 2 all models shared one step
OF_PARTS = 4  # formats before had all arrays in one
STATE, META = "state", "meta"  # folders of a step: of its parts, and of its meta
OTHER_FILES = 2**18  # bytes of a checkpoint beside its arrays, generously
PACKAGES = ("lrjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
SOURCE = "lrjax source"  # what identifies the code; the version of lrjax does not
DIGESTS = "digests.json"
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


def digests_by_part(parts: dict[str, dict]) -> dict[str, dict[str, str]]:
    """The digests of the arrays of parts."""
    return {name: digests(arrays) for name, arrays in parts.items()}


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


def save(directory: Path, step: int, parts: dict[str, dict], meta: dict, steps_past_eval: int = 0, keep: int = 2) -> None:
    """Write parts and a JSON-able meta as step `step`, or a stop `steps_past_eval` steps after it. All processes call it.

    When this returns, the step is complete and has been read back; only then are older ones dropped.

    Args:
        directory: where the steps are.
        step: the step of the evaluation.
        parts: nested dicts of arrays, by the name of a part.
        meta: what else is known.
        steps_past_eval: how many steps after the evaluation this is.
        keep: how many of the newest evaluations stay; all, if 0.

    Raises:
        SaveError: it cannot be done: what was there before still is.
    """
    try:
        if devices.first_process():
            meta = {**meta, "format": FORMAT, "step": step, **_here()}
            _write(directory, step_folders.name_of(step, steps_past_eval), parts, meta, keep)
    finally:
        devices.wait_for_all(f"step {step} is saved")


def _write(directory: Path, name: str, parts: dict[str, dict], meta: dict, keep: int) -> None:
    tmp_dir, place = directory / (name + step_folders.TMP), directory / name
    try:
        _clear_up(directory)
        (tmp_dir / STATE).mkdir(parents=True)
        found = _write_parts(directory, tmp_dir, jax.tree.map(np.asarray, parts))
        orbax_folder.write_json(tmp_dir / META, {**meta, "digests": found})
        (tmp_dir / DIGESTS).write_text(json.dumps({name: _file_digest(tmp_dir, name) for name in _files(tmp_dir)}))
        if orbax_folder.read_json(tmp_dir / META)["digests"] != found:
            raise OSError("the digests are not the ones that were saved")
        files.sync_tree(tmp_dir)
        if os.path.lexists(place):  # refused when the run was restored, or as good as this one
            os.rename(place, directory / (name + step_folders.REPLACED))
        os.rename(tmp_dir, place)
        files.sync_folder(directory)
    except Exception as error:  # Orbax raises six types for a bad disk, bare Exception among them
        _clear_up(directory)
        raise SaveError(f"{place}: could not be saved ({first_line(error)})") from error
    _remove([*step_folders.stale_tmp_dirs(directory), *step_folders.outdated(directory, place, keep)])


def _clear_up(directory: Path) -> None:
    """Undo what a save that failed or was killed has begun."""
    step_folders.bring_back_replaced(directory)
    _remove(step_folders.stale_tmp_dirs(directory))


def _write_parts(directory: Path, tmp_dir: Path, parts: dict[str, dict]) -> dict[str, dict[str, str]]:
    """Link the parts that the newest step has, write the others and read them back. Returns the digests of all arrays."""
    wanted = digests_by_part(parts)
    there = _files_there(directory, wanted)
    folders = {name: tmp_dir / STATE / name for name in parts}
    linked = [name for name in there if _linked(tmp_dir, there[name]) and _holds(folders[name], wanted[name])]
    written = {name: arrays for name, arrays in parts.items() if name not in linked}
    _remove([folders[name] for name in written])
    _ask_for_room(tmp_dir / "room", written)
    for name, arrays in written.items():
        orbax_folder.write_arrays(folders[name], arrays)
        if digests(orbax_folder.read_arrays(folders[name])) != wanted[name]:
            raise OSError("the arrays are not the ones that were saved")
    return wanted


def _holds(folder: Path, wanted: dict[str, str]) -> bool:
    """Whether the arrays of a linked part have these digests. A part that cannot be read has not."""
    try:
        return digests(orbax_folder.read_arrays(folder)) == wanted
    except Exception:  # Orbax raises what it likes
        return False


def _files_there(directory: Path, wanted: dict[str, dict]) -> dict[str, dict[str, Path]]:
    """Of each part that the newest step has with these digests of arrays, and whole: its files, by their place in a step."""
    try:
        step = step_folders.saved_steps(directory)[-1]
        had, written = orbax_folder.read_json(step / META)["digests"], json.loads((step / DIGESTS).read_text())
        there = {}
        for name in wanted:
            of_part = [file for file in written if file.startswith(f"{STATE}/{name}/")]
            if of_part and had.get(name) == wanted[name] and all(_file_digest(step, file) == written[file] for file in of_part):
                there[name] = {file: step / file for file in of_part}
        return there
    except Exception:  # there is no step, or one that is damaged: nothing of it is used
        return {}


def _linked(step: Path, of_part: dict[str, Path]) -> bool:
    """Whether the files of a part could be linked into another step. Not every file system has links.

    A symbolic link is not linked. Neither is a file that may not be written, since `files.sync_tree` opens files to write.
    """
    if any(there.is_symlink() or not os.access(there, os.W_OK) for there in of_part.values()):
        return False
    try:
        for file, there in of_part.items():
            (step / file).parent.mkdir(parents=True, exist_ok=True)
            os.link(there, step / file)
    except OSError:
        return False
    return True


def _ask_for_room(file: Path, arrays: dict) -> None:
    """Raise OSError if the disk has none for these arrays. TensorStore would find out too, in pages, from threads that live on."""
    if hasattr(os, "posix_fallocate"):
        with open(file, "wb") as opened:
            os.posix_fallocate(opened.fileno(), 0, sum(x.nbytes for x in jax.tree.leaves(arrays)) + OTHER_FILES)
        os.unlink(file)


def _remove(folders: list[Path]) -> None:
    for folder in folders:
        step_folders.remove(folder, ignore_errors=True)


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


def load(step_folder: Path) -> tuple[dict, dict]:
    """The parts (NumPy) and meta of one step. Up to format 3 the arrays were one part, which is returned as it is.

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
        meta = orbax_folder.read_json(folder / META)
    except InputError:  # of its name
        raise
    except Exception as error:
        raise _damaged(step_folder, error) from error
    if not isinstance(meta, dict) or not isinstance(meta.get("format"), int) or "digests" not in meta:
        raise InputError(f"{step_folder}: not a checkpoint of lrjax (its meta has no format); give a workdir or another step")
    if meta["format"] > FORMAT:
        raise InputError(f"{step_folder}: written in format {meta['format']}, newer than {FORMAT}, this lrjax's; upgrade lrjax")
    try:
        if meta["format"] < OF_PARTS:
            parts = orbax_folder.read_arrays(folder / STATE)
            found = digests(parts)
        else:
            parts = {name: orbax_folder.read_arrays(folder / STATE / name) for name in map(_checked, meta["digests"])}
            found = digests_by_part(parts)
    except Exception as error:
        raise _damaged(step_folder, error) from error
    if found != meta["digests"]:
        raise _damaged(step_folder, "the arrays are not the ones that were saved")
    return parts, meta


def _checked(part: str) -> str:
    """The name of a part. Raises ValueError if it is a path to another place."""
    if PurePosixPath(part).name != part or part in ("", ".."):
        raise ValueError(f"{part!r} is no name of a part")
    return part


def _damaged(folder: Path, cause) -> InputError:
    """The error to raise. A step that may not be read is sound for all we know: no older one is to be used in its place."""
    if isinstance(cause, PermissionError) or "PERMISSION_DENIED" in str(cause):
        return InputError(f"{folder}: may not be read ({first_line(cause)}); get permission to read all of this folder")
    place_of = step_folders.known_place
    before = [p for p in step_folders.saved_steps(folder.parent) if place_of(p) < place_of(folder)]
    older = [p.name for p in before if os.path.isfile(p / DIGESTS)]
    hint = f"an older step is there: {folder.parent / older[-1]}" if older else "no older step is there: bring back a copy"
    if folder.is_dir() and not _files(folder):
        return Unusable(f"{folder}: is empty: no checkpoint was finished there", hint)
    what = "cannot be read" if isinstance(cause, OSError) else "damaged checkpoint"
    return Unusable(f"{folder}: {what} ({first_line(cause)})", hint)
