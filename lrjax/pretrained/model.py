"""One pretrained model: embed pictures and captions, look into it, take terms away."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from lrjax import surroundings
from lrjax.errors import InputError, suggest
from lrjax.gates import ENCODERS, Gates
from lrjax.model import AttentionCache
from lrjax.models.encoder import l2_normalize
from lrjax.pretrained import gates as gating
from lrjax.pretrained import pixels as pictures
from lrjax.pretrained import transformer
from lrjax.pretrained.config import EncoderConfig, ModelConfig, read_config
from lrjax.pretrained.layouts import Params, read_params
from lrjax.pretrained.pixels import Picture, Preprocessing
from lrjax.pretrained.terms import ORIGINS, TERMS
from lrjax.pretrained.transformer import Interventions, Output, Transformer
from lrjax.pretrained.weights import FILES, folder_of, read_tensors
from lrjax.pretrained.words import Words, read_words

BATCH = 16  # sequences of one program; more of them run after one another
NO_TEXT = "this model has no text encoder; expected a CLIP or a SigLIP"


@surroundings.pinned(transfers=True)
def load(folder: str | Path, image_size: int | None = None) -> "Model":
    """A pretrained model from a folder of weights.

    Args:
      folder: A folder as the hub lays it out (config.json, model.safetensors, tokenizer and preprocessor files; or OpenCLIP's
        names), or the name of a model on the hub, such as "openai/clip-vit-base-patch32". A name is downloaded if the package
        `huggingface_hub` is installed; the network is not used otherwise.
      image_size: Pixels of a side of an image, where it is not that of the preprocessing; position rows are interpolated then.

    Returns:
      The model, in float32.

    Raises:
      InputError: The folder is not one of a CLIP, SigLIP, OpenCLIP or DINOv2, or a tensor does not fit the config.
    """
    where = folder_of(folder)
    config = read_config(where)
    preprocessing = pictures.read_preprocessing(where, config.kind, config.vision)
    if image_size is not None:
        preprocessing = preprocessing.resized(image_size)
    params = read_params(read_tensors(where, FILES[::-1] if config.kind == "open_clip" else FILES), config)
    words = None if config.text is None else read_words(where, config.kind, config.text)
    return build(where.name, read_config(where, preprocessing.size[0]), params, preprocessing, words)


@surroundings.pinned(transfers=True)
def build(name: str, config: ModelConfig, params: Params, preprocessing: Preprocessing, words: Words | None = None) -> "Model":
    """A model from its parts; position rows are interpolated to the image size of the config."""
    vision = config.vision
    P = pictures.interpolate_positions(np.asarray(params.vision.P), vision.grid, vision.has_cls)
    params = _with_vision(params, P=P)
    config = dataclasses.replace(config, vision=dataclasses.replace(vision, n_positions=len(P)))
    return Model(name, config, jax.tree.map(jnp.asarray, params), preprocessing, words, gating.unit(config))


def _with_vision(params: Params, **changed: Any) -> Params:
    """Parameters with some of the image encoder's replaced."""
    return dataclasses.replace(params, vision=dataclasses.replace(params.vision, **changed))


