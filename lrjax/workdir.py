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
from lrjax.config import Model, Sweep, validate
from lrjax.errors import InputError
from lrjax.stats import write_csv
from lrjax.sweep import Run

# What --overwrite removes: a sweep's own files, by name. config.json is last: until then the folder stays a sweep's.
OURS = ("checkpoints/*", "models.csv", "history.csv", "figures/fig3.*", "figures/phases.*", "*/ablate_ep*", "config.json")


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
    if resume and overwrite:
        raise InputError("--resume, --overwrite: one continues the run, the other removes it; give one of them")
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"--workdir={workdir}: is a file; give a folder")
    config = workdir / "config.json"
    strangers = [p for p in workdir.iterdir() if p.name != "config.json.tmp"] if workdir.is_dir() else []
    if strangers and not config.is_file():
        raise InputError(f"--workdir={workdir}: has files but no sweep (no config.json); give an empty or a new folder")
    if config.is_file():
        found = _read_config(config, overwrite)
        if not overwrite:
            return _go_on(workdir, found, wanted, resume)
    try:
        for path in [path for pattern in OURS for path in workdir.glob(pattern)] if config.is_file() else ():
            if path.is_dir() and not path.is_symlink() and path.parent.name == "checkpoints" and path.name.split(".")[0].isdigit():
                shutil.rmtree(path)
            elif path.is_file() and path.parent.name != "checkpoints" and path != config:
                path.unlink()
        workdir.mkdir(parents=True, exist_ok=True)
        data = {"format": checkpoint.FORMAT, "versions": checkpoint.versions(), **sweep.sweep_to_json(wanted)}
        temporary = workdir / "config.json.tmp"
        temporary.write_text(json.dumps(data, indent=1) + "\n")
        os.replace(temporary, config)
    except OSError as error:
        raise InputError(f"--workdir={workdir}: cannot be written ({error.strerror or error}); give a folder that can") from error
    return sweep.start(wanted)


def _go_on(workdir: Path, found: Sweep, wanted: Sweep, resume: bool) -> Run:
    """The run that a sweep's folder holds, if it is the one wanted."""
    _refuse_other(workdir, found, wanted)
    steps = checkpoint.saved_steps(workdir / "checkpoints")
    run = restore(steps[-1]) if steps else sweep.start(wanted)
    if run.sweep != wanted:
        raise InputError(f"--workdir={workdir}: its checkpoints are of another sweep than its config.json; give another folder")
    if not run.finished and not resume:
        at = f"step {run.step} of {wanted.steps}" if steps else "no checkpoint yet"
        raise InputError(
            f"--workdir={workdir}: holds an unfinished run ({at}); continue it with --resume, or start again with --overwrite"
        )
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
        found = sweep.sweep_from_json(data)
        validate(found)
        return found
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        if overwrite:
            return None
        raise InputError(f"{config}: cannot be understood ({error!r}); {advice}") from error


def _refuse_other(workdir: Path, found: Sweep, wanted: Sweep) -> None:
    """Raise InputError, naming the first field that differs, if the sweeps are not the same."""
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
    folder = checkpoint.find(path).resolve().parent
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
