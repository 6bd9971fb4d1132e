"""A table of models -> programs -> a trained sweep.

Models of one static shape are one program: scan over steps inside, vmap over models outside, training state donated, evaluation
between chunks of steps. All programs of a sweep advance together, so that the sweep has one step and one checkpoint.

Axes: m models of a program, M models of the sweep, s evaluations, k metrics.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np

from lrjax import train
from lrjax.clip import model_splits
from lrjax.config import STATIC, Hyper, Model, Static, Sweep, make_hyper, make_static
from lrjax.errors import InputError
from lrjax.evaluate import METRICS, evaluate
from lrjax.gates import Gates
from lrjax.splits import Splits
from lrjax.stats import Table
from lrjax.train import TrainState

CHUNK = 25  # steps between two looks of the host; bounds how much of a run a stop can lose sight of
REPORTED = 3  # a trained model's figures are the mean of its last three evaluations

# Measures beside METRICS, per model: (static, hyper, splits, params, gates) -> dict of name -> number []. Each becomes a column.
Measure = Callable[[Static, Hyper, Splits, train.CLIP, Gates], dict[str, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Program:
    """Models that train as one XLA program: `rows` [m] of the sweep's table, `hyper` with leaves [m, ...]."""

    static: Static
    rows: np.ndarray
    hyper: Hyper


@dataclasses.dataclass
class History:
    """All evaluations so far: steps [s], values [s, M, k] of the metrics named, NaN where there is none."""

    metrics: tuple[str, ...]
    steps: list[int]
    values: list[np.ndarray]

    def final(self) -> dict[str, np.ndarray]:
        """Each metric [M], as reported: the mean of the last REPORTED evaluations of training."""
        trained = [values for step, values in zip(self.steps, self.values, strict=True) if step > 0]
        mean = np.mean(np.stack(trained[-REPORTED:]), 0, dtype=np.float64).astype(np.float32)
        return dict(zip(self.metrics, mean.T, strict=True))


@dataclasses.dataclass
class Run:
    """A sweep at one step of its training: states, one a program, with leaves [m, ...]."""

    sweep: Sweep
    programs: tuple[Program, ...]
    step: int
    states: list[TrainState]
    history: History

    @property
    def finished(self) -> bool:
        """Whether training has reached the sweep's last step."""
        return self.step >= self.sweep.steps


def make_programs(sweep: Sweep) -> tuple[Program, ...]:
    """Group the models by static shape. Within a program everything is padded to its largest number of labels."""
    groups: dict[tuple, list[int]] = {}
    for row, model in enumerate(sweep.models):
        groups.setdefault(tuple(getattr(model, name) for name in STATIC), []).append(row)

    def program(rows):
        models = [sweep.models[row] for row in rows]
        return Program(make_static(models), np.array(rows), jax.tree.map(lambda *x: np.stack(x), *map(make_hyper, models)))

    return tuple(program(rows) for rows in groups.values())


@partial(jax.jit, static_argnums=0)
def init_program(static: Static, hyper: Hyper) -> tuple[TrainState, Splits]:
    """Initial states and splits of a program's models, leaves [m, ...]."""
    return jax.vmap(partial(train.init_state, static))(hyper), jax.vmap(partial(model_splits, static))(hyper)


@partial(jax.jit, static_argnums=0)
def make_program_splits(static: Static, hyper: Hyper) -> Splits:
    """The splits alone, of a program whose states are restored."""
    return jax.vmap(partial(model_splits, static))(hyper)


@partial(jax.jit, static_argnums=(0, 5), donate_argnums=3)
def train_chunk(
    static: Static, hyper: Hyper, splits: Splits, states: TrainState, start: jax.Array, n_steps: int
) -> tuple[TrainState, jax.Array]:
    """n_steps training steps of all models of a program, from step `start`: states (donated) and losses [m, n_steps]."""
    one = partial(train.train_steps, static, n_steps=n_steps)
    return jax.vmap(one, in_axes=(0, 0, 0, None))(hyper, splits, states, start)


