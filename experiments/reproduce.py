"""The paper's argument, re-measured: trains the sweeps, asks the analyses, writes report/index.html and report/report.md.

python -m experiments.reproduce [--seeds=16] [--quick] [--study=runs/reproduce] [--report=report]     (or: make reproduce)

What is there is not made again: a second call goes on where the first was stopped. 16 seeds take about 45 minutes on 2 CPU cores.
"""

import importlib
import time
from pathlib import Path

import numpy as np
from absl import flags

from lrjax import cli, workdir
from lrjax.analysis import gradient
from lrjax.errors import InputError
from lrjax.report import build
from lrjax.report.study import PARTS, Study, sweep_of
from lrjax.stats import read_csv, write_csv

SEEDS = flags.DEFINE_integer("seeds", 16, "seeds of every sweep (the layouts take at most 8, align at most 4)", lower_bound=1)
QUICK = flags.DEFINE_bool("quick", False, "2 seeds and few steps, to see that all works: its numbers mean nothing")
STUDY = flags.DEFINE_string("study", None, "folder of the sweeps and answers (default: runs/reproduce, runs/reproduce_quick)")
REPORT = flags.DEFINE_string("report", None, "folder of the report (default: report; with --quick inside the study)")
REGIME = flags.DEFINE_string("regime", None, "folder with the tables of `make regime` (default: runs/regime, else report/regime)")
ONLY = flags.DEFINE_list("only", None, f"only these sweeps, of {', '.join(PARTS)}; the others' rows are not tested")


def main() -> None:
    study = Study(Path(STUDY.value or ("runs/reproduce_quick" if QUICK.value else "runs/reproduce")))
    parts = ONLY.value or list(PARTS)
    for part in parts:
        if part not in PARTS:
            raise InputError(f"--only={part}: is no sweep of the study; expected some of {', '.join(PARTS)}")
    wanted = {part: sweep_of(config(part), SEEDS.value, PARTS[part].most_seeds, QUICK.value) for part in parts}
    for part, sweep in wanted.items():
        train(study, part, sweep)
    for part in parts:
        for name in PARTS[part].answers:
            began = time.monotonic()
            if study.make(part, [name]):
                print(f"{part}: {name}", flush=True)
                clock(study, f"{part}: {name}", time.monotonic() - began)
    folder = Path(REPORT.value or (study.folder / "report" if QUICK.value else "report"))
    for path in build.build(study, folder, times(study), regime_tables()):
        print(path)


def regime_tables() -> Path | None:
    """The folder with the regime map's tables: the user's own, or the committed ones; None if there are none."""
    folders = [Path(REGIME.value)] if REGIME.value else [Path("runs/regime"), Path("report/regime")]
    return next((folder for folder in folders if (folder / "long.csv").is_file()), None)


def config(part: str):
    """The config of a sweep of the study, from its file."""
    return importlib.import_module(f"experiments.configs.{PARTS[part].config}").get_config()


def train(study: Study, part: str, sweep) -> None:
    """Train a sweep in its folder, or go on with it."""
    folder = study.path(part)
    run = workdir.open_run(folder, sweep, resume=(folder / "config.json").is_file())
    if not run.finished:
        print(f"\n{part}", flush=True)
        began = time.monotonic()
        try:
            cli.train(run, folder, (gradient.columns,), resume="")
        finally:
            clock(study, f"{part}: training", time.monotonic() - began)


def clock(study: Study, what: str, seconds: float) -> None:
    """Add to the table of times."""
    known = times(study) or {"what": np.array([], str), "seconds": np.array([], float)}
    table = dict(zip(known["what"].tolist(), known["seconds"].tolist(), strict=True))
    table[what] = round(table.get(what, 0.0) + seconds, 1)
    write_csv(study.folder / "times.csv", {"what": np.array(list(table)), "seconds": np.array(list(table.values()), float)})


def times(study: Study):
    """The table of times, if there is one."""
    path = study.folder / "times.csv"
    return read_csv(path) if path.is_file() else None


if __name__ == "__main__":
    cli.run(main)
