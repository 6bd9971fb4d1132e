"""The clocks, the measured ceilings, and the table of what a training step costs.

A *case* is one way to train some models a few steps: compiled, its compile time taken apart, its state carried from call to call.
Cases of the same number of models and the ceilings are timed in turns, round by round, and each reports its best round: the ratio
of two cases then suffers least from what else the machine does. It still suffers: two threads of PyTorch wait for each other at
every operation, so that on busy cores they lose far more than JAX does (a factor of 10 was seen). So PyTorch is timed with one
thread too, ratios are against the faster, and `busy` warns. Compiling is timed ahead of time (trace, lower, compile), once into an
empty persistent cache and once from it.

Axes: m models, B batch, e d_embed.
"""

import contextlib
import dataclasses
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import Mesh

from lrjax import devices
from lrjax.benchmark import dense, eager
from lrjax.config import Hyper, Static, Sweep
from lrjax.errors import InputError
from lrjax.models.clip import init_clip, model_splits
from lrjax.training import flops, programs
from lrjax.training.programs import evaluate_program, make_programs, split_program

LRJAX, ALONE, DENSE = "lrjax", "lrjax, one at a time", "dense JAX (flax)"
EAGER = {"eager PyTorch": None, "eager PyTorch, 1 thread": 1}  # row -> threads (None: PyTorch's default)
ROUNDS = 5  # timings of each case, after one to warm up
ALONE_LIMIT = 4  # models that the one-at-a-time loop trains: its cost per model does not depend on how many
SHORT = 16  # models up to which a timing has all its steps
REPEATS = 10  # passes of a ceiling's loop within one call


@dataclasses.dataclass(frozen=True)
class Case:
    """`run` trains `models` models `steps` steps and waits. NaN where PyTorch has no such figure; peak_bytes is per model."""

    name: str
    models: int
    steps: int
    run: Callable[[], object]
    count: flops.Count
    compile_cold: float = np.nan
    compile_cached: float = np.nan
    peak_bytes: float = np.nan


@dataclasses.dataclass(frozen=True)
class Ceiling:
    """`run` does nothing but `work`, FLOPs or bytes, and waits."""

    run: Callable[[], object]
    work: int


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table; seconds unless named otherwise. Shares are of one step's time (see `rows`)."""

    name: str
    models: int
    ms: float
    model_steps_per_second: float
    gflop: float
    mb: float
    matmul_share: float
    bandwidth_share: float
    compile_cold: float
    compile_cached: float
    peak_mb: float
    times_eager: float = np.nan  # how many times faster than the faster eager PyTorch of the same run


def first_models(table: Sweep, n: int) -> tuple[Static, Hyper]:
    """The first n models of a table, seeds outermost, as one program whose shapes do not depend on n: leaves [n, ...]."""
    groups = make_programs(table)
    if len(groups) != 1 or len(table.models) < n:
        raise InputError(f"config: {len(table.models)} models in {len(groups)} programs; expected one program of at least {n}")
    order = np.argsort([model.seed for model in table.models], kind="stable")[:n]
    static = groups[0].static
    if static.gated or static.mask_repeats:
        raise InputError("config: gates and mask_repeats are not in the baselines; benchmark gates='none', mask_repeats=False")
    return static, jax.tree.map(lambda x: x[order], groups[0].hyper)


