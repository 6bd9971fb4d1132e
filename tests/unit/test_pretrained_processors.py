"""Tokens and pixels are those of the peers' processors, and the files that a peer saves are read as the peer reads them.

What the peers made of 50 captions and 10 pictures is committed with the files that they saved (`tests/expected/processors`), so
that this is held without torch. Where transformers and OpenCLIP are installed, the peers themselves are asked too.
"""

import json
import re

import numpy as np
import pytest

import processors_by_hand as by_hand
from lrjax import InputError

pytest.importorskip("safetensors", reason="the extra `pretrained` is not installed")
pytest.importorskip("tokenizers", reason="the extra `pretrained` is not installed")

from lrjax import pretrained
from lrjax.pretrained import pixels, words
from lrjax.pretrained.config import EncoderConfig, read_config

NO_PEER = "the extra `peers` is not installed"
PIXELS = dict(atol=2e-6)  # two orders of the same few products in float32
EMBEDDINGS = dict(atol=1e-5)
VISION = EncoderConfig(1, 1, 8, 8, 8, 10, "gelu", 1e-5, patch_size=8, image_size=by_hand.SIZE)


@pytest.fixture(params=by_hand.PROCESSORS)
def saved(request, tmp_path):
    """A kind, the folder that its peer saved, and what the peer made."""
    return request.param, by_hand.folder_of(tmp_path / request.param, request.param), by_hand.read_peer(request.param)


def test_pixels_are_the_peers(saved):
    """Of the peers' classes that work with Pillow; the others resize tensors and differ by a level of 255 here and there."""
    kind, folder, peer = saved
    ours = pixels.read_preprocessing(folder, by_hand.PROCESSORS[kind][0], VISION)
    assert len(peer["pixels"]) == 10
    for picture, expected in zip(by_hand.pictures(), peer["pixels"], strict=True):
        np.testing.assert_allclose(ours(picture), expected, **PIXELS)


