"""Which tensor of a file is which parameter: one function a class of model.

Hugging Face and OpenCLIP name the same tensors differently, and torch stores matrices as [out, in]. Here all become the arrays of
`lrjax.models.attention.Block`, stacked over layers. LayerScale (DINOv2) is multiplied into what a block writes.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import struct

from lrjax.models.attention import MLP, Block, LayerNorm
from lrjax.pretrained.config import EncoderConfig, ModelConfig
from lrjax.pretrained.transformer import Pool, Transformer
from lrjax.pretrained.weights import Tensors


@struct.dataclass
class Params:
    """Parameters of a model: its encoders, and the scale and bias of its similarities; None where there is no text."""

    vision: Transformer
    text: Transformer | None = None
    logit_scale: jax.Array | None = None
    logit_bias: jax.Array | None = None


class Reader:
    """Takes tensors for an encoder of some sizes.

    They are arrays of NumPy, of which the type says nothing: parameters are declared as arrays of jax, which these become.
    """

    def __init__(self, tensors: Tensors, config: EncoderConfig):
        self.tensors, self.config = tensors, config

    def __call__(self, name: str, *shape: int) -> Any:
        """A tensor of this shape."""
        return self.tensors.take(name, *shape)

    def norm(self, name: str) -> LayerNorm:
        """A LayerNorm."""
        d = self.config.d_model
        return LayerNorm(self(f"{name}.weight", d), self(f"{name}.bias", d))

    def matrix(self, name: str, n_in: int, n_out: int) -> Any:
        """The weight of a linear map, [in, out]."""
        return self(f"{name}.weight", n_out, n_in).T

    def mlp(self, name_in: str, name_out: str) -> MLP:
        """An MLP; SwiGLU's first map has two halves."""
        d, m = self.config.d_model, self.config.d_mlp
        wide = 2 * m if self.config.activation == "swiglu" else m
        first = self.matrix(name_in, d, wide), self(f"{name_in}.bias", wide)
        return MLP(*first, self.matrix(name_out, m, d), self(f"{name_out}.bias", d))

    def attention(self, q: str, k: str, v: str, out: str) -> dict[str, Any]:
        """W and b of attention, from four linear maps."""
        found: dict[str, Any] = {}
        d = self.config.d_model
        for letter, name in zip("QKV", (q, k, v), strict=True):
            found |= self._split_heads(letter, self.matrix(name, d, d), self(f"{name}.bias", d))
        return found | self._output(out)

    def packed_attention(self, name: str) -> dict[str, Any]:
        """W and b of attention, from torch's MultiheadAttention, which holds queries, keys and values in one matrix."""
        found: dict[str, Any] = {}
        d = self.config.d_model
        weights, biases = self(f"{name}.in_proj_weight", 3 * d, d), self(f"{name}.in_proj_bias", 3 * d)
        for letter, W, b in zip("QKV", np.split(weights, 3), np.split(biases, 3), strict=True):
            found |= self._split_heads(letter, W.T, b)
        return found | self._output(f"{name}.out_proj")

    def _split_heads(self, letter: str, W: np.ndarray, b: np.ndarray) -> dict[str, Any]:
        d, h = self.config.d_model, self.config.n_heads
        return {f"W_{letter}": W.reshape(d, h, d // h), f"b_{letter}": b.reshape(h, d // h)}

    def _output(self, name: str) -> dict[str, Any]:
        d, h = self.config.d_model, self.config.n_heads
        return {"W_O": self.matrix(name, d, d).reshape(h, d // h, d), "b_O": self(f"{name}.bias", d)}

    def patches(self, name: str) -> Any:
        """The weights of patches [3 * size * size, d]."""
        d, size = self.config.d_model, self.config.patch_size
        return self(f"{name}.weight", d, 3, size, size).reshape(d, 3 * size * size).T


def stacked(blocks: list[Block]) -> Block:
    """Blocks as one, every array with a first axis of layers."""
    return jax.tree.map(lambda *layers: np.stack(layers), *blocks)


def hf_blocks(read: Reader, prefix: str) -> Block:
    """The blocks of CLIP's and SigLIP's encoders as Hugging Face names them."""

    def block(i: int) -> Block:
        at = f"{prefix}encoder.layers.{i}."
        names = (f"{at}self_attn.{name}_proj" for name in ("q", "k", "v", "out"))
        mlp = read.mlp(f"{at}mlp.fc1", f"{at}mlp.fc2")
        return Block(**read.attention(*names), norm=read.norm(f"{at}layer_norm1"), mlp=mlp, mlp_norm=read.norm(f"{at}layer_norm2"))

    return stacked([block(i) for i in range(read.config.n_layers)])


def hf_words(read: Reader) -> dict[str, Any]:
    """E and P of a text encoder as Hugging Face names them."""
    config, at = read.config, "text_model.embeddings."
    E = read(f"{at}token_embedding.weight", config.n_words, config.d_model)
    return {"E": E, "P": read(f"{at}position_embedding.weight", config.n_positions, config.d_model)}


def clip(tensors: Tensors, config: ModelConfig) -> Params:
    """`CLIPModel` of Hugging Face."""
    assert config.text is not None
    vision, text = Reader(tensors, config.vision), Reader(tensors, config.text)
    at, size = "vision_model.embeddings.", config.vision
    images = Transformer(
        E=vision.patches(f"{at}patch_embedding"),
        P=vision(f"{at}position_embedding.weight", size.n_positions, size.d_model),
        cls=vision(f"{at}class_embedding", size.d_model),
        norm_in=vision.norm("vision_model.pre_layrnorm"),  # so it is spelled
        blocks=hf_blocks(vision, "vision_model."),
        norm_out=vision.norm("vision_model.post_layernorm"),
        W_proj=vision.matrix("visual_projection", size.d_model, size.d_embed),
    )
    words = Transformer(
        **hf_words(text),
        blocks=hf_blocks(text, "text_model."),
        norm_out=text.norm("text_model.final_layer_norm"),
        W_proj=text.matrix("text_projection", config.text.d_model, config.text.d_embed),
    )
    return Params(images, words, text("logit_scale"))


def siglip(tensors: Tensors, config: ModelConfig) -> Params:
    """`SiglipModel` of Hugging Face."""
    assert config.text is not None
    vision, text = Reader(tensors, config.vision), Reader(tensors, config.text)
    at, size, head = "vision_model.embeddings.", config.vision, "vision_model.head."
    pool = Block(
        **vision.packed_attention(f"{head}attention"),
        mlp=vision.mlp(f"{head}mlp.fc1", f"{head}mlp.fc2"),
        mlp_norm=vision.norm(f"{head}layernorm"),
    )
    images = Transformer(
        E=vision.patches(f"{at}patch_embedding"),
        P=vision(f"{at}position_embedding.weight", size.n_positions, size.d_model),
        patch_bias=vision(f"{at}patch_embedding.bias", size.d_model),
        blocks=hf_blocks(vision, "vision_model."),
        norm_out=vision.norm("vision_model.post_layernorm"),
        pool=Pool(vision(f"{head}probe", 1, 1, size.d_model)[0, 0], pool),
    )
    words = Transformer(
        **hf_words(text),
        blocks=hf_blocks(text, "text_model."),
        norm_out=text.norm("text_model.final_layer_norm"),
        W_proj=text.matrix("text_model.head", config.text.d_model, config.text.d_embed),
        b_proj=text("text_model.head.bias", config.text.d_embed),
    )
    scale, bias = (text(name, 1)[0] for name in ("logit_scale", "logit_bias"))
    return Params(images, words, scale, bias)


def dinov2(tensors: Tensors, config: ModelConfig) -> Params:
    """`Dinov2Model` of Hugging Face: images alone."""
    prefix = "dinov2." if any(name.startswith("dinov2.") for name in tensors.names()) else ""
    read, size, at = Reader(tensors, config.vision), config.vision, f"{prefix}embeddings."
    first, last = ("weights_in", "weights_out") if size.activation == "swiglu" else ("fc1", "fc2")

    def block(i: int) -> Block:
        at = f"{prefix}encoder.layer.{i}."
        q, k, v = (f"{at}attention.attention.{name}" for name in ("query", "key", "value"))
        attention = read.attention(q, k, v, f"{at}attention.output.dense")
        mlp = read.mlp(f"{at}mlp.{first}", f"{at}mlp.{last}")
        of_attention, of_mlp = (read(f"{at}layer_scale{j}.lambda1", size.d_model) for j in (1, 2))
        attention |= {name: attention[name] * of_attention for name in ("W_O", "b_O")}
        mlp = dataclasses.replace(mlp, W_out=mlp.W_out * of_mlp, b_out=mlp.b_out * of_mlp)
        return Block(**attention, norm=read.norm(f"{at}norm1"), mlp=mlp, mlp_norm=read.norm(f"{at}norm2"))

    images = Transformer(
        E=read.patches(f"{at}patch_embeddings.projection"),
        P=read(f"{at}position_embeddings", 1, size.n_positions, size.d_model)[0],
        cls=read(f"{at}cls_token", 1, 1, size.d_model)[0, 0],
        patch_bias=read(f"{at}patch_embeddings.projection.bias", size.d_model),
        blocks=stacked([block(i) for i in range(size.n_layers)]),
        norm_out=read.norm(f"{prefix}layernorm"),
    )
    return Params(images)


def open_clip(tensors: Tensors, config: ModelConfig) -> Params:
    """OpenCLIP's own CLIP. Projections are stored as [in, out] there."""
    assert config.text is not None
    vision, text = Reader(tensors, config.vision), Reader(tensors, config.text)

    def blocks(read: Reader, prefix: str) -> Block:
        def block(i: int) -> Block:
            at = f"{prefix}transformer.resblocks.{i}."
            mlp = read.mlp(f"{at}mlp.c_fc", f"{at}mlp.c_proj")
            attention = read.packed_attention(f"{at}attn")
            return Block(**attention, norm=read.norm(f"{at}ln_1"), mlp=mlp, mlp_norm=read.norm(f"{at}ln_2"))

        return stacked([block(i) for i in range(read.config.n_layers)])

    sizes, words = config.vision, config.text
    images = Transformer(
        E=vision.patches("visual.conv1"),
        P=vision("visual.positional_embedding", sizes.n_positions, sizes.d_model),
        cls=vision("visual.class_embedding", sizes.d_model),
        norm_in=vision.norm("visual.ln_pre"),
        blocks=blocks(vision, "visual."),
        norm_out=vision.norm("visual.ln_post"),
        W_proj=vision("visual.proj", sizes.d_model, sizes.d_embed),
    )
    captions = Transformer(
        E=text("token_embedding.weight", words.n_words, words.d_model),
        P=text("positional_embedding", words.n_positions, words.d_model),
        blocks=blocks(text, ""),
        norm_out=text.norm("ln_final"),
        W_proj=text("text_projection", words.d_model, words.d_embed),
    )
    bias = text("logit_bias") if "logit_bias" in tensors else None
    return Params(images, captions, text("logit_scale"), bias)


# kind of model -> what reads its tensors, and the prefixes of the names of its encoders' tensors
LAYOUTS: dict[str, tuple[Callable[[Tensors, ModelConfig], Params], tuple[str, ...]]] = {
    "clip": (clip, ("vision_model.", "text_model.")),
    "siglip": (siglip, ("vision_model.", "text_model.")),
    "dinov2": (dinov2, ("dinov2.", "embeddings.", "encoder.", "layernorm.")),
    "open_clip": (
        open_clip,
        ("visual.", "transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection"),
    ),
}


def read_params(tensors: Tensors, config: ModelConfig) -> Params:
    """The parameters of a model. Raises InputError that names a tensor that is missing, of another shape, or left over."""
    read, prefixes = LAYOUTS[config.kind]
    params = read(tensors, config)
    tensors.check_all_taken(prefixes)
    return params
