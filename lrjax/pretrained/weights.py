"""A folder of weights, and its tensors: safetensors files, whole or in shards, as float32.

`Tensors.take` hands a tensor out by name and shape, and keeps account, so that a missing tensor, a wrong shape and a tensor that
nobody took are one line that names the tensor.
"""

import json
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from lrjax.errors import InputError, warn
from lrjax.pretrained.config import read_json

FILES = ("model.safetensors", "open_clip_model.safetensors")
INDEX = ".index.json"  # after a file's name: which shard holds which tensor
APART = {"onnx": "pip install onnx", "skimage": "pip install scikit-image"}  # what few ask for, and no extra of users has
BUFFERS = (
    "position_ids",
    "mask_token",
    "attn_mask",
    "num_batches_tracked",
)  # names of tensors that are no parameters of an encoder


def library(name: str) -> Any:
    """A library of the extra `pretrained`. Raises InputError, one line, if it is not installed."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        how = APART.get(name.split(".")[0], "install lrjax[pretrained] (pip install -e '.[pretrained]')")
        raise InputError(f"the package {name!r} is not installed; {how}") from error


class Tensors:
    """Tensors by name, with account of which were taken.

    Attributes:
        where: The file or folder that errors name.
    """

    def __init__(self, where: str, readers: dict[str, Callable[[], np.ndarray]]):
        self.where, self._readers, self._taken = where, readers, set()

    def __contains__(self, name: str) -> bool:
        return name in self._readers

    def names(self) -> Iterable[str]:
        """The names of all tensors."""
        return self._readers.keys()

    def take(self, name: str, *shape: int) -> np.ndarray:
        """A tensor as float32. Raises InputError if it is missing, of another shape, or not finite."""
        if name not in self._readers:
            raise InputError(f"{self.where}: tensor {name!r} is missing; the config asks for it with shape {list(shape)}")
        found = np.asarray(self._readers[name](), np.float32)
        self._taken.add(name)
        if found.shape != shape:
            raise InputError(f"{self.where}: tensor {name!r} has shape {list(found.shape)}; the config asks for {list(shape)}")
        if not np.isfinite(found).all():
            raise InputError(f"{self.where}: tensor {name!r} holds values that are not finite; download the file again")
        return found

    def check_all_taken(self, prefixes: tuple[str, ...]) -> None:
        """Account for tensors that nobody took.

        Args:
            prefixes: Of the names of an encoder's own tensors. One of these that is left over contradicts the config.

        Raises:
            InputError: A tensor of an encoder is left over. Others, such as those of a classifier, are a warning of one line.
        """
        left = [name for name in self._readers if name not in self._taken and name.rpartition(".")[2] not in BUFFERS]
        for name in left:
            if name.startswith(prefixes):
                raise InputError(f"{self.where}: tensor {name!r} has no place in the config; expected the config of these weights")
        if left:
            warn(f"{self.where}: tensor {left[0]!r} is not used" + (f", nor are {len(left) - 1} more" if len(left) > 1 else ""))


def read_tensors(folder: Path, names: tuple[str, ...] = FILES) -> Tensors:
    """The tensors of a folder. They are read when they are taken.

    Args:
        folder: As the hub lays it out.
        names: The files to look for, the first that is there.

    Raises:
        InputError: There is no such file, or one is truncated.
    """
    for name in names:
        if (path := folder / name).is_file():
            return Tensors(str(path), _readers(path))
        if (index := folder / (name + INDEX)).is_file():
            return Tensors(str(index), _sharded(index))
    torch = [path.name for path in folder.glob("*.bin")] + [path.name for path in folder.glob("*.pt")]
    hint = f"; {torch[0]} is of torch: convert it to safetensors first" if torch else ""
    raise InputError(f"{folder}: has no {' or '.join(names)}{hint or '; download it into the folder'}")


def _sharded(index: Path) -> dict[str, Callable[[], np.ndarray]]:
    """Readers of the tensors that an index names."""
    of_tensor = read_json(index).get("weight_map")
    if not isinstance(of_tensor, dict) or not all(isinstance(file, str) for file in of_tensor.values()):
        raise InputError(f"{index}: weight_map is missing; expected a dict of tensor -> file; download the file again")
    readers, shards = {}, {}
    for name, file in of_tensor.items():
        path = index.parent / file
        if path.parent != index.parent or not path.is_file():
            raise InputError(f"{index}: tensor {name!r} stands in {file!r}, which is not in the folder; download all shards")
        shards.setdefault(file, _readers(path))
        if name not in shards[file]:
            raise InputError(f"{path}: tensor {name!r} is missing, which {index.name} says is there; download the shard again")
        readers[name] = shards[file][name]
    return readers


def _readers(path: Path) -> dict[str, Callable[[], np.ndarray]]:
    """Readers of the tensors of one safetensors file, by name. bfloat16 comes through jax: numpy has no such type."""
    safetensors = library("safetensors")
    try:
        with safetensors.safe_open(path, framework="flax") as file:
            names = list(file.keys())
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(f"{path}: cannot be read as safetensors ({error}){_truncation(path)}; download the file again") from error

    def reader(name: str) -> Callable[[], np.ndarray]:
        def read() -> np.ndarray:
            with safetensors.safe_open(path, framework="flax") as file:
                return np.asarray(file.get_tensor(name).astype(np.float32))

        return read

    return {name: reader(name) for name in names}


def _truncation(path: Path) -> str:
    """What a file's size says of its end, if its header can be read."""
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length)) if length < 2**27 else {}
        end = 8 + length + max(tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__")
    except (OSError, ValueError, struct.error, KeyError, TypeError):
        return ""
    size = path.stat().st_size
    return f"; it is truncated: {size:,} of {end:,} bytes" if size < end else ""


def folder_of(given: str | Path) -> Path:
    """The folder of weights that is meant; a name of the hub is downloaded. Raises InputError if there is no such folder."""
    if not isinstance(given, str | Path) or not str(given).strip():
        raise InputError(f"folder={given!r}: is no path; expected a folder of weights")
    path = Path(given).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise InputError(f"folder={str(given)!r}: is a file; expected the folder that it is in")
    if isinstance(given, str) and given.count("/") == 1 and given[0] not in "/.~":
        return _downloaded(given)
    raise InputError(f"folder={str(given)!r}: no such folder; expected one with config.json and model.safetensors")


def _downloaded(name: str) -> Path:
    """A model of the hub, by the client of the hub and its cache."""
    try:
        hub = library("huggingface_hub")
    except InputError as error:
        raise InputError(f"folder={name!r}: no such folder; to read it as a name of the hub, install huggingface_hub") from error
    try:
        return Path(hub.snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"]))
    except Exception as error:  # the client has many
        text = " ".join(str(error).split()).partition(". ")[0]
        raise InputError(
            f"folder={name!r}: no such folder, and the hub did not give it ({type(error).__name__}: {text})"
        ) from error
