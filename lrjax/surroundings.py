"""What stands around lrjax, variables of the environment and settings of jax, and how it is kept from changing results.

Settings of jax that decide numbers are pinned where lrjax's programs are traced and run, by `pinned`: in every command and in the
functions that train, evaluate and analyse. A user's own code keeps the user's settings. What is no setting of jax (JAX_PLATFORMS,
XLA_FLAGS, NVIDIA_TF32_OVERRIDE) is checked once, by `start` and `devices.be_deterministic`.
"""

import contextlib
import logging
import os
from collections.abc import Iterator

import jax

from lrjax.errors import InputError, warn

PRNG = "threefry2x32"  # the generator of every random stream

# Settings of jax that lrjax pins, whatever variables, jax.config or a context around it say. All are jax's defaults but the
# precision of products, which every model states for itself (`matmul_precision`): this one is for products outside a model.
PINNED = {
    "jax_enable_x64": False,
    "jax_threefry_partitionable": True,
    "jax_default_prng_impl": PRNG,
    "jax_random_seed_offset": 0,
    "jax_default_matmul_precision": "float32",
    # "strict" raises where float32 meets integers or booleans, as lrjax's counts and weights do: casts would hide the sums.
    # Rank promotion is not pinned. lrjax does none, so that a user's "raise" is of the user's own questions alone.
    "jax_numpy_dtype_promotion": "standard",
    "jax_softmax_custom_jvp": False,
    "jax_accurate_erf_inv": False,  # jax 0.12: of normal numbers
    # They raise at NaN and at infinity. NaN stands for what a model does not have, and a model that diverges is handled.
    "jax_debug_nans": False,
    "jax_debug_infs": False,
}
# The context manager of each that this version of jax has. Not all have a public name, and the public names move.
_CONTEXTS = {name: jax.config._value_holders[name] for name in PINNED if name in jax.config.values}


@contextlib.contextmanager
def pinned(transfers: bool = False) -> Iterator[None]:
    """Run a block, or the decorated function, under the settings PINNED. Settings outside it do not change.

    Args:
        transfers: whether arrays of NumPy and numbers move to a device unasked, whatever jax_transfer_guard says.
    """
    with contextlib.ExitStack() as stack:
        if transfers:
            stack.enter_context(jax.transfer_guard("allow"))
        for name, setting in _CONTEXTS.items():
            stack.enter_context(setting(PINNED[name]))  # pyright: ignore[reportCallIssue]  # jax declares its own settings less
        yield


def start() -> None:
    """Start jax on the platform that is asked for. Raises InputError, one line, if jax cannot start.

    NVIDIA_TF32_OVERRIDE changes the precision of products behind jax's back: it is taken away before jax starts.
    """
    if platforms := jax.config.values.get("jax_platforms"):
        stripped = ",".join(name.strip() for name in platforms.split(",") if name.strip())
        if stripped != platforms:
            jax.config.update("jax_platforms", stripped)
    override = os.environ.pop("NVIDIA_TF32_OVERRIDE", None)
    try:
        with _one_line_each():
            platform = jax.devices()[0].platform
    except Exception as error:  # RuntimeError, AssertionError, and what a broken plugin raises
        raise InputError(_cannot_start(error)) from error
    if override is not None and platform == "gpu":
        warn(
            f"NVIDIA_TF32_OVERRIDE={override}: is ignored; products are computed in the precision of config.matmul_precision: "
            "choose 'tensorfloat32' there"
        )


def _cannot_start(error: Exception) -> str:
    """The one line on a jax that cannot start."""
    settings = {
        "JAX_PLATFORMS": jax.config.values.get("jax_platforms"),
        "JAX_PLATFORM_NAME": jax.config.values.get("jax_platform_name"),
    }
    asked = " and ".join(f"{name}={value!r}" for name, value in settings.items() if value) or "JAX_PLATFORMS is not set"
    cause = " ".join(str(error).split()).partition(" (set JAX_PLATFORMS")[0].partition(" (you may need")[0]
    if jax.config.values.get("jax_num_cpu_devices") == 0:
        return f"JAX_NUM_CPU_DEVICES=0: jax cannot start ({cause}); expected 1 or more devices; give so many, or unset it"
    return (
        f"{asked}: jax cannot start ({cause or 'no such device is found'}); expected a platform that works here, such as cpu; set "
        'JAX_PLATFORMS=cpu, or install jax for your accelerator: pip install -e ".[cuda12]", ".[cuda13]" or ".[tpu]"'
    )


@contextlib.contextmanager
def _one_line_each() -> Iterator[None]:
    """Have what jax logs while it starts, such as the traceback of a broken plugin, said in one line each."""

    def shorten(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            error = record.exc_info[1] if record.exc_info else None
            warn(record.getMessage() + (f" ({type(error).__name__}: {error})" if error else ""))
        return record.levelno < logging.WARNING

    logger = logging.getLogger("jax._src.xla_bridge")
    logger.addFilter(shorten)
    try:
        yield
    finally:
        logger.removeFilter(shorten)