def rows(table: Sweep, n: int, steps: int) -> list[Row]:
    """All cases on the first n models.

    matmul_share: the time that the counted FLOPs take at the rate of `matmul_ceiling`, over the time of a step. bandwidth_share:
    the time that the bytes counted for AdamW take at the rate of `stream_ceiling`, over the time of a step. A program that keeps a
    group of models in cache can move its bytes faster than that stream, and the dense programs' products are larger than the
    contrastive ones, so shares may exceed 1. Beyond SHORT models timings have fewer steps.
    """
    static, hyper = first_models(table, n)
    cases = make_cases(static, hyper, n, max(1, min(steps, steps * SHORT // n)))
    ceilings = matmul_ceiling(static, n), stream_ceiling(static, n)
    *seconds, matmul, stream = clock([x.run for x in (*cases, *ceilings)])
    flops_rate, bytes_rate = ceilings[0].work / matmul, ceilings[1].work / stream
    per_step = [time / (case.models * case.steps) for case, time in zip(cases, seconds, strict=True)]
    slow = min((t for case, t in zip(cases, per_step, strict=True) if case.name in EAGER), default=np.nan)

    def row(case: Case, t: float) -> Row:
        shares = case.count.flops / flops_rate / t, flops.adamw(static).bytes / bytes_rate / t
        work = case.count.flops / 1e9, case.count.bytes / 1e6
        compiling = case.compile_cold, case.compile_cached, case.peak_bytes / 1e6
        return Row(case.name, case.models, t * 1e3, 1 / t, *work, *shares, *compiling, slow / t)

    return [row(case, t) for case, t in zip(cases, per_step, strict=True)]


def make_cases(static: Static, hyper: Hyper, n: int, steps: int) -> list[Case]:
    """lrjax, the dense baseline, the same models one at a time through lrjax, and eager PyTorch if it is installed."""
    make = partial(jax_case, static=static, steps=steps)
    ours, plain = flops.total(flops.lrjax_counts(static)), flops.total(flops.dense_counts(static))
    cases = [make(LRJAX, programs, ours, hyper, n), make(DENSE, dense, plain, hyper, n)]
    if n > 1:
        cases.append(make(ALONE, programs, ours, jax.tree.map(lambda x: x[:ALONE_LIMIT], hyper), 1))
    if eager.available():
        one = jax.tree.map(lambda x: x[0], hyper)
        cases += [Case(name, 1, steps, eager_run(static, one, steps, threads), plain) for name, threads in EAGER.items()]
    return cases


def mesh_for(n: int) -> Mesh:
    """As many devices as divide n models."""
    return devices.mesh(math.gcd(n, jax.device_count()))


def jax_case(name: str, module, count: flops.Count, hyper: Hyper, size: int, *, static: Static, steps: int) -> Case:
    """A case of `module`'s init_program and train_chunk: `hyper`'s models, `size` of them at a time."""
    total, mesh = len(hyper.seed), mesh_for(size)
    groups = [devices.shard_to_devices(jax.tree.map(lambda x: x[i : i + size], hyper), mesh) for i in range(0, total, size)]
    states = [module.init_program(static, group, mesh) for group in groups]
    splits = [split_program(static, group, mesh) for group in groups]
    begin = devices.replicate(np.int32(0), mesh)
    lower = lambda: module.train_chunk.lower(static, groups[0], splits[0], states[0], begin, steps, mesh)
    compiled, cold, cached = compile_times(lower)

    def run() -> None:
        for i, group in enumerate(groups):
            states[i], _ = compiled(group, splits[i], states[i], begin)
        jax.block_until_ready(states)

    return Case(name, total, steps, run, count, cold, cached, peak_bytes(compiled) * mesh.size / size)


def eager_run(static: Static, hyper: Hyper, steps: int, threads: int | None) -> Callable[[], object]:
    """The eager loop on the first `steps` batches of one model, on some number of threads (None: PyTorch's default)."""
    model = eager.make_model(static, init_clip(static, hyper))
    optimiser, schedule = eager.make_optimiser(static, hyper, model)
    splits = model_splits(static, hyper)
    batches = jax.jit(jax.vmap(partial(dense.sample, static, hyper, splits)))(jnp.arange(steps))
    batches = eager.to_torch(batches)
    return lambda: eager.train(static, model, optimiser, schedule, batches, threads)


def busy() -> str | None:
    """A warning if other programs use this machine's cores, before ours do."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    return (
        f"busy: load average {load:.1f} on {cores} cores; milliseconds and ratios below mean little" if load > 0.3 * cores else None
    )


def clock(runs: Sequence[Callable[[], object]], rounds: int = ROUNDS) -> list[float]:
    """Seconds of each run, the best of some rounds taken in turns after one round to warm up."""
    seconds = np.empty((rounds + 1, len(runs)))
    for times in seconds:
        for i, run in enumerate(runs):
            began = time.perf_counter()
            run()
            times[i] = time.perf_counter() - began
    return seconds[1:].min(0).tolist()


def compile_times(lower: Callable[[], jax.stages.Lowered]) -> tuple[jax.stages.Compiled, float, float]:
    """The compiled program, and the seconds to trace, lower and compile it: cold, and from the persistent cache."""

    def timed():
        jax.clear_caches()
        began = time.perf_counter()
        compiled = lower().compile()
        return compiled, time.perf_counter() - began

    with empty_cache():
        _, cold = timed()
        compiled, cached = timed()
    return compiled, cold, cached


@contextlib.contextmanager
def empty_cache() -> Iterator[None]:
    """A new persistent compilation cache that keeps everything, for a while; the one before comes back."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "jax_compilation_cache_dir": folder,
            "jax_enable_compilation_cache": True,
            "jax_persistent_cache_min_compile_time_secs": 0.0,
            "jax_persistent_cache_min_entry_size_bytes": -1,
        }
        before = {name: getattr(jax.config, name) for name in settings}
        try:
            _configure(settings)
            yield
        finally:
            _configure(before)


def _configure(settings: dict) -> None:
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def peak_bytes(compiled: jax.stages.Compiled) -> float:
    """What a compiled program holds on each device, by the compiler's plan: arguments, results (donated ones once), temporaries."""
    plan = compiled.memory_analysis()
    if plan is None:
        return np.nan
    return plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes - plan.alias_size_in_bytes


def matmul_ceiling(static: Static, n: int) -> Ceiling:
    """The contrastive products alone, [m, B, e] x [m, e, B] and [m, B, B] x [m, B, e] in turns, over all devices."""
    B, e, mesh = static.batch_size, static.d_embed, mesh_for(n)
    normal = np.random.default_rng(0).normal(size=(2, n, B, e)) / np.sqrt(B)
    x, y = devices.shard_to_devices(tuple(normal.astype(np.float32)), mesh)

    def products(x, y):
        def pair(_, x):
            return jnp.einsum("mbc,mce->mbe", jnp.einsum("mbe,mce->mbc", x, y), y)

        return jax.lax.fori_loop(0, REPEATS, pair, x)

    program = jax.jit(devices.over_models(products, mesh))
    run = lambda: jax.block_until_ready(program(x, y))
    return Ceiling(run, flops.contraction(B, e, B, batch=2 * n * REPEATS).flops)


def stream_ceiling(static: Static, n: int) -> Ceiling:
    """An update like AdamW's over flat arrays of n models' parameters: reads 4 floats a parameter, writes 3."""
    shape, mesh = (n, flops.n_parameters(static)), mesh_for(n)

    def updates(state):
        def update(_, state):
            p, g, m, v = state
            m, v = 0.9 * m + 0.1 * g, 0.98 * v + 0.02 * g * g
            return p - 1e-3 * (m / (jnp.sqrt(v) + 1e-8) + 0.1 * p), g, m, v

        return jax.lax.fori_loop(0, REPEATS, update, state)

    program = jax.jit(devices.over_models(updates, mesh), donate_argnums=0)
    state = devices.shard_to_devices(tuple(np.full(shape, x, np.float32) for x in (1.0, 0.1, 0.0, 0.0)), mesh)

    def run() -> None:
        nonlocal state
        state = jax.block_until_ready(program(state))

    return Ceiling(run, math.prod(shape) * REPEATS * flops.ADAMW_FLOATS * flops.FLOAT)


def evaluation_share(table: Sweep, n: int, step_ms: float) -> float:
    """Seconds of an evaluation during training over seconds of training between two, for n models at `step_ms` a model-step."""
    static, hyper = first_models(table, n)
    mesh = mesh_for(n)
    hyper = devices.shard_to_devices(hyper, mesh)
    splits = split_program(static, hyper, mesh)
    params = devices.over_models(jax.vmap(partial(init_clip, static)), mesh)
    params = jax.jit(params)(hyper)
    step, exhaustive = devices.replicate((np.int32(0), np.bool_(False)), mesh)
    run = lambda: jax.block_until_ready(evaluate_program(static, hyper, splits, params, step, exhaustive, mesh=mesh))
    (seconds,) = clock([run], rounds=3)
    return seconds / (n * table.eval_every * step_ms * 1e-3)
