"""Does the mechanism survive in other worlds? Trains other tasks and losses, asks, writes report/tasks.html.

python -m experiments.tasks [--seeds=8] [--quick] [--study=runs/tasks] [--report=report] [--only=grid,three]

(or: make tasks). What is there is not made again: a second call goes on where the first was stopped.
"""

from experiments import reproduce
from lrjax import cli
from lrjax.report import tasks
from lrjax.report.study import TASKS


def main() -> None:
    study = reproduce.study_of("tasks", TASKS)
    reproduce.make(study, reproduce.SEEDS.value or 8)
    reproduce.tell(tasks.build(study, reproduce.report_of(study), study.times()))


if __name__ == "__main__":
    cli.run(main)
