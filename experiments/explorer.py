"""Write the explorer: one HTML file in which models are touched. Drag objects, set gates, move the gauge, go through training.

python -m experiments.explorer --ckpt=runs/explorer [--labels=2,15] [--where="seed=0"] [--where="e_scale=0.3;n_labels=2"]
    [--checkpoints=12] [--out=FILE]
python -m experiments.explorer --ckpt=runs/quick --ckpt=runs/printed --out=FILE

Of several runs the page has a picker. A sweep keeps the checkpoints of all its evaluations where `keep_checkpoints=0`
(experiments/configs/explorer.py); of one that kept the newest alone the page has these.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from lrjax import cli
from lrjax.analysis.selection import fields_of, healthy, of_labels, some_of, where
from lrjax.errors import InputError
from lrjax.explorer import page
from lrjax.storage import results, workdir
from lrjax.training.run import Run, divergences, model_columns

CKPT = cli.define_paths(
    "ckpt", "a workdir of experiments.sweep, its checkpoints, or one step; several times: all of them", required=True
)
LABELS = flags.DEFINE_list("labels", None, "only models with these numbers of labels, such as 2,15")
WHERE = flags.DEFINE_multi_string(
    "where", None, "only models with these fields, joined by ;, such as 'e_scale=0.3;n_labels=2'; several times: any of them"
)
CHECKPOINTS = flags.DEFINE_integer("checkpoints", 12, "steps of training that the page has at most", lower_bound=1)
OUT = cli.define_path("out", None, "the file to write (default: figures/explorer.html of the workdir, if there is one --ckpt)")


def main() -> None:
    folders = [Path(given) for given in CKPT.value]
    steps = [page.spread(workdir.evaluations(folder), CHECKPOINTS.value) for folder in folders]
    found = [workdir.restore_identified(of_run[-1]) for of_run in steps]
    path, record = place(folders, found[0][1])
    parts = chosen([run for run, _ in found])
    page.write(path, [trained(of_run, part) for of_run, part in zip(steps, parts, strict=True)])
    if record:
        results.sign(path, record)
    models, most = sum(len(part.sweep.models) for part in parts), max(map(len, steps))
    print(f"{path}: {models} models at {most} steps of training, {path.stat().st_size / 1e6:.1f} MB")


def trained(steps: Sequence[Path], part: Run) -> page.Trained:
    """A part of a run at all its steps; `part` is at the last of them. `lrjax.load` finds it where it was made, in runs."""
    numbers = model_columns(part.sweep)["model"]
    earlier = (workdir.restore(step) for step in steps[:-1])
    of_part = [some_of(of, np.isin(np.arange(len(of.sweep.models)), numbers)) for of in earlier]
    return page.Trained(f"runs/{workdir.root(steps[-1]).name}", [*of_part, part])


def chosen(runs: Sequence[Run]) -> list[Run]:
    """The models of each run that --labels and --where choose, without those that have diverged: which these are is printed.

    Raises InputError if a --where finds no model in any run, or if a run has no model left.
    """
    found: list[list[np.ndarray]] = [[] for _ in runs]
    for text in WHERE.value or ():
        for numbers, part in zip(found, anywhere(runs, text), strict=True):
            numbers += [] if part is None else [model_columns(part.sweep)["model"]]
    parts = []
    for given, run, numbers in zip(CKPT.value, runs, found, strict=True):
        if WHERE.value and not numbers:
            raise InputError(f"--ckpt={given}: no --where chooses a model of it; leave it out, or add a --where for it")
        run = some_of(run, np.isin(model_columns(run.sweep)["model"], np.concatenate(numbers))) if numbers else run
        part = of_labels(run, cli.whole_numbers("labels", LABELS.value, "2,15"))
        if gone := divergences(part):
            print(gone)
        parts.append(healthy(part))
    return parts


def anywhere(runs: Sequence[Run], text: str) -> list[Run | None]:
    """The part of each run that a --where chooses, None if there is none. Raises InputError if it finds no model in any run."""
    parts, errors = [], []
    for run in runs:
        try:
            parts.append(where(run, fields_of(text)))
        except InputError as error:
            parts.append(None)
            errors.append(error)
    if len(errors) == len(runs):
        raise errors[0]
    return parts


def place(folders: Sequence[Path], identity: str) -> tuple[Path, results.Record | None]:
    """Where the page goes, and its record if that is the sweep's own folder. Raises InputError if a file is in the way."""
    if OUT.value:
        page.refuse_foreign(Path(OUT.value))
        return Path(OUT.value), None
    if len(folders) > 1:
        raise InputError(f"--ckpt: is given {len(folders)} times; expected an --out, such as --out=explorer.html")
    asked = {flag.name: flag.value for flag in (LABELS, WHERE, CHECKPOINTS) if flag.value != flag.default}
    record = results.Record(identity, "command: explorer", asked, results.code_of_modules(("experiments.explorer",)))
    return results.place(workdir.output(folders[0]) / "figures" / "explorer.html", record), record


if __name__ == "__main__":
    cli.run(main)
