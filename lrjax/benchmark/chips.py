"""Chips that are described, not here: what a target is, and the devices that stand for it.

`chips.toml` has the numbers of each chip and says where they are from.
"""

import contextlib
import dataclasses
import importlib.util
import os
import tomllib
from collections.abc import Iterator
from importlib import resources
from typing import Any

import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from lrjax import devices
from lrjax.errors import InputError, suggest

# jax's platform of a chip -> what compiles for it, and the modules of which one must be there
PLUGINS = {
    "tpu": ("libtpu", ("libtpu",)),
    "cuda": ("the CUDA plugin of jax", ("jax_plugins.xla_cuda12", "jax_plugins.xla_cuda13")),
}
# Autotuning runs candidates on a chip; without it Triton has no product for some shapes (see `devices.be_deterministic`).
COMPILER_OPTIONS = {"tpu": {}, "cuda": {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False}}
FLOAT32_PASSES = 6  # of bfloat16, in a TPU's product of float32
VERSIONS = "dnn_version_info { major: 9 minor: 10 patch: 0 }\nruntime_version { major: 12 minor: 8 patch: 0 }"


@dataclasses.dataclass(frozen=True)
class Target:
    """Chips to compile for.

    Attributes:
        name: what the user wrote, such as `v5e:2x2`.
        chip: the name of the chip.
        topology: how many chips, as the compiler reads it.
        platform: `tpu` or `cuda`.
        memory: bytes of memory of one chip.
        bandwidth: bytes a second between a chip and its memory, at most.
        flops: FLOPs a second in float32 of a chip, at most.
        description: what the compiler reads of a GPU; empty of a TPU, which it knows by name.
    """

    name: str
    chip: str
    topology: str
    platform: str
    memory: int
    bandwidth: float
    flops: float
    description: str = ""


def known() -> dict[str, dict[str, Any]]:
    """The numbers of every chip, by its name."""
    table = tomllib.loads(resources.files("lrjax.benchmark").joinpath("chips.toml").read_text())
    shared = table.pop("gpu")
    return {name: chip if chip["platform"] == "tpu" else shared | chip for name, chip in table.items()}


def find(name: str) -> Target:
    """The target of a name: a chip, or a chip and how many, `v5e:2x2` or `h100:8`.

    Raises:
        InputError: there is no such chip, or that is no number of chips.
    """
    chip, colon, count = name.partition(":")
    chips = known()
    if chip not in chips:
        raise InputError(
            f"--target={name}: no such chip{suggest(chip, chips)}; expected one of {', '.join(chips)}, "
            "or several chips, such as v5e:2x2 or h100:8"
        )
    numbers = chips[chip]
    if numbers["platform"] == "tpu":
        if colon and not all(side.isdecimal() and int(side) for side in count.split("x")):
            raise InputError(f"--target={name}: {count!r} is no topology; expected sides joined by x, such as {chip}:2x2")
        rate = numbers["bfloat16_flops"] / FLOAT32_PASSES
        memory = numbers["memory_bytes"]
        return Target(name, chip, f"{chip}:{count or '1x1'}", "tpu", memory, numbers["memory_bandwidth"], rate)
    if colon and not (count.isdecimal() and int(count)):
        raise InputError(f"--target={name}: {count!r} is no number of chips; expected a whole number, such as {chip}:8")
    rate = numbers["core_count"] * numbers["fpus_per_core"] * 2 * numbers["clock_rate_ghz"] * 1e9
    memory, described = numbers["device_memory_size"], text_proto(numbers)
    return Target(name, chip, f"1x1x{count or 1}", "cuda", memory, numbers["memory_bandwidth"], rate, described)


def text_proto(numbers: dict[str, Any]) -> str:
    """The numbers of a GPU as XLA's compiler reads them: a GpuTargetConfigProto in text."""

    def field(name: str, value: Any) -> str:
        if isinstance(value, dict):
            return f"{name} {{ {' '.join(field(*item) for item in value.items())} }}"
        return f'{name}: "{value}"' if isinstance(value, str) and name != "feature_extension" else f"{name}: {value}"

    inside = "\n".join(f"  {field(name, value)}" for name, value in numbers.items() if name != "platform")
    name = numbers["name"]
    return f'gpu_device_info {{\n{inside}\n}}\nplatform_name: "CUDA"\n{VERSIONS}\ndevice_description_str: "{name}"\n'


def check_plugin(target: Target) -> None:
    """Raises InputError, with how to install it, if what compiles for a target is not there."""

    def is_there(module: str) -> bool:
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.util.find_spec(module) is not None
        return False

    what, modules = PLUGINS[target.platform]
    if not any(map(is_there, modules)):
        raise InputError(
            f"--target={target.name}: {what}, which compiles for this chip, is not installed; install it in an environment of its "
            'own: pip install -e ".[aot]"'
        )


def mesh_of(target: Target) -> Mesh:
    """A mesh of the chips of a target, with the one axis that models are divided over.

    Raises:
        InputError: what compiles for the target is not installed, or the compiler does not know so many of these chips.
    """
    check_plugin(target)
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # libtpu would ask the cloud which TPU this machine has
    described = {"topology": target.topology, "target_config": target.description} if target.description else {}
    try:
        topology = topologies.get_topology_desc(target.chip if described else target.topology, target.platform, **described)
    except Exception as error:  # whatever a plugin raises
        raise InputError(
            f"--target={target.name}: the compiler does not know this target ({' '.join(str(error).split())})"
        ) from error
    return Mesh(np.array(topology.devices), (devices.AXIS,), axis_types=(AxisType.Auto,))


@contextlib.contextmanager
def named_cuda() -> Iterator[None]:
    """Have jax take "gpu" for CUDA, which it does by itself only where it finds a GPU (jax issue 23971)."""
    from jax._src import xla_bridge

    before = xla_bridge.canonicalize_platform
    xla_bridge.canonicalize_platform = lambda platform: "cuda" if platform in ("gpu", "cuda") else before(platform)
    try:
        yield
    finally:
        xla_bridge.canonicalize_platform = before
