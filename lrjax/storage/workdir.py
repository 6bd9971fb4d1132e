"""The folder of a sweep: what is in it, and when it may be written.

config.json   the sweep, and the versions of format and packages
lock          held by the process that writes here, however long that lives
checkpoints/  see `checkpoint`
models.csv    a row per model       history.csv   a row per evaluation and model
figures/      analysis/   study/    what commands draw and tabulate, and what studies tabulate; see `results`
"""

import contextlib
import dataclasses
import json
import os
from pathlib import Path

import filelock
import jax
import numpy as np

from lrjax import devices, paths
from lrjax.config import FIELDS, LENGTH, Sweep, validate
from lrjax.errors import InputError, SaveError, Unusable, warn
from lrjax.stats import write_csv
from lrjax.storage import checkpoint, results, serialization, step_folders
from lrjax.storage.files import write_atomically
from lrjax.training import loop
from lrjax.training.run import Run, history_table, models_table

TABLES = ("models.csv", "history.csv")
NAMES = (*TABLES, "checkpoints", *results.FOLDERS)  # what a sweep's folder has beside config.json
_identities: dict[tuple[Path, int], str] = {}  # of steps that were loaded, by folder and the time when it was written
_locks: dict[Path, object] = {}  # open files, by workdir: the system lets go of them when the process ends, however it ends


def open_run(workdir: str | Path, wanted: Sweep, *, resume: bool = False, overwrite: bool = False) -> Run:
    """The run to go on with in `workdir`: new, or restored from its newest checkpoint that verifies.

    Creates nothing but the folder, its config.json and its lock. Other files may be in the folder, such as a log.

    Of several processes the first decides; the others follow it into the same folder.

    Raises InputError, having changed nothing but the name of a step that was being replaced, if the folder holds another sweep, an
    unfinished one without `resume`, or files of a sweep's names that are none's, if another process is writing there, or if no
    checkpoint can be used.
    """
    workdir = paths.as_path(workdir)
    if not devices.first_process():
        devices.wait_for_all("workdir is open")
        if not (workdir / "config.json").is_file():
            raise InputError(f"--workdir={workdir}: not the folder that process 0 sees; give one that all hosts share")
        steps = step_folders.saved_steps(workdir / "checkpoints")
        return _as_wanted(_newest(steps)[0], wanted) if steps else loop.start(wanted)
    run = _open_first(workdir, wanted, resume, overwrite)
    devices.wait_for_all("workdir is open")
    return run


def _open_first(workdir: Path, wanted: Sweep, resume: bool, overwrite: bool) -> Run:
    if resume and overwrite:
        raise InputError("--resume, --overwrite: one continues the run, the other removes it; give one of them")
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"--workdir={workdir}: is a file; give a folder")
    config = workdir / "config.json"
    taken = [name for name in NAMES if (workdir / name).exists()]
    if taken and not config.is_file():
        raise InputError(f"--workdir={workdir}: has {taken[0]} but no sweep (no config.json); give another folder, or move it away")
    if config.is_file():
        _lock(workdir)
        found = _read_config(config, overwrite)
        if found is not None and not overwrite:
            return _go_on(workdir, found, wanted, resume)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        _lock(workdir)
        if config.is_file():
            _remove(workdir)
        _write_config(workdir, wanted)
    except OSError as error:
        reason = getattr(error.__cause__, "strerror", None) or error.strerror or error
        raise InputError(f"--workdir={workdir}: cannot be written ({reason}); give a folder that can") from error
    return loop.start(wanted)


def _write_config(workdir: Path, sweep: Sweep) -> None:
    data = {"format": checkpoint.FORMAT, "versions": checkpoint.versions(), **serialization.sweep_to_json(sweep)}
    write_atomically(workdir / "config.json", json.dumps(data, indent=1) + "\n")


def _lock(workdir: Path) -> None:
    """Let no other process write here while this one lives. Raises InputError if one does already."""
    if workdir.resolve() in _locks:
        return
    try:
        file = open(workdir / "lock", "a")  # noqa: SIM115
    except OSError as error:
        raise InputError(f"--workdir={workdir}: cannot be written ({error.strerror}); give a folder that can") from error
    try:
        ours = filelock.lock_descriptor(file.fileno(), blocking=False)
    except OSError as error:
        warn(f"{workdir}: cannot be locked on this file system ({error.strerror}); let no other sweep write there")
        ours = True
    if not ours:
        file.close()
        raise InputError(f"--workdir={workdir}: another process is writing there; wait until it ends, or give another folder")
    _locks[workdir.resolve()] = file


