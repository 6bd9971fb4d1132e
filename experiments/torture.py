"""Kill a sweep with SIGKILL again and again, and compare what is left with an undisturbed run, bit for bit.

python -m experiments.torture [--data=resampled|fixed] [--kills=50] [--workdir=DIR] [--seed=0]

A small sweep is trained undisturbed, in this process and as users run it. Then it is run again and again, killed at random moments,
every second time while it is saving, and continued with --resume. After each kill the newest checkpoint must be whole and hold
what the undisturbed run held at that step; a run that comes to its end must have written the undisturbed run's tables. On 2 CPU
cores about 5 s a kill. Expect `50 of 50 kills identical`; the exit code is 1 if they are not.
"""

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import flags

from experiments.configs import smoke
from lrjax import cli
from lrjax.analysis import gradient
from lrjax.config import make_sweep
from lrjax.storage import checkpoint, serialization, step_folders, workdir
from lrjax.training import loop
from lrjax.training.run import Run

KILLS = flags.DEFINE_integer("kills", 50, "how many", lower_bound=1)
WORKDIR = cli.define_path("workdir", None, "an empty folder for the runs (default: a temporary one)")
SEED = flags.DEFINE_integer("seed", 0, "of the random moments")

# Two slabs take turns and are saved between evaluations too: a kill may meet everything that a sweep can be in the middle of.
SMALL = dict(d_model=16, d_embed=16, checkpoint_every=50, slab=2)
CHANGES = {
    "resampled": SMALL | dict(steps=300, eval_every=150, n_labels=(4, 6), batch_size=32),
    # 24 and 37 items, so 3 and 4 batches an epoch: models of 300 and of 400 steps
    "fixed": SMALL | dict(data="fixed", epochs=100, evaluations=2, n_labels=(3, 4), n_heldout=3, n1=2, n2=2, batch_size=8),
}
DATA = flags.DEFINE_enum("data", "resampled", list(CHANGES), "the data law; models of fixed data have different lengths")
SAVES, SAVING = 5, 0.1  # a kill in a save is in one of the next SAVES, at a moment of its first SAVING seconds


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        identical = torture(Path(WORKDIR.value or temporary).absolute(), KILLS.value, random.Random(SEED.value))
    sys.exit(0 if identical else 1)


def torture(folder: Path, kills: int, chance: random.Random) -> bool:
    """Whether all kills, and all runs that came to their end in spite of them, left what an undisturbed run leaves."""
    expected = undisturbed(folder / "undisturbed")

    def ended(process: subprocess.Popen) -> bool:
        complained = process.communicate()[1]
        identical = process.returncode == 0 and tables(run) == tables(folder / "undisturbed")
        return say(f"end of {run.name}", identical, complained)

    run, began = folder / "run 0", time.monotonic()
    ends, struck, in_saves, last = [ended(start(run))], [], 0, False
    lifetime = time.monotonic() - began
    while not last:
        last, run = len(struck) == kills, folder / f"run {len(ends)}"
        before = unfinished(run)  # of an earlier kill: until the next save begins
        process, saves = start(run), chance.randint(1, SAVES) if len(struck) % 2 else 0
        if last or not strike(process, run, chance, chance.uniform(0, lifetime), saves):
            ends.append(ended(process))
            continue
        (place, digests), in_save = newest(run), not unfinished(run) <= before
        what = f"kill {len(struck) + 1}: {run.name}, {place or 'no step yet'}{', in a save' if in_save else ''}"
        struck.append(say(what, digests == expected.get(place or "")))
        in_saves += in_save
    print(
        f"{sum(struck)} of {kills} kills identical ({in_saves} in a save), {sum(ends)} of {len(ends)} runs identical at their end"
    )
    return all(struck) and all(ends)


def say(what: str, identical: bool, complained: str = "") -> bool:
    print(f"{what}: {'identical' if identical else f'NOT IDENTICAL {complained}'}", flush=True)
    return identical


def undisturbed(folder: Path) -> dict[str, dict]:
    """Train the sweep here: its tables into `folder`; returns the digests of its arrays wherever it is saved, by checkpoint."""
    digests = {}

    def note(run: Run) -> None:
        digests[step_folders.name_of(*run.place)] = checkpoint.digests_by_part(serialization.run_to_parts(run)[0])

    run = loop.start(make_sweep(dict(smoke.get_config()) | CHANGES[DATA.value]))
    workdir.write_tables(folder, loop.advance(run, on_checkpoint=note, measures=(gradient.columns,)))
    return digests


def start(run: Path) -> subprocess.Popen:
    """The sweep as a user would start or continue it."""
    arguments = [f"--config={smoke.__file__}", *(f"--config.{name}={value}" for name, value in CHANGES[DATA.value].items())]
    command = [sys.executable, "-m", "experiments.sweep", *arguments, f"--workdir={run}", "--resume"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def strike(process: subprocess.Popen, run: Path, chance: random.Random, seconds: float, saves: int) -> bool:
    """Kill the process after so many seconds, or in the `saves`-th of its saves if that is not 0; False if it ended before."""
    began, seen, saving = time.monotonic(), 0, True  # a save that a killed process left is none of this one's
    while process.poll() is None:
        was, saving = saving, bool(step_folders.stale_tmp_dirs(run / "checkpoints"))
        seen += saving and not was
        if seen == saves if saves else time.monotonic() - began > seconds:
            time.sleep(chance.uniform(0, SAVING) if saves else 0)
            process.kill()
            return process.wait() < 0
        time.sleep(0.001)
    return False


def unfinished(run: Path) -> set[int]:
    """The saves that were begun and not finished, as inodes."""
    return {folder.stat().st_ino for folder in step_folders.stale_tmp_dirs(run / "checkpoints")}


def newest(run: Path) -> tuple[str | None, dict | None]:
    """The name of the newest checkpoint and the digests of its arrays, if there is one. It must load: no kill leaves damage."""
    steps = step_folders.saved_steps(run / "checkpoints")
    return (steps[-1].name, checkpoint.load(steps[-1])[1]["digests"]) if steps else (None, None)


def tables(folder: Path) -> list[bytes]:
    """The tables of a run."""
    return [(folder / name).read_bytes() for name in ("models.csv", "history.csv")]


if __name__ == "__main__":
    cli.run(main)
