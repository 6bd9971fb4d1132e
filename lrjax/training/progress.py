"""How a sweep shows itself: a progress bar on a terminal, a line per evaluation elsewhere."""

import sys
import time

import numpy as np
from tqdm import tqdm

from lrjax import devices
from lrjax.training.run import Run


class Progress:
    """Callbacks for `sweep.advance`: steps, models, model-steps per second, time left, mean loss, mean unseen-pair accuracy."""

    def __init__(self, run: Run, quiet: bool = False):
        self.run, self.quiet, self.began = run, quiet, None
        self.seconds, self.timed = 0.0, 0  # of training alone, its first chunk (which compiles) left out
        self.models = len(run.sweep.models)
        self.total, self.done = sum(len(p.rows) * p.evaluated_at[-1] for p in run.programs), run.model_steps
        self.accuracy = self.loss = float("nan")
        self.waited_for = ""
        hidden = quiet or not sys.stderr.isatty() or not devices.first_process()
        form = "{desc} {percentage:3.0f}%|{bar}| [{elapsed}]{postfix}"
        self.bar = tqdm(total=self.total, initial=self.done, bar_format=form, disable=hidden)

    def on_chunk(self, model_steps: int, loss: float) -> None:
        """After some steps of some models."""
        self.done, self.loss = self.done + model_steps, loss
        now = time.monotonic()
        if self.began is not None:
            self.seconds, self.timed = self.seconds + now - self.began, self.timed + model_steps
        self.began = now
        self.bar.set_description_str(
            f"{self.models} models, step {self.done // self.models}/{self.total // self.models}", refresh=False
        )
        self.bar.set_postfix_str(self._status(), refresh=False)
        self.bar.update(model_steps)

    def on_waiting(self, name: str, ready: int, programs: int) -> None:
        """While training waits for a program that compiles."""
        said = f"compiling: {name} ({ready} of {programs} programs ready)"
        self.bar.set_postfix_str(said)
        if self.bar.disable and not self.quiet and devices.first_process() and name != self.waited_for:
            print(said, flush=True)
        self.waited_for = name

    def on_evaluation(self, run: Run) -> None:
        """After an evaluation."""
        history = dict(zip(run.history.metrics, run.history.values[run.evaluations - 1].T, strict=True))
        self.accuracy, self.loss = mean(history["unseen_pair"]), mean(history["loss"])
        self.began = time.monotonic() if self.began else None
        if self.quiet or not self.bar.disable:
            return
        longest = max(p.evaluated_at[-1] for p in run.programs)
        if run.step == 0:
            print(f"step 0/{longest}  {self.models} models  unseen_pair {self.accuracy:.3f}", flush=True)
        else:
            print(f"step {run.step}/{longest}  {self._status()}", flush=True)

    def _status(self) -> str:
        speed = "compiling"
        if self.timed:
            rate = self.timed / max(self.seconds, 1e-9)
            speed = f"{rate:,.0f} model-steps/s  {(self.total - self.done) / rate / 60:.1f} min left"
        return f"{speed}  loss {self.loss:.3f}  unseen_pair {self.accuracy:.3f}"

    def close(self) -> None:
        """Leave the terminal clean."""
        self.bar.close()


def mean(values: np.ndarray) -> float:
    """The mean of those values that are numbers: models that have diverged have none."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")
