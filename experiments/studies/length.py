"""How long a sweep is trained where its config gives the least: on, while it moves."""

import dataclasses
import json

from experiments.studies.paper_values import settled
from experiments.studies.printed_claims import metrics_of
from experiments.studies.study import Study
from lrjax.config import Sweep
from lrjax.errors import InputError


def train_on(study: Study, part: str, sweep: Sweep, most_steps: int) -> None:
    """Train a sweep for its `steps`, and on by half as many at a time until it has `settled`, up to `most_steps`.

    The rule is fixed before the runs. A folder that has more steps keeps them.

    Raises:
      InputError: `most_steps` are fewer than those of the sweep.
    """
    if most_steps < sweep.steps:
        raise InputError(f"--steps={most_steps}: is less than the {sweep.steps} that {part} trains at least; give that or more")
    steps = max(sweep.steps, steps_in(study, part))
    while True:
        study.train(part, dataclasses.replace(sweep, steps=steps))
        if steps + sweep.steps // 2 > most_steps or settled(study.history(part), metrics_of(part)[0]):
            return
        steps += sweep.steps // 2


def steps_in(study: Study, part: str) -> int:
    """The steps of the sweep that the folder of a part holds already; 0 if there is none."""
    config = study.path(part) / "config.json"
    return json.loads(config.read_text())["steps"] if config.is_file() else 0
