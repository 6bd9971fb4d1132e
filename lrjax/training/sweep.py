"""A table of models -> programs -> a trained sweep.

Models of one static shape are one program: scan over steps inside, vmap over models outside, the model axis over all devices,
training state donated, evaluation between chunks of steps. A sweep larger than memory becomes slabs, each a run of the same
compiled program, and so are models that train for different numbers of steps: each program owns its step. Programs take turns, an
evaluation interval each, so that all are equally far, by shares of their own training.

Axes: m models of a program, M models of the sweep, s evaluations, k metrics.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lrjax import devices, surroundings
from lrjax.config import STATIC, TRACED, Hyper, Model, Static, Sweep, depths, gate_schedule, make_hyper, make_static
from lrjax.data.splits import Splits
from lrjax.errors import InputError
from lrjax.gates import NONE, Gates
from lrjax.models.clip import as_read, model_splits, n_parameters, shaped
from lrjax.stats import Table, select
from lrjax.training import flops
from lrjax.training.retrieval import METRICS, evaluate
from lrjax.training.step import CLIP, TrainState, init_state, train_steps

CHUNK, CHUNK_SECONDS = 50, 5  # steps between two looks of the host, at most; how long they may last
REPORTED = 3  # a trained model's figures are the mean of its last three evaluations

# Measures beside METRICS, per model: (static, hyper, splits, params, gates) -> dict of name -> number []. Each becomes a column.
Measure = Callable[[Static, Hyper, Splits, CLIP, Gates], dict[str, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Program:
    """Models that train together: `rows` [m] of the sweep's table, `hyper` with leaves [m + padding, ...]; `evaluated_at` [s], the
    steps after which they are evaluated, the last of which ends their training.

    Padding repeats the last model, so that the models divide among devices and every slab has one size; it is dropped on export.
    """

    static: Static
    rows: np.ndarray
    hyper: Hyper
    evaluated_at: tuple[int, ...]


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
        """(step, steps that programs have made since, together): what a checkpoint is named by."""
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
        mean = np.mean(last, 0, dtype=np.float64).astype(np.float32)
        return dict(zip(self.history.metrics, mean.T, strict=True))


def make_programs(sweep: Sweep, slab: int = 0, n_devices: int = 1) -> tuple[Program, ...]:
    """Group the models by static shape and by length of training, then into slabs of at most `slab` models (0: no limit), padded to
    divide among devices.

    Models of one static shape share one compilation whatever their length: their arrays are padded to the largest number of labels,
    and their slabs are equal in size.
    """
    groups: dict[tuple, dict[tuple[int, ...], list[int]]] = {}
    for row, model in enumerate(sweep.models):
        shape = tuple(getattr(model, name) for name in STATIC)
        groups.setdefault(shape, {}).setdefault(sweep.evaluated_at(model), []).append(row)

    programs = []
    for by_length in groups.values():
        static = make_static([sweep.models[row] for rows in by_length.values() for row in rows])
        size = slab_size([len(rows) for rows in by_length.values()], slab, n_devices)
        for evaluated_at, rows in by_length.items():
            for first in range(0, len(rows), size):
                part = rows[first : first + size]
                padded = part + part[-1:] * (size - len(part))
                hyper = jax.tree.map(lambda *x: np.stack(x), *(make_hyper(sweep.models[row]) for row in padded))
                programs.append(Program(static, np.array(part), hyper, evaluated_at))
    return tuple(programs)


def slab_size(counts: list[int], slab: int, n_devices: int) -> int:
    """One size for the slabs of groups of so many models each: a multiple of n_devices, of at most `slab` (0: no limit), the one
    that pads least, and of those the largest.
    """

    def even(count):  # slabs of one group, as equal as can be
        n_slabs = -(-count // max(slab, n_devices)) if slab else 1
        return -(-count // (n_slabs * n_devices)) * n_devices

    padded = lambda size: sum(-(-count // size) * size for count in counts)
    return min({even(count) for count in counts}, key=lambda size: (padded(size), -size))


@partial(jax.jit, static_argnums=(0, 2))
def init_program(static: Static, hyper: Hyper, mesh: Mesh | None = None) -> TrainState:
    """Initial states of a program's models, leaves [m, ...]."""
    return devices.over_models(jax.vmap(partial(init_state, static)), mesh or devices.mesh())(hyper)


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
    made: jax.Array | None = None,
) -> tuple[TrainState, jax.Array]:
    """n_steps training steps of all models of a program, from step `start`, or as many of them as `made` (traced) says: states
    (donated) and losses [m, n_steps], NaN for steps that were not made.
    """

    def local(hyper, splits, states, start, made):
        one = lambda model: train_steps(static, *model, start, n_steps, made)
        models = len(hyper.seed)
        at_once = devices.trained_at_once(models)
        if at_once == models:
            return jax.vmap(one)((hyper, splits, states))
        return jax.lax.map(one, (hyper, splits, states), batch_size=at_once)

    made = jnp.int32(n_steps) if made is None else made
    return devices.over_models(local, mesh or devices.mesh(), replicated=2)(hyper, splits, states, start, made)


