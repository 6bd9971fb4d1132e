"""A small CLIP of the same kind as pretrained ones, trained here on drawn pictures: a control whose training is known.

It has patches of RGB pixels, word tokens, LayerNorm and MLPs, and runs through `pretrained.transformer`. As in the paper, some
labels are held out of all pairs: they are seen alone. With `mirrored` every picture of a batch is mirrored left to right or not, at
random, and keeps its caption: then no picture says which of two captions with exchanged things is true.

Axes: n pictures of the bank, B batch, t tokens.
"""

import dataclasses
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrjax import surroundings
from lrjax.errors import InputError
from lrjax.models.attention import MLP, Block, LayerNorm
from lrjax.models.clip import MAX_LOG_SCALE
from lrjax.models.encoder import l2_normalize
from lrjax.models.losses import contrastive_loss
from lrjax.pretrained import scenes
from lrjax.pretrained.config import EncoderConfig, ModelConfig
from lrjax.pretrained.layouts import Params
from lrjax.pretrained.model import Model, build, run_one
from lrjax.pretrained.pixels import Preprocessing
from lrjax.pretrained.transformer import Transformer
from lrjax.pretrained.weights import library
from lrjax.pretrained.words import BOS, EOS, Words

TEMPLATES = ("{a} to the left of {b}", "{a} to the right of {b}")
LENGTH = 13  # of a caption of a pair, with its ends: <bos> a red circle to the left of a blue square <eos>, and one to spare


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is trained.

    Attributes:
        n_labels: Things that stand in training pairs.
        n_heldout: Things that are seen alone.
        mirrored: Whether pictures are mirrored at random.
        steps, batch_size, lr, weight_decay: Of AdamW.
        n_layers, n_heads, d_model, d_mlp, patch_size, image_size, columns: Sizes.
        seed: Of all that is random.
    """

    n_labels: int = 12
    n_heldout: int = 4
    mirrored: bool = False
    steps: int = 2000
    batch_size: int = 128
    lr: float = 1e-3
    weight_decay: float = 0.1
    n_layers: int = 2
    n_heads: int = 4
    d_model: int = 64
    d_mlp: int = 128
    patch_size: int = 8
    image_size: int = 48
    columns: int = 4
    seed: int = 0

    def __post_init__(self):
        there = len(scenes.things()) - self.n_heldout
        for field, value, possible, expected in (
            ("n_labels", self.n_labels, 2 <= self.n_labels <= there, f"2..{there}"),
            ("steps", self.steps, self.steps >= 0, "0 or more"),
            ("columns", self.columns, self.columns >= 2, "2 or more"),
            (
                "n_heads",
                self.n_heads,
                self.n_heads >= 1 and self.d_model % max(1, self.n_heads) == 0,
                f"a divisor of {self.d_model}",
            ),
            ("patch_size", self.patch_size, 1 <= self.patch_size <= self.image_size, f"1..{self.image_size}"),
        ):
            if not possible:
                raise InputError(f"Recipe.{field}: {value!r} is not possible; expected {expected}")

    @property
    def name(self) -> str:
        """The name of the model."""
        return f"drawn_{self.n_labels}{'_mirrored' if self.mirrored else ''}_seed{self.seed}"

    def things(self) -> tuple[list[scenes.Thing], list[scenes.Thing]]:
        """The things of training pairs, and those that are held out, in an order drawn from the seed."""
        every = scenes.things()
        order = [every[i] for i in np.random.default_rng(self.seed).permutation(len(every))]
        return order[self.n_heldout : self.n_heldout + self.n_labels], order[: self.n_heldout]

    def config(self, n_words: int, eos: int) -> ModelConfig:
        """The config of the model."""
        shared: dict[str, Any] = dict(n_layers=self.n_layers, n_heads=self.n_heads, d_model=self.d_model, d_mlp=self.d_mlp)
        shared |= dict(d_embed=self.d_model, activation="gelu", norm_eps=1e-5)
        size: dict[str, Any] = dict(image_size=self.image_size, patch_size=self.patch_size)
        n_patches = (self.image_size // self.patch_size) ** 2
        vision = EncoderConfig(**shared, **size, n_positions=n_patches + 1, has_cls=True)
        text = EncoderConfig(**shared, n_positions=LENGTH, n_words=n_words, causal=True, readout="eos", eos=eos)
        return ModelConfig("clip", vision, text)

    def scenes(self, heldout: bool) -> list[scenes.Scene]:
        """All scenes of pairs of the held-out things, or of the others."""
        of = self.things()[heldout]
        layouts = list(itertools.combinations(range(self.columns), 2))
        return [scenes.Scene(a, b, at, self.columns) for a, b in itertools.permutations(of, 2) for at in layouts]


def tokenizer() -> Any:
    """A tokenizer of the whole words that captions here have."""
    tokenizers = library("tokenizers")
    words = "a to the left right of".split() + list(scenes.COLOURS) + list(scenes.SHAPES)
    vocabulary = {word: i for i, word in enumerate(["<unk>", *words, BOS, EOS])}
    found = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    found.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    ends = [(token, vocabulary[token]) for token in (EOS, BOS)]
    found.post_processor = tokenizers.processors.RobertaProcessing(*ends)
    return found


def bank(recipe: Recipe, model: Model) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All training pictures as pixels [n, 3, H, W], the ids of their captions [n, 2, t] (a template each), and whether a picture
    shows a pair [n].
    """
    trained, heldout = recipe.things()
    pairs, columns, size = recipe.scenes(heldout=False), recipe.columns, recipe.image_size
    alone = [(thing, column) for thing in trained + heldout for column in range(columns)]
    pictures = [scene.draw(size) for scene in pairs] + [scenes.draw([one], columns, size) for one in alone]
    captions = [[scene.caption(template) for template in TEMPLATES] for scene in pairs] + [[str(thing)] * 2 for thing, _ in alone]
    ids = model._words([caption for both in captions for caption in both]).reshape(len(captions), 2, -1)
    return model.pixels(pictures), ids, np.arange(len(captions)) < len(pairs)