@pytest.mark.parametrize("kind", by_hand.WITH_TEXT)
def test_tokens_are_the_peers(kind, tmp_path):
    """From the tokenizer's files as the peer saved them, and for CLIP from the two files of its vocabulary too."""
    folder, peer = by_hand.folder_of(tmp_path / kind, kind), by_hand.read_peer(kind)
    config = EncoderConfig(1, 1, 8, 8, 8, by_hand.LENGTH, "gelu", 1e-5, n_words=1000)
    assert len(peer["captions"]) == len(peer["tokens"]) == 50
    np.testing.assert_array_equal(words.read_words(folder, kind, config)(peer["captions"]), peer["tokens"])
    if kind == "clip":
        model = json.loads((folder / words.TOKENIZER).read_text())["model"]
        (folder / words.VOCABULARY).write_text(json.dumps(model["vocab"]))
        (folder / words.MERGES).write_text("\n".join(["#version: 0.2", *map(" ".join, model["merges"])]))
        (folder / words.TOKENIZER).unlink()
        np.testing.assert_array_equal(words.read_words(folder, kind, config)(peer["captions"]), peer["tokens"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", by_hand.MODELS)
def test_a_folder_that_transformers_saved_computes_what_its_model_does(kind, tmp_path):
    """Config, tokenizer and preprocessing as `save_pretrained` wrote them, from captions and pictures to embeddings."""
    model, peer = pretrained.load(by_hand.folder_of(tmp_path / kind, kind)), by_hand.read_peer(kind)
    np.testing.assert_allclose(model.embed_images(model.pixels(by_hand.pictures())), peer["images"], **EMBEDDINGS)
    if model.words is not None:
        np.testing.assert_allclose(model.embed_texts(peer["captions"]), peer["texts"], **EMBEDDINGS)


def test_interpolated_position_rows_are_torchs():
    with np.load(by_hand.EXPECTED / "interpolation.npz") as found:
        arrays = dict(found)
    own = np.ones((1, 4), np.float32)
    for grid in (4, 10):
        rows = pixels.interpolate_positions(np.concatenate([own, arrays["P"]]), grid, has_cls=True)
        np.testing.assert_allclose(rows[1:], arrays[f"grid_{grid}"], atol=1e-5)
        np.testing.assert_array_equal(rows[:1], own)
    pytest.importorskip("torch", reason=NO_PEER)
    np.testing.assert_allclose(by_hand.interpolated_by_torch(arrays["P"], 4), arrays["grid_4"], atol=1e-5)


def test_the_peer_of_today_makes_what_is_committed(saved):
    kind, folder, peer = saved
    pytest.importorskip("torch", reason=NO_PEER)
    pytest.importorskip("open_clip" if kind.startswith("open_clip") else "transformers", reason=NO_PEER)
    for name, array in by_hand.computed_by_peer(kind, folder, peer["captions"]).items():
        np.testing.assert_allclose(array, peer[name], **EMBEDDINGS, err_msg=name)


def test_open_clips_tokens_are_the_peers_with_clips_own_vocabulary(tmp_path):
    """OpenCLIP brings it along. Its two marks have other names in the hub's files."""
    tokenizer = pytest.importorskip("open_clip.tokenizer", reason=NO_PEER)
    peer, captions = tokenizer.SimpleTokenizer(), by_hand.read_peer("clip")["captions"]
    marks = {"<start_of_text>": words.BOS, "<end_of_text>": words.EOS}
    vocabulary = {marks.get(word, word): i for word, i in peer.encoder.items()}
    (tmp_path / words.VOCABULARY).write_text(json.dumps(vocabulary))
    merges = sorted(peer.bpe_ranks, key=peer.bpe_ranks.get)
    (tmp_path / words.MERGES).write_text("\n".join(["#version: 0.2", *map(" ".join, merges)]))
    config = EncoderConfig(1, 1, 8, 8, 8, 77, "gelu", 1e-5, n_words=len(vocabulary))
    np.testing.assert_array_equal(words.read_words(tmp_path, "open_clip", config)(captions), peer(captions).numpy())


def test_the_parts_of_old_configs_are_read_as_transformers_reads_them(tmp_path):
    """`text_config_dict` and `vision_config_dict` stand over the parts of today's names; what they leave out has its default."""
    path = tmp_path / "config.json"
    old = dict(
        model_type="clip",
        text_config=dict(hidden_size=16, num_hidden_layers=3, intermediate_size=20, vocab_size=99),
        text_config_dict=dict(hidden_size=24, num_attention_heads=2, hidden_act="gelu"),
        vision_config_dict=dict(hidden_size=32, num_attention_heads=4, image_size=64),
    )
    path.write_text(json.dumps(old))
    found = read_config(tmp_path)
    assert found.text is not None
    text, vision = found.text, found.vision
    assert (text.d_model, text.n_layers, text.d_mlp, text.n_words, text.activation) == (24, 12, 2048, 49408, "gelu")
    assert (vision.d_model, vision.n_heads, vision.image_size, vision.n_layers) == (32, 4, 64, 12)
    path.write_text(json.dumps(old | dict(text_config_dict=None, vision_config_dict={})))
    found = read_config(tmp_path)
    assert found.text is not None and (found.text.d_model, found.text.n_layers, found.vision.d_model) == (16, 3, 768)


def test_the_parts_of_old_configs_are_those_of_transformers():
    transformers = pytest.importorskip("transformers", reason=NO_PEER)
    parts = dict(
        text_config=dict(hidden_size=16, num_hidden_layers=3), text_config_dict=dict(hidden_size=24, num_attention_heads=2)
    )
    found = transformers.CLIPConfig(**parts).text_config
    assert (found.hidden_size, found.num_hidden_layers) == (24, 12)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(resample=99), "resample=99: is no filter of Pillow; expected one of 0 (nearest)"),
        (dict(image_std=[0.2, 0, 0.2]), "image_std=[0.2, 0.0, 0.2]: expected three numbers above 0"),
        (dict(image_std=[0.2, float("nan"), 0.2]), "image_std=[0.2, nan, 0.2]: expected three finite numbers"),
        (dict(image_mean=[0.5, float("inf"), 0]), "image_mean=[0.5, inf, 0]: expected three finite numbers"),
        (dict(image_mean=[0.5]), "image_mean=[0.5]: expected three finite numbers"),
        (dict(do_rescale=False), "do_rescale=False: is not known here"),
    ],
    ids=str,
)
def test_a_preprocessing_that_is_not_known_names_its_field(tmp_path, change, said):
    path = by_hand.folder_of(tmp_path / "clip", "clip") / pixels.PREPROCESSOR
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=re.escape(f"{pixels.PREPROCESSOR}: {said}")):
        pixels.read_preprocessing(path.parent, "clip", VISION)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(resize_mode="longest"), "resize_mode='longest': is not known here; expected shortest or squash"),
        (dict(interpolation="random"), "interpolation='random': is not known here; expected bicubic or bilinear"),
        (dict(mode="L"), "mode='L': is not known here; expected RGB"),
        (dict(size=64), "size=64: is not the image_size of vision_cfg; expected 24"),
        (dict(size=[24, 32]), "size=[24, 32]: is not the image_size"),
        (dict(std=[0, 1, 1]), "std=[0.0, 1.0, 1.0]: expected three numbers above 0"),
    ],
    ids=str,
)
def test_an_open_clip_preprocessing_that_is_not_known_names_its_field(tmp_path, change, said):
    path = by_hand.folder_of(tmp_path / "open", "open_clip") / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["preprocess_cfg"] |= change
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match=re.escape(f"preprocess_cfg: {said}")):
        pixels.read_preprocessing(path.parent, "open_clip", VISION)
    config["preprocess_cfg"] = dict(size=[24, 24], fill_color=0)
    path.write_text(json.dumps(config))
    assert pixels.read_preprocessing(path.parent, "open_clip", VISION).size == (24, 24)