@dataclasses.dataclass(frozen=True, repr=False)
class Model:
    """One pretrained model. Immutable: `ablate`, `regauge` and the like return another.

    Attributes:
      name: The folder's name.
      config: Its static side.
      params: Its parameters; `params.vision.P` are the position rows of images.
      preprocessing: What makes pixels of a picture.
      words: What makes ids of a caption; None without a text encoder.
      gates: The gates in force, of each encoder [depth, head, 20].
      frozen: Whether LayerNorm's scales, what MLPs wrote and the patterns of heads without gates are those of the model without
        its gates: then a gate has its direct effect alone.
      ablated: What `ablate` has taken away.
    """

    name: str
    config: ModelConfig
    params: Params
    preprocessing: Preprocessing
    words: Words | None
    gates: Gates
    frozen: bool = False
    ablated: tuple[str, ...] = ()

    def pixels(self, picture_list: Sequence[Picture]) -> np.ndarray:
        """Pixels [n, 3, H, W] of pictures: Pillow images, arrays of bytes [H, W, 3], or paths."""
        if not isinstance(picture_list, Sequence | np.ndarray) or isinstance(picture_list, str) or not len(picture_list):
            raise InputError(f"pictures={picture_list!r}: expected a list of pictures, at least one")
        return np.stack([self.preprocessing(picture) for picture in picture_list])

    def embed_images(self, pixels: np.ndarray) -> np.ndarray:
        """Unit embeddings [n, d_embed] of pixels [n, 3, H, W], as `pixels` makes them.

        Raises:
          InputError: The pixels are of another shape.
        """
        pixels = self._checked(pixels)
        return self._embedded("vision", pixels, np.zeros(len(pixels), np.int32))

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit embeddings [n, d_embed] of captions.

        Raises:
          InputError: This model has no text encoder, or a caption is empty.
        """
        ids = self._words(texts)
        return self._embedded("text", ids, self.readouts(ids))

    @surroundings.pinned(transfers=True)
    def similarities(self, images: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """The logits [n, m] of embeddings of images [n, d_embed] and texts [m, d_embed], with the model's scale and bias."""
        if self.params.logit_scale is None:
            raise InputError(f"{self.name}: {NO_TEXT}")
        images, texts = np.asarray(images), np.asarray(texts)
        if np.shape(images)[1:] != np.shape(texts)[1:] or np.ndim(images) != 2:
            raise InputError(f"images, texts: have shapes {np.shape(images)} and {np.shape(texts)}; expected [n, e] and [m, e]")
        bias = 0.0 if self.params.logit_bias is None else float(self.params.logit_bias)
        return np.exp(float(self.params.logit_scale)) * (images @ texts.T) + bias

    def ablate(self, terms: str, encoder: str = "vision", frozen: bool = False) -> "Model":
        """The same model with attention terms taken away, or scaled.

        Args:
          terms: Such as "EP", "EP+PP+BP+MP=0.5", "L3.h1:EP" (`pretrained.gates`).
          encoder: "vision" or "text", of parts that name none.
          frozen: Keep LayerNorm's scales, what MLPs wrote and the patterns of other heads as they are without any gate. What is
            frozen stays so in further ablations.

        Raises:
          InputError: There is no such term, layer, head or encoder.
        """
        if encoder not in ENCODERS:
            raise InputError(f"encoder={encoder!r}: does not exist{suggest(str(encoder), ENCODERS)}; expected vision or text")
        gates = jax.tree.map(np.multiply, self.gates, gating.parse(terms, self.config, encoder))
        return dataclasses.replace(self, gates=gates, frozen=frozen or self.frozen, ablated=(*self.ablated, terms))

    @surroundings.pinned(transfers=True)
    def with_positions(self, P: np.ndarray) -> "Model":
        """The same model with other position rows [p, d] of images. Raises InputError if their shape is another."""
        own = self.params.vision.P.shape
        if np.shape(P) != own:
            raise InputError(f"P: has shape {list(np.shape(P))}; expected {list(own)}")
        if not np.isfinite(P).all():
            raise InputError("P: holds values that are not finite; expected numbers")
        return dataclasses.replace(self, params=_with_vision(self.params, P=jnp.asarray(P)))

    @surroundings.pinned(transfers=True)
    def regauge(self, share: float) -> "Model":
        """The same model with the sum of the class token and its position row divided otherwise: this share of it is E, the rest P.

        The two enter only as their sum, so that no output changes; which of the terms E. and P. the readout's row has does.
        """
        vision = self.params.vision
        if vision.cls is None:
            raise InputError(f"{self.name}: has no class token; there is nothing to divide")
        if not isinstance(share, int | float) or not np.isfinite(share):
            raise InputError(f"share={share!r}: is no finite number; expected a share of the sum, such as 0.5")
        whole = vision.cls + vision.P[0]
        changed = dict(cls=share * whole, P=vision.P.at[0].set((1 - share) * whole))
        return dataclasses.replace(self, params=_with_vision(self.params, **changed))

    @surroundings.pinned(transfers=True)
    def run_with_cache(self, given: np.ndarray | str) -> tuple[xr.DataArray, AttentionCache]:
        """The embedding of one picture's pixels [3, H, W] or of one caption, and all that the encoder held on the way.

        Returns:
          The unit embedding, and the cache; its entries of layer 0 are `vision.0.terms` [term, head, query, key] (the sixteen
          terms, before gates), `.scores`, `.pattern`, `.values` [origin, key, head, d_head] and `.residual` [origin, query,
          d_model] before the layer. `vision.parts` [origin, d_embed] sum to the embedding before it is made a unit vector.
          SigLIP's readout is `vision.pool`.
        """
        if isinstance(given, str):
            name, array = "text", self._words([given])
            readout = self.readouts(array)
            labels = [f"{i} {word}" for i, word in enumerate(self.words.names(array[0]))]  # pyright: ignore[reportOptionalMemberAccess]
        else:
            name, array, readout = "vision", self._checked(np.asarray(given)[None]), np.zeros(1, np.int32)
            labels = position_names(self.config.vision)
        config, params, gates = self._encoder(name)
        found = jax.device_get(_cached(config, params, gates, self.frozen, array[0], readout[0]))
        return _named(name, config, labels, found)

    def readouts(self, ids: np.ndarray) -> np.ndarray:
        """The position of each text of ids [n, t] that is read."""
        assert self.config.text is not None
        how = self.config.text.readout
        if how == "last":
            return np.full(len(ids), ids.shape[1] - 1, np.int32)
        found = ids == self.config.text.eos if how == "eos" else ids
        return np.argmax(found, 1).astype(np.int32)

    def _words(self, texts: Sequence[str]) -> np.ndarray:
        if self.words is None:
            raise InputError(f"{self.name}: {NO_TEXT}")
        return self.words(texts)

    def _checked(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels as float32. Raises InputError if they are of another shape."""
        size = self.config.vision.image_size
        try:
            pixels = np.asarray(pixels, np.float32)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"pixels: are no array ({error}); expected [n, 3, {size}, {size}], as model.pixels makes them"
            ) from error
        if pixels.ndim != 4 or pixels.shape[1:] != (3, size, size) or not len(pixels):
            raise InputError(
                f"pixels: have shape {list(pixels.shape)}; expected [n, 3, {size}, {size}], as model.pixels makes them"
            )
        if not np.isfinite(pixels).all():
            raise InputError("pixels: hold values that are not finite; expected those that model.pixels makes")
        return pixels

    @surroundings.pinned(transfers=True)
    def _encoder(self, name: str) -> tuple[EncoderConfig, Transformer, jax.Array | None]:
        """The config, the parameters and the gates of an encoder; None where all gates are 1."""
        gates = np.asarray(getattr(self.gates, name))
        return getattr(self.config, name), getattr(self.params, name), None if (gates == 1).all() else jnp.asarray(gates)

    @surroundings.pinned(transfers=True)
    def _embedded(self, name: str, sequences: np.ndarray, readouts: np.ndarray) -> np.ndarray:
        config, params, gates = self._encoder(name)
        found, size = [], min(BATCH, len(sequences))
        for i in range(0, len(sequences), size):
            rows = np.minimum(np.arange(i, i + size), len(sequences) - 1)  # one shape, so one program
            found.append(np.asarray(_embed(config, params, gates, self.frozen, sequences[rows], readouts[rows])))
        return np.concatenate(found)[: len(sequences)]

    def __repr__(self) -> str:
        vision, text = self.config.vision, self.config.text
        shown = f"vision {vision.n_layers} layers x {vision.n_heads} heads, {vision.grid} x {vision.grid} patches"
        shown += "; no text" if text is None else f"; text {text.n_layers} layers x {text.n_heads} heads"
        more = f"; ablated: {', then '.join(self.ablated)}" if self.ablated else ""
        return f"lrjax.pretrained.Model({self.name}, {self.config.kind}: {shown}){more}"


def position_names(config: EncoderConfig) -> list[str]:
    """Names of the positions of an image: CLS, then row,column."""
    patches = [f"{row},{column}" for row in range(config.grid) for column in range(config.grid)]
    return ["CLS", *patches] if config.has_cls else patches


def stream_of(params: Transformer, sequence: jax.Array, config: EncoderConfig) -> jax.Array:
    """The stream by origin of pixels [3, H, W] or of ids [t]."""
    return transformer.image_stream(params, sequence, config) if config.patch_size else transformer.text_stream(params, sequence)


def run_one(config, params, gates, frozen: bool, sequence, readout, observe=lambda cache: None) -> Output:
    """One sequence through an encoder. Without gates the stream is merged, unless something is observed.

    `frozen`: states are those of a forward pass without gates.
    """
    stream, split = stream_of(params, sequence, config), gates is not None
    states = None
    if frozen and split:
        states = transformer.run(params, Interventions(), stream, readout, config, split=False).states
    return transformer.run(params, Interventions(gates, states), stream, readout, config, observe, split)


@partial(jax.jit, static_argnums=(0, 3))
def _embed(config: EncoderConfig, params: Transformer, gates: jax.Array | None, frozen: bool, sequences, readouts) -> jax.Array:
    """Unit embeddings [n, e] of sequences."""
    one = lambda sequence, readout: run_one(config, params, gates, frozen, sequence, readout).embedding
    return l2_normalize(jax.vmap(one)(sequences, readouts))


@partial(jax.jit, static_argnums=(0, 3))
def _cached(config: EncoderConfig, params: Transformer, gates: jax.Array | None, frozen: bool, sequence, readout):
    """One sequence by origin, with what every layer computed."""
    gates = transformer.unit_gates(config) if gates is None else gates

    def observe(cache: transformer.LayerCache) -> dict[str, jax.Array]:
        terms = transformer.term_scores(cache)
        return {
            "terms": terms.reshape(len(TERMS), *terms.shape[2:]),
            "scores": cache.scores,
            "pattern": cache.state.pattern,
            "values": cache.v,
            "residual": cache.residual,
        }

    return run_one(config, params, gates, frozen, sequence, readout, observe)


DIMS = {
    "terms": ("term", "head", "query", "key"),
    "scores": ("head", "query", "key"),
    "pattern": ("head", "query", "key"),
    "values": ("origin", "key", "head", "d_head"),
    "residual": ("origin", "query", "d_model"),
}


def _named(name: str, config: EncoderConfig, labels: list[str], found: Output) -> tuple[xr.DataArray, AttentionCache]:
    """What an encoder held, as a cache of arrays with named dimensions."""
    at = {"query": labels, "key": labels, "term": list(TERMS), "origin": list(ORIGINS), "head": range(config.n_heads)}
    entries = {}

    def put(key: str, array: Any, dims: tuple[str, ...], coords) -> None:
        known = {dim: coords[dim] for dim in dims if dim in coords}
        entries[f"{name}.{key}"] = xr.DataArray(array, known, dims, name=key)

    for layer in range(config.n_layers):
        for key, dims in DIMS.items():
            put(f"{layer}.{key}", found.observed[key][layer], dims, at)
    if found.observed_pool is not None:
        for key, dims in DIMS.items():
            if key != "residual":  # keys are the stream after the last LayerNorm
                put(f"pool.{key}", found.observed_pool[key], dims, at | {"query": ["probe"]})
    put("parts", found.by_origin, ("origin", "d_embed"), at)
    put("embedding", found.embedding / np.linalg.norm(found.embedding), ("d_embed",), at)
    return entries[f"{name}.embedding"], AttentionCache(entries)