def initial(config: ModelConfig, key: jax.Array) -> Params:
    """Parameters of a CLIP before training: matrices normal with deviation 1 / sqrt(rows), rows of E and P as OpenAI's CLIP has
    them.
    """
    assert config.text is not None
    vision, text, keys = config.vision, config.text, iter(jax.random.split(key, 32))
    normal = lambda scale, *shape: scale * jax.random.normal(next(keys), shape)
    patch, d = 3 * vision.patch_size**2, vision.d_model
    images = Transformer(
        E=normal(patch**-0.5, patch, d),
        P=normal(d**-0.5, vision.n_positions, d),
        cls=normal(d**-0.5, d),
        norm_in=_initial_norm(d),
        blocks=_initial_blocks(vision, normal),
        norm_out=_initial_norm(d),
        W_proj=normal(d**-0.5, d, vision.d_embed),
    )
    d = text.d_model
    words = Transformer(
        E=normal(0.02, text.n_words, d),
        P=normal(0.01, text.n_positions, d),
        blocks=_initial_blocks(text, normal),
        norm_out=_initial_norm(d),
        W_proj=normal(d**-0.5, d, text.d_embed),
    )
    return Params(images, words, jnp.float32(np.log(1 / 0.07)))  # a number of Python's own type would compile twice


