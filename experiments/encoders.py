"""Is the gradient a property of one stripped-down block, or of attention? Trains other encoders and asks them; writes
docs/results/encoders.html.

python -m experiments.encoders [--seeds=8] [--quick] [--study=runs/encoders] [--report=docs/results] [--only=positions,one_head]

(or: make encoders). What is there is not made again: a second call goes on where the first was stopped.
"""

from experiments import reproduce
from experiments.studies import encoders
from experiments.studies.search import Budget, search_for_one_head
from experiments.studies.study import ENCODERS
from lrjax import cli

QUICK_SEARCH = Budget(configurations=9, keep=2, confirmed=1, screen_steps=10, steps=20, every=10)


def main() -> None:
    study = reproduce.study_of("encoders", ENCODERS, "one_head")
    reproduce.make(study, reproduce.SEEDS.value or 8)
    if "one_head" in (reproduce.ONLY.value or ["one_head"]):
        with study.clock("one_head"):
            search_for_one_head(study.folder / "one_head", QUICK_SEARCH if reproduce.QUICK.value else Budget())
    reproduce.print_paths(encoders.build(study, reproduce.report_of(study), study.times(), study.folder / "one_head"))


if __name__ == "__main__":
    cli.run(main)
