"""Can one head in one layer ever succeed? A random search over what the paper held fixed. (App K, open question 2)

python -m experiments.one_head [--workdir=runs/one_head] [--configurations=512 --keep=64 --confirm=3]

Successive halving: `screen` trains all configurations 1,000 steps, `full` the best `keep` of them 3,000 steps, `confirm` the best
`confirm` with 16 fresh seeds, read at the step where they were best. A second call goes on where the first was stopped.
"""

from pathlib import Path

from absl import flags

from lrjax import cli, sweep
from lrjax.analysis import gradient, heads, one_head
from lrjax.analysis.models import tidy
from lrjax.config import Sweep
from lrjax.figures import encoders as figures
from lrjax.stats import format_interval, format_table, select, write_csv

WORKDIR = flags.DEFINE_string("workdir", "runs/one_head", "folder of the three sweeps, the tables and the figure")
CONFIGURATIONS = flags.DEFINE_integer("configurations", 512, "how many are drawn", lower_bound=1)
KEEP = flags.DEFINE_integer("keep", 64, "how many of them are trained in full", lower_bound=1)
CONFIRM = flags.DEFINE_integer("confirm", 3, "how many of these are confirmed with fresh seeds", lower_bound=0)
SCREEN = flags.DEFINE_integer("screen_steps", 1000, "steps of the screening", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 3000, "steps in full", lower_bound=1)
EVERY = flags.DEFINE_integer("eval_every", 250, "steps between evaluations", lower_bound=1)
SLAB = flags.DEFINE_integer("slab", 64, "models that train at a time")
FORMAT = flags.DEFINE_enum("format", "png", ("png", "svg", "pdf"), "format of the figure")


def main() -> None:
    search(Path(WORKDIR.value), CONFIGURATIONS.value, KEEP.value, CONFIRM.value, SCREEN.value, STEPS.value, EVERY.value)


def search(folder: Path, configurations: int, keep: int, confirmed: int, screen_steps: int, steps: int, every: int) -> None:
    """The whole search, in a folder: what is there is not made again."""
    screened, screen = stage(folder, "screen", one_head.draw(configurations), screen_steps, every)
    trained, full = stage(folder, "full", one_head.chosen(screened.sweep, screen, keep), steps, every)
    rate = one_head.share(full["unseen_pair"])
    print(f"\nof the best {len(full['model'])}, trained in full, so many succeed at their best step: {show(rate)}")
    print(f"and at the last step: {show(one_head.share(full['at_the_end']))}   (top-1 above {gradient.GENERALISES})")
    if confirmed:
        confirm(folder, trained.sweep, full, confirmed, every)
    print(figures.search(screen, full, one_head.RANGES, folder / f"one_head.{FORMAT.value}"))


def stage(folder: Path, name: str, models, steps: int, every: int):
    """Train configurations; the run, and `best` of its history, written and printed."""
    run = cli.train_in(folder / name, Sweep(tuple(models), steps, every, SLAB.value), (gradient.columns,))
    table = one_head.best(sweep.history_table(run), run.sweep)
    tell(folder, name, table)
    return run, table


def confirm(folder: Path, trained: Sweep, full, n: int, every: int) -> None:
    """The best configurations with fresh seeds; and how those that succeed do it."""
    models = one_head.chosen(trained, full, n, one_head.FRESH)
    steps = full["step"][:n]
    run = cli.train_in(folder / "confirm", Sweep(tuple(models), int(steps.max()), every, SLAB.value), (gradient.columns,))
    history = sweep.history_table(run)
    tell(folder, "confirm", one_head.confirmed(history, steps, len(one_head.FRESH)))
    best = gradient.carried(tidy(gradient.strongest(gradient.gradient(run))))
    bias = tidy(heads.heads(run)[["head_bias"]])
    models = sweep.models_table(run)
    table = best | {"head_bias": bias["head_bias"]} | {name: models[name] for name in ("unseen_pair", "unseen_pair_order")}
    write_csv(folder / "how.csv", table)
    succeeds = table["unseen_pair"] > gradient.GENERALISES
    columns = ("position_gradient", "label_spread", "ratio", "share_EP", "share_PP", "share_BP", "head_bias", "unseen_pair_order")
    lines = []
    for name, rows in (("succeed", succeeds), ("fail", ~succeeds)):
        part = select(table, rows)
        lines.append(
            [name, int(rows.sum()), *(format_interval(abs(part[c]) if c == "position_gradient" else part[c]) for c in columns)]
        )
    print("\nhow: confirmed models that succeed beside those that fail (mean [95 % interval])")
    print(format_table(["", "models", *columns], lines))


def tell(folder: Path, name: str, table) -> None:
    """Write and print a stage's table."""
    write_csv(folder / f"{name}.csv", table)
    print(f"\n{name}: best first")
    print(format_table([*table], [[f"{column[i]:.3g}" for column in table.values()] for i in range(min(10, len(table["step"])))]))
    print(folder / f"{name}.csv")


def show(share: tuple[float, float, float]) -> str:
    return "{:.2f} [{:.2f}, {:.2f}]".format(*share)


if __name__ == "__main__":
    cli.run(main)
