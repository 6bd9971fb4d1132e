"""Does the mechanism survive in other tasks? Trains them and other losses, asks, writes docs/results/tasks.html.

python -m experiments.tasks [--seeds=8] [--quick] [--study=runs/tasks] [--report=docs/results] [--only=grid,three] [--page_only]

(or: make tasks). What is there is not made again: a second call goes on where the first was stopped. Tables go to
docs/results/tasks/NAME; a sweep that is not trained here is shown from there.
"""

from experiments import reproduce
from experiments.studies import tasks
from experiments.studies.study import TASKS
from lrjax import cli

PAGE_ONLY = reproduce.define_page_only()


def main() -> None:
    reproduce.make_kept("tasks", TASKS, "tasks", tasks.build, PAGE_ONLY.value)


if __name__ == "__main__":
    cli.run(main)
