"""Can one head in one layer ever succeed? A random search over what the paper held fixed. (App K, open question 2)

python -m experiments.one_head [--workdir=runs/one_head] [--configurations=512 --keep=64 --confirm=3]

Successive halving: `screen` trains all configurations 1,000 steps, `full` the best `keep` of them 3,000 steps, `confirm` the best
`confirm` with 16 fresh seeds, read at the step where they were best. A second call goes on where the first was stopped.
"""

from pathlib import Path

from absl import flags

from experiments.studies.search import search
from lrjax import cli

WORKDIR = cli.define_path("workdir", "runs/one_head", "folder of the three sweeps, the tables and the figure")
CONFIGURATIONS = flags.DEFINE_integer("configurations", 512, "how many are drawn", lower_bound=1)
KEEP = flags.DEFINE_integer("keep", 64, "how many of them are trained in full", lower_bound=1)
CONFIRM = flags.DEFINE_integer("confirm", 3, "how many of these are confirmed with fresh seeds", lower_bound=0)
SCREEN = flags.DEFINE_integer("screen_steps", 1000, "steps of the screening", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 3000, "steps in full", lower_bound=1)
EVERY = flags.DEFINE_integer("eval_every", 250, "steps between evaluations", lower_bound=1)
FORMAT = flags.DEFINE_enum("format", "png", ("png", "svg", "pdf"), "format of the figure")


def main() -> None:
    folder = Path(WORKDIR.value)
    search(folder, CONFIGURATIONS.value, KEEP.value, CONFIRM.value, SCREEN.value, STEPS.value, EVERY.value, FORMAT.value)


if __name__ == "__main__":
    cli.run(main)
