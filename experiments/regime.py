"""The regime map: which initial scales, learning rate, weight decay and data give the paper's joint finding?

python -m experiments.regime --workdir=runs/regime [--configurations=400 --keep=28 --confirm=1]     (or: make regime)

Successive halving: `screen` trains all configurations x N {5, 15} x 2 seeds a few steps, `long` the best `keep` of them in full,
`confirm` the best `confirm` with 16 fresh seeds, read at the step where they were best: nothing is picked twice. Each is a sweep
in a folder of its own; a second call goes on where the first was stopped. About 40 minutes on 2 quiet CPU cores. Expect a handful
of configurations that hold all rows; see docs/results/.
"""

from pathlib import Path

from absl import flags

from experiments.studies.stages import REGIME
from lrjax import cli
from lrjax.analysis import gradient, regime
from lrjax.plotting import regime as figures
from lrjax.stats import format_table, select
from lrjax.training.run import history_table

WORKDIR = cli.define_path("workdir", "runs/regime", "folder of the three sweeps, the tables and the figures")
CONFIGURATIONS = flags.DEFINE_integer("configurations", 400, "how many are drawn", lower_bound=1)
KEEP = flags.DEFINE_integer("keep", 28, "how many of them are trained in full", lower_bound=1)
CONFIRM = flags.DEFINE_integer("confirm", 1, "how many of these are confirmed with 16 fresh seeds", lower_bound=0)
SCREEN = flags.DEFINE_integer("screen_steps", 750, "steps of the screening", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 3000, "steps in full", lower_bound=1)
EVERY = flags.DEFINE_integer("eval_every", 250, "steps between evaluations", lower_bound=1)
SLAB = flags.DEFINE_integer("slab", 256, "models that train at a time")
FORMAT = flags.DEFINE_enum("format", "png", ("png", "svg", "pdf"), "format of the figures")


def main() -> None:
    folder = Path(WORKDIR.value)
    screen = regime.best_steps(stage(folder / "screen", regime.draw(CONFIGURATIONS.value), range(2), SCREEN.value))
    print_table(folder, "screen", screen)
    full = regime.best_steps(stage(folder / "long", regime.configurations(screen, KEEP.value), range(2), STEPS.value))
    print_table(folder, "long", full)
    if CONFIRM.value:
        chosen = select(full, slice(CONFIRM.value))
        steps = int(chosen["step"].max())
        values = stage(folder / "confirm", regime.configurations(chosen, CONFIRM.value), regime.FRESH, steps)
        print_table(folder, "confirm", regime.at_steps_of(values, chosen))
    figures.regime_map(screen, full, path := folder / f"regime.{FORMAT.value}")
    print(path)


def stage(folder: Path, configurations, seeds, steps: int):
    """Train configurations in a folder; what `regime.read` reads of their history."""
    wanted = regime.sweep_of(configurations, seeds, steps, EVERY.value, SLAB.value)
    return regime.read(history_table(cli.train_in(folder, wanted, (gradient.columns, regime.signature))))


def print_table(folder: Path, name: str, found) -> None:
    """Write and print a stage's table."""
    path = REGIME.write(folder, name, found)
    print(f"\n{name}: {len(found['step'])} configurations, best first, each at its best step; * agrees with the paper")
    print(table(found, 10))
    print(path)


def table(found, n: int) -> str:
    names = (*regime.RANGES, "step", *regime.ROWS)
    mark = lambda name, i: "" if name not in regime.ROWS else "*" if found["agrees_" + name][i] else " "
    lines = [[f"{found[name][i]:.3g}{mark(name, i)}" for name in names] for i in range(min(n, len(found["step"])))]
    return format_table([*names], lines)


if __name__ == "__main__":
    cli.run(main)