def _remove(workdir: Path) -> None:
    """A sweep's own files, but for config.json, which stays until it is replaced: until then the folder is a sweep's."""
    folder = workdir / "checkpoints"
    step_folders.bring_back_replaced(folder)
    for left in step_folders.stale_tmp_dirs(folder):  # before the steps, so that none of these is ever brought back
        step_folders.remove(left)
    for step in [p for p in step_folders.saved_steps(folder) if not p.is_symlink()]:
        step_folders.remove(step)
    for name in TABLES:
        (workdir / name).unlink(missing_ok=True)
    if stay := results.remove(workdir):
        warn(f"{stay[0]}{f' and {len(stay) - 1} more files' if stay[1:] else ''}: kept, no record says that lrjax made it")


def _go_on(workdir: Path, found: Sweep, wanted: Sweep, resume: bool) -> Run:
    """The run that a sweep's folder holds, if it is the one wanted, or a shorter one that becomes it."""
    _refuse_other(workdir, found, wanted)
    step_folders.bring_back_replaced(workdir / "checkpoints")
    steps = step_folders.saved_steps(workdir / "checkpoints")
    run, meta = _newest(steps) if steps else (loop.start(wanted), {})
    if not loop.goes_on_to(run.sweep, wanted):
        raise InputError(f"--workdir={workdir}: its checkpoints are of another sweep than its config.json; give another folder")
    run = _as_wanted(run, wanted)
    if not run.finished and not resume:
        at = f"step {run.step} of {wanted.longest}" if steps else "no checkpoint yet"
        raise InputError(
            f"--workdir={workdir}: holds an unfinished run ({at}); continue it with --resume, or start again with --overwrite"
        )
    if not run.finished and (other := checkpoint.differences(meta)):
        warn(f"resumed with {other}")
    if found != wanted:
        _write_config(workdir, wanted)  # before a longer checkpoint is there: a shorter one than config.json says can go on
    return run


def _as_wanted(run: Run, wanted: Sweep) -> Run:
    """The run with the length, the frequency of checkpoints and the number of checkpoints that stay as this command gives them;
    slabs stay as they were.
    """
    run = loop.lengthened(run, wanted)
    asked = {name: getattr(wanted, name) for name in ("checkpoint_every", "keep_checkpoints")}
    run.sweep = dataclasses.replace(run.sweep, **asked)
    return run


def _read_config(config: Path, overwrite: bool) -> Sweep | None:
    """The sweep of a config.json; None if it is one that --overwrite may replace without understanding it."""
    advice = "give another --workdir" + ("" if overwrite else ", or start again with --overwrite")
    try:
        data = json.loads(config.read_text())
        ours = isinstance(data, dict) and {"format", "versions", "models"} <= set(data)
    except ValueError as error:
        raise InputError(f"{config}: is not JSON ({error}); mend it, or give another --workdir") from error
    if not ours:
        raise InputError(f"{config}: is not of a sweep; give another --workdir")
    if not isinstance(data["format"], int) or data["format"] > checkpoint.FORMAT:
        raise InputError(
            f"{config}: written in format {data['format']}, newer than {checkpoint.FORMAT}, this lrjax's; upgrade lrjax"
        )
    try:
        found = serialization.sweep_from_json(data)
        validate(found)
        return found
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        if overwrite:
            return None
        raise InputError(f"{config}: cannot be understood ({error!r}); {advice}") from error


def _refuse_other(workdir: Path, found: Sweep, wanted: Sweep) -> None:
    """Raise InputError, naming the first field that differs, if the sweep found cannot become the one wanted."""
    if loop.goes_on_to(found, wanted):
        return

    def values(s: Sweep, name: str):
        kinds = dict.fromkeys(getattr(model, name) for model in s.models)
        return tuple(kinds) if len(kinds) > 1 else next(iter(kinds))

    for name in LENGTH:
        if getattr(found, name) != getattr(wanted, name):
            there, here = getattr(found, name), getattr(wanted, name)
            break
    else:
        names = [name for name in FIELDS if values(found, name) != values(wanted, name)]
        name = names[0] if names else "models"
        there, here = (values(s, name) if names else len(s.models) for s in (found, wanted))
    raise InputError(
        f"--workdir={workdir}: holds another sweep ({name} is {_short(there)} there, {_short(here)} here); "
        "give another folder, or replace it with --overwrite of experiments.sweep"
    )


def _short(value) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def restore(path: str | Path) -> Run:
    """The run of a workdir or of its `checkpoints`, at its newest evaluation that verifies, or of one step, as NumPy arrays.

    What was skipped is said. Models that have diverged have no parameters: they are NaN, and so is all that is computed from them.
    Raises InputError if there is no evaluation, or none that can be used.
    """
    return restore_identified(path)[0]


def restore_identified(path: str | Path) -> tuple[Run, str]:
    """`restore`, and the `checkpoint.identity` of what was restored, for the records of results."""
    run, meta = _newest(_evaluations(paths.as_path(path)))
    run.states = [dataclasses.replace(state, params=_without_diverged(state)) for state in run.states if state is not None]
    return run, checkpoint.identity(meta)


