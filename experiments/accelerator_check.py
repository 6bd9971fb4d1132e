"""Measure this machine's accelerator: sweeps, throughput, and what compiling takes, in 25 minutes or less.

python -m experiments.accelerator_check [--folder=DIR] [--stages=STAGE,STAGE] [--dry]

Every stage is a command of its own, with a limit of seconds. What is measured stands in DIR/results.json after each stage, and what
a command printed in DIR/STAGE.log. Run it again to go on: a stage that has a result is not repeated. --dry runs tiny stages on the
CPU, to see that all of them work.
"""

import dataclasses
import datetime
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from absl import flags

from lrjax import cli, xla
from lrjax.errors import InputError, suggest
from lrjax.storage.files import write_atomically

FOLDER = cli.define_path("folder", "runs/accelerator_check", "folder for results, logs and sweeps")
STAGES_WANTED = flags.DEFINE_list("stages", None, "the stages wanted, joined by commas (default: all)")
DRY = flags.DEFINE_bool("dry", False, "tiny stages on the CPU, to see that all of them work")

BUDGET = 25 * 60  # seconds of all stages together
TINY = ("steps=2", "eval_every=2", "seeds=1", "n_labels=(4,)", "d_model=16", "n_heads=2", "d_embed=16", "batch_size=32")
CONFIGS = Path(__file__).parent / "configs"
STATISTICS = "xla_gpu_print_compilation_stats"
PROBE = "import jax; d = jax.devices(); print(jax.default_backend(), len(d), jax.__version__, d[0].device_kind, sep='|')"


@dataclasses.dataclass(frozen=True)
class Stage:
    """One measurement.

    Attributes:
        name: the stage's name, also of its folder and its log.
        limit: seconds after which it is stopped.
        command: the module of `experiments` that it runs.
        config: the config file that it uses.
        changes: `key=value` of the config.
        flags: further flags of the command.
        on_cpu: whether it runs on the CPU, to compare with.
        cache: the folder of compiled programs that it uses, emptied first if the stage is `cold`.
        cold: whether it compiles everything.
    """

    name: str
    limit: int
    command: str = "sweep"
    config: str = "diversity"
    changes: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    on_cpu: bool = False
    cache: str = "cache"
    cold: bool = False


SHORT = ("seeds=1", "steps=300", "eval_every=300")
STAGES = (
    Stage("sweep_cold", 420, cold=True),
    Stage("sweep_warm", 180),
    Stage("throughput", 240, "benchmark", flags=("--models=40,160,640", "--steps=50")),
    Stage("throughput_batch_50", 180, "benchmark", changes=("batch_size=50",), flags=("--models=40,160,640", "--steps=50")),
    Stage("models_500", 240, changes=("seeds=100", "steps=3000")),
    Stage("grid_objects", 300, config="grid_objects", changes=("steps=600",)),
    Stage("deterministic", 150, changes=SHORT, flags=("--deterministic",), cache="cache_deterministic"),
    Stage("deterministic_again", 90, changes=SHORT, flags=("--deterministic",), cache="cache_deterministic"),
    Stage("on_cpu", 150, changes=SHORT, on_cpu=True, cache="cache_cpu"),
    Stage("printed_recipe", 240, config="paper", changes=("seeds=1",)),
)


def main() -> None:
    out = Path(FOLDER.value)
    stages = chosen(STAGES_WANTED.value)
    backend, count, version, kind = probe()
    if backend == "cpu" and not DRY.value:
        raise InputError("no accelerator is found: jax runs on the CPU here; expected a GPU or a TPU; give --dry to try the stages")
    machine = {
        "device": kind,
        "devices": int(count),
        "jax": version,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    record = load(out / "results.json", machine | {"dry": DRY.value})
    left = BUDGET - sum(result["seconds"] for result in record["stages"].values())
    for stage in stages:
        if stage.name in record["stages"]:
            continue
        if left <= 0:
            print(f"{stage.name}: left out, the {BUDGET // 60} minutes are over")
            continue
        result = measure(stage, out, left if DRY.value else min(stage.limit, left), backend)
        left -= result["seconds"]
        record["stages"][stage.name] = result
        record["differences"] = differences(out)
        write_atomically(out / "results.json", json.dumps(record, indent=1))
        print(f"{stage.name}: {result['seconds']:.1f} s, {result['ended']}", flush=True)
    print(out / "results.json")


def chosen(names: list[str] | None) -> list[Stage]:
    """The stages of these names, all if none are given. Raises InputError of a name that is none."""
    known = {stage.name: stage for stage in STAGES}
    for name in names or ():
        if name not in known:
            raise InputError(f"--stages={name}: no such stage{suggest(name, known)}; expected some of {', '.join(known)}")
    return [known[name] for name in names or known]


def probe() -> list[str]:
    """The backend, the number of devices, jax's version and the kind of device, asked in a process of its own: a process that holds
    a GPU leaves no memory for the stages.
    """
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, env=environment())
    if done.returncode:
        raise InputError(f"jax does not start here ({done.stderr.strip().splitlines()[-1]}); see `make sweep`")
    return done.stdout.strip().splitlines()[-1].split("|", 3)


