"""Floating-point operations and bytes of one training step of one model, counted by hand from its static shapes.

The rule. A multiply-add is 2 FLOPs; exp, log, sqrt, division and comparison are 1 each. Every contraction reads its two operands
once and writes its result once, in float32; pointwise work is fused into its neighbours, so only arrays that a contraction
cannot fuse (the logits, the patterns, embeddings) move again. A contraction (m, k, n) costs 2mkn; its backward pass is two
contractions of the same three shapes, so exactly twice that, in FLOPs and in bytes. Sampling (a few thousand integers) is left out.

What is counted is the algorithm, not the code: what a one-hot adds, or a gather saves, is the code's affair. Hence "share of the
ceiling" is of useful work.

lrjax, one block (`lookup_tables.make_tables`, `read_tables`), per encoder, with r = v + p rows of E and P, and its templates:
  tables   W_O W_proj per head              h (k, d, e)
           values of all rows               (r, d, d), then h (r, k, e)
           per template: the readout's query    (2, d, d), back through W_K h (2, k, d), against E and P (h, d, v + p)
           per template: constant               (1, d, e)
  reading  per sequence of T tokens, S edits: h(T + S) rows of values weighted and summed, 2e each; softmax 5 per score;
           one-object captions once per label
dense (any depth), per layer, as often as it runs, and sequence of T tokens:
           Q, K, V, O                       4 (T, d, d)
           scores and attention             2 h (T, k, T), softmax 5 per score
           dropout                          2 per entry of E + P, of what attention and of what the MLP writes
           projection, readout only         (1, d, e)
both       contrastive: (B, e, B), and 9 per logit forward (scale, two log-sum-exps), 6 backward (two softmaxes, their sum)
           AdamW: 16 per parameter (two moments 7, bias corrections 2, root, eps, ratio 3, decay and step 4); 7 floats moved
           (reads parameter, gradient, two moments; writes parameter, two moments)

Axes: v token ids, p positions, h heads, k d_head, d d_model, e d_embed, B batch, T tokens, S edits.
"""

import dataclasses

from lrjax.config import Static
from lrjax.data.scenes import EMPTY, SINGLE_CAPTION
from lrjax.models import objectives
from lrjax.models.clip import encoder_configs
from lrjax.models.encoder import EncoderConfig

FLOAT = 4  # bytes
ADAMW_FLOPS, ADAMW_FLOATS = 16, 7  # per parameter


@dataclasses.dataclass(frozen=True)
class Count:
    """FLOPs and bytes."""

    flops: int = 0
    bytes: int = 0

    def __add__(self, other: "Count") -> "Count":
        return Count(self.flops + other.flops, self.bytes + other.bytes)

    def __mul__(self, times: int) -> "Count":
        return Count(self.flops * times, self.bytes * times)


def contraction(m: int, k: int, n: int, batch: int = 1) -> Count:
    """`batch` products of [m, k] and [k, n], forward. Its backward pass costs twice this."""
    return Count(2 * m * k * n, FLOAT * (m * k + k * n + m * n)) * batch


def pointwise(size: int, flops: int, floats: int) -> Count:
    """`flops` per element, and `floats` numbers read or written per element."""
    return Count(size * flops, FLOAT * size * floats)


