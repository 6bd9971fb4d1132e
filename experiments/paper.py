"""The paper's own experiment as printed, and what it depends on: trains the sweeps, asks, writes docs/results/paper.html.

python -m experiments.paper [--seeds=8] [--epochs=10000] [--quick] [--study=runs/paper_study] [--report=docs/results]
    [--only=multiplier] [--page_only]

(or: make paper). What is there is not made again: a second call goes on where the first was stopped. Tables go to
docs/results/paper/NAME; a sweep that is not trained here is shown from there. The full model takes days on a CPU, and is left out
unless it is named (`--only=paper,paper_10`; `paper` is 5 and 15 labels, `paper_layouts` few and many layouts).
"""

from absl import flags

from experiments import reproduce
from experiments.studies import paper
from experiments.studies.study import PAPER
from lrjax import cli

EPOCHS = flags.DEFINE_integer(
    "epochs", None, "epochs of the sweeps that are as long as the paper's (default: its 10,000); the same when going on", 1
)
PAGE_ONLY = reproduce.define_page_only()


def main() -> None:
    more = {"page_only": PAGE_ONLY.value, "epochs": EPOCHS.value or 0}
    reproduce.make_kept("paper_study", PAPER, "paper", paper.build, **more)


if __name__ == "__main__":
    cli.run(main)
