"""Train a sweep, evaluate it, draw Fig 3 and the phases of training.

python -m experiments.sweep --config=experiments/configs/diversity.py --workdir=runs/diversity [--config.key=value ...]
"""

from pathlib import Path

from absl import flags

from lrjax import cli, devices
from lrjax.analysis import gradient
from lrjax.config import AXIS_COLUMNS, STATIC, make_sweep
from lrjax.metrics import IN_SET, LABEL_SET, ORDER, TOP1, ends, tabled
from lrjax.plotting import training
from lrjax.stats import counted, format_interval, format_table, groups, varying
from lrjax.storage import results, workdir
from lrjax.training.run import divergences, history_table, models_table

CONFIG = cli.define_config(Path(__file__).parent / "configs" / "diversity.py")
WORKDIR = cli.define_path("workdir", None, "folder for everything that the sweep writes", required=True)
RESUME = flags.DEFINE_bool("resume", False, "continue the unfinished run of this workdir from its newest checkpoint that verifies")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "remove the sweep that is in this workdir and start again")
SHOWN = ("loss", "single", "seen_pair", *(metric.column for metric in (TOP1, IN_SET, ORDER, LABEL_SET)))


def main() -> None:
    folder = Path(WORKDIR.value)
    run = workdir.open_run(folder, make_sweep(CONFIG.value), resume=RESUME.value, overwrite=OVERWRITE.value)
    if run.finished:
        print(f"{folder} is finished: {len(run.sweep.models)} models, {run.step} steps")
    else:
        cli.train(run, folder, (gradient.columns,))
    if not devices.first_process():
        return
    table = models_table(run)
    workdir.write_tables(folder, run)
    drawn = [folder / "figures/fig3.png", folder / "figures/phases.png"]
    training.fig3(table, drawn[0])
    training.phases(history_table(run), drawn[1])
    record = results.Record(f"step {run.step}", "command: sweep", {}, results.code_of(training.fig3))
    for path in drawn:
        results.sign(path, record)
    print_table(table)
    if gone := divergences(run):
        print(gone)
    for path in (folder / "models.csv", folder / "history.csv", *drawn, folder / "checkpoints"):
        print(path)


def print_table(table) -> None:
    by = ("n_labels", *(name for name in varying(table, (*AXIS_COLUMNS, *STATIC)) if name != "n_labels"))
    there = tabled(table)
    shown = [name for name in SHOWN if name != IN_SET.column or name in there]
    rows = [
        [*key, counted(table["loss"][rows]), *(format_interval(table[metric][rows], within=ends(metric)) for metric in shown)]
        for key, rows in groups(table, by).items()
    ]
    print("mean over seeds [95 % interval]")
    print(format_table([*by, "seeds", *shown], rows))


if __name__ == "__main__":
    cli.run(main)