@partial(jax.jit, static_argnums=(0, 1, 6))
def evaluate_program(
    static: Static, exhaustive: bool, hyper: Hyper, splits: Splits, params: train.CLIP, step: jax.Array, measures=()
) -> dict[str, jax.Array]:
    """All metrics [m] of a program's models under the gates in force at `step`. One model at a time: memory stays small."""

    def one(args):
        hyper, splits, params = args
        gates = hyper.gates.at(step)
        metrics = evaluate(static, hyper, splits, params, gates, exhaustive)
        for measure in measures:
            metrics |= measure(static, hyper, splits, params, gates)
        return metrics

    return jax.lax.map(one, (hyper, splits, params))


def start(sweep: Sweep) -> Run:
    """A run before its first step."""
    programs = make_programs(sweep)
    states = [jax.eval_shape(partial(init_program, p.static), p.hyper)[0] for p in programs]
    return Run(sweep, programs, 0, states, History((), [], []))


def advance(run: Run, on_chunk=lambda step, loss: None, on_evaluation=lambda run: None, measures: tuple[Measure, ...] = ()) -> Run:
    """Train to the sweep's last step, evaluating at step 0 and every `eval_every`.

    on_chunk(step, mean loss) is told every CHUNK steps or so, on_evaluation(run) after each evaluation. `run` is at an evaluation
    (or at its start); it is advanced in place and returned.
    """
    sweep, programs = run.sweep, run.programs
    chunk = max(n for n in range(1, min(CHUNK, sweep.eval_every) + 1) if sweep.eval_every % n == 0)
    hypers = [jax.device_put(p.hyper) for p in programs]
    if run.history.steps:
        splits = [make_program_splits(p.static, hyper) for p, hyper in zip(programs, hypers, strict=True)]
    else:
        run.states, splits = map(
            list, zip(*(init_program(p.static, h) for p, h in zip(programs, hypers, strict=True)), strict=True)
        )
        _evaluate(run, hypers, splits, measures)
        on_evaluation(run)
    while run.step < sweep.steps:
        for step in range(run.step, run.step + sweep.eval_every, chunk):
            loss = 0.0
            for i, p in enumerate(programs):
                run.states[i], losses = train_chunk(p.static, hypers[i], splits[i], run.states[i], jnp.int32(step), chunk)
                loss += float(losses.mean(1).sum()) / len(sweep.models)
            on_chunk(step + chunk, loss)
        run.step += sweep.eval_every
        _evaluate(run, hypers, splits, measures)
        on_evaluation(run)
    return run


def _evaluate(run: Run, hypers: list[Hyper], splits: list[Splits], measures: tuple[Measure, ...]) -> None:
    """Append an evaluation to the run's history and reset the loss that it reports."""
    sweep, columns = run.sweep, {}
    exhaustive = run.step > sweep.steps - REPORTED * sweep.eval_every and run.step > 0
    for i, p in enumerate(run.programs):
        state = run.states[i]
        metrics = evaluate_program(p.static, exhaustive, hypers[i], splits[i], state.params, jnp.int32(run.step), measures)
        metrics["loss"] = state.loss_sum / sweep.eval_every if run.step else jnp.full_like(state.loss_sum, np.nan)
        for name, values in jax.device_get(metrics).items():
            columns.setdefault(name, np.full(len(sweep.models), np.nan, np.float32))[p.rows] = values
        run.states[i] = state.replace(loss_sum=jnp.zeros_like(state.loss_sum))
    names = ("loss", *METRICS, *sorted(set(columns) - {"loss", *METRICS}))
    if run.history.steps and names != run.history.metrics:
        raise InputError(f"measures: the run so far has metrics {run.history.metrics}, not {names}; resume with the same measures")
    run.history.metrics = names
    run.history.steps.append(run.step)
    run.history.values.append(np.stack([columns[name] for name in names], 1))


