"""Models -> vmapped programs: what is compiled, and what its arrays are.

Models of one static shape are one program: scan over steps inside, vmap over models outside, the model axis over all devices,
training state donated. A sweep larger than memory becomes slabs, each a run of the same compiled program, and so are models that
train for different numbers of steps: each program owns its step.

Axes: m models of a program, s evaluations.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lrjax import devices
from lrjax.config import Hyper, Static, Sweep, make_hyper, make_static, static_fields
from lrjax.data.splits import Splits
from lrjax.gates import Gates
from lrjax.models.clip import CLIP, as_read, model_splits
from lrjax.models.interventions import ModelInterventions
from lrjax.training.retrieval import evaluate
from lrjax.training.step import TrainState, init_state, train_steps

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


def make_programs(sweep: Sweep, slab: int = 0, n_devices: int = 1) -> tuple[Program, ...]:
    """Group the models by static shape and by length of training, then into slabs of at most `slab` models (0: no limit), padded to
    divide among devices.

    Models of one static shape share one compilation whatever their length: their arrays are padded to the largest number of labels,
    and their slabs are equal in size.
    """
    groups: dict[tuple, dict[tuple[int, ...], list[int]]] = {}
    for row, model in enumerate(sweep.models):
        groups.setdefault(static_fields(model), {}).setdefault(sweep.evaluated_at(model), []).append(row)

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


def slabs_by_shape(programs: tuple[Program, ...]) -> list[list[int]]:
    """Numbers of the programs of each static shape: the slabs of a group."""
    groups: dict[Static, list[int]] = {}
    for i, program in enumerate(programs):
        groups.setdefault(program.static, []).append(i)
    return list(groups.values())


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
        side_by_side = lambda models: train_steps(static, models[0], models[1], models[2], start, n_steps, made)
        return devices.in_batches(side_by_side, (hyper, splits, states), devices.train_batch_size(len(hyper.seed), mesh))

    made = jnp.int32(n_steps) if made is None else made
    return devices.over_models(local, mesh or devices.mesh(), replicated=2)(hyper, splits, states, start, made)


@partial(jax.jit, static_argnums=(0, 6, 7))
def evaluate_program(
    static: Static,
    hyper: Hyper,
    splits: Splits,
    params: CLIP,
    step: jax.Array,
    exhaustive: jax.Array,
    measures: tuple[Measure, ...] = (),
    mesh: Mesh | None = None,
) -> dict[str, jax.Array]:
    """All metrics [m] of a program's models under the gates in force at `step`, on all images if `exhaustive`, a traced bool [], or
    on a fixed sample. A few models at a time: memory stays small.
    """

    def one(args, step, exhaustive):
        hyper, splits, params = args
        params = as_read(hyper, params)
        gates = hyper.gates.at(step)
        metrics = evaluate(static, hyper, splits, params, ModelInterventions.of_gates(gates), exhaustive, split=static.gated)
        for measure in measures:
            metrics |= measure(static, hyper, splits, params, gates)
        return metrics

    def local(hyper, splits, params, *traced):
        of_model = lambda args: one(args, *traced)
        return jax.lax.map(of_model, (hyper, splits, params), batch_size=devices.eval_batch_size(len(hyper.seed), mesh))

    return devices.over_models(local, mesh or devices.mesh(), replicated=2)(hyper, splits, params, step, exhaustive)
