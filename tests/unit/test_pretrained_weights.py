"""A folder of weights is read, or one line says what is wrong with it."""

import json
import re
import struct
import sys
import types

import numpy as np
import pytest

import pretrained_by_hand as by_hand
from lrjax import InputError

pytest.importorskip("safetensors", reason="the extra `pretrained` is not installed")
pytest.importorskip("tokenizers", reason="the extra `pretrained` is not installed")

from safetensors.numpy import save_file

from lrjax import pretrained
from lrjax.pretrained import gates, gradient, pixels, statistical

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path):
    return by_hand.folder_of(tmp_path / "clip", "clip")


def tensors_of(kind):
    return by_hand.drawn(by_hand.read_expected(kind)["shapes"])


def refused(folder, *said):
    """One line that says all of this."""
    with pytest.raises(InputError) as error:
        pretrained.load(folder)
    line = str(error.value)
    assert "\n" not in line and all(text in line for text in said), line


def same_as(folder, whole, atol):
    found = pretrained.load(folder).params
    expected = whole.params
    for name in ("vision", "text"):
        a, b = getattr(found, name), getattr(expected, name)
        np.testing.assert_allclose(a.blocks.W_Q, b.blocks.W_Q, atol=atol)
        np.testing.assert_allclose(a.E, b.E, atol=atol)


def test_shards_hold_what_one_file_holds(folder):
    whole, tensors = pretrained.load(folder), tensors_of("clip")
    (folder / WEIGHTS).unlink()
    files = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(sorted(tensors))}
    for file in set(files.values()):
        save_file({name: tensors[name] for name in tensors if files[name] == file}, folder / file)
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": files}))
    same_as(folder, whole, atol=0)
    (folder / "model-00002-of-00002.safetensors").unlink()
    refused(folder, "model-00002-of-00002.safetensors", "not in the folder", "download all shards")


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "digits"), [("float16", 2e-3), ("bfloat16", 1e-2)])
def test_half_precision_is_read_as_float32(folder, dtype, digits):
    """A value near 1 has 11 bits in float16, and 8 in bfloat16."""
    import jax.numpy as jnp
    from safetensors.flax import save_file as save_jax

    whole = pretrained.load(folder)
    save_jax({name: jnp.asarray(array, dtype) for name, array in tensors_of("clip").items()}, str(folder / WEIGHTS))
    same_as(folder, whole, atol=digits)
    assert pretrained.load(folder).params.vision.P.dtype == np.float32


def test_a_tensor_that_does_not_fit_is_named(folder, capsys):
    tensors, name = tensors_of("clip"), "vision_model.encoder.layers.1.mlp.fc1.bias"
    save_file({n: t for n, t in tensors.items() if n != name}, folder / WEIGHTS)
    refused(folder, repr(name), "is missing", "[24]")
    save_file(tensors | {name: np.zeros(7, np.float32)}, folder / WEIGHTS)
    refused(folder, repr(name), "[7]", "[24]")
    save_file(tensors | {name: np.full(24, np.nan, np.float32)}, folder / WEIGHTS)
    refused(folder, repr(name), "not finite")
    extra = "vision_model.encoder.layers.2.mlp.fc1.bias"
    save_file(tensors | {extra: np.zeros(24, np.float32)}, folder / WEIGHTS)
    refused(folder, repr(extra), "no place in the config")
    save_file(tensors | {"classifier.weight": np.zeros(3, np.float32)}, folder / WEIGHTS)
    pretrained.load(folder)
    assert capsys.readouterr().err.startswith("warning: ") and "classifier.weight"


def test_a_truncated_file_says_how_much_is_there(folder):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:-100])
    refused(folder, WEIGHTS, f"{len(content) - 100:,} of {len(content):,} bytes")
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", 2**40))
    refused(folder, WEIGHTS, "cannot be read as safetensors")


@pytest.mark.parametrize(
    ("part", "change"),
    [("text_cfg", {"no_causal_mask": True}), ("text_cfg", {"pool_type": "last"}), ("vision_cfg", {"pool_type": "avg"})],
    ids=str,
)
def test_an_open_clip_that_computes_something_else_is_refused_by_its_field(tmp_path, part, change):
    by_hand.folder_of(tmp_path, "open_clip")
    path = tmp_path / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"][part] |= change
    path.write_text(json.dumps(config))
    (name,) = change
    refused(tmp_path, f"{part}.{name}: {change[name]!r} is not known here")