def _initial_blocks(config: EncoderConfig, normal: Callable[..., jax.Array]) -> Block:
    """Blocks with normal matrices and no biases. The order in which matrices are drawn is part of what a seed means."""
    n, d, m, h = config.n_layers, config.d_model, config.d_mlp, config.n_heads
    mlp = MLP(normal(d**-0.5, n, d, m), jnp.zeros((n, m)), normal(m**-0.5, n, m, d), jnp.zeros((n, d)))
    Q, K, V = (normal(d**-0.5, n, d, h, d // h) for _ in range(3))
    out, bias = normal(d**-0.5, n, h, d // h, d), jnp.zeros((n, h, d // h))
    norm = _initial_norm(n, d)
    return Block(Q, K, V, out, bias, bias, bias, jnp.zeros((n, d)), norm=norm, mlp=mlp, mlp_norm=norm)


def _initial_norm(*shape: int) -> LayerNorm:
    return LayerNorm(jnp.ones(shape), jnp.zeros(shape))


@surroundings.pinned(transfers=True)
def train(recipe: Recipe, report: Callable[[str], None] = lambda line: None, every: int = 100) -> Model:
    """Train a model to its end.

    Args:
        recipe: What is trained.
        report: Called with a line every so many steps.
        every: Steps of one program.
    """
    cut = tokenizer()
    eos = cut.token_to_id(EOS)
    config = recipe.config(cut.get_vocab_size(), eos)
    words = Words(
        lambda texts: [(found.ids, bool(found.overflowing)) for found in cut.encode_batch(texts)], cut.id_to_token, LENGTH, eos
    )
    size = recipe.image_size
    key = jax.random.key(recipe.seed)
    params = initial(config, key)
    model = build(recipe.name, config, params, Preprocessing(0, (size, size)), words)
    items = jax.tree.map(jnp.asarray, bank(recipe, model))
    state = optimiser(recipe).init(params)  # pyright: ignore[reportArgumentType]  # optax's types know no dataclasses
    for start in range(0, recipe.steps, every):
        params, state, loss = _steps(recipe, config, min(every, recipe.steps - start), params, state, items, key, start)
        report(f"step {min(start + every, recipe.steps):5d}  loss {float(loss):.3f}")
    return dataclasses.replace(model, params=params)


def optimiser(recipe: Recipe) -> optax.GradientTransformation:
    """AdamW on every parameter, after a short warm-up."""
    return optax.adamw(optax.linear_schedule(0.0, recipe.lr, 50), b2=0.98, weight_decay=recipe.weight_decay)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _steps(recipe: Recipe, config: ModelConfig, n: int, params: Any, state: Any, items, key: jax.Array, start):
    """So many steps: parameters, the optimiser's state and the mean loss."""

    def step(i, carry):
        params, state, total = carry
        loss, grads = jax.value_and_grad(partial(batch_loss, config, *batch(recipe, items, jax.random.fold_in(key, start + i))))(
            params
        )
        updates, state = optimiser(recipe).update(grads, state, params)
        params: Any = optax.apply_updates(params, updates)  # optax's types know no dataclasses
        params = dataclasses.replace(params, logit_scale=jnp.minimum(params.logit_scale, MAX_LOG_SCALE))
        return params, state, total + loss / n

    return jax.lax.fori_loop(0, n, step, (params, state, jnp.float32(0)))


def batch(recipe: Recipe, items, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Pixels [B, 3, H, W] and ids [B, t] of a batch: three quarters are pairs."""
    pixels, ids, is_pair = items
    of_kind, of_item, of_template, of_mirror = jax.random.split(key, 4)
    n_pairs = is_pair.sum()
    uniform = jax.random.uniform(of_item, (recipe.batch_size,))
    from_pairs = jax.random.uniform(of_kind, (recipe.batch_size,)) < 0.75
    first, size = jnp.where(from_pairs, 0, n_pairs), jnp.where(from_pairs, n_pairs, len(is_pair) - n_pairs)
    chosen = first + jnp.floor(uniform * size).astype(int)
    images = pixels[chosen]
    if recipe.mirrored:
        flip = jax.random.bernoulli(of_mirror, 0.5, (recipe.batch_size, 1, 1, 1))
        images = jnp.where(flip, images[..., ::-1], images)
    return images, ids[chosen, jax.random.randint(of_template, (recipe.batch_size,), 0, 2)]


def batch_loss(config: ModelConfig, images: jax.Array, ids: jax.Array, params: Params) -> jax.Array:
    """CLIP's loss of a batch; equal captions are no negatives of each other."""
    assert config.text is not None and params.text is not None and params.logit_scale is not None
    vision, text = config.vision, config.text
    of_image = lambda image: run_one(vision, params.vision, None, False, image, 0).embedding
    of_text = lambda words: run_one(text, params.text, None, False, words, jnp.argmax(words == text.eos)).embedding
    embedded, captions = l2_normalize(jax.vmap(of_image)(images)), l2_normalize(jax.vmap(of_text)(ids))
    same = (ids[:, None] == ids[None]).all(-1)
    return contrastive_loss(embedded, captions, params.logit_scale, same)
