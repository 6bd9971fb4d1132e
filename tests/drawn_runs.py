"""Sweeps at their end whose parameters and accuracies are drawn, not trained: what only reads a run needs no training compiled."""

import dataclasses

import jax
import numpy as np

from conftest import shake_run
from lrjax.analysis import gradient
from lrjax.training import loop
from lrjax.training.programs import init_program, split_program
from lrjax.training.retrieval import metric_names


def drawn(wanted, diverges=1.0):
    """A run at its last step. The models whose learning rate is above `diverges` have diverged after their first step: their
    parameters and accuracies are no numbers.
    """
    run, rng = loop.start(wanted), np.random.default_rng(0)
    for i, p in enumerate(run.programs):
        gone = p.hyper.lr[: len(p.rows)] > diverges
        state = jax.device_get(init_program(p.static, p.hyper))
        run.states[i] = dataclasses.replace(state, diverged_at=np.where(gone, 1, -1).astype(np.int32))
        own = ["loss", *metric_names(p.static, p.static.task_object.SETS), *measured_by_head(p)]
        for evaluation, step in enumerate(p.evaluated_at):
            found = {name: np.where(gone & (step > 0), np.nan, rng.uniform(size=len(gone))) for name in own}
            run.history.record(evaluation, p.rows, step, found)
        run.at[i], run.evaluated[i] = p.evaluated_at[-1], len(p.evaluated_at)
    run = shake_run(run)
    for i, state in enumerate(run.states):
        lost = lambda x, gone=state.diverged_at >= 0: np.where(gone.reshape(-1, *[1] * (np.ndim(x) - 1)), np.nan, x)
        params = jax.tree.map(lambda x, lost=lost: np.asarray(lost(x), np.float32), state.params)
        run.states[i] = dataclasses.replace(state, params=params)
    return run


def measured_by_head(p):
    """The names of what `gradient.columns` measures of a program's models."""

    def of_first(hyper):
        splits, params = split_program(p.static, hyper), init_program(p.static, hyper).params
        hyper, splits, params = jax.tree.map(lambda x: x[0], (hyper, splits, params))
        return gradient.columns(p.static, hyper, splits, params, hyper.gates.at(0))

    return jax.eval_shape(of_first, p.hyper)
