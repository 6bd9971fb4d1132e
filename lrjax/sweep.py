"""A table of models -> programs -> a trained sweep.

Models of one static shape are one program: scan over steps inside, vmap over models outside, the model axis over all devices,
training state donated, evaluation between chunks of steps. A sweep larger than memory becomes slabs, each a run of the same
compiled program. All programs of a sweep advance together, so that the sweep has one step and one checkpoint.

Axes: m models of a program, M models of the sweep, s evaluations, k metrics.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lrjax import devices, train
from lrjax.benchmark import counts
from lrjax.clip import model_splits, n_parameters, shaped
from lrjax.config import STATIC, TRACED, Hyper, Model, Static, Sweep, depths, gate_schedule, make_hyper, make_static
from lrjax.errors import InputError
from lrjax.evaluate import METRICS, evaluate
from lrjax.gates import NONE, Gates
from lrjax.splits import Splits
from lrjax.stats import Table
from lrjax.train import TrainState

CHUNK, CHUNK_SECONDS = 25, 5  # steps between two looks of the host, at most; how long they may last
REPORTED = 3  # a trained model's figures are the mean of its last three evaluations

# Measures beside METRICS, per model: (static, hyper, splits, params, gates) -> dict of name -> number []. Each becomes a column.
Measure = Callable[[Static, Hyper, Splits, train.CLIP, Gates], dict[str, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Program:
    """Models that train together: `rows` [m] of the sweep's table, `hyper` with leaves [m + padding, ...].

    Padding repeats the last model, so that the models divide among devices and every slab has one size; it is dropped on export.
    """

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
    """A sweep at one step of its training: states, one a program, NumPy with leaves [m, ...]; none before the first evaluation.

    `step` is that of the last evaluation. A run that was stopped between two has programs `ahead` of it by so many steps, and those
    that have reached the next one have their metrics [m] `pending` until all have.
    """

    sweep: Sweep
    slab: int
    programs: tuple[Program, ...]
    step: int
    states: list[TrainState | None]
    history: History
    ahead: dict[int, int] = dataclasses.field(default_factory=dict)
    pending: dict[int, dict[str, np.ndarray]] = dataclasses.field(default_factory=dict)

    @property
    def place(self) -> tuple[int, int]:
        """(last evaluation, steps that programs have made since, together): what a checkpoint is named by."""
        return self.step, sum(self.ahead.values())

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
        """Whether training has reached the sweep's last step."""
        return self.step >= self.sweep.steps