def environment() -> dict[str, str]:
    """The variables of every stage: the user's, on the CPU in a dry run."""
    return os.environ | ({"JAX_PLATFORMS": "cpu"} if DRY.value else {})


def load(path: Path, machine: dict) -> dict:
    """What an earlier run of the check has measured, or nothing yet. Raises InputError if that was another machine's."""
    if not path.is_file():
        return {"machine": machine, "stages": {}, "differences": {}}
    record = json.loads(path.read_text())
    for name in ("device", "devices", "jax", "dry"):
        if record["machine"][name] != machine[name]:
            raise InputError(
                f"--folder={path.parent}: holds a check of {name}={record['machine'][name]!r}, and here it is {machine[name]!r}; "
                "give another --folder"
            )
    return record


def arguments(stage: Stage, out: Path) -> list[str]:
    """The command line of a stage."""
    changes = (*stage.changes, *(TINY if DRY.value else ()))  # of a key given twice the last counts
    line = [f"--config={CONFIGS / stage.config}.py", *(f"--config.{change}" for change in changes), *stage.flags]
    if stage.command == "benchmark":
        sizes = ["--models=1", "--steps=1"] if DRY.value else []
        return [*line, *sizes, f"--json={out / stage.name}.json", f"--figure={out / stage.name}.png"]
    return [*line, f"--workdir={out / stage.name}", "--overwrite"]


def measure(stage: Stage, out: Path, limit: float, backend: str) -> dict:
    """Run a stage, at most `limit` seconds: how long it took, and how it ended."""
    out.mkdir(parents=True, exist_ok=True)
    cache = (out / stage.cache).resolve()
    if stage.cold:
        shutil.rmtree(cache, ignore_errors=True)
    env = environment() | {"JAX_COMPILATION_CACHE_DIR": str(cache)} | ({"JAX_PLATFORMS": "cpu"} if stage.on_cpu else {})
    if stage.cold and backend == "gpu" and xla.knows(STATISTICS):
        env["XLA_FLAGS"] = f"{env.get('XLA_FLAGS', '')} --{STATISTICS}=true".strip()
    command = [sys.executable, "-m", f"experiments.{stage.command}", *arguments(stage, out)]
    began = time.monotonic()
    with open(out / f"{stage.name}.log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=env)
        try:
            code = process.wait(limit)
            ended = "finished" if code == 0 else f"exit code {code}"
        except subprocess.TimeoutExpired:
            ended = f"stopped after {limit:.0f} s"
        finally:
            process.terminate()  # a sweep saves what it has
            process.wait()
    return {"seconds": round(time.monotonic() - began, 2), "ended": ended, "command": command[1:]}


def differences(out: Path) -> dict[str, float]:
    """The largest difference of the last loss of a model between the deterministic run, its repetition (0 is expected), and the
    CPU's, of those that are there.
    """
    found = {}
    first = out / "deterministic/models.csv"
    for name in ("deterministic_again", "on_cpu"):
        other = out / name / "models.csv"
        if first.is_file() and other.is_file():
            losses = [pd.read_csv(path)["loss"].to_numpy(float) for path in (first, other)]
            found[name] = float(np.abs(losses[0] - losses[1]).max())
    return found


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")  # the stages use the accelerator, each in a process of its own
    cli.run(main)