@partial(jax.jit, static_argnums=(0, 1, 6, 7))
def evaluate_program(
    static: Static,
    exhaustive: bool,
    hyper: Hyper,
    splits: Splits,
    params: CLIP,
    step: jax.Array,
    measures: tuple[Measure, ...] = (),
    mesh: Mesh | None = None,
) -> dict[str, jax.Array]:
    """All metrics [m] of a program's models under the gates in force at `step`. A few models at a time: memory stays small."""

    def one(args, step):
        hyper, splits, params = args
        params = as_read(hyper, params)
        gates = hyper.gates.at(step)
        metrics = evaluate(static, hyper, splits, params, gates, exhaustive, split=static.gated)
        for measure in measures:
            metrics |= measure(static, hyper, splits, params, gates)
        return metrics

    def local(hyper, splits, params, step):
        return jax.lax.map(lambda args: one(args, step), (hyper, splits, params), batch_size=devices.at_once())

    return devices.over_models(local, mesh or devices.mesh(), replicated=1)(hyper, splits, params, step)


@surroundings.pinned()
def start(sweep: Sweep) -> Run:
    """A run before its first step, in slabs of `sweep.slab` models (0: as many as memory holds)."""
    slab = sweep.slab or models_that_fit(sweep)
    programs = make_programs(sweep, slab, jax.device_count())
    n, models = len(programs), len(sweep.models)
    nothing = History((), [np.zeros(models, np.int64)], [np.zeros((models, 0), np.float32)])
    return Run(sweep, slab, programs, [None] * n, [0] * n, [0] * n, nothing)


def plan(run: Run) -> str:
    """One or two lines for people: how this sweep will run."""
    models, groups = len(run.sweep.models), slabs_by_shape(run.programs)
    left = sum(len(p.rows) * p.evaluated_at[-1] for p in run.programs) - run.model_steps
    where = f"{jax.device_count()} {jax.default_backend()} device{'s' if jax.device_count() > 1 else ''}"
    text = f"plan: {models} models, {left:,} model-steps on {where}, {len(groups)} program{'s' if len(groups) > 1 else ''}"
    if len(run.programs) > len(groups):
        text += f" in {len(run.programs)} slabs of up to {max(len(p.rows) for p in run.programs)} models"
    if len(lengths := sorted({p.evaluated_at[-1] for p in run.programs})) > 1:
        text += f"\n      (models train for {' or '.join(f'{steps:,}' for steps in lengths)} steps)"
    if len(groups) > 1:
        text += "\n      (models whose shapes differ compile apart)"
    gated = {model.gates: model for model in run.sweep.models if model.gates != NONE}
    last = {gates: max(s1.max() for s1 in jax.tree.leaves(gate_schedule(model).s1)) for gates, model in gated.items()}
    longest = run.sweep.longest
    if late := [gates for gates, step in last.items() if step > longest]:
        text += f"\n      (gates {late[0]!r} end at step {last[late[0]]:.0f}, after the last, {longest})"
    return text