def make_programs(sweep: Sweep, slab: int = 0, n_devices: int = 1) -> tuple[Program, ...]:
    """Group the models by static shape, then into slabs of at most `slab` models (0: no limit), padded to divide among devices.

    Within a group arrays are padded to its largest number of labels; slabs of a group are equal in shape and share one compilation.
    """
    groups: dict[tuple, list[int]] = {}
    for row, model in enumerate(sweep.models):
        groups.setdefault(tuple(getattr(model, name) for name in STATIC), []).append(row)

    programs = []
    for rows in groups.values():
        n_slabs = -(-len(rows) // max(slab, n_devices)) if slab else 1
        size = -(-len(rows) // (n_slabs * n_devices)) * n_devices
        static = make_static([sweep.models[row] for row in rows])
        for first in range(0, len(rows), size):
            part = rows[first : first + size]
            padded = part + part[-1:] * (size - len(part))
            hyper = jax.tree.map(lambda *x: np.stack(x), *(make_hyper(sweep.models[row]) for row in padded))
            programs.append(Program(static, np.array(part), hyper))
    return tuple(programs)


@partial(jax.jit, static_argnums=(0, 2))
def init_program(static: Static, hyper: Hyper, mesh: Mesh | None = None) -> TrainState:
    """Initial states of a program's models, leaves [m, ...]."""
    return devices.over_models(jax.vmap(partial(train.init_state, static)), mesh or devices.mesh())(hyper)


@partial(jax.jit, static_argnums=(0, 2))
def split_program(static: Static, hyper: Hyper, mesh: Mesh | None = None) -> Splits:
    """Splits of a program's models, leaves [m, ...]."""
    return devices.over_models(jax.vmap(partial(model_splits, static)), mesh or devices.mesh())(hyper)


@partial(jax.jit, static_argnums=(0, 5, 6), donate_argnums=3)
def train_chunk(
    static: Static,
    hyper: Hyper,
    splits: Splits,
    states: TrainState,
    start: jax.Array,
    n_steps: int,
    mesh: Mesh | None = None,
) -> tuple[TrainState, jax.Array]:
    """n_steps training steps of all models of a program, from step `start`: states (donated) and losses [m, n_steps]."""

    def local(hyper, splits, states, start):
        one = lambda model: train.train_steps(static, *model, start, n_steps)
        models = len(hyper.seed)
        at_once = devices.trained_at_once(models)
        if at_once == models:
            return jax.vmap(one)((hyper, splits, states))
        return jax.lax.map(one, (hyper, splits, states), batch_size=at_once)

    return devices.over_models(local, mesh or devices.mesh(), replicated=1)(hyper, splits, states, start)


@partial(jax.jit, static_argnums=(0, 1, 6, 7))
def evaluate_program(
    static: Static,
    exhaustive: bool,
    hyper: Hyper,
    splits: Splits,
    params: train.CLIP,
    step: jax.Array,
    measures: tuple[Measure, ...] = (),
    mesh: Mesh | None = None,
) -> dict[str, jax.Array]:
    """All metrics [m] of a program's models under the gates in force at `step`. A few models at a time: memory stays small."""

    def one(args, step):
        hyper, splits, params = args
        gates = hyper.gates.at(step)
        metrics = evaluate(static, hyper, splits, params, gates, exhaustive, split=static.gated)
        for measure in measures:
            metrics |= measure(static, hyper, splits, params, gates)
        return metrics

    def local(hyper, splits, params, step):
        return jax.lax.map(lambda args: one(args, step), (hyper, splits, params), batch_size=devices.at_once())

    return devices.over_models(local, mesh or devices.mesh(), replicated=1)(hyper, splits, params, step)


def start(sweep: Sweep) -> Run:
    """A run before its first step, in slabs of `sweep.slab` models (0: as many as memory holds)."""
    slab = sweep.slab or models_that_fit(sweep)
    programs = make_programs(sweep, slab, jax.device_count())
    return Run(sweep, slab, programs, 0, [None] * len(programs), History((), [], []))


def plan(run: Run) -> str:
    """One or two lines for people: how this sweep will run."""
    models, groups = len(run.sweep.models), slabs_by_shape(run.programs)
    left = models * (run.sweep.steps - run.step)
    where = f"{jax.device_count()} {jax.default_backend()} device{'s' if jax.device_count() > 1 else ''}"
    text = f"plan: {models} models, {left:,} model-steps on {where}, {len(groups)} program{'s' if len(groups) > 1 else ''}"
    if len(run.programs) > len(groups):
        text += f" in {len(run.programs)} slabs of up to {max(len(p.rows) for p in run.programs)} models"
    if len(groups) > 1:
        text += "\n      (models whose shapes differ compile apart)"
    gated = {model.gates: model for model in run.sweep.models if model.gates != NONE}
    last = {gates: max(s1.max() for s1 in jax.tree.leaves(gate_schedule(model).s1)) for gates, model in gated.items()}
    if late := [gates for gates, step in last.items() if step > run.sweep.steps]:
        text += f"\n      (gates {late[0]!r} end at step {last[late[0]]:.0f}, after the last, {run.sweep.steps})"
    return text


def models_that_fit(sweep: Sweep) -> int:
    """How many models 60 % of the devices' memory holds, and of how many a step is short, by the largest model of the sweep."""
    models = {dataclasses.replace(m, seed=0) for m in sweep.models}
    short = CHUNK_SECONDS * devices.slow_flops() // max(flops_of_model(make_static([m])) for m in models)
    return max(1, int(min(0.6 * devices.memory() // max(map(bytes_of_model, models)), short)))


def flops_of_model(static: Static) -> int:
    """FLOPs of one training step of one model, counted."""
    return counts.total(counts.lrjax_counts(static)).flops


def chunk_steps(sweep: Sweep, program: Program) -> int:
    """Steps between two looks of the host. They divide the intervals between evaluations and checkpoints, and are few enough to be
    over soon on a slow machine: a stop waits for them. Counted, not timed, so that a sweep compiles once; no result depends on it.
    """
    interval = math.gcd(sweep.eval_every, sweep.checkpoint_every or sweep.eval_every)
    short = CHUNK_SECONDS * devices.slow_flops() // (flops_of_model(program.static) * len(program.hyper.seed))
    return max(n for n in range(1, min(CHUNK, interval) + 1) if interval % n == 0 and n <= max(1, short))


def bytes_of_model(model: Model) -> int:
    """Memory of one model in training, counted: parameters, gradient, optimiser state and a copy of all; activations kept for the
    backward pass (the B x B logits, embeddings, attention mass over table rows, slot by slot; full sequences beyond the first
    layer, under dropout and in a reader); splits.
    """
    static = make_static([model])
    splits = jax.tree.leaves(jax.eval_shape(partial(model_splits, static), make_hyper(model)))
    B, d, h, task, reads = model.batch_size, model.d_model, model.n_heads, static.world, model.objective != "contrastive"
    seen, said = len(task.image.template), task.n_words
    rows = task.n_tokens + seen + said + 1
    activations = 6 * B**2 + 16 * B * model.d_embed + (4 + 2 * task.n_slots) * B * h * rows
    dense = zip(depths(model).values(), (seen, said + reads * seen), strict=True)
    for layers, length in dense:
        layers -= not (reads or model.dropout)
        activations += layers * B * length * (3 * (8 * d + 4 * h * length) + 4 * model.mlp_ratio * d)
    return 4 * (6 * n_parameters(shaped(model)) + activations) + sum(x.size * x.dtype.itemsize for x in splits)


def advance(
    run: Run,
    on_chunk=lambda steps, loss: None,
    on_evaluation=lambda run: None,
    measures: tuple[Measure, ...] = (),
    *,
    on_checkpoint=lambda run: None,
    stop=lambda: False,
) -> Run:
    """Train to the sweep's last step, evaluating at step 0 and every `eval_every`.

    on_chunk(model_steps, mean loss) is told after every chunk of steps how many steps of models it made, on_evaluation(run) after
    each evaluation; on_checkpoint(run) every `checkpoint_every` steps, after on_evaluation where both are due, and at the end.
    stop() is asked after each chunk and evaluation; once true, `run` is returned as it stands there, to be advanced another time.

    `run` is advanced in place and returned. Programs take turns, an evaluation interval each; between turns their states are in
    host memory, where checkpoints want them too.
    """
    often = run.sweep.checkpoint_every or run.sweep.eval_every
    while not run.finished or not run.history.steps:
        end = run.step + run.sweep.eval_every if run.history.steps else 0
        for i in range(len(run.programs)):
            if i in run.pending:
                continue
            if not _train_to(end, run, i, often, on_chunk, on_checkpoint, stop):
                return run
            run.pending[i] = _evaluate(end, run, i, measures)
            if stop() and len(run.pending) < len(run.programs):
                return run
        _record(run, end)
        on_evaluation(run)
        if end % often == 0 or run.finished:
            on_checkpoint(run)
        if stop():
            return run
    return run


def _train_to(end: int, run: Run, i: int, often: int, on_chunk, on_checkpoint, stop) -> bool:
    """Train program i to step `end`; False if asked to stop before it is evaluated there."""
    devices.make_room()
    p, mesh, first = run.programs[i], devices.mesh(), run.step + run.ahead.get(i, 0)
    hyper = devices.place(p.hyper, mesh)
    if run.states[i] is None:
        run.states[i] = _to_host(init_program(p.static, hyper, mesh), p)
    if first == end:
        return True
    splits, chunk = split_program(p.static, hyper, mesh), chunk_steps(run.sweep, p)
    states = devices.place(_pad(run.states[i], p), mesh)
    for step in range(first, end, chunk):
        n = min(chunk, end - step)
        states, losses = train_chunk(p.static, hyper, splits, states, jnp.int32(step), n, mesh)
        on_chunk(n * len(p.rows), float(losses.mean(where=jnp.isfinite(losses))))
        at, stopped = step + n, stop()
        if stopped or at == end or at % often == 0:
            run.states[i], run.ahead[i] = _to_host(states, p), at - run.step
        if stopped:
            return False
        if at < end and at % often == 0:
            on_checkpoint(run)
    return True


def _evaluate(end: int, run: Run, i: int, measures: tuple[Measure, ...]) -> dict[str, np.ndarray]:
    """The metrics [m] of program i at step `end`, NaN for models that have diverged. Begins a new sum of losses."""
    p, mesh, sweep, state = run.programs[i], devices.mesh(), run.sweep, run.states[i]
    hyper, params = devices.place(p.hyper, mesh), devices.place(_pad(state.params, p), mesh)
    exhaustive = end > sweep.steps - REPORTED * sweep.eval_every
    splits = split_program(p.static, hyper, mesh)
    metrics = _to_host(evaluate_program(p.static, exhaustive, hyper, splits, params, jnp.int32(end), measures, mesh), p)
    metrics["loss"] = state.loss_sum / np.float32(sweep.eval_every) if end else np.full_like(state.loss_sum, np.nan)

    finite = np.all([np.isfinite(x).reshape(len(p.rows), -1).all(1) for x in jax.tree.leaves(state.params)], 0)
    diverged_at = np.where(finite | (state.diverged_at >= 0), state.diverged_at, np.int32(end))
    run.states[i] = state.replace(loss_sum=np.zeros_like(state.loss_sum), diverged_at=diverged_at)
    return {name: np.where(diverged_at < 0, values, np.float32(np.nan)) for name, values in metrics.items()}


def _record(run: Run, step: int) -> None:
    """Append the pending evaluation, now that all programs have it, to the history."""
    names = metric_names(run)
    if run.history.steps and names != run.history.metrics:
        raise InputError(f"measures: the run so far has metrics {run.history.metrics}, not {names}; resume with the same measures")
    values = pending_table(run, names)
    run.step, run.history.metrics, run.ahead, run.pending = step, names, {}, {}
    run.history.steps.append(step)
    run.history.values.append(values)


def metric_names(run: Run) -> tuple[str, ...]:
    """The names of the pending metrics, in the order of the history's columns."""
    return ("loss", *METRICS, *sorted(set().union(*run.pending.values()) - {"loss", *METRICS})) if run.pending else ()


def pending_table(run: Run, names: tuple[str, ...]) -> np.ndarray:
    """The pending metrics [M, k], NaN where there is none."""
    values = np.full((len(run.sweep.models), len(names)), np.nan, np.float32)
    for i, metrics in run.pending.items():
        for name, column in metrics.items():
            values[run.programs[i].rows, names.index(name)] = column
    return values


def slabs_by_shape(programs: tuple[Program, ...]) -> list[list[int]]:
    """Numbers of the programs of each static shape: the slabs of a group."""
    groups: dict[Static, list[int]] = {}
    for i, program in enumerate(programs):
        groups.setdefault(program.static, []).append(i)
    return list(groups.values())


def _pad(tree, program: Program):
    """Leaves [m, ...] -> [m + padding, ...]: the last model again."""
    rows = np.minimum(np.arange(len(program.hyper.seed)), len(program.rows) - 1)
    return jax.tree.map(lambda x: x[rows], tree)


def _to_host(tree, program: Program):
    """Device arrays [m + padding, ...] -> NumPy [m, ...], a copy: the device's may be given away."""
    return jax.tree.map(lambda x: np.array(x[: len(program.rows)]), devices.fetch(tree))


# ---- tables ----


def models_table(run: Run) -> Table:
    """A row per model: its place on every axis, the step at which it diverged (masked if it has not), and its metrics once trained.

    Static fields are columns where they differ.
    """
    return model_columns(run.sweep) | {"diverged_at": run.diverged_at} | (run.history.final() if run.finished else {})


def divergences(run: Run) -> str:
    """One line on the models that have diverged; nothing if none has."""
    gone = [f"model {i} at step {step}" for i, step in enumerate(run.diverged_at.tolist()) if step is not None]
    if not gone:
        return ""
    names = ", ".join(gone[:5]) + (", ..." if len(gone) > 5 else "")
    return f"diverged, frozen and left out: {len(gone)} of {len(run.sweep.models)} ({names}); see diverged_at in models.csv"


def history_table(run: Run) -> Table:
    """A row per evaluation and model."""
    n, history = len(run.sweep.models), run.history
    columns = {name: np.tile(column, len(history.steps)) for name, column in model_columns(run.sweep).items()}
    values = np.concatenate(history.values)
    return {"step": np.repeat(history.steps, n)} | columns | dict(zip(history.metrics, values.T, strict=True))


def model_columns(sweep: Sweep) -> Table:
    """The axes of every model, [M] each; betas as beta1 and beta2."""
    columns: Table = {"model": np.arange(len(sweep.models))}
    for name in (*TRACED, *STATIC):
        values = [getattr(model, name) for model in sweep.models]
        if name == "betas":
            columns["beta1"], columns["beta2"] = np.array(values).T
        elif name in TRACED or len(set(values)) > 1:
            columns[name] = np.array(values)
    return columns
