"""The paper's argument, re-measured: trains the sweeps, asks the analyses, writes docs/results/index.html and report.md beside it.

python -m experiments.reproduce [--seeds=16] [--quick] [--study=runs/reproduce] [--report=docs/results]     (or: make reproduce)

What is there is not made again: a second call goes on where the first was stopped. docs/guides/run.md says how long it takes.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from absl import flags

from experiments.studies import build, length, stages
from experiments.studies.study import PARTS, Part, Study, config_of, sweep_of
from lrjax import cli
from lrjax.errors import InputError

SEEDS = flags.DEFINE_integer("seeds", None, "seeds of every sweep, some of which take fewer (default: 16; 8 of other encoders)", 1)
QUICK = flags.DEFINE_bool("quick", False, "2 seeds and few steps, to see that all works: its numbers mean nothing")
STUDY = cli.define_path("study", None, "folder of the sweeps and answers (default: runs/<command>, or runs/<command>_quick)")
REPORT = cli.define_path("report", None, "folder of the report (default: docs/results; with --quick inside the study)")
REGIME = cli.define_path("regime", None, "folder with the tables of `make regime` (default: runs/regime, else docs/results/regime)")
ONLY = flags.DEFINE_list("only", None, "only these sweeps of the study; the others' rows are not tested")


def main() -> None:
    study = study_of("reproduce", PARTS)
    make(study, SEEDS.value or 16)
    print_paths(build.build(study, report_of(study), study.times(), regime_tables()))


def study_of(name: str, parts: dict[str, Part], *more: str) -> Study:
    """The study of a command, in its folder; `more` may be named in --only too."""
    if ONLY.value == []:
        raise InputError(f"--only=: is empty; expected some of {', '.join((*parts, *more))}, or leave it out for all")
    for part in ONLY.value or ():
        if part not in (*parts, *more):
            raise InputError(f"--only={part}: is no sweep of the study; expected some of {', '.join((*parts, *more))}")
    return Study(Path(STUDY.value or f"runs/{name}" + ("_quick" if QUICK.value else "")), parts)


def make(study: Study, seeds: int, epochs: int = 0, most_steps: int = 0) -> None:
    """Train the sweeps that are wanted of a study and not there yet, and ask what is asked of them.

    Args:
      study: the study.
      seeds: how many, if the sweep's part does not take fewer.
      epochs: as of `sweep_of`.
      most_steps: train a sweep on while it moves (`length.train_on`), up to so many steps; 0: as long as its config says.
    """
    asked = ONLY.value or [name for name, part in study.parts.items() if not part.left_out]
    wanted = {name: part for name, part in study.parts.items() if name in asked}
    sweeps = {name: sweep_of(config_of(part), seeds, part.most_seeds, QUICK.value, epochs) for name, part in wanted.items()}
    for name, sweep in sweeps.items():
        if most_steps and not QUICK.value:
            length.train_on(study, name, sweep, most_steps)
        else:
            study.train(name, sweep)
    for name, part in wanted.items():
        study.make(name, part.answers)


def define_page_only() -> flags.FlagHolder:
    """--page_only, of a study whose tables are kept."""
    return flags.DEFINE_bool("page_only", False, "train and ask nothing: only write the page again, from the tables that are there")


def make_kept(
    name: str, parts: dict[str, Part], kept: str, build: Callable[..., list[Path]], page_only: bool = False, seeds: int = 8, **more
) -> None:
    """Make a study whose tables are kept in a folder of the report, and its page. `seeds`: where --seeds is not given. `more`: see
    `make`.

    Sweeps that are not trained here keep their place in the page. `page_only`: make nothing but the page.
    """
    study = study_of(name, parts)
    report = report_of(study)
    study = dataclasses.replace(study, kept=report / kept)
    if not page_only:
        make(study, SEEDS.value or seeds, **more)
        study.keep()
    for line in study.archive_notes():
        print(line)
    print_paths(build(study, report, study.times()))


def report_of(study: Study) -> Path:
    """The folder of the report."""
    return Path(REPORT.value or (study.folder / "report" if QUICK.value else "docs/results"))


def print_paths(paths: list[Path]) -> None:
    """Print where things are."""
    for path in paths:
        print(path)


def regime_tables() -> Path | None:
    """The folder with the regime map's tables: the user's own, or the archived ones of the report; None if there are none."""
    folders = [Path(REGIME.value)] if REGIME.value else [Path("runs/regime"), Path("docs/results/regime")]
    return next((folder for folder in folders if "long" in stages.REGIME.tables(folder)), None)


if __name__ == "__main__":
    cli.run(main)
