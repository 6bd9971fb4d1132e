"""How a sweep shows itself: a progress bar on a terminal, a line per evaluation elsewhere."""

import sys
import time

import numpy as np
from tqdm import tqdm

from lrjax.sweep import Run


class Progress:
    """Callbacks for `sweep.advance`: steps, models, model-steps per second, time left, mean loss, mean unseen-pair accuracy."""

    def __init__(self, run: Run):
        self.run, self.first, self.began = run, run.step, None
        self.accuracy = float("nan")
        terminal = sys.stderr.isatty()
        form = "{desc} {percentage:3.0f}%|{bar}| step {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}"
        models = f"{len(run.sweep.models)} models"
        self.bar = tqdm(total=run.sweep.steps, initial=run.step, desc=models, bar_format=form, disable=not terminal)

    def on_chunk(self, step: int, loss: float) -> None:
        """After some steps of all models."""
        if self.began is None:  # the first chunk compiles: it does not count for the rate
            self.began = (time.monotonic(), step)
        self.bar.set_postfix_str(self._status(step, loss), refresh=False)
        self.bar.update(step - self.bar.n)

    def on_evaluation(self, run: Run) -> None:
        """After an evaluation."""
        history = dict(zip(run.history.metrics, run.history.values[-1].T, strict=True))
        self.accuracy = float(np.nanmean(history["unseen_pair"]))
        if not self.bar.disable:
            return
        if run.step == 0:
            print(f"step 0/{run.sweep.steps}  {len(run.sweep.models)} models  unseen_pair {self.accuracy:.3f}", flush=True)
        else:
            print(f"step {run.step}/{run.sweep.steps}  {self._status(run.step, float(history['loss'].mean()))}", flush=True)

    def _status(self, step: int, loss: float) -> str:
        began, first = self.began or (time.monotonic(), step)
        if step > first:
            rate = (step - first) / max(time.monotonic() - began, 1e-9)
            left = (self.run.sweep.steps - step) / rate
            speed = f"{rate * len(self.run.sweep.models):,.0f} model-steps/s  {left / 60:.1f} min left"
        else:
            speed = "compiling"
        return f"{speed}  loss {loss:.3f}  unseen_pair {self.accuracy:.3f}"

    def close(self) -> None:
        """Leave the terminal clean."""
        self.bar.close()