def test_a_folder_that_is_none_is_refused_in_one_line(tmp_path, folder):
    refused(tmp_path / "nothing", "no such folder")
    refused(folder / WEIGHTS, "is a file")
    refused(" ", "is no path")
    (empty := tmp_path / "empty").mkdir()
    refused(empty, "config.json", "open_clip_config.json")
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")
    refused(folder, "pytorch_model.bin is of torch")


def test_a_name_on_the_hub_is_downloaded_by_the_hubs_own_client(folder, monkeypatch):
    """There is no other use of the network: without the package nothing is asked."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # as if it were not installed
    refused("openai/clip", "folder='openai/clip'", "install huggingface_hub")
    asked = []

    def snapshot_download(name, allow_patterns):
        asked.append(name)
        assert {"*.json", "*.safetensors", "*.txt", "*.model"} == set(allow_patterns)  # spiece.model is SigLIP's tokenizer
        if name != "openai/clip":
            raise OSError("404\nno such repository")
        return str(folder)

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(snapshot_download=snapshot_download))
    assert pretrained.load("openai/clip").config.kind == "clip"
    refused("openai/clop", "folder='openai/clop'", "the hub did not give it (OSError: 404 no such repository)")
    assert asked == ["openai/clip", "openai/clop"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(model_type="bert"), ("model_type='bert'", "clip, siglip, dinov2")),
        (dict(model_type=["clip"]), ("model_type=['clip']", "expected a str")),
        (dict(vision_config=by_hand.VISION | dict(image_size=2**20)), ("image_size=1048576", "expected 1 to 2048")),
        (dict(model_type="siglip_text_model"), ("'siglip_text_model'", "a text encoder alone", "an image encoder")),
        (dict(projection_dim="8"), ("projection_dim='8'", "a whole number")),
        (dict(vision_config=by_hand.VISION | dict(layer_norm_eps=float("nan"))), ("vision", "layer_norm_eps=nan", "finite")),
        (dict(text_config=by_hand.TEXT | dict(layer_norm_eps=-1.0)), ("text", "layer_norm_eps=-1.0", "0 or more")),
        (dict(text_config=by_hand.TEXT | dict(eos_token_id=5)), ("eos_token_id=5", "ends no caption", "tokenizer.json")),
        (dict(text_config=by_hand.TEXT), ("eos_token_id=49407", "ends no caption")),
        (dict(vision_config=by_hand.VISION | dict(patch_size=99)), ("patch_size=99",)),
        (dict(vision_config=by_hand.VISION | dict(hidden_act="relu6")), ("hidden_act='relu6'", "quick_gelu")),
        (dict(vision_config=by_hand.VISION | dict(num_attention_heads=3)), ("3 heads", "width of 16")),
    ],
)
def test_a_config_that_is_not_known_names_its_field(folder, change, said):
    (folder / "config.json").write_text(json.dumps(by_hand.CONFIGS["clip"] | change))
    refused(folder, "config.json", *said)


def test_a_broken_config_or_tokenizer_is_named(folder):
    (folder / "tokenizer.json").write_text("{}")
    refused(folder, "tokenizer.json", "cannot be read as a tokenizer")
    (folder / "tokenizer.json").unlink()
    refused(folder, "tokenizer.json", "vocab.json", "merges.txt")
    (folder / "config.json").write_text("{")
    refused(folder, "config.json", "is no JSON")


@pytest.mark.parametrize("size", [dict(height=4, width=4), dict(height=24, width=32), dict(longest_edge=24)], ids=str)
def test_images_that_the_encoder_cannot_read_are_refused_by_their_file(folder, size):
    """The user gave no size, so no flag and no argument is blamed."""
    (folder / pixels.PREPROCESSOR).write_text(json.dumps(dict(size=size, do_center_crop=False)))
    refused(folder, f"{pixels.PREPROCESSOR}: ")


def test_another_size_of_images_than_the_configs_is_told(folder, capsys):
    (folder / pixels.PREPROCESSOR).write_text(json.dumps(dict(size=dict(height=32, width=32))))
    assert pretrained.load(folder).config.vision.grid == 4
    assert "images are 32 pixels, and image_size of the config is 24" in capsys.readouterr().err


def test_a_caption_that_is_cut_is_told(folder, capsys):
    """The encoder has positions for ten tokens, two of which begin and end a text."""
    model = pretrained.load(folder)
    fits = " ".join(["cat"] * (model.config.text.n_positions - 2))
    whole = model.embed_texts([fits])
    assert not capsys.readouterr().err
    np.testing.assert_array_equal(model.embed_texts([f"{fits} dog"]), whole)
    assert f"is cut to the {model.config.text.n_positions} positions of the text encoder" in capsys.readouterr().err


def test_what_a_model_is_asked_wrongly_is_named(folder, tmp_path):
    model = pretrained.load(folder)
    with pytest.raises(InputError, match=r"pixels: have shape \[1, 3, 8, 8\]; expected \[n, 3, 24, 24\]"):
        model.embed_images(np.zeros((1, 3, 8, 8)))
    for texts in ("a cat", None, []):
        with pytest.raises(InputError, match=re.escape(f"texts={texts!r}: expected a list of captions")):
            model.embed_texts(texts)
    with pytest.raises(InputError, match="pictures=None: expected a list of pictures"):
        model.pixels(None)
    for size, said in ((4, "is smaller than a patch"), (4096, "is too large; expected at most 2048 pixels")):
        with pytest.raises(InputError, match=f"image_size={size}: {said}"):
            pretrained.load(folder, image_size=size)
    with pytest.raises(InputError, match="is no caption"):
        model.embed_texts(["a cat", " "])
    with pytest.raises(InputError, match="no such picture"):
        model.pixels([tmp_path / "none.png"])
    with pytest.raises(InputError, match="cannot be read as a picture"):
        model.pixels([folder / "config.json"])
    with pytest.raises(InputError, match="picture=None: expected a path, a Pillow image or bytes"):
        model.pixels([None])
    with pytest.raises(InputError, match="pixels: hold values that are not finite"):
        model.embed_images(np.full((1, 3, 24, 24), np.nan))
    with pytest.raises(InputError, match=r"images, texts: have shapes \(1, 3\) and \(1, 8\)"):
        model.similarities(np.zeros((1, 3)), np.zeros((1, 8)))
    with pytest.raises(InputError, match="pixels: are no array"):
        model.embed_images([[1], [1, 2]])
    assert model.similarities([[1.0] * 8], [[1.0] * 8]).shape == (1, 1)
    with pytest.raises(InputError, match="P: holds values that are not finite"):
        model.with_positions(np.full(model.params.vision.P.shape, np.nan))
    for share in ("x", float("nan")):
        with pytest.raises(InputError, match=f"share={share!r}: is no finite number"):
            model.regauge(share)
    for size in ("24", 24.5, True):
        with pytest.raises(InputError, match=f"image_size={size!r}: expected a whole number of pixels"):
            pretrained.load(folder, image_size=size)
    for ask in (gradient.gradient, statistical.statistical):
        with pytest.raises(InputError, match="pixels: are no array"):
            ask(model, ["a cat", "a dog"])
    images_alone = pretrained.load(by_hand.folder_of(tmp_path / "dino", "dinov2"))
    with pytest.raises(InputError, match="no text encoder"):
        images_alone.embed_texts(["a cat"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("EX", "term 'EX' does not exist"),
        ("L7:EP", "layer 7 is out of range"),
        ("h9:EP=0", "head 9 is out of range"),
        ("EP=x", "not a finite number"),
        ("EP;L0:EP", "set the same gate"),
        ("EP=1>0@1-2", "changes in time"),
    ],
)
def test_gates_that_are_none_are_refused(folder, text, said):
    with pytest.raises(InputError, match=said):
        gates.parse(text, pretrained.load(folder).config)


def test_position_rows_of_another_size_are_interpolated(tmp_path):
    folder = by_hand.folder_of(tmp_path / "dino", "dinov2")
    small, large = pretrained.load(folder), pretrained.load(folder, image_size=40)
    assert large.config.vision.grid == 5 and large.embed_images(np.zeros((1, 3, 40, 40))).shape == (1, 16)
    np.testing.assert_array_equal(small.params.vision.P[0], large.params.vision.P[0])
    np.testing.assert_allclose(pixels.interpolation(3, 5).sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(pixels.interpolation(4, 4), np.eye(4), atol=1e-12)
