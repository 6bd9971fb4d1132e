"""The loop that trains a run: programs take turns, an evaluation interval each, so that all are equally far, by shares of their own
training. Evaluation stands between chunks of steps.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from lrjax import devices, surroundings
from lrjax.config import Sweep, gate_schedule
from lrjax.gates import NONE
from lrjax.training.compilation import Compilation, side_by_side
from lrjax.training.memory import chunk_steps, models_that_fit
from lrjax.training.programs import (
    Measure,
    Program,
    evaluate_program,
    init_program,
    make_programs,
    slabs_by_shape,
    split_program,
    train_chunk,
)
from lrjax.training.run import REPORTED, History, Run
from lrjax.training.tracing import EVALUATION, INITIAL, SPLITS, TRAIN


@surroundings.pinned()
def start(sweep: Sweep) -> Run:
    """A run before its first step, in slabs of `sweep.slab` models (0: as many as memory holds)."""
    slab = sweep.slab or models_that_fit(sweep)
    programs = make_programs(sweep, slab, jax.device_count())
    n, models = len(programs), len(sweep.models)
    nothing = History((), [np.zeros(models, np.int64)], [np.zeros((models, 0), np.float32)])
    return Run(sweep, slab, programs, [None] * n, [0] * n, [0] * n, nothing)


def goes_on_to(shorter: Sweep, longer: Sweep) -> bool:
    """Whether a run of the first sweep can be trained on to become one of the second: they are equal, or it has fewer `steps`.

    No field of a model depends on how long it trains, so the parameters have the same bits as if all steps had been asked for at
    once. The shorter run's last evaluations stay in the history as they were made: over all images, where others are over a sample.
    A length in epochs is a sweep's own: its evaluations stand at shares of it.
    """
    if shorter == longer:
        return True
    fewer_steps = shorter.steps < longer.steps and not longer.epochs
    return fewer_steps and shorter == dataclasses.replace(longer, steps=shorter.steps)


def lengthened(run: Run, wanted: Sweep) -> Run:
    """The run as the beginning of a longer one (`goes_on_to`); the run itself if it is as long."""
    if run.sweep == wanted:
        return run
    programs = make_programs(wanted, run.slab, jax.device_count())
    return dataclasses.replace(run, sweep=wanted, programs=programs)


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


@surroundings.pinned()
def advance(
    run: Run,
    on_chunk=lambda steps, loss: None,
    on_evaluation=lambda run: None,
    measures: tuple[Measure, ...] = (),
    *,
    on_checkpoint=lambda run: None,
    stop=lambda: False,
    on_waiting=lambda name, ready, programs: None,
) -> Run:
    """Train every program to its last step, evaluating at step 0 and at each of its `evaluated_at`.

    on_chunk(model_steps, mean loss) is told after every chunk of steps how many steps of models it made, on_evaluation(run) each
    time that all programs have had an evaluation; on_checkpoint(run) every `checkpoint_every` steps of a program, after
    on_evaluation where both are due, and at the end. stop() is asked after each chunk and evaluation; once true, `run` is returned
    as it stands there, to be advanced another time. on_waiting(name, ready, programs) is told while the loop waits for a program
    that compiles (`compilation`).

    `run` is advanced in place and returned. Between turns the states of programs are in host memory, where checkpoints want them
    too.
    """
    with side_by_side(run, measures, on_waiting) as compilation:
        while not run.finished:
            row = run.evaluations
            for i in range(len(run.programs)):
                if run.evaluated[i] > row:
                    continue
                if not _train_to(run.programs[i].evaluated_at[row], run, i, compilation, on_chunk, on_checkpoint, stop):
                    return run
                _evaluate(run, i, compilation, measures)
                if stop() and run.evaluations == row:
                    return run
            on_evaluation(run)
            often = run.sweep.checkpoint_every
            if run.finished or run.sweep.epochs or not often or run.step % often == 0:
                on_checkpoint(run)
            if stop():
                return run
    return run


def _train_to(end: int, run: Run, i: int, compilation: Compilation, on_chunk, on_checkpoint, stop) -> bool:
    """Train program i to step `end`; False if asked to stop before it is evaluated there."""
    devices.clear_caches_if_needed()
    p, mesh, often = run.programs[i], devices.mesh(), run.sweep.checkpoint_every
    hyper = devices.shard_to_devices(p.hyper, mesh)
    if run.states[i] is None:
        compilation.wait_for(p.static, INITIAL)
        run.states[i] = _to_host(init_program(p.static, hyper, mesh), p)
    if run.at[i] == end:
        return True
    compilation.wait_for(p.static, SPLITS, TRAIN)
    splits, chunk = split_program(p.static, hyper, mesh), chunk_steps(p)
    states, at = devices.shard_to_devices(_pad(run.states[i], p), mesh), run.at[i]
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


def _evaluate(run: Run, i: int, compilation: Compilation, measures: tuple[Measure, ...]) -> None:
    """Record the metrics of program i where it stands, NaN for models that have diverged. Begins a new sum of losses.

    A model has diverged too, at this step, if a parameter or a moment of the optimiser is not finite, though its loss is: an
    infinite second moment stops a parameter for good. That is looked at here, where states are in host memory, not in every step.
    """
    p, mesh, state, row, at = run.programs[i], devices.mesh(), run.states[i], run.evaluated[i], run.at[i]
    assert state is not None  # trained to here
    hyper, params = devices.shard_to_devices(p.hyper, mesh), devices.shard_to_devices(_pad(state.params, p), mesh)
    exhaustive = row >= len(p.evaluated_at) - REPORTED
    compilation.wait_for(p.static, SPLITS, EVALUATION)
    splits, traced = split_program(p.static, hyper, mesh), devices.replicate((np.int32(at), np.bool_(exhaustive)), mesh)
    metrics = _to_host(evaluate_program(p.static, hyper, splits, params, *traced, measures, mesh), p)
    steps = at - p.evaluated_at[row - 1] if row else np.nan  # before the first there is no loss
    metrics["loss"] = (state.loss_sum / np.float32(steps)).astype(np.float32)

    finite = np.all([np.isfinite(x).reshape(len(p.rows), -1).all(1) for x in jax.tree.leaves((state.params, state.opt_state))], 0)
    diverged_at = np.where(finite | (state.diverged_at >= 0), state.diverged_at, np.int32(at))
    run.states[i] = dataclasses.replace(state, loss_sum=np.zeros_like(state.loss_sum), diverged_at=diverged_at)
    found = {name: np.where(diverged_at < 0, values, np.float32(np.nan)) for name, values in metrics.items()}
    run.history.record(row, p.rows, at, found)
    run.evaluated[i] += 1


def _pad(tree, program: Program):
    """Leaves [m, ...] -> [m + padding, ...]: the last model again."""
    rows = np.minimum(np.arange(len(program.hyper.seed)), len(program.rows) - 1)
    return jax.tree.map(lambda x: x[rows], tree)


def _to_host(tree, program: Program):
    """Device arrays [m + padding, ...] -> NumPy [m, ...], a copy: the device's may be given away."""
    return jax.tree.map(lambda x: np.array(x[: len(program.rows)]), devices.gather_to_host(tree))
