"""The model axis over devices. Models never talk to each other, so sharding it needs no communication.

`over_models` turns a function of local arrays, model axis first, into one over all devices of a mesh: each device runs the same
program on its share of the models. Counts that do not divide are padded by `sweep`, with models that are dropped on export.
"""

import contextlib
import functools
import gc
import math
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from lrjax import xla
from lrjax.errors import InputError

AXIS = "model"
UNTOLD = 2**33  # bytes: a machine of today has as many
CGROUP = Path("/sys/fs/cgroup")


def use_all_cores() -> None:
    """Make every CPU core a device, before jax starts: small programs fill cores better side by side than one after the other.

    Another number that the user has chosen, by JAX_NUM_CPU_DEVICES or in XLA_FLAGS, stands.
    """
    if jax.config.values["jax_num_cpu_devices"] < 0 and "xla_force_host_platform_device_count" not in xla.flags():
        jax.config.update("jax_num_cpu_devices", min(_cores(), _quota()))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota() -> float:
    """How many cores a container may use on average, by the quota of its control group; no limit where there is none."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (CGROUP / "cpu.max").read_text().split()
        return max(1, math.ceil(int(quota) / int(period)))
    with contextlib.suppress(OSError, ValueError):  # version 1 of control groups
        quota, period = (int((CGROUP / f"cpu/cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return max(1, math.ceil(quota / period)) if quota > 0 else math.inf
    return math.inf


def be_deterministic() -> None:
    """Have a GPU take no operation whose result depends on timing, before jax starts. A CPU has none.

    Nothing is chosen by timing, and Triton, which has no product to offer then for some of our shapes (jaxlib 0.11.2), makes none.
    Raises InputError if XLA_FLAGS says the opposite of what bits that repeat need; a choice about Triton stands.
    """
    given, needs = xla.flags(), {"xla_gpu_deterministic_ops": "true", "xla_gpu_autotune_level": "0"}
    for flag, needed in needs.items():
        value = given.get(flag, needed)
        if {"": "true", "1": "true"}.get(value, value.lower()) != needed:
            raise InputError(
                f"XLA_FLAGS: --{flag}={value}: contradicts --deterministic, which needs --{flag}={needed}; leave one of the two out"
            )
    wanted = needs | {"xla_gpu_enable_triton_gemm": "false"}
    xla.add_flags({flag: value for flag, value in wanted.items() if flag not in given})


def wait_for_all(what: str) -> None:
    """Return when every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def max_over_hosts(number: int) -> int:
    """The largest of the numbers that the processes give, the same in all of them."""
    return number if jax.process_count() == 1 else int(multihost_utils.process_allgather(np.int32(number)).max())


@functools.cache
def first_process() -> bool:
    """Whether this process prints and writes."""
    return jax.process_index() == 0


@functools.cache
def mesh(n_devices: int | None = None) -> Mesh:
    """A mesh of the first n_devices devices, all of them by default, with the one axis AXIS."""
    devices = jax.devices()[:n_devices]
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def shard_to_devices(tree, mesh: Mesh):
    """Host arrays [m, ...], the same in every process, onto the devices of a mesh, each its share."""
    # on one device jax calls what a program returns whole: called a share, it would be compiled for once more
    return _put(tree, NamedSharding(mesh, P(AXIS) if mesh.size > 1 else P()))


def replicate(tree, mesh: Mesh):
    """Host arrays, the same in every process, onto the devices of a mesh, whole on each."""
    return _put(tree, NamedSharding(mesh, P()))


def _put(tree, sharding: NamedSharding):
    with jax.transfer_guard_host_to_device("allow"):  # this is the explicit transfer
        return jax.tree.map(lambda x: jax.make_array_from_callback(np.shape(x), sharding, lambda index: np.asarray(x)[index]), tree)


def over_models(function: Callable, mesh: Mesh, replicated: int = 0) -> Callable:
    """`function` on each device's share of its arguments [m, ...]; the last `replicated` arguments are whole on every device."""

    def sharded(*args):
        specs = tuple(P() if i >= len(args) - replicated else P(AXIS) for i in range(len(args)))
        return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=P(AXIS), check_vma=False)(*args)

    return sharded


