"""The folder of a sweep: what is in it, and when it may be written.

config.json   the sweep, and the versions of format and packages
checkpoints/  see `checkpoint`
models.csv    a row per model       history.csv   a row per evaluation and model
figures/      analysis/             what the experiments draw and tabulate
"""

import dataclasses
import json
import os
import shutil
from pathlib import Path

from lrjax import checkpoint, devices, sweep
from lrjax.config import Model, Sweep
from lrjax.errors import InputError
from lrjax.stats import write_csv
from lrjax.sweep import Run

OURS = ("config.json", "checkpoints", "models.csv", "history.csv", "figures", "analysis")


def open_run(workdir: Path, wanted: Sweep, *, resume: bool = False, overwrite: bool = False) -> Run:
    """The run to go on with in `workdir`: new, or restored. Creates nothing but the folder and its config.json.

    Of several processes the first decides; the others follow it into the same folder.

    Raises InputError, having touched nothing, if the folder holds another sweep, an unfinished one without `resume`, or files
    that are not a sweep's.
    """
    if not devices.first_process():
        devices.wait_for_all("workdir is open")
        if not (workdir / "config.json").is_file():
            raise InputError(f"--workdir={workdir}: not the folder that process 0 sees; give one that all hosts share")
        steps = checkpoint.saved_steps(workdir / "checkpoints")
        return restore(steps[-1]) if steps else sweep.start(wanted)
    run = _open_first(workdir, wanted, resume, overwrite)
    devices.wait_for_all("workdir is open")
    return run


def _open_first(workdir: Path, wanted: Sweep, resume: bool, overwrite: bool) -> Run:
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"--workdir={workdir}: is a file; give a folder")
    config = workdir / "config.json"
    if workdir.is_dir() and any(workdir.iterdir()) and not config.is_file():
        raise InputError(f"--workdir={workdir}: has files but no sweep (no config.json); give an empty or a new folder")
    if config.is_file() and not overwrite:
        _refuse_other(workdir, config, wanted)
        if steps := checkpoint.saved_steps(workdir / "checkpoints"):
            run = restore(steps[-1])
            if run.sweep != wanted:
                raise InputError(
                    f"--workdir={workdir}: its checkpoints are of another sweep than its config.json; give another folder"
                )
            if not run.finished and not resume:
                raise InputError(
                    f"--workdir={workdir}: holds an unfinished run (step {run.step} of {wanted.steps}); "
                    "continue it with --resume, or start again with --overwrite"
                )
            return run
        if not resume:
            raise InputError(
                f"--workdir={workdir}: holds an unfinished run (no checkpoint yet); "
                "continue it with --resume, or start again with --overwrite"
            )
    try:
        for name in OURS if config.is_file() else ():
            path = workdir / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        workdir.mkdir(parents=True, exist_ok=True)
        data = {"format": checkpoint.FORMAT, "versions": checkpoint.versions(), **sweep.sweep_to_json(wanted)}
        temporary = workdir / "config.json.tmp"
        temporary.write_text(json.dumps(data, indent=1) + "\n")
        os.replace(temporary, config)
    except OSError as error:
        raise InputError(f"--workdir={workdir}: cannot be written ({error.strerror}); give a folder that can") from error
    return sweep.start(wanted)


def _refuse_other(workdir: Path, config: Path, wanted: Sweep) -> None:
    """Raise InputError, naming the first field that differs, if config.json is not this sweep."""
    try:
        found = sweep.sweep_from_json(json.loads(config.read_text()))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{config}: cannot be read ({error}); give another --workdir, or start again with --overwrite") from error
    if found == wanted:
        return

    def values(s: Sweep, name: str):
        kinds = dict.fromkeys(getattr(model, name) for model in s.models)
        return tuple(kinds) if len(kinds) > 1 else next(iter(kinds))

    for name in ("steps", "eval_every"):
        if getattr(found, name) != getattr(wanted, name):
            there, here = getattr(found, name), getattr(wanted, name)
            break
    else:
        names = [f.name for f in dataclasses.fields(Model) if values(found, f.name) != values(wanted, f.name)]
        name = names[0] if names else "models"
        there, here = (values(s, name) if names else len(s.models) for s in (found, wanted))
    raise InputError(
        f"--workdir={workdir}: holds another sweep ({name} is {_short(there)} there, {_short(here)} here); "
        "give another folder, or replace it with --overwrite"
    )


def _short(value) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def restore(path: Path) -> Run:
    """The run of a workdir, of its `checkpoints`, or of one step, as NumPy arrays. Raises InputError if there is none."""
    folder = checkpoint.find(path)
    try:
        return sweep.run_from_arrays(*checkpoint.load(folder))
    except InputError as error:
        raise InputError(str(error).replace("checkpoint:", f"{folder}:", 1)) from error
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise InputError(f"{folder}: not a checkpoint of lrjax ({error!r}); give a workdir or another step") from error


def root(path: Path) -> Path:
    """The workdir that a --ckpt path belongs to: where figures and tables of an analysis go."""
    folder = checkpoint.find(path).absolute().parent
    return folder.parent if folder.name == "checkpoints" else folder


def save(workdir: Path, run: Run) -> None:
    """Checkpoint and tables, as of the run's last evaluation."""
    checkpoint.save(workdir / "checkpoints", run.step, *sweep.run_to_arrays(run))
    if devices.first_process():
        write_tables(workdir, run)


def write_tables(workdir: Path, run: Run) -> None:
    """models.csv and history.csv."""
    write_csv(workdir / "models.csv", sweep.models_table(run))
    write_csv(workdir / "history.csv", sweep.history_table(run))
