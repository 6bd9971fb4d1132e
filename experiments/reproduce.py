"""The paper's argument, re-measured: trains the sweeps, asks the analyses, writes report/index.html and report/report.md.

python -m experiments.reproduce [--seeds=16] [--quick] [--study=runs/reproduce] [--report=report]     (or: make reproduce)

What is there is not made again: a second call goes on where the first was stopped. README says how long it takes.
"""

import importlib
import time
from pathlib import Path

import numpy as np
from absl import flags

from lrjax import cli
from lrjax.analysis import gradient
from lrjax.errors import InputError
from lrjax.report import build
from lrjax.report.study import PARTS, Part, Study, sweep_of
from lrjax.stats import Table, read_csv, write_csv

SEEDS = flags.DEFINE_integer("seeds", None, "seeds of every sweep, some of which take fewer (default: 16; 8 of other encoders)", 1)
QUICK = flags.DEFINE_bool("quick", False, "2 seeds and few steps, to see that all works: its numbers mean nothing")
STUDY = flags.DEFINE_string("study", None, "folder of the sweeps and answers (default: runs/<command>, or runs/<command>_quick)")
REPORT = flags.DEFINE_string("report", None, "folder of the report (default: report; with --quick inside the study)")
REGIME = flags.DEFINE_string("regime", None, "folder with the tables of `make regime` (default: runs/regime, else report/regime)")
ONLY = flags.DEFINE_list("only", None, "only these sweeps of the study; the others' rows are not tested")


def main() -> None:
    study = study_of("reproduce", PARTS)
    make(study, SEEDS.value or 16)
    tell(build.build(study, report_of(study), times(study), regime_tables()))


def study_of(name: str, parts: dict[str, Part], *more: str) -> Study:
    """The study of a command, in its folder; `more` may be named in --only too."""
    for part in ONLY.value or ():
        if part not in (*parts, *more):
            raise InputError(f"--only={part}: is no sweep of the study; expected some of {', '.join((*parts, *more))}")
    return Study(Path(STUDY.value or f"runs/{name}" + ("_quick" if QUICK.value else "")), parts)


def report_of(study: Study) -> Path:
    """The folder of the report."""
    return Path(REPORT.value or (study.folder / "report" if QUICK.value else "report"))


def tell(paths: list[Path]) -> None:
    for path in paths:
        print(path)


def make(study: Study, seeds: int) -> None:
    """Train the sweeps that are wanted of a study and not there yet, and ask what is asked of them."""
    parts = study.parts
    wanted = [part for part in parts if part in (ONLY.value or parts)]
    sweeps = {part: sweep_of(config(parts[part]), seeds, parts[part].most_seeds, QUICK.value) for part in wanted}
    for part, sweep in sweeps.items():
        print(f"\n{part}", flush=True)
        with_clock(
            study, f"{part}: training", lambda part=part, sweep=sweep: cli.train_in(study.path(part), sweep, (gradient.columns,))
        )
    for part in wanted:
        for name in parts[part].answers:
            with_clock(study, f"{part}: {name}", lambda part=part, name=name: study.make(part, [name]))


def with_clock(study: Study, what: str, work) -> None:
    """Do some work, and add to the table of times, if it took any."""
    began = time.monotonic()
    try:
        work()
    finally:
        if (seconds := time.monotonic() - began) > 1:
            clock(study, what, seconds)


def regime_tables() -> Path | None:
    """The folder with the regime map's tables: the user's own, or the committed ones; None if there are none."""
    folders = [Path(REGIME.value)] if REGIME.value else [Path("runs/regime"), Path("report/regime")]
    return next((folder for folder in folders if (folder / "long.csv").is_file()), None)


def config(part: Part):
    """The config of a sweep of the study, from its file."""
    return importlib.import_module(f"experiments.configs.{part.config}").get_config()


def clock(study: Study, what: str, seconds: float) -> None:
    """Add to the table of times."""
    known = times(study) or {"what": np.array([], str), "seconds": np.array([], float)}
    table = dict(zip(known["what"].tolist(), known["seconds"].tolist(), strict=True))
    table[what] = round(table.get(what, 0.0) + seconds, 1)
    print(f"{what}: {seconds:.0f} s", flush=True)
    write_csv(study.folder / "times.csv", {"what": np.array(list(table)), "seconds": np.array(list(table.values()), float)})


def times(study: Study) -> Table | None:
    """The table of times, if there is one."""
    path = study.folder / "times.csv"
    return read_csv(path) if path.is_file() else None


if __name__ == "__main__":
    cli.run(main)
