"""Other tasks, encoders and losses under the recipe that the paper prints: is it the task, or was it the quick recipe?

python -m experiments.printed_tasks [--seeds=4] [--steps=48000] [--quick] [--study=runs/printed_tasks] [--report=docs/results]
    [--only=three,three_large] [--page_only]

(or: make printed-tasks). Trains each sweep for 16,000 steps, and on by half as much while mean top-1 still moves, up to --steps.
What is there is not made again: a second call goes on where the first was stopped. Tables go to docs/results/printed_tasks/NAME; a
sweep that is not trained here is shown from there. All of it takes about two days on 2 CPU cores.
"""

from absl import flags

from experiments import reproduce
from experiments.studies import printed_tasks
from experiments.studies.study import PRINTED_TASKS
from lrjax import cli

STEPS = flags.DEFINE_integer("steps", 48_000, "the most steps that a sweep is trained", 1)
PAGE_ONLY = reproduce.define_page_only()


def main() -> None:
    more = {"page_only": PAGE_ONLY.value, "seeds": 4, "most_steps": STEPS.value}
    reproduce.make_kept("printed_tasks", PRINTED_TASKS, "printed_tasks", printed_tasks.build, **more)


if __name__ == "__main__":
    cli.run(main)
