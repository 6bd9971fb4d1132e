"""The programs of a sweep, compiled for chips that are not here, and what the compiler says of them.

Nothing runs. Compile seconds are of this machine; all other columns are counted, and the same on any machine.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator

import jax

from lrjax import surroundings
from lrjax.benchmark import hlo
from lrjax.benchmark.chips import COMPILER_OPTIONS, Target, mesh_of, named_cuda
from lrjax.config import Static, Sweep
from lrjax.errors import InputError
from lrjax.training.memory import bytes_of_models, flops_of_model, largest_models
from lrjax.training.programs import Measure
from lrjax.training.tracing import TRAIN, shapes_of, tracers


@dataclasses.dataclass(frozen=True)
class Row:
    """One program of one shape of models for one target. Counts are of one chip; None: the compiler does not say, or `error`.

    Attributes:
        target: the target's name.
        shape: the number of the shape of models in the sweep.
        program: what the program does.
        models: the models of the program on one chip.
        lower_seconds: seconds to trace and lower it.
        compile_seconds: seconds to compile it, on this machine.
        operations: operations of the program as it is given to the compiler.
        instructions: instructions of the compiled program, those inside fusions too.
        kernels_per_step: kernels that one training step starts, or one turn of the program's largest loop.
        temporary_bytes: memory that the program takes while it runs, beside arguments and results.
        argument_bytes: memory of the program's arguments.
        estimated_bytes: memory that the sweep counts for these models in training (`training.memory`).
        bytes_per_model_step: bytes that the kernels of a training step read and write, of one model, by XLA's count: those in
            memory on the chip too. XLA has no such count for a GPU.
        off_chip_bytes_per_model_step: those of memory off the chip alone, by the arrays of the compiled program.
        flops_per_model_step: FLOPs of a training step of one model, by XLA's count, where it has none by `training.flops`.
        roofline_seconds: the least time of a training step of one model on this chip, by its FLOPs and its bytes off the chip.
        collectives: instructions that talk to other chips.
        error: why the program does not compile, in one line; empty if it does.
    """

    target: str
    shape: int
    program: str
    models: int
    lower_seconds: float | None = None
    compile_seconds: float | None = None
    operations: int | None = None
    instructions: int | None = None
    kernels_per_step: int | None = None
    temporary_bytes: int | None = None
    argument_bytes: int | None = None
    estimated_bytes: int | None = None
    bytes_per_model_step: float | None = None
    off_chip_bytes_per_model_step: float | None = None
    flops_per_model_step: float | None = None
    roofline_seconds: float | None = None
    collectives: int | None = None
    error: str = ""


@surroundings.pinned()
def compile_for(target: Target, sweep: Sweep, measures: tuple[Measure, ...] = (), only: tuple[str, ...] = ()) -> Iterator[Row]:
    """Compile the programs of a sweep for a target, one after another.

    Args:
        target: the chips.
        sweep: the models.
        measures: what is recorded at every evaluation beside the metrics.
        only: names of the programs wanted, as `tracing.tracers` has them; all if empty.

    Yields:
        A row for each program of each shape of models. A program that does not compile has an `error`.

    Raises:
        InputError: the target's compiler is not installed, or a model of the sweep does not fit on the target.
    """
    check_memory(target, sweep)
    with named_cuda():
        mesh = mesh_of(target)
        for number, program in enumerate(shapes_of(sweep, mesh, mesh.size * target.memory)):
            models = len(program.hyper.seed) // mesh.size
            estimated = bytes_of_models(program.static, models, mesh)
            for name, trace in tracers(program, mesh, measures).items():
                if not only or name in only:
                    row = Row(target.name, number, name, models, estimated_bytes=estimated)
                    yield compiled_row(row, trace, program.static, target)


def check_memory(target: Target, sweep: Sweep) -> None:
    """Raises InputError if the largest model of a sweep takes more memory than one chip has."""
    largest = bytes_of_models(largest_models(sweep), 1)
    if largest > target.memory:
        raise InputError(
            f"config: its largest model takes {largest / 2**30:.1f} GiB; {target.chip} has {target.memory / 2**30:.1f} GiB; "
            "choose a smaller batch_size, d_model or task, or another --target"
        )


def compiled_row(row: Row, trace: Callable[[], jax.stages.Traced], static: Static, target: Target) -> Row:
    """The row of one program, filled in."""
    try:
        began = time.perf_counter()
        lowered = trace().lower()
        then = time.perf_counter()
        compiled = lowered.compile(compiler_options=COMPILER_OPTIONS.get(target.platform))
        done = time.perf_counter()
    except jax.errors.JaxRuntimeError as error:
        return dataclasses.replace(row, error=" ".join(str(error).split())[:500])
    program, memory = hlo.parse(compiled.as_text() or ""), compiled.memory_analysis()
    step = hlo.kernels_of_step(program)
    row = dataclasses.replace(
        row,
        lower_seconds=then - began,
        compile_seconds=done - then,
        operations=lowered.as_text().count(" = "),
        instructions=hlo.count_instructions(program),
        kernels_per_step=len(step),
        temporary_bytes=memory and memory.temp_size_in_bytes,
        argument_bytes=memory and memory.argument_size_in_bytes,
        collectives=hlo.count_collectives(program),
    )
    if row.program != TRAIN:
        return row
    return with_cost(row, compiled.cost_analysis() or {}, hlo.bytes_off_chip(program, step), static, target)


def with_cost(row: Row, cost: dict[str, float], off_chip: int, static: Static, target: Target) -> Row:
    """A training row with what a step of one model costs. XLA counts a loop's body once; the rest is next to nothing."""
    moved, flops = cost.get("bytes accessed"), cost.get("flops")
    flops = flops / row.models if flops else flops_of_model(static)
    return dataclasses.replace(
        row,
        bytes_per_model_step=moved / row.models if moved else None,
        off_chip_bytes_per_model_step=off_chip / row.models,
        flops_per_model_step=flops,
        roofline_seconds=max(off_chip / row.models / target.bandwidth, flops / target.flops),
    )
