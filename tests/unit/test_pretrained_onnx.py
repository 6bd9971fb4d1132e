"""An image encoder out of an ONNX file is the one that was exported."""

import json
import re

import numpy as np
import pytest

import pretrained_by_hand as by_hand
from lrjax import InputError

onnx = pytest.importorskip("onnx", reason="the extra `peers` is not installed")
pytest.importorskip("safetensors", reason="the extra `pretrained` is not installed")

from lrjax import pretrained  # noqa: E402
from lrjax.pretrained import onnx_file  # noqa: E402

D, MLP = onnx_file.D_HEAD, 96
SIZES = {16: D, 32: 2 * D}  # of the tiny DINOv2, whose heads an ONNX file could not tell


def tensors() -> dict[str, np.ndarray]:
    """The tensors of a DINOv2 of one head of the usual width."""
    shapes = by_hand.read_expected("dinov2")["shapes"]
    return by_hand.drawn({name: [SIZES.get(n, n) for n in shape] for name, shape in shapes.items()})


def write_onnx(path, arrays: dict[str, np.ndarray], leave_out: str = "") -> None:
    """A file as torch exports it: matrices turned and renamed, each multiplied with in a node of the layer's name."""
    stored, nodes = {}, []
    for number, (name, array) in enumerate(sorted(arrays.items())):
        if name == "embeddings.position_embeddings":
            stored |= {"onnx::Concat_1": array[:, :1], "onnx::Reshape_2": array[:, 1:]}
        elif name.startswith("encoder.") and array.ndim == 2:
            stored[f"onnx::MatMul_{number}"] = array.T
            layer = re.sub(r"\.(?!\d)", "/", name.removesuffix(".weight"))  # encoder/layer.0/attention/attention/query
            multiplied, node = ["x", f"onnx::MatMul_{number}"], f"/backbone/{layer}/MatMul"
            nodes.append(onnx.helper.make_node("MatMul", multiplied, ["y"], name=node))
        else:
            stored[f"backbone.{name}"] = array
    initializers = [onnx.numpy_helper.from_array(np.ascontiguousarray(a), n) for n, a in stored.items() if n != leave_out]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], [], initializers)), str(path))


def test_an_encoder_is_read_by_names_nodes_and_shapes(tmp_path):
    arrays = tensors()
    write_onnx(tmp_path / "vit.onnx", arrays)
    found = onnx_file.load_onnx(tmp_path / "vit.onnx")
    config = by_hand.CONFIGS["dinov2"] | dict(hidden_size=D, num_attention_heads=1)
    folder = by_hand.write_folder(tmp_path / "dino", "dinov2", {}, arrays)
    (folder / "config.json").write_text(json.dumps(config))
    pixels = by_hand.inputs(text=False)[0]
    np.testing.assert_array_equal(found.embed_images(pixels), pretrained.load(folder).embed_images(pixels))


@pytest.mark.parametrize(
    ("leave_out", "said"),
    [
        ("backbone.embeddings.patch_embeddings.projection.weight", "expected a DINOv2-like encoder"),
        ("onnx::Concat_1", "has no position rows"),
        ("backbone.encoder.layer.1.norm1.bias", "'encoder.layer.1.norm1.bias' is missing"),
    ],
)
def test_what_is_no_such_encoder_is_named(tmp_path, leave_out, said):
    write_onnx(tmp_path / "vit.onnx", tensors(), leave_out)
    with pytest.raises(InputError, match=said):
        onnx_file.load_onnx(tmp_path / "vit.onnx")


def test_a_file_that_is_no_onnx_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        onnx_file.load_onnx(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no protobuf at all")
    with pytest.raises(InputError, match="cannot be read as ONNX"):
        onnx_file.load_onnx(tmp_path / "bad.onnx")