def models_that_fit(sweep: Sweep) -> int:
    """How many models 60 % of the devices' memory holds, and of how many a step is short, by the largest model of the sweep."""
    models = {dataclasses.replace(m, seed=0) for m in sweep.models}
    short = CHUNK_SECONDS * devices.slow_flops() // max(flops_of_model(make_static([m])) for m in models)
    return max(1, int(min(0.6 * devices.memory() // max(map(bytes_of_model, models)), short)))


def flops_of_model(static: Static) -> int:
    """FLOPs of one training step of one model, counted."""
    return flops.total(flops.lrjax_counts(static)).flops


def chunk_steps(program: Program) -> int:
    """Steps between two looks of the host: few enough to be over soon on a slow machine, since a stop waits for them. Counted, not
    timed, so that a sweep compiles once; no result depends on it.
    """
    return int(
        min(CHUNK, max(1, CHUNK_SECONDS * devices.slow_flops() // (flops_of_model(program.static) * len(program.hyper.seed))))
    )


@surroundings.pinned()
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


@surroundings.pinned()
def advance(
    run: Run,
    on_chunk=lambda steps, loss: None,
    on_evaluation=lambda run: None,
    measures: tuple[Measure, ...] = (),
    *,
    on_checkpoint=lambda run: None,
    stop=lambda: False,
) -> Run:
    """Train every program to its last step, evaluating at step 0 and at each of its `evaluated_at`.

    on_chunk(model_steps, mean loss) is told after every chunk of steps how many steps of models it made, on_evaluation(run) each
    time that all programs have had an evaluation; on_checkpoint(run) every `checkpoint_every` steps of a program, after
    on_evaluation where both are due, and at the end. stop() is asked after each chunk and evaluation; once true, `run` is returned
    as it stands there, to be advanced another time.

    `run` is advanced in place and returned. Between turns the states of programs are in host memory, where checkpoints want them
    too.
    """
    while not run.finished:
        row = run.evaluations
        for i in range(len(run.programs)):
            if run.evaluated[i] > row:
                continue
            if not _train_to(run.programs[i].evaluated_at[row], run, i, on_chunk, on_checkpoint, stop):
                return run
            _evaluate(run, i, measures)
            if stop() and run.evaluations == row:
                return run
        on_evaluation(run)
        often = run.sweep.checkpoint_every
        if run.finished or run.sweep.epochs or not often or run.step % often == 0:
            on_checkpoint(run)
        if stop():
            return run
    return run


def _train_to(end: int, run: Run, i: int, on_chunk, on_checkpoint, stop) -> bool:
    """Train program i to step `end`; False if asked to stop before it is evaluated there."""
    devices.make_room()
    p, mesh, often = run.programs[i], devices.mesh(), run.sweep.checkpoint_every
    hyper = devices.place(p.hyper, mesh)
    if run.states[i] is None:
        run.states[i] = _to_host(init_program(p.static, hyper, mesh), p)
    if run.at[i] == end:
        return True
    splits, chunk = split_program(p.static, hyper, mesh), chunk_steps(p)
    states, at = devices.place(_pad(run.states[i], p), mesh), run.at[i]
    while at < end:
        n = min(chunk, end - at, often - at % often if often else chunk)
        start, made = devices.replicate((np.int32(at), np.int32(n)), mesh)
        states, losses = train_chunk(p.static, hyper, splits, states, start, chunk, mesh, made)
        at += n
        on_chunk(n * len(p.rows), float(jax.device_get(_finite_mean(losses))))
        stopped, due = stop(), bool(often) and at % often == 0
        if stopped or due or at == end:
            run.states[i], run.at[i] = _to_host(states, p), at
        if stopped:
            return False
        if due and at < end:
            on_checkpoint(run)
    return True


@jax.jit
def _finite_mean(losses: jax.Array) -> jax.Array:
    return losses.mean(where=jnp.isfinite(losses))


def _evaluate(run: Run, i: int, measures: tuple[Measure, ...]) -> None:
    """Record the metrics of program i where it stands, NaN for models that have diverged. Begins a new sum of losses.

    A model has diverged too, at this step, if a parameter or a moment of the optimiser is not finite, though its loss is: an
    infinite second moment stops a parameter for good. That is looked at here, where states are in host memory, not in every step.
    """
    p, mesh, state, row, at = run.programs[i], devices.mesh(), run.states[i], run.evaluated[i], run.at[i]
    hyper, params = devices.place(p.hyper, mesh), devices.place(_pad(state.params, p), mesh)
    exhaustive = row >= len(p.evaluated_at) - REPORTED
    splits, step = split_program(p.static, hyper, mesh), devices.replicate(np.int32(at), mesh)
    metrics = _to_host(evaluate_program(p.static, exhaustive, hyper, splits, params, step, measures, mesh), p)
    steps = at - p.evaluated_at[row - 1] if row else np.nan  # before the first there is no loss
    metrics["loss"] = (state.loss_sum / np.float32(steps)).astype(np.float32)

    finite = np.all([np.isfinite(x).reshape(len(p.rows), -1).all(1) for x in jax.tree.leaves((state.params, state.opt_state))], 0)
    diverged_at = np.where(finite | (state.diverged_at >= 0), state.diverged_at, np.int32(at))
    run.states[i] = state.replace(loss_sum=np.zeros_like(state.loss_sum), diverged_at=diverged_at)
    found = {name: np.where(diverged_at < 0, values, np.float32(np.nan)) for name, values in metrics.items()}
    run.history.record(row, p.rows, at, found)
    run.evaluated[i] += 1


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
    """The axes of every model, [M] each; betas as beta1 and beta2. Those of a part of a sweep are its rows of the whole's."""
    if sweep.part_of is not None:
        return select(model_columns(sweep.part_of), np.array(sweep.numbers, int))
    columns: Table = {"model": np.arange(len(sweep.models))}
    for name in (*TRACED, *STATIC):
        values = [getattr(model, name) for model in sweep.models]
        if name == "betas":
            columns["beta1"], columns["beta2"] = np.array(values).T
        elif name in TRACED or len(set(values)) > 1:
            columns[name] = np.array(values)
    return columns
