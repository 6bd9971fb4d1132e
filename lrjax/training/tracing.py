"""The programs of a sweep, traced from shapes alone: nothing is computed, and the devices need not be here.

A program that is traced can be lowered for any platform and compiled for any described chip.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from lrjax import devices, surroundings
from lrjax.config import Sweep
from lrjax.training.memory import chunk_steps, models_that_fit
from lrjax.training.programs import (
    Measure,
    Program,
    evaluate_program,
    init_program,
    make_programs,
    split_program,
    train_chunk,
)

INITIAL, SPLITS, TRAIN = "initial values", "splits", "training chunk"
EVALUATION = "evaluation"


@surroundings.pinned()
def shapes_of(sweep: Sweep, mesh: Mesh, memory: int = 0) -> list[Program]:
    """The first program of each static shape of a sweep, in the slabs that the devices of a mesh would train: the others of its
    shape are runs of what is compiled for the first.

    Args:
        sweep: the models.
        mesh: the devices.
        memory: bytes of memory of all devices together; 0: ask the devices here.
    """
    slab = sweep.slab or models_that_fit(sweep, mesh, memory)
    first: dict = {}
    for program in make_programs(sweep, slab, mesh.size):
        first.setdefault(program.static, program)
    return list(first.values())


def tracers(program: Program, mesh: Mesh, measures: tuple[Measure, ...] = ()) -> dict[str, Callable[[], jax.stages.Traced]]:
    """What traces each program that a sweep compiles for models of one shape, by the name of the program.

    Args:
        program: the models, of which the shapes of arrays are read.
        mesh: the devices that the program is for.
        measures: what is recorded at every evaluation beside the metrics.
    """
    static = program.static
    over = NamedSharding(mesh, P(devices.AXIS) if mesh.size > 1 else P())
    whole = NamedSharding(mesh, P())
    array = lambda x, sharding=over: jax.ShapeDtypeStruct(np.shape(x), x.dtype, sharding=sharding)
    hyper = jax.tree.map(array, program.hyper)
    of_models = lambda function: jax.tree.map(array, function.eval_shape(static, hyper, mesh))
    splits, states = of_models(split_program), of_models(init_program)
    number = jax.ShapeDtypeStruct((), jnp.int32, sharding=whole)
    flag = jax.ShapeDtypeStruct((), jnp.bool_, sharding=whole)

    return {
        INITIAL: lambda: init_program.trace(static, hyper, mesh),
        SPLITS: lambda: split_program.trace(static, hyper, mesh),
        TRAIN: lambda: train_chunk.trace(static, hyper, splits, states, number, chunk_steps(program, mesh), mesh, number),
        EVALUATION: lambda: evaluate_program.trace(static, hyper, splits, states.params, number, flag, measures, mesh),
    }