def lrjax_counts(static: Static) -> dict[str, Count]:
    """The parts of a step of lrjax's program; an encoder of several blocks, or with dropout, is counted as dense."""
    half, parts = static.batch_size // 2, {}
    encoders = encoder_configs(static)
    task = static.task_object
    images = ((static.batch_size, len(task.image.tokens), task.n_edits),)
    captions = ((static.n_labels_total, SINGLE_CAPTION.readout + 1, 1),)
    captions += tuple(
        (half // len(task.caption_templates), template.readout + 1, template.tokens.count(EMPTY))
        for template in task.caption_templates
    )
    for name, reads in (("vision", images), ("text", captions)):
        if not reads_tables(static, encoders[name]):
            _both_ways(parts, f"{name} dense", dense_encoder(encoders[name], static.batch_size))
        else:
            _both_ways(parts, f"{name} tables", tables(encoders[name], n_templates=len(reads)))
            _both_ways(parts, f"{name} reading", sum((reading(encoders[name], *read) for read in reads), Count()))
            if encoders[name].mlp_ratio:
                _both_ways(parts, f"{name} MLP", sum((mlp(encoders[name], n) for n, *_ in reads), Count()))
    return parts | loss(static) | {"AdamW": adamw(static)}


def reads_tables(static: Static, encoder_config: EncoderConfig) -> bool:
    """Whether training reads an encoder's sequences from tables (`models.lookup_tables.is_tabled`)."""
    return encoder_config.depth == 1 and not static.dropout and not objectives.of(static).full_sequences


def dense_counts(static: Static) -> dict[str, Count]:
    """The parts of a step of the dense baseline, in JAX or in PyTorch."""
    parts: dict[str, Count] = {}
    for name, encoder_config in encoder_configs(static).items():
        _both_ways(parts, f"{name} dense", dense_encoder(encoder_config, static.batch_size))
    return parts | loss(static) | {"AdamW": adamw(static)}


def total(parts: dict[str, Count]) -> Count:
    """The sum of all parts."""
    return sum(parts.values(), Count())


def tables(encoder_config: EncoderConfig, n_templates: int) -> Count:
    """Contracting one block to the tables of `n_templates` readout tokens, forward."""
    h, d, e, rows = (
        encoder_config.n_heads,
        encoder_config.d_model,
        encoder_config.d_embed,
        encoder_config.n_tokens + encoder_config.n_positions,
    )
    k = encoder_config.k
    values = contraction(rows, d, h * k) + contraction(rows, k, e, batch=h)
    values = values + contraction(k, d, e, batch=h) if encoder_config.projects else values
    query = contraction(2, d, h * k) + contraction(2, k, d, batch=h) + contraction(h, d, rows)
    return values + (query + projection(encoder_config, 1)) * n_templates


def reading(encoder_config: EncoderConfig, n: int, T: int, S: int) -> Count:
    """n sequences of T tokens, S of them edited, to unit embeddings, forward."""
    scores = pointwise(n * encoder_config.n_heads * T, flops=5 + 1, floats=1)
    weighted = contraction(n, encoder_config.n_heads * (T + S), encoder_config.d_embed)
    return scores + weighted + pointwise(n * encoder_config.d_embed, flops=3, floats=2)


def dense_encoder(encoder_config: EncoderConfig, n: int) -> Count:
    """n full sequences through every block to unit embeddings, forward."""
    h, d, k, T = encoder_config.n_heads, encoder_config.d_model, encoder_config.k, encoder_config.n_positions
    block = contraction(n * T, d, h * k) * 4 + contraction(T, k, T, batch=n * h) * 2 + pointwise(n * h * T * T, flops=5, floats=2)
    block = block + mlp(encoder_config, n * T)
    dropped = (
        pointwise(n * T * d, flops=2, floats=0) * (1 + encoder_config.depth * (2 if encoder_config.mlp_ratio else 1))
        if encoder_config.dropout
        else Count()
    )
    return (
        block * encoder_config.depth
        + dropped
        + projection(encoder_config, n)
        + pointwise(n * encoder_config.d_embed, flops=3, floats=2)
    )


def projection(encoder_config: EncoderConfig, n: int) -> Count:
    """n readout tokens to embeddings, forward; nothing where the embedding is what the token holds."""
    return contraction(n, encoder_config.d_model, encoder_config.d_embed) if encoder_config.projects else Count()


def mlp(encoder_config: EncoderConfig, n: int) -> Count:
    """n tokens through one block's MLP, forward; GELU counts 8."""
    d, m = encoder_config.d_model, encoder_config.mlp_ratio * encoder_config.d_model
    return contraction(n, d, m) + contraction(n, m, d) + pointwise(n * m, flops=8, floats=2) if m else Count()


def loss(static: Static) -> dict[str, Count]:
    """The B x B part of a loss of pairs, forward and backward. A decoder has none, and what it does per word is little."""
    if objectives.of(static).full_sequences:
        return {}
    B, product = static.batch_size, contraction(static.batch_size, static.d_embed, static.batch_size)
    return {
        "contrastive forward": product + pointwise(B * B, flops=9, floats=1),
        "contrastive backward": product * 2 + pointwise(B * B, flops=6, floats=1),
    }


def adamw(static: Static) -> Count:
    """The optimiser's update of every parameter."""
    return pointwise(n_parameters(static), ADAMW_FLOPS, ADAMW_FLOATS)


def n_parameters(static: Static) -> int:
    """How many parameters one model has.

    Per encoder these are E, P, W_proj and the last LayerNorm; per block W_Q, W_K, W_V, W_O and their biases, its MLP and its
    LayerNorms; and the logit scale.
    """

    def encoder_params(s: EncoderConfig) -> int:
        d, hk, m = s.d_model, s.n_heads * s.k, s.mlp_ratio * s.d_model
        norms = ((s.norm == "pre") + s.n_layers * (2 if m else 1)) * 2 * d if s.layer_norm else 0
        blocks = s.n_layers * (4 * d * hk + 3 * hk + d + (2 * d * m + m + d if m else 0))
        return (s.n_tokens + s.n_positions + s.projects * s.d_embed) * d + blocks + norms

    return sum(map(encoder_params, encoder_configs(static).values())) + 1


def _both_ways(parts: dict[str, Count], name: str, forward: Count) -> None:
    """Add a part made of contractions (the rest of it is small): its backward pass is twice its forward pass."""
    parts |= {f"{name} forward": forward, f"{name} backward": forward * 2}
