"""What notebooks share: a runtime made ready, small sizes for tests, a slider that can do without widgets.

notebook.begin()    # before anything else asks jax for a device
"""

import contextlib
import os
import platform
import subprocess
from collections.abc import Callable, Sequence

import jax
from absl import logging

import lrjax
from lrjax import devices, program_cache, surroundings
from lrjax.errors import InputError
from lrjax.storage import checkpoint

TINY = dict(n_labels=(4, 6), seeds=2, steps=30, eval_every=10, d_model=16, n_heads=2, d_embed=16, batch_size=32)
TPU = ("COLAB_TPU_ADDR", "COLAB_TPU_1VM", "TPU_NAME", "TPU_ACCELERATOR_TYPE")  # variables that a runtime with a TPU sets


def begin() -> None:
    """Ready this runtime and print its versions and devices: every CPU core is a device, compiled programs are kept.

    Raises InputError if jax cannot start, or if the runtime has an accelerator and jax does not use it.
    """
    logging.set_verbosity(logging.WARNING)
    with contextlib.suppress(RuntimeError):  # jax has started: the cell is run a second time
        devices.use_all_cores()
    program_cache.use_compilation_cache()
    surroundings.start()
    found, expected = jax.default_backend(), accelerator()
    print(f"lrjax {lrjax.__version__}, Python {platform.python_version()}")
    print(", ".join(f"{name} {version}" for name, version in checkpoint.versions().items() if name not in ("lrjax", "python")))
    print(f"{jax.device_count()} {found} device{'s' if jax.device_count() > 1 else ''}: {jax.devices()[0].device_kind}")
    if expected and found == "cpu":
        raise InputError(
            f"jax.default_backend()='cpu': this runtime has a {expected}; expected jax to use it; restart the runtime and run from "
            "the top, mend the installation of jax, or choose the CPU with JAX_PLATFORMS=cpu"
        )


def accelerator() -> str | None:
    """The accelerator that this runtime has, "GPU" or "TPU", whether or not jax finds it; None if the CPU was asked for."""
    if os.environ.get("JAX_PLATFORMS", "").strip() == "cpu":
        return None
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
        if listed.returncode == 0 and "GPU" in listed.stdout:
            return "GPU"
    return "TPU" if any(os.environ.get(name) for name in TPU) else None


def sizes(**fields) -> dict:
    """`fields` of a config; tiny ones where LRJAX_NOTEBOOK_TINY is set, as in tests."""
    return fields | (TINY if os.environ.get("LRJAX_NOTEBOOK_TINY") else {})


def slider(look: Callable, name: str, values: Sequence[float], at: float) -> None:
    """look(value) under a slider over `values`, which starts at `at`. Where ipywidgets is not installed: look(at), and how to see
    another.
    """
    from IPython.display import display

    try:
        import ipywidgets  # pyright: ignore[reportMissingImports]  # optional
    except ImportError:
        print(
            f"no slider without ipywidgets: change at={at:g} to another {name} of {', '.join(f'{v:g}' for v in values)}, run again"
        )
        display(look(at))
        return
    options = [(f"{v:g}", v) for v in values]
    chosen = ipywidgets.SelectionSlider(options=options, value=at, description=name, continuous_update=False)
    ipywidgets.interact(lambda value: look(value), value=chosen)  # whatever look calls its argument
