"""Write a CLIP in the layout of Hugging Face's `CLIPModel`, so that transformers, and lrjax, read it back."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lrjax.errors import InputError
from lrjax.models.attention import Block, LayerNorm
from lrjax.pretrained.config import HF_CONFIG, EncoderConfig
from lrjax.pretrained.layouts import Params
from lrjax.pretrained.model import Model
from lrjax.pretrained.pixels import PREPROCESSOR
from lrjax.pretrained.transformer import Transformer
from lrjax.pretrained.weights import FILES, library
from lrjax.pretrained.words import TOKENIZER
from lrjax.storage.files import write_atomically

Tensors = dict[str, np.ndarray]


def export(model: Model, folder: str | Path, tokenizer: Any) -> Path:
    """Write a model as config.json, model.safetensors, tokenizer.json and preprocessor_config.json.

    Args:
        model: A CLIP: kind "clip" or "open_clip".
        folder: Where to; it must be empty or not there.
        tokenizer: A `tokenizers.Tokenizer`.

    Raises:
        InputError: The model is no CLIP or has gates, for which the layout has no place, or the folder holds something.
    """
    if not isinstance(folder, str | Path):
        raise InputError(f"folder={folder!r}: is no path; expected a new folder")
    folder = Path(folder).expanduser()
    if model.config.text is None or model.config.vision.has_pool:
        raise InputError(f"export: {model.name} is a {model.config.kind}; expected a CLIP")
    if any(np.any(np.asarray(gates) != 1) for gates in jax.tree.leaves(model.gates)):
        raise InputError(f"export: {model.name} has gates, for which the layout has no place; export the model without them")
    if not callable(getattr(tokenizer, "save", None)):
        raise InputError(f"tokenizer={tokenizer!r}: expected a tokenizers.Tokenizer, such as lrjax.pretrained.train.tokenizer()")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"folder={str(folder)!r}: holds something; give a new folder")
    save = library("safetensors.numpy").save_file
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        whole = Path(temporary) / "whole"  # the folder is there with all of its files, or not at all
        whole.mkdir()
        save(tensors_of(model.params, model.config.vision, model.config.text), whole / FILES[0])
        tokenizer.save(str(whole / TOKENIZER))
        write_atomically(whole / HF_CONFIG, json.dumps(_config(model), indent=1))
        write_atomically(whole / PREPROCESSOR, json.dumps(_preprocessor(model), indent=1))
        if folder.exists():
            folder.rmdir()  # it is empty
        os.replace(whole, folder)
    return folder


def tensors_of(params: Params, vision: EncoderConfig, text: EncoderConfig) -> Tensors:
    """The tensors of a CLIP by the names of Hugging Face: the inverse of `layouts.clip`."""
    images, words = params.vision, params.text
    assert words is not None and images.norm_in is not None and images.cls is not None
    found = _encoder("vision_model.", images, vision.n_layers) | _encoder("text_model.", words, text.n_layers)
    at, d, size = "vision_model.embeddings.", vision.d_model, vision.patch_size
    found |= {
        f"{at}patch_embedding.weight": np.asarray(images.E).T.reshape(d, 3, size, size),
        f"{at}class_embedding": images.cls,
        f"{at}position_embedding.weight": images.P,
        "text_model.embeddings.token_embedding.weight": words.E,
        "text_model.embeddings.position_embedding.weight": words.P,
        "visual_projection.weight": np.asarray(images.W_proj).T,
        "text_projection.weight": np.asarray(words.W_proj).T,
        "logit_scale": params.logit_scale,
        **_norm("vision_model.pre_layrnorm", images.norm_in),
        **_norm("vision_model.post_layernorm", images.norm_out),
        **_norm("text_model.final_layer_norm", words.norm_out),
    }
    return {name: np.array(array, np.float32, order="C") for name, array in found.items()}


def _encoder(prefix: str, params: Transformer, n_layers: int) -> dict[str, Any]:
    found = {}
    for i in range(n_layers):
        block = _layer(params.blocks, i)
        assert block.norm is not None and block.mlp is not None and block.mlp_norm is not None
        at, d = f"{prefix}encoder.layers.{i}.", block.W_Q.shape[0]
        for name, letter in (("q_proj", "Q"), ("k_proj", "K"), ("v_proj", "V")):
            found[f"{at}self_attn.{name}.weight"] = getattr(block, f"W_{letter}").reshape(d, d).T
            found[f"{at}self_attn.{name}.bias"] = getattr(block, f"b_{letter}").reshape(d)
        found |= {
            f"{at}self_attn.out_proj.weight": block.W_O.reshape(d, d).T,
            f"{at}self_attn.out_proj.bias": block.b_O,
            f"{at}mlp.fc1.weight": block.mlp.W_in.T,
            f"{at}mlp.fc1.bias": block.mlp.b_in,
            f"{at}mlp.fc2.weight": block.mlp.W_out.T,
            f"{at}mlp.fc2.bias": block.mlp.b_out,
            **_norm(f"{at}layer_norm1", block.norm),
            **_norm(f"{at}layer_norm2", block.mlp_norm),
        }
    return found


def _layer(blocks: Block, i: int) -> Block:
    return jax.tree.map(lambda array: np.asarray(array)[i], blocks)


def _norm(name: str, norm: LayerNorm) -> dict[str, Any]:
    return {f"{name}.weight": norm.gamma, f"{name}.bias": norm.beta}


def _config(model: Model) -> dict[str, Any]:
    """config.json."""
    vision, text = model.config.vision, model.config.text
    assert text is not None
    activations = {"gelu_tanh": "gelu_pytorch_tanh"}

    def shared(config: EncoderConfig) -> dict[str, Any]:
        return dict(
            hidden_size=config.d_model,
            intermediate_size=config.d_mlp,
            num_hidden_layers=config.n_layers,
            num_attention_heads=config.n_heads,
            hidden_act=activations.get(config.activation, config.activation),
            layer_norm_eps=config.norm_eps,
            projection_dim=config.d_embed,
        )

    images = shared(vision) | dict(image_size=vision.image_size, patch_size=vision.patch_size)
    words = shared(text) | dict(max_position_embeddings=text.n_positions, vocab_size=text.n_words)
    words |= dict(eos_token_id=2 if text.readout == "largest" else text.eos)  # 2: the readout is the largest token
    return dict(
        model_type="clip", architectures=["CLIPModel"], projection_dim=vision.d_embed, vision_config=images, text_config=words
    )


def _preprocessor(model: Model) -> dict[str, Any]:
    """preprocessor_config.json."""
    how = model.preprocessing
    height, width = how.size
    return dict(
        size={"shortest_edge": how.shortest} if how.shortest else {"height": height, "width": width},
        crop_size={"height": height, "width": width},
        do_center_crop=bool(how.shortest),
        resample=how.resample,
        image_mean=list(how.mean),
        image_std=list(how.std),
    )