def memory() -> int:
    """Bytes of memory of all devices together; CPU devices share the machine's, UNTOLD where the system does not tell (Windows)."""
    if jax.default_backend() == "cpu":
        try:
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (AttributeError, ValueError, OSError):
            return UNTOLD
    return sum((device.memory_stats() or {}).get("bytes_limit", 2**34) for device in jax.devices())


def platform_of(mesh: Mesh | None = None) -> str:
    """The platform of a mesh's devices, of jax's own if none is given: `cpu`, `gpu` or `tpu`. The devices need not be here: a
    program may be compiled for a chip that is only described.
    """
    return mesh.devices.flat[0].platform if mesh else jax.default_backend()


def slow_flops(mesh: Mesh | None = None) -> float:
    """FLOPs a second that all devices together surely do: a fraction of what an old laptop, a small accelerator can."""
    return (mesh.size if mesh else jax.device_count()) * (1e10 if platform_of(mesh) == "cpu" else 1e12)


def machine() -> dict[str, str | int]:
    """What, beside the packages, decides the last bits of a result."""
    device = jax.devices()[0]
    kind = _cpu() if device.platform == "cpu" else device.device_kind
    return {"device": kind, "devices": jax.device_count(), "processes": jax.process_count(), "threads": _cores()}


def _cpu() -> str:
    """The CPU's type: XLA compiles for what it can do."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def maps_are_short(limit: int | None = None) -> bool:
    """Whether this process has more than half of the memory maps that Linux allows (`limit`; usually 65,530).

    XLA maps some 200 pieces of memory a program on a CPU, 3,000 a sweep of one shape; when no more can be had it dies of a
    segmentation fault.
    """
    try:
        limit = limit or int(Path("/proc/sys/vm/max_map_count").read_text())
        with open("/proc/self/maps", "rb") as maps:
            return sum(1 for _ in maps) > limit / 2
    except OSError:  # not Linux
        return False


def clear_caches_if_needed(limit: int | None = None) -> None:
    """Forget compiled programs if `maps_are_short`. What is forgotten and wanted again comes from the compilation cache."""
    if maps_are_short(limit):
        jax.clear_caches()
        gc.collect()


def n_compiling() -> int:
    """How many programs this process compiles at a time: as many as it has cores, at most 8, since each takes memory."""
    return min(8, int(min(_cores(), _quota())))


def eval_batch_size(models: int, mesh: Mesh | None = None) -> int:
    """How many of a device's models it evaluates at a time: one on a CPU (its caches), many where only batches fill the chip."""
    return 1 if platform_of(mesh) == "cpu" else _even_batch(models, most=16)


def train_batch_size(models: int, mesh: Mesh | None = None) -> int:
    """How many of a device's models take their steps at a time: about 8 on a CPU, whose caches hold them (7 % faster at 20 models a
    core, 15 % at 80, measured); all where only batches fill the chip.
    """
    return models if platform_of(mesh) != "cpu" else _even_batch(models, most=8)


def _even_batch(models: int, most: int) -> int:
    """How many of `models` go through a program at a time, at most `most`: all, or the largest number from 4 on that divides them,
    or `most`. If it divides them, all batches have one size. A smaller last batch would be compiled as a program of its own.
    """
    return models if models <= most else next((n for n in range(most, 3, -1) if models % n == 0), most)


def gather_to_host(tree):
    """Device arrays [m, ...] as NumPy, whole in every process."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return jax.tree.map(np.asarray, multihost_utils.process_allgather(tree, tiled=True))


def in_batches(function: Callable, arrays: Any, size: int) -> Any:
    """What `function` returns of arrays of many models, [m, ...], where it is given `size` of them at a time, one batch after
    another. The last batch may be smaller. What it returns has a first axis of models, too.
    """
    n_models = len(jax.tree.leaves(arrays)[0])
    n_whole = n_models // size * size
    first, rest = (jax.tree.map(lambda x, part=part: x[part], arrays) for part in (slice(n_whole), slice(n_whole, None)))
    if n_whole == size:
        found = [function(first)]
    else:
        batches = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), first)
        found = [jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), jax.lax.map(function, batches))]
    if n_whole < n_models:
        found.append(function(rest))
    return jax.tree.map(lambda *x: jnp.concatenate(x), *found) if len(found) > 1 else found[0]
