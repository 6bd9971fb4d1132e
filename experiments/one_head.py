"""Can one head in one layer ever succeed? A random search over what the paper held fixed. (App K, open question 2)

python -m experiments.one_head [--workdir=runs/one_head] [--configurations=512 --keep=64 --confirm=3]

Successive halving: `screen` trains all configurations 1,000 steps, `full` the best `keep` of them 3,000 steps, `confirm` the best
`confirm` with 16 fresh seeds, read at the step where they were best. A second call goes on where the first was stopped.
"""

from pathlib import Path

from absl import flags

from experiments.studies.search import define_budget, search_for_one_head
from lrjax import cli

WORKDIR = cli.define_path("workdir", "runs/one_head", "folder of the three sweeps, the tables and the figure")
FORMAT = flags.DEFINE_enum("format", "png", ("png", "svg", "pdf"), "format of the figure")
BUDGET = define_budget()


def main() -> None:
    search_for_one_head(Path(WORKDIR.value), BUDGET(), FORMAT.value)


if __name__ == "__main__":
    cli.run(main)
