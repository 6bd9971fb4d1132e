"""One encoder for images and captions: E[token] + P[position] -> attention blocks -> readout token -> projection -> L2 norm.

`run` is the definition, for any depth: it carries the residual stream split by origin and can hand out its trace.
`read_tables` is what a one-block encoder computes when its inputs are ids: only the readout row is wanted, so every score is an
entry of a table over token ids plus one of a table over positions, and the embedding is a weighted sum of table rows. The two
are tested equal.

Axes: v token ids, p positions, h heads, k d_head, d d_model, e d_embed, S slots.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from lrjax.attention import GATES, VALUE_GRID, Block, Trace, attend, gated_queries, project
from lrjax.scenes import FIRST_SLOT_TOKEN, Form, Slots, fill


@struct.dataclass
class Encoder:
    """Parameters of a tower: E [v, d], P [p, d], blocks, W_proj [d, e]."""

    E: jax.Array
    P: jax.Array
    blocks: tuple[Block, ...]
    W_proj: jax.Array


@dataclasses.dataclass(frozen=True)
class Shape:
    """The static side of a tower."""

    n_tokens: int
    n_positions: int
    n_layers: int
    n_heads: int
    d_model: int
    d_embed: int
    causal: bool

    def unit_gates(self) -> jax.Array:
        """All gates 1: [n_layers, n_heads, 12]."""
        return jnp.ones((self.n_layers, self.n_heads, len(GATES)))


def init(key: jax.Array, shape: Shape, e_scale: jax.Array, p_scale: jax.Array) -> Encoder:
    """Initial values of SPEC: E, P normal of the given scales (each row from its own id), W uniform +-1/sqrt(d), biases 0."""
    d, h, k = shape.d_model, shape.n_heads, shape.d_model // shape.n_heads
    bound = d**-0.5

    def rows(key, n):
        return jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (d,)))(jnp.arange(n))

    def block(key):
        W_Q, W_K, W_V, W_O = jax.random.uniform(key, (4, d, d), minval=-bound, maxval=bound)
        bias = jnp.zeros((h, k))
        return Block(*(w.reshape(d, h, k) for w in (W_Q, W_K, W_V)), W_O.reshape(h, k, d), bias, bias, bias, jnp.zeros(d))

    key_E, key_P, key_proj, key_blocks = (jax.random.fold_in(key, i) for i in range(4))
    return Encoder(
        E=e_scale * rows(key_E, shape.n_tokens),
        P=p_scale * rows(key_P, shape.n_positions),
        blocks=tuple(block(jax.random.fold_in(key_blocks, i)) for i in range(shape.n_layers)),
        W_proj=bound * jax.random.normal(key_proj, (d, shape.d_embed)),
    )


def run(
    params: Encoder, gates: jax.Array, ids: jax.Array, *, causal: bool, readout: int, split: bool = True
) -> tuple[jax.Array, tuple[Trace, ...]]:
    """The definition: one sequence ids [T] to its embedding [e] and the trace of every block.

    gates [n_layers, h, 12]. With `split` the stream keeps its three origins through every block, so gates act and terms exist
    everywhere; without, it is merged after the first block (cheaper; right only where the later gates are 1) and only the first
    block has a trace.
    """
    T = len(ids)
    allowed = jnp.tril(jnp.ones((T, T), bool)) if causal else jnp.ones((T, T), bool)
    streams = jnp.stack([params.E[ids], params.P[:T], jnp.zeros_like(params.P[:T])])
    traces = []
    for layer, block in enumerate(params.blocks):
        streams, trace = attend(block, gates[layer], streams, allowed)
        traces.append(trace)
        if not split:
            streams = streams.sum(0, keepdims=True)
    return unit(streams.sum(0)[readout] @ params.W_proj), tuple(t for t in traces if t is not None)


@struct.dataclass
class Tables:
    """A one-block encoder contracted over d_model, for one readout token.

    token_scores [h, v], position_scores [h, p]: the score of a key. token_values [h, v, e], position_values [h, p, e]: what a head
    writes to the embedding per unit of attention. constant [e]: what does not depend on attention (residual stream, biases).
    """

    token_scores: jax.Array
    position_scores: jax.Array
    token_values: jax.Array
    position_values: jax.Array
    constant: jax.Array


def make_tables(params: Encoder, gates: jax.Array, forms: tuple[Form, ...]) -> tuple[Tables, ...]:
    """Contract the one block of `params`; gates [1, h, 12]. One set of tables a form: they differ in query, not in values."""
    (block,), gate = params.blocks, gates[0]
    out = jnp.einsum("hkd,de->hke", block.W_O, params.W_proj)
    VE, VP, VB = gate[:, VALUE_GRID].T[:, :, None]
    rows = jnp.concatenate([params.E, params.P])
    n_tokens = len(params.E)
    value_gate = jnp.where(jnp.arange(len(rows)) < n_tokens, VE, VP)  # [h, v + p]
    values = jnp.einsum("vd,dhk->hvk", rows, block.W_V) * value_gate[:, :, None]
    values = jnp.einsum("hvk,hke->hve", values, out)
    bias = jnp.einsum("hk,hke->e", block.b_V * VB, out)

    def tables(form: Form) -> Tables:
        token, position = params.E[form.template[form.readout]], params.P[form.readout]
        streams = jnp.stack([token, position, jnp.zeros_like(token)])[:, None]
        query = gated_queries(project(streams, block.W_Q, block.b_Q), gate)[:, 0]  # [c, h, k]
        query = jnp.einsum("chk,dhk->chd", query, block.W_K)
        return Tables(
            token_scores=query[0] @ params.E.T,
            position_scores=query[1] @ params.P.T,
            token_values=values[:, :n_tokens],
            position_values=values[:, n_tokens:],
            constant=(token + position + block.b_O) @ params.W_proj + bias,
        )

    return tuple(tables(form) for form in forms)


def read_tables(tables: Tables, form: Form, slots: Slots, *, causal: bool) -> jax.Array:
    """A batch of sequences to unit embeddings [b, e]: what `run` computes, from the slots [S, b] alone.

    A form's template is tabled along with its positions, and a slot is a *change* of token: it changes a score, and what attention
    to its position reads. The batch is the last axis until the end, and S is unrolled (1 to 3): both are for the compiler, which
    vectorises the one and would spell out broadcasts over the other.
    """
    T = form.readout + 1 if causal else len(form.template)  # what the readout token may attend to
    n_tokens = tables.token_scores.shape[1]
    template = (np.array(form.template)[:T, None] == np.arange(n_tokens)).astype(np.float32)  # [T, v], no token where EMPTY
    replaced = (form.replaced == np.arange(FIRST_SLOT_TOKEN)).astype(np.float32)  # [FIRST_SLOT_TOKEN]: special tokens are first
    score_change = tables.token_scores[:, FIRST_SLOT_TOKEN:] - (tables.token_scores[:, :FIRST_SLOT_TOKEN] @ replaced)[:, None]
    value_change = (
        tables.token_values[:, FIRST_SLOT_TOKEN:]
        - jnp.einsum("v,hve->he", replaced, tables.token_values[:, :FIRST_SLOT_TOKEN])[:, None]
    )

    tokens, places = jnp.arange(FIRST_SLOT_TOKEN, n_tokens)[:, None], jnp.arange(T)[:, None]
    filled = [  # a slot's token as a one-hot [v, b], nothing if it is the one that it replaces; its place as a mask [T, b]
        ((token == tokens).astype(jnp.float32), position == places)
        for token, position in zip(slots.tokens, slots.positions, strict=True)
    ]
    scores = (tables.token_scores @ template.T + tables.position_scores[:, :T])[:, :, None]  # [h, T, 1]
    for token, place in filled:
        scores = scores + (score_change @ token)[:, None] * place
    pattern = jnp.exp(scores - jax.lax.stop_gradient(scores.max(1, keepdims=True)))
    pattern = pattern / pattern.sum(1, keepdims=True)  # [h, T, b]

    token_mass = sum((pattern * place).sum(1)[:, None] * token for token, place in filled)  # [h, v, b]
    template_values = jnp.einsum("tv,hve->hte", template, tables.token_values) + tables.position_values[:, :T]
    mass = jnp.concatenate([token_mass, pattern], axis=1)
    rows = jnp.concatenate([value_change, template_values], axis=1)
    return unit(tables.constant + jnp.einsum("hvb,hve->be", mass, rows))


def encode(
    params: Encoder,
    gates: jax.Array,
    batches: tuple[tuple[Form, Slots], ...],
    *,
    causal: bool,
    split: bool = True,
    shift: jax.Array | None = None,
) -> tuple[jax.Array, ...]:
    """Embeddings of batches of sequences, each a form and its slots [S, ...] -> [..., e]: by tables if there is one block.

    shift [h, p], of one block only, is added to the readout row of scores.
    """
    if len(params.blocks) > 1:
        if shift is not None:
            raise ValueError("a row of scores can be shifted in a one-block encoder only")

        def one(ids, form):
            return run(params, gates, ids, causal=causal, readout=form.readout, split=split)[0]

        return tuple(jnp.vectorize(one, excluded=(1,), signature="(t)->(e)")(fill(form, slots), form) for form, slots in batches)
    embeddings = []
    for tables, (form, slots) in zip(make_tables(params, gates, tuple(form for form, _ in batches)), batches, strict=True):
        if shift is not None:
            tables = tables.replace(position_scores=tables.position_scores + shift)
        flat = jax.tree.map(lambda x: x.reshape(len(x), -1), slots)
        flat = read_tables(tables, form, flat, causal=causal)
        embeddings.append(flat.reshape(*slots.tokens.shape[1:], -1))
    return tuple(embeddings)


def unit(x: jax.Array) -> jax.Array:
    """x over its L2 norm along the last axis."""
    return x * jax.lax.rsqrt((x * x).sum(-1, keepdims=True))