# ---- between a run and what a checkpoint holds ----


def sweep_to_json(sweep: Sweep) -> dict:
    """The table of models by columns (a constant column as one value), and the run's length."""
    columns = {f.name: [getattr(m, f.name) for m in sweep.models] for f in dataclasses.fields(Model)}
    models = {name: values if len(set(values)) > 1 else values[0] for name, values in columns.items()}
    return {"n_models": len(sweep.models), "models": models, "steps": sweep.steps, "eval_every": sweep.eval_every}


def sweep_from_json(data: dict) -> Sweep:
    """The inverse of sweep_to_json, after a trip through JSON (which makes lists of tuples)."""

    def column(name, value):
        pairs = name == "betas"
        many = isinstance(value, list) and (not pairs or isinstance(value[0], list))
        values = value if many else [value] * data["n_models"]
        return [tuple(v) for v in values] if pairs else values

    columns = {name: column(name, value) for name, value in data["models"].items()}
    models = tuple(Model(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True))
    return Sweep(models, data["steps"], data["eval_every"])


def run_to_arrays(run: Run) -> tuple[dict, dict]:
    """Nested dicts of arrays, and a JSON-able meta: what `checkpoint.save` takes."""
    arrays = {
        "programs": {str(i): flax.serialization.to_state_dict(state) for i, state in enumerate(run.states)},
        "history": {"steps": np.array(run.history.steps), "values": np.stack(run.history.values)},
    }
    return arrays, {"sweep": sweep_to_json(run.sweep), "metrics": list(run.history.metrics)}


def run_from_arrays(arrays: dict, meta: dict) -> Run:
    """The inverse of run_to_arrays. Raises InputError if a name, shape or type is not what this sweep has."""
    run = start(sweep_from_json(meta["sweep"]))
    for i, abstract in enumerate(run.states):
        try:
            state = flax.serialization.from_state_dict(abstract, arrays["programs"][str(i)])
        except (KeyError, ValueError) as error:
            raise InputError(
                f"checkpoint: program {i} does not hold this sweep's parameters ({error}); it is another version's"
            ) from error

        def check(path, want, have):
            if (want.shape, want.dtype) != (np.shape(have), np.asarray(have).dtype):
                name = jax.tree_util.keystr(path)
                raise InputError(
                    f"checkpoint: {name} is {np.asarray(have).dtype}{np.shape(have)}, expected {want.dtype}{want.shape}; "
                    "it is another version's"
                )
            return have

        run.states[i] = jax.tree_util.tree_map_with_path(check, abstract, state)
    steps = arrays["history"]["steps"].tolist()
    run.history = History(tuple(meta["metrics"]), steps, list(arrays["history"]["values"]))
    run.step = steps[-1]
    return run


# ---- tables ----


def models_table(run: Run) -> Table:
    """A row per model: its place on every axis, and its metrics once trained. Static fields are columns where they differ."""
    return model_columns(run.sweep) | (run.history.final() if run.finished else {})


def history_table(run: Run) -> Table:
    """A row per evaluation and model."""
    n, history = len(run.sweep.models), run.history
    columns = {name: np.tile(column, len(history.steps)) for name, column in model_columns(run.sweep).items()}
    values = np.concatenate(history.values)
    return {"step": np.repeat(history.steps, n)} | columns | dict(zip(history.metrics, values.T, strict=True))


def model_columns(sweep: Sweep) -> Table:
    """The axes of every model, [M] each; betas as beta1 and beta2."""
    from lrjax.config import TRACED

    columns: Table = {"model": np.arange(len(sweep.models))}
    for name in (*TRACED, *STATIC):
        values = [getattr(model, name) for model in sweep.models]
        if name == "betas":
            columns["beta1"], columns["beta2"] = np.array(values).T
        elif name in TRACED or len(set(values)) > 1:
            columns[name] = np.array(values)
    return columns
