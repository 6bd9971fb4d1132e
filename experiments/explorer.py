"""Write the explorer: one HTML file in which models are touched. Drag objects, set gates, move the gauge, go through training.

python -m experiments.explorer --ckpt=runs/explorer [--labels=2,15] [--seeds=0] [--where="e_scale=0.3"] [--where="n_labels=15"]
    [--checkpoints=12] [--out=FILE]

A sweep keeps the checkpoints of all its evaluations where `keep_checkpoints=0` (experiments/configs/explorer.py); of one that kept
the newest alone the page has these.
"""

from pathlib import Path

import numpy as np
from absl import flags

from lrjax import cli
from lrjax.analysis.selection import fields_of, healthy, of_labels, some_of, where
from lrjax.errors import InputError
from lrjax.explorer import page
from lrjax.storage import results, workdir
from lrjax.training.run import Run, divergences, model_columns

CKPT = cli.define_path("ckpt", None, "a workdir of experiments.sweep, its checkpoints, or one step", required=True)
LABELS = flags.DEFINE_list("labels", None, "only models with these numbers of labels, such as 2,15")
SEEDS = flags.DEFINE_list("seeds", None, "only models of these seeds, such as 0,1")
WHERE = flags.DEFINE_multi_string(
    "where", None, "only models with these fields, joined by ;, such as 'e_scale=0.3;n_labels=2'; several times: any of them"
)
CHECKPOINTS = flags.DEFINE_integer("checkpoints", 12, "steps of training that the page has at most", lower_bound=1)
OUT = cli.define_path("out", None, "the file to write (default: figures/explorer.html of the workdir)")


def main() -> None:
    steps = spread(workdir.evaluations(Path(CKPT.value)), CHECKPOINTS.value)
    run, identity = workdir.restore_identified(steps[-1])
    path, record = place(identity)
    part = chosen(run)
    if gone := divergences(part):
        print(gone)
    part = healthy(part)
    numbers = model_columns(part.sweep)["model"]
    earlier = (workdir.restore(step) for step in steps[:-1])
    page.write(path, [*(some_of(of, np.isin(np.arange(len(of.sweep.models)), numbers)) for of in earlier), part], source(steps[-1]))
    if record:
        results.sign(path, record)
    print(f"{path}: {len(part.sweep.models)} models at {len(steps)} steps of training, {path.stat().st_size / 1e6:.1f} MB")


def spread(steps: list[Path], n: int) -> list[Path]:
    """At most n of these steps, closer together early, where models change most; the first and the last are among them."""
    if len(steps) <= n:
        return steps
    rows = np.unique(((len(steps) - 1) * np.linspace(0, 1, n) ** 1.5).round().astype(int)) if n > 1 else [-1]
    return [steps[row] for row in rows]


def chosen(run: Run) -> Run:
    """The models that --labels, --seeds and --where choose."""
    parts = [model_columns(where(run, fields_of(text)).sweep)["model"] for text in WHERE.value or ()]
    run = some_of(run, np.isin(model_columns(run.sweep)["model"], np.concatenate(parts))) if parts else run
    run = of_labels(run, cli.whole_numbers("labels", LABELS.value, "2,15"))
    seeds = cli.whole_numbers("seeds", SEEDS.value, "0,1")
    found = [model.seed for model in run.sweep.models]
    for seed in seeds or ():
        if seed not in found:
            raise InputError(f"--seeds={seed}: no model has this seed; expected some of {', '.join(map(str, sorted(set(found))))}")
    return some_of(run, np.isin(found, found if seeds is None else seeds))


def place(identity: str) -> tuple[Path, results.Record | None]:
    """Where the page goes, and its record if that is the sweep's own folder. Raises InputError if a file is in the way."""
    if OUT.value:
        page.refuse_foreign(Path(OUT.value))
        return Path(OUT.value), None
    asked = {flag.name: flag.value for flag in (LABELS, SEEDS, WHERE, CHECKPOINTS) if flag.value != flag.default}
    record = results.Record(identity, "command: explorer", asked, results.code_of_modules(("experiments.explorer",)))
    return results.place(workdir.output(Path(CKPT.value)) / "figures" / "explorer.html", record), record


def source(step: Path) -> str:
    """What `lrjax.load` takes for this run where it was made: the workdir's name in runs."""
    return f"runs/{workdir.root(step).name}"


if __name__ == "__main__":
    cli.run(main)
