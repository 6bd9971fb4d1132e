"""What XLA must be told before it starts, so that numbers are right. It reads XLA_FLAGS once, when jax starts its backend.

From jaxlib 0.8.1 on, XLA hands products of small matrices on a CPU to YNNPACK. With some constant operands those programs read
memory that is not theirs (measured with 0.10.2: a sweep of 40 models trained to a loss of 2.2 in place of 1.34, and a segmentation
fault), and they are no faster here: `lrjax` turns them off. `tests/laws/test_training.py` compares with and
without `vmap` at full size.
"""

import contextlib
import importlib.util
import mmap
import os
import re
import sys
from pathlib import Path

YNN = "xla_cpu_experimental_ynn_fusion_type"


def import_jax() -> None:
    """Import jax, which reads variables of the environment. One that it cannot read is said in one line: a command of `experiments`
    ends with it, other code gets an ImportError.
    """
    try:
        import jax  # noqa: F401
    except ValueError as error:
        cause = re.sub(r"\bjax_\w+", lambda name: name[0].upper(), str(error))
        said = f"jax cannot be imported ({cause}); give this variable of the environment a value that jax expects, or unset it"
        command = getattr(sys.modules.get("__main__"), "__spec__", None)
        if command and command.name.startswith("experiments."):
            print("error:", said, file=sys.stderr)
            sys.exit(2)
        raise ImportError(said) from None


def knows(flag: str) -> bool:
    """Whether this jaxlib has a flag. XLA ends the process at a flag that it does not know, and has no list of those that it knows.

    A flag is a whole string of the library; the name of a former flag may still stand in longer strings.
    """
    found = importlib.util.find_spec("jaxlib")
    for library in Path(str(found and found.origin)).parent.glob("libjax_common.*"):
        with open(library, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            return text.find(b"\0" + flag.encode() + b"\0") >= 0
    return False


def turn_off_ynn() -> None:
    """Turn YNNPACK off for this process. Raises ImportError if jax already runs on a CPU with it."""
    if YNN in flags() or not knows(YNN):
        return
    bridge = sys.modules.get("jax._src.xla_bridge")
    if bridge and bridge.backends_are_initialized() and sys.modules["jax"].default_backend() == "cpu":
        raise ImportError(
            f"jax has started before lrjax was imported, with a part of XLA that gives wrong numbers on CPUs: import lrjax first, "
            f"or set XLA_FLAGS=--{YNN}= before jax starts"
        )
    add_flags({YNN: ""})


def flags() -> dict[str, str]:
    """The flags that XLA_FLAGS gives, by name without dashes."""
    words = (word.lstrip("-").partition("=") for word in _text().split())
    return {name: value for name, _, value in words}


def add_flags(added: dict[str, str]) -> None:
    """Put flags behind those of XLA_FLAGS."""
    os.environ["XLA_FLAGS"] = " ".join([_text(), *(f"--{name}={value}" for name, value in added.items())]).strip()


def _text() -> str:
    """The text of XLA_FLAGS, or of the file that it names: XLA takes what does not begin with a dash for a file."""
    text = os.environ.get("XLA_FLAGS", "").strip()
    if text and not text.startswith("-"):
        with contextlib.suppress(OSError):
            return Path(text).read_text().strip()
        return ""
    return text