def identity(path: Path) -> str:
    """The `checkpoint.identity` of what `restore` would restore. A step is read again only if it has been written again."""
    for step in reversed(steps := _evaluations(path)):
        if known := _identities.get(_stamp(step)):
            return known
        with contextlib.suppress(Unusable):
            return checkpoint.identity(_load(step)[1])
    return checkpoint.identity(_newest(steps)[1])  # which says why none can be used


def evaluations(path: str | Path) -> list[Path]:
    """The checkpoints of evaluations that a workdir or its `checkpoints` holds, oldest first; of one step, itself."""
    return _evaluations(paths.as_path(path))


def _stamp(step: Path) -> tuple[Path, int]:
    try:
        return step, (step / checkpoint.DIGESTS).stat().st_mtime_ns
    except OSError:  # not there, or not to be read, which `checkpoint.load` says
        return step, 0


def _evaluations(path: Path) -> list[Path]:
    """The evaluations that a path may mean, oldest first."""
    evaluations = [step for step in step_folders.candidates(path) if step_folders.is_evaluation(step)]
    if not evaluations:
        raise InputError(
            f"--ckpt={path}: a stop between two evaluations; give a workdir that has an evaluation, or --resume the sweep"
        )
    return evaluations[::-1]


def _without_diverged(state):
    healthy = lambda x: (state.diverged_at < 0).reshape(-1, *[1] * (x.ndim - 1))
    return jax.tree.map(lambda x: np.where(healthy(x), x, np.float32(np.nan)), state.params)


def _newest(steps: list[Path]) -> tuple[Run, dict]:
    """The run and meta of the last of these steps, oldest first, that can be used; says which were skipped, and why."""
    skipped = []
    for step in reversed(steps):
        try:
            run, meta = _load(step)
        except Unusable as error:
            skipped.append(error)
            continue
        if devices.first_process():
            for error in skipped:
                warn(f"{error.args[0]}; skipped, step {step.name} is used")
        return run, meta
    if len(steps) == 1:
        raise skipped[0]
    raise InputError(f"{skipped[0].args[0]}; no older step can be used either: bring back a copy, or start again with --overwrite")


def _load(folder: Path) -> tuple[Run, dict]:
    """The run and meta of one step."""
    stamp, (parts, meta) = _stamp(folder), checkpoint.load(folder)
    try:
        run = serialization.run_from_parts(parts, meta)
        _identities[stamp] = checkpoint.identity(meta)
        return run, meta
    except InputError as error:
        raise type(error)(*(text.replace("checkpoint:", f"{folder}:", 1) for text in error.args)) from error
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise InputError(f"{folder}: not a checkpoint of lrjax ({error!r}); give a workdir or another step") from error


def root(path: Path) -> Path:
    """The workdir that a --ckpt path belongs to: where figures and tables of an analysis go."""
    folder = step_folders.candidates(path)[0].parent
    return folder.parent if folder.name == "checkpoints" else folder


def output(path: Path, out: str | None = None) -> Path:
    """Where an analysis of a --ckpt path writes: `out`, or the workdir; it is made when something is written there. Raises
    InputError if it cannot be, or if its folders of tables and of figures cannot.
    """
    folder = Path(out) if out else root(path)
    for inside in ("", "analysis", "figures"):
        if not _writable(folder / inside):
            place = f"--out={out}{f': its {inside}' if inside else ':'}" if out else f"{folder / inside}:"
            raise InputError(f"{place} cannot be written; give a folder that can with --out")
    return folder


def _writable(folder: Path) -> bool:
    """Whether a folder can be written, or be made if it is not there."""
    try:
        there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    except OSError:
        return False


def save(workdir: str | Path, run: Run) -> None:
    """Checkpoint and tables, as of where the run stands. Raises SaveError if one of them cannot be written."""
    workdir = paths.as_path(workdir)
    step, steps_past_eval = run.place
    checkpoint.save(workdir / "checkpoints", step, *serialization.run_to_parts(run), steps_past_eval, run.sweep.keep_checkpoints)
    if devices.first_process():
        try:
            write_tables(workdir, run)
        except OSError as error:
            raise SaveError(str(error)) from error


class Saver:
    """Saves a run as it trains. A save that fails is said, and training goes on: `failed` is why the last one did."""

    def __init__(self, workdir: Path, run: Run):
        self.workdir, self.failed, self.saved = workdir, None, run.place if run.evaluations else None

    def __call__(self, run: Run) -> None:
        """Save the run, if it has come further and has been evaluated at all."""
        if not run.evaluations or run.place == self.saved:
            return
        try:
            save(self.workdir, run)
            self.failed, self.saved = None, run.place
        except SaveError as error:
            self.failed = error
            warn(f"{error}; what was saved before is kept, and the next save may succeed")


def write_tables(workdir: Path, run: Run) -> None:
    """models.csv and history.csv."""
    for name, table in zip(TABLES, (models_table(run), history_table(run)), strict=True):
        write_csv(workdir / name, table)
