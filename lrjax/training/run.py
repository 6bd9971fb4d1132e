"""A sweep at some moment of its training, its history, and the tables of both.

Axes: m models of a program, M models of the sweep, s evaluations, k metrics.
"""

import dataclasses

import numpy as np

from lrjax.config import FIELDS, TRACED, Sweep
from lrjax.errors import InputError
from lrjax.metrics import METRICS
from lrjax.stats import Table, select
from lrjax.training.programs import Program
from lrjax.training.step import TrainState

REPORTED = 3  # a trained model's figures are the mean of its last three evaluations


@dataclasses.dataclass
class History:
    """All evaluations so far: the step of each model [s][M], and values [s][M, k] of the metrics named, NaN where there is none.

    The last evaluation may lack the models of programs that have not come so far (`Run.evaluated`).
    """

    metrics: tuple[str, ...]
    steps: list[np.ndarray]
    values: list[np.ndarray]

    def record(self, i: int, rows: np.ndarray, step: int, found: dict[str, np.ndarray]) -> None:
        """The metrics [m] of models `rows` at their i-th evaluation.

        A metric of METRICS that is new after the first one (an older version began this run) is NaN in the evaluations before.
        Raises InputError if a measure of the caller's is new.
        """
        new = found.keys() - set(self.metrics)
        if i and (own := sorted(new - set(METRICS))):
            had = sorted(set(self.metrics) - {"loss", *METRICS})
            raise InputError(
                f"measures: {own[0]} is new, the run so far has {', '.join(had) or 'none'}; resume with the same measures"
            )
        if new or not i:
            self._widen(found)
        if i == len(self.steps):
            self.steps.append(np.zeros(self.steps[0].shape, np.int64))
            self.values.append(np.full(self.values[0].shape, np.nan, np.float32))
        self.steps[i][rows] = step
        for name, column in found.items():
            self.values[i][rows, self.metrics.index(name)] = column

    def _widen(self, names) -> None:
        """Make room for metrics that evaluations before did not have, each column where it belongs."""
        known = {"loss", *METRICS}
        metrics = ("loss", *METRICS, *sorted((set(self.metrics) | set(names)) - known))
        at = [metrics.index(name) for name in self.metrics]
        for s, values in enumerate(self.values):
            self.values[s] = np.full((len(values), len(metrics)), np.nan, np.float32)
            self.values[s][:, at] = values
        self.metrics = metrics


@dataclasses.dataclass
class Run:
    """A sweep at some moment of its training. By program: its state (NumPy, leaves [m, ...]; none before its first step), how many
    steps it has made (`at`), and how many evaluations it has had (`evaluated`).
    """

    sweep: Sweep
    slab: int
    programs: tuple[Program, ...]
    states: list[TrainState | None]
    at: list[int]
    evaluated: list[int]
    history: History

    @property
    def evaluations(self) -> int:
        """How many evaluations all programs have had."""
        return min(self.evaluated)

    @property
    def step(self) -> int:
        """The step of the last evaluation that all programs have had, of the program that trains longest."""
        return max(program.evaluated_at[max(self.evaluations - 1, 0)] for program in self.programs)

    @property
    def place(self) -> tuple[int, int]:
        """(step, steps that programs have made since, summed over programs): a checkpoint is named by it."""
        last = max(self.evaluations - 1, 0)
        return self.step, sum(at - p.evaluated_at[last] for p, at in zip(self.programs, self.at, strict=True))

    @property
    def model_steps(self) -> int:
        """Steps of single models that have been made."""
        return sum(at * len(program.rows) for program, at in zip(self.programs, self.at, strict=True))

    @property
    def diverged_at(self) -> np.ma.MaskedArray:
        """The step [M] at which each model diverged, masked where it has not."""
        steps = np.full(len(self.sweep.models), -1)
        for program, state in zip(self.programs, self.states, strict=True):
            if state is not None:
                steps[program.rows] = state.diverged_at
        return np.ma.masked_less(steps, 0)

    @property
    def finished(self) -> bool:
        """Whether every program has had its last evaluation."""
        return all(n == len(program.evaluated_at) for program, n in zip(self.programs, self.evaluated, strict=True))

    def final(self) -> dict[str, np.ndarray]:
        """Each metric [M], as reported: the mean of the last REPORTED evaluations of training."""
        last = np.stack(self.history.values[1 : self.evaluations][-REPORTED:])
        mean = np.asarray(np.mean(last, 0, dtype=np.float64), np.float32)
        return dict(zip(self.history.metrics, mean.T, strict=True))


def models_table(run: Run) -> Table:
    """A row per model: its fields, the step at which it diverged (masked if it has not), and its metrics once it is trained. A
    static field is a column if models differ in it.
    """
    return model_columns(run.sweep) | {"diverged_at": run.diverged_at} | (run.final() if run.finished else {})


def divergences(run: Run) -> str:
    """One line on the models that have diverged; nothing if none has."""
    numbers = model_columns(run.sweep)["model"].tolist()
    gone = [f"model {i} at step {step}" for i, step in zip(numbers, run.diverged_at.tolist(), strict=True) if step is not None]
    if not gone:
        return ""
    names = ", ".join(gone[:5]) + (", ..." if len(gone) > 5 else "")
    return f"diverged, frozen and left out: {len(gone)} of {len(run.sweep.models)} ({names}); see diverged_at in models.csv"


def history_table(run: Run) -> Table:
    """A row per evaluation (its number from 0) and model, with the step of that model."""
    n, history, made = len(run.sweep.models), run.history, run.evaluations
    columns = {name: np.tile(column, made) for name, column in model_columns(run.sweep).items()}
    where = {"step": np.concatenate(history.steps[:made]), "evaluation": np.repeat(np.arange(made), n)}
    values = np.concatenate(history.values[:made])
    return where | columns | dict(zip(history.metrics, values.T, strict=True))


def model_columns(sweep: Sweep) -> Table:
    """The fields of every model, [M] each: all traced ones, and static ones that differ; betas are beta1 and beta2.

    Those of a part of a sweep are its rows of the whole's.
    """
    if sweep.part_of is not None:
        return select(model_columns(sweep.part_of), np.array(sweep.numbers, int))
    columns: Table = {"model": np.arange(len(sweep.models))}
    for name, field in FIELDS.items():
        values = [getattr(model, name) for model in sweep.models]
        if name in TRACED or len(set(values)) > 1:
            parts = np.array(values).reshape(len(values), -1).T
            columns.update(zip(field.columns, parts, strict=True))
    return columns
