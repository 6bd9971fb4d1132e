"""What a pretrained model is, read from `config.json` as the hub lays it out: static fields of its encoders.

One line names the field if a config is of a model that lrjax does not know.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrjax.errors import InputError

# hidden_act of a config -> `transformer.activate`
ACTIVATIONS = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
}
# model_type of config.json -> the kind of model; `layouts.LAYOUTS` reads the tensors of each
KINDS = {"clip": "clip", "siglip": "siglip", "dinov2": "dinov2"}
TEXT_ALONE = ("clip_text_model", "siglip_text_model")
LARGEST_IMAGE = 2048  # pixels of a side: attention between more patches than of this fits into no memory
HF_CONFIG, OPEN_CLIP_CONFIG = "config.json", "open_clip_config.json"


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """The static side of one pretrained encoder.

    Attributes:
        n_layers, n_heads, d_model, d_mlp: Sizes.
        d_embed: The size of an embedding.
        n_positions: Rows of P.
        activation: A name of `transformer.activate`.
        norm_eps: What LayerNorm adds to a variance.
        causal: Whether a token sees only itself and what stands before it.
        patch_size, image_size: Pixels of a patch and of an image; 0 for text.
        n_words: Rows of E of a text encoder; 0 for images.
        has_cls: Whether a class token stands before the patches.
        has_pool: Whether a learned query reads the image (SigLIP).
        readout: The position that is read: "first", "last", "eos" (the first of `eos`), or "largest" (the largest id).
        eos: The id of the token that ends a text.
    """

    n_layers: int
    n_heads: int
    d_model: int
    d_mlp: int
    d_embed: int
    n_positions: int
    activation: str
    norm_eps: float
    causal: bool = False
    patch_size: int = 0
    image_size: int = 0
    n_words: int = 0
    has_cls: bool = False
    has_pool: bool = False
    readout: str = "first"
    eos: int = -1

    @property
    def depth(self) -> int:
        """How many layers have gates: SigLIP's readout is one more."""
        return self.n_layers + self.has_pool

    @property
    def grid(self) -> int:
        """Patches along a side of an image."""
        return self.image_size // self.patch_size


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The static side of a pretrained model: its kind ("clip", "open_clip", "siglip", "dinov2") and its encoders; `text` is None
    for a model of images alone.
    """

    kind: str
    vision: EncoderConfig
    text: EncoderConfig | None = None


class Fields:
    """A dict of a config file whose errors name the file and the field."""

    def __init__(self, values: Mapping[str, Any], where: str):
        self.values, self.where = values, where

    def __call__(self, name: str, default: Any = None, type: type = int) -> Any:
        """A field; `default` if it is not there or null. Raises InputError if there is no default either, or its type is wrong."""
        value = self.values.get(name)
        value = default if value is None else value
        expected = "a whole number, 0 or more" if type is int else f"a {type.__name__}"
        if value is None:
            raise InputError(f"{self.where}: {name} is missing; expected {expected}")
        if type is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, type) or (type is int and (isinstance(value, bool) or value < 0)):
            raise InputError(f"{self.where}: {name}={value!r}: expected {expected}")
        return value

    def part(self, name: str) -> "Fields":
        """A dict inside this one, empty if it is not there."""
        return Fields(self(name, {}, dict), f"{self.where}: {name}")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds a dict. Raises InputError, one line, if it is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is no JSON ({error}); download the file again") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds a {type(found).__name__}; expected a dict of fields")
    return found


def read_config(folder: Path, image_size: int | None = None) -> ModelConfig:
    """The config of a folder of weights.

    Args:
        folder: The folder, as the hub lays it out.
        image_size: Pixels of a side of an image, where it is not the config's; positions are interpolated then.

    Raises:
        InputError: The folder has no config, or one of a model that lrjax does not know.
    """
    if (path := folder / HF_CONFIG).is_file() and (values := read_json(path)).get("model_type"):
        kind = Fields(values, str(path))("model_type", type=str)
        if kind in TEXT_ALONE:
            raise InputError(f"{path}: model_type={kind!r}: is a text encoder alone; expected a model with an image encoder")
        if kind not in KINDS:
            known = ", ".join(KINDS)
            raise InputError(f"{path}: model_type={kind!r}: is not known here; expected one of {known}, or an OpenCLIP folder")
        found = {"clip": _clip, "siglip": _siglip, "dinov2": _dinov2}[kind](Fields(values, str(path)))
    elif (path := folder / OPEN_CLIP_CONFIG).is_file():
        found = _open_clip(Fields(read_json(path), str(path)).part("model_cfg"))
    else:
        raise InputError(
            f"{folder}: has neither a {HF_CONFIG} with a model_type nor an {OPEN_CLIP_CONFIG}; "
            "expected a folder as the hub lays it out"
        )
    for name in ("vision", "text"):
        _check(getattr(found, name), f"{path}: {name}")
    vision = found.vision if image_size is None else dataclasses.replace(found.vision, image_size=image_size)
    if vision.image_size < vision.patch_size:
        raise InputError(f"image_size={image_size}: is smaller than a patch; expected {vision.patch_size} pixels or more")
    if vision.image_size > LARGEST_IMAGE:
        raise InputError(f"image_size={vision.image_size}: is too large; expected at most {LARGEST_IMAGE} pixels")
    return dataclasses.replace(found, vision=vision)


def _check(config: EncoderConfig | None, where: str) -> None:
    """Raise InputError if the sizes of an encoder are not possible."""
    if config is None:
        return
    for name in ("n_layers", "n_heads", "d_model", "d_mlp", "d_embed", "n_positions"):
        if not 0 < getattr(config, name) < 2**24:
            raise InputError(f"{where}: {name}={getattr(config, name)}: expected a number of 1 or more")
    if not (math.isfinite(config.norm_eps) and config.norm_eps >= 0):
        raise InputError(f"{where}: layer_norm_eps={config.norm_eps}: expected a finite number, 0 or more")
    if config.d_model % config.n_heads:
        raise InputError(f"{where}: {config.n_heads} heads do not divide a width of {config.d_model}")


def _activation(fields: Fields, default: str) -> str:
    name = fields("hidden_act", default, str)
    if name not in ACTIVATIONS:
        raise InputError(f"{fields.where}: hidden_act={name!r}: is not known here; expected one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def _sizes(fields: Fields, layers: int, heads: int, width: int, mlp: int, eps: float, activation: str) -> dict[str, Any]:
    """The fields that all Hugging Face encoders share, with the defaults of their class."""
    return dict(
        n_layers=fields("num_hidden_layers", layers),
        n_heads=fields("num_attention_heads", heads),
        d_model=fields("hidden_size", width),
        d_mlp=fields("intermediate_size", mlp),
        activation=_activation(fields, activation),
        norm_eps=fields("layer_norm_eps", eps, float),
    )


def _patches(fields: Fields, image_size: int, patch_size: int, cls: int) -> dict[str, Any]:
    size, patch = fields("image_size", image_size), fields("patch_size", patch_size)
    if not 0 < size <= LARGEST_IMAGE:
        raise InputError(f"{fields.where}: image_size={size}: expected 1 to {LARGEST_IMAGE}")
    if not 0 < patch <= size:
        raise InputError(f"{fields.where}: patch_size={patch}: expected 1 to image_size={size}")
    return dict(image_size=size, patch_size=patch, n_positions=(size // patch) ** 2 + cls)


PARTS = ("vision_config", "text_config")


def _clip(fields: Fields) -> ModelConfig:
    # Of old configs the parts called _dict hold if they are there, as in transformers; what they leave out has its default.
    vision, text = (fields.part(name if fields.values.get(f"{name}_dict") is None else f"{name}_dict") for name in PARTS)
    d_embed = fields("projection_dim", 512)
    eos = text("eos_token_id", 49407)
    return ModelConfig(
        "clip",
        EncoderConfig(
            **_sizes(vision, 12, 12, 768, 3072, 1e-5, "quick_gelu"), **_patches(vision, 224, 32, 1), d_embed=d_embed, has_cls=True
        ),
        EncoderConfig(
            **_sizes(text, 12, 8, 512, 2048, 1e-5, "quick_gelu"),
            d_embed=d_embed,
            n_positions=text("max_position_embeddings", 77),
            n_words=text("vocab_size", 49408),
            causal=True,
            readout="largest" if eos == 2 else "eos",  # configs before 2023 say 2, which is no token of CLIP's
            eos=eos,
        ),
    )


def _siglip(fields: Fields) -> ModelConfig:
    vision, text = fields.part("vision_config"), fields.part("text_config")
    shared = _sizes(vision, 12, 12, 768, 3072, 1e-6, "gelu_pytorch_tanh")
    if not vision("vision_use_head", True, bool):
        raise InputError(f"{vision.where}: vision_use_head=False: expected a model with SigLIP's readout")
    words = _sizes(text, 12, 12, 768, 3072, 1e-6, "gelu_pytorch_tanh")
    return ModelConfig(
        "siglip",
        EncoderConfig(**shared, **_patches(vision, 224, 16, 0), d_embed=shared["d_model"], has_pool=True),
        EncoderConfig(
            **words,
            d_embed=text("projection_size", words["d_model"]),
            n_positions=text("max_position_embeddings", 64),
            n_words=text("vocab_size", 32000),
            readout="last",
        ),
    )


def _dinov2(fields: Fields) -> ModelConfig:
    width = fields("hidden_size", 768)
    mlp = width * fields("mlp_ratio", 4)
    if gated := fields("use_swiglu_ffn", False, bool):
        mlp = (int(mlp * 2 / 3) + 7) // 8 * 8
    sizes: dict[str, Any] = _sizes(fields, 12, 12, 768, mlp, 1e-6, "gelu") | dict(d_mlp=mlp)
    sizes["activation"] = "swiglu" if gated else sizes["activation"]
    return ModelConfig("dinov2", EncoderConfig(**sizes, **_patches(fields, 224, 16, 1), d_embed=width, has_cls=True))


# Fields of OpenCLIP that change what an encoder computes, and the one value that is known here.
ONLY = (
    *(("text_cfg", name, None) for name in ("no_causal_mask", "norm_kwargs", "act_kwargs", "ls_init_value", "embed_cls")),
    ("text_cfg", "pool_type", "argmax"),
    ("vision_cfg", "pool_type", "tok"),
    *(("vision_cfg", name, None) for name in ("global_average_pool", "attentional_pool", "final_ln_after_pool", "no_ln_pre")),
    *(("vision_cfg", name, None) for name in ("norm_kwargs", "act_kwargs", "ls_init_value", "input_patchnorm")),
)


def _open_clip(fields: Fields) -> ModelConfig:
    vision, text, d_embed = fields.part("vision_cfg"), fields.part("text_cfg"), fields("embed_dim", 512)
    if odd := [name for name in ("timm_model_name", "hf_model_name") if name in vision.values or name in text.values]:
        raise InputError(f"{fields.where}: {odd[0]}: is not known here; expected OpenCLIP's own transformers")
    for part, name, only in ONLY:
        value = (vision if part == "vision_cfg" else text).values.get(name, only)
        if value != only and value:
            raise InputError(f"{fields.where}: {part}.{name}: {value!r} is not known here; expected {only!r}")
    activation, width = "quick_gelu" if fields("quick_gelu", False, bool) else "gelu", vision("width", 768)
    shared: dict[str, Any] = dict(activation=activation, norm_eps=1e-5, d_embed=d_embed)
    patches = _patches(vision, 224, 16, 1)
    words = text("width", 512)
    return ModelConfig(
        "open_clip",
        EncoderConfig(
            n_layers=vision("layers", 12),
            n_heads=width // max(1, vision("head_width", 64)),
            d_model=width,
            d_mlp=int(width * vision("mlp_ratio", 4.0, float)),
            **shared,
            **patches,
            has_cls=True,
        ),
        EncoderConfig(
            n_layers=text("layers", 12),
            n_heads=text("heads", 8),
            d_model=words,
            d_mlp=int(words * text("mlp_ratio", 4.0, float)),
            **shared,
            n_positions=text("context_length", 77),
            n_words=text("vocab_size", 49408),
            causal=True,
            readout="largest",
        ),
    )
