"""How much memory and how many FLOPs a model takes, counted: what decides on the size of slabs and of chunks of steps."""

import dataclasses
from functools import partial

import jax
from jax.sharding import Mesh

from lrjax import devices, surroundings
from lrjax.config import Model, Static, Sweep, make_hyper, make_static
from lrjax.models import objectives
from lrjax.models.clip import model_splits, n_parameters, param_shapes
from lrjax.training import flops
from lrjax.training.programs import Program

USED = 0.6  # of the devices' memory, which the counted bytes of models may fill
CHUNK, CHUNK_SECONDS = 50, 5  # steps between two looks of the host, at most; how long they may last


def models_that_fit(sweep: Sweep, mesh: Mesh | None = None, memory: int = 0) -> int:
    """How many models 60 % of the devices' memory holds, and of how many a step is short, by the largest model of the sweep.

    Args:
        sweep: the models.
        mesh: the devices; None: all that jax has here.
        memory: bytes of memory of all devices together; 0: ask the devices here.
    """
    models = {dataclasses.replace(m, seed=0) for m in sweep.models}
    short = CHUNK_SECONDS * devices.slow_flops(mesh) // max(flops_of_model(make_static([m])) for m in models)
    room = USED * (memory or devices.memory())
    return max(1, int(min(room // max(map(bytes_of_model, models)), short)))


def flops_of_model(static: Static) -> int:
    """FLOPs of one training step of one model, counted."""
    return flops.total(flops.lrjax_counts(static)).flops


def chunk_steps(program: Program, mesh: Mesh | None = None) -> int:
    """How many steps are made before the host looks again: so few that they are soon over on a slow machine, since a stop waits for
    them. The number is computed from shapes and not from measured times, so a sweep compiles once. No result depends on it. mesh:
    as of `models_that_fit`.
    """
    flops_of_step = flops_of_model(program.static) * len(program.hyper.seed)
    return int(min(CHUNK, max(1, CHUNK_SECONDS * devices.slow_flops(mesh) // flops_of_step)))


@surroundings.pinned()
def bytes_of_model(model: Model) -> int:
    """Memory of one model in training, counted: parameters, gradient, optimiser state and a copy of all; the activations that its
    objective keeps for the backward pass; splits.
    """
    static = make_static([model])
    splits = jax.tree.leaves(jax.eval_shape(partial(model_splits, static), make_hyper(model)))
    activations = objectives.of(static).activations(static)
    return 4 * (6 * n_parameters(param_shapes(model)) + activations) + sum(x.size * x.dtype.itemsize for x in splits)
