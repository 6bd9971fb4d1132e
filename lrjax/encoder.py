"""One encoder for images and captions: E[token] + P[position] -> blocks -> readout token -> projection -> L2 norm.

`run` is the definition, for any depth and every variant: it carries the residual stream split by origin and hands out its trace.
`read_tables` is what a one-block encoder computes when its inputs are ids: only the readout row is wanted, so every score is an
entry of a table over token ids plus one of a table over positions, and the embedding is a weighted sum of table rows. The two
are tested equal. A variant is a table: rotary queries turn with the key's position, LayerNorm's scale is one of (token, position).

Axes: v token ids, p positions, h heads, k d_head, d d_model, e d_embed, S slots.
"""

import dataclasses
import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from lrjax import positions as places
from lrjax.attention import (
    EVERY,
    GATES,
    MLP,
    NORM_EPS,
    VALUE_GRID,
    Block,
    LayerNorm,
    Trace,
    apply_mlp,
    attend,
    dropper,
    gated_queries,
    key_bias,
    key_origins,
    norm_scale,
    normalise,
    project,
)
from lrjax.scenes import FIRST_SLOT_TOKEN, Form, Slots, fill


@struct.dataclass
class Encoder:
    """Parameters of a tower: E [v, d], P [p, d], blocks, W_proj [d, e] (None: the embedding is what the readout token holds); the
    LayerNorm of the readout, where it has one.
    """

    E: jax.Array
    P: jax.Array
    blocks: tuple[Block, ...]
    W_proj: jax.Array | None
    norm: LayerNorm | None = None


@dataclasses.dataclass(frozen=True)
class Shape:
    """The static side of a tower. d_head 0: d_model / n_heads. mlp_ratio 0: no MLP; otherwise its width over d_model.
    position_rows: how many rows P is trained with (0: one a position). n_repeats: how often the layers run, with the same weights.
    norm: `pre`, LayerNorm before attention, MLP and readout; `post`, after each residual (then the readout is of norm already).
    """

    n_tokens: int
    n_positions: int
    n_layers: int
    n_heads: int
    d_model: int
    d_embed: int
    causal: bool
    d_head: int = 0
    positions: str = "learned"
    layer_norm: bool = False
    mlp_ratio: int = 0
    position_rows: int = 0
    n_repeats: int = 1
    norm: str = "pre"
    dropout: float = 0.0
    projects: bool = True

    @property
    def depth(self) -> int:
        """How many blocks a sequence passes: the layers of the first pass, then those of the second, ..."""
        return self.n_layers * self.n_repeats

    def drops(self, dropout_key: jax.Array | None) -> bool:
        """Whether there is dropout: in training, with a key, at a rate above 0."""
        return dropout_key is not None and self.dropout > 0

    @property
    def k(self) -> int:
        """d_head."""
        return self.d_head or self.d_model // self.n_heads

    def unit_gates(self) -> jax.Array:
        """All gates 1: [depth, n_heads, 12]."""
        return jnp.ones((self.depth, self.n_heads, len(GATES)))

    def geometry(self, q: jax.Array, t: jax.Array) -> places.Geometry:
        """What places q of queries and t of keys add to attention."""
        return places.geometry(self.positions, self.n_heads, self.k, q, t, self.causal)

    def trained_positions(self) -> np.ndarray:
        """1 for the rows [p] of P that training may change."""
        return places.trained_rows(self.positions, self.position_rows or self.n_positions, has_cls=not self.causal)


def init(key: jax.Array, shape: Shape, e_scale: jax.Array, p_scale: jax.Array) -> Encoder:
    """Initial values of SPEC: E, P normal of the given scales (each row from its own id), W uniform +-1/sqrt(d), biases 0.

    LayerNorm starts as 1 and 0, an MLP as uniform +-1/sqrt(fan-in).
    """
    d, h, k = shape.d_model, shape.n_heads, shape.k
    bound = d**-0.5
    norm = LayerNorm(jnp.ones(d), jnp.zeros(d)) if shape.layer_norm else None
    before, after = (norm, None) if shape.norm == "pre" else (None, norm)

    def rows(key, n):
        return jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (d,)))(jnp.arange(n))

    def mlp(key):
        m = shape.mlp_ratio * d
        W_in, W_out = jax.random.uniform(key, (2, d * m), minval=-1, maxval=1)
        return MLP(bound * W_in.reshape(d, m), jnp.zeros(m), m**-0.5 * W_out.reshape(m, d), jnp.zeros(d))

    def block(key):
        W_Q, W_K, W_V, W_O = jax.random.uniform(key, (4, d * h * k), minval=-bound, maxval=bound)
        bias = jnp.zeros((h, k))
        attention = (*(w.reshape(d, h, k) for w in (W_Q, W_K, W_V)), W_O.reshape(h, k, d), bias, bias, bias, jnp.zeros(d))
        if not shape.mlp_ratio:
            return Block(*attention, norm=before, after=after)
        norms = dict(norm=before, mlp_norm=before, after=after, mlp_after=after)
        return Block(*attention, mlp=mlp(jax.random.fold_in(key, 1)), **norms)

    key_E, key_P, key_proj, key_blocks = (jax.random.fold_in(key, i) for i in range(4))
    drawn = rows(key_P, shape.position_rows or shape.n_positions)
    return Encoder(
        E=e_scale * rows(key_E, shape.n_tokens),
        P=places.initial(shape.positions, drawn, e_scale, p_scale, has_cls=not shape.causal),
        blocks=tuple(block(jax.random.fold_in(key_blocks, i)) for i in range(shape.n_layers)),
        W_proj=bound * jax.random.normal(key_proj, (d, shape.d_embed)) if shape.projects else None,
        norm=before,
    )


def passes(params: Encoder, shape: Shape) -> tuple[Block, ...]:
    """The blocks in the order in which they run, [depth]."""
    return params.blocks * shape.n_repeats


def projected(params: Encoder, x: jax.Array) -> jax.Array:
    """What the readout token holds [..., d] -> the embedding before it is made a unit vector [..., e]."""
    return x if params.W_proj is None else x @ params.W_proj


@struct.dataclass
class Scales:
    """LayerNorm's scales in one sequence: of every block before (or after) attention [t] and its MLP [t] (None if there is none),
    and at the readout [1].
    """

    attention: tuple[jax.Array | None, ...]
    mlp: tuple[jax.Array | None, ...]
    readout: jax.Array | None


@struct.dataclass
class Pass:
    """One sequence through an encoder: `embedding` [e]; `traces` of the blocks whose streams are split; `streams` [o, q, d] at the
    end, before the readout's LayerNorm (what the last MLP wrote stands with origin B); and LayerNorm's `scales`.
    """

    embedding: jax.Array
    traces: tuple[Trace, ...]
    streams: jax.Array
    scales: Scales


def run(
    params: Encoder,
    gates: jax.Array,
    ids: jax.Array,
    shape: Shape,
    readout: int,
    *,
    split: bool = True,
    rows: slice = EVERY,
    frozen: Scales | None = None,
    gated: jax.Array | None = None,
    dropout_key: jax.Array | None = None,
) -> Pass:
    """The definition: one sequence ids [T], or [T, c] where a token is a sum of up to c rows of E; gates [depth, h, 12]. See
    `run_tokens`.
    """
    n_tokens, d_model = params.E.shape
    as_they_are = params.blocks[0].norm is None and not shape.drops(dropout_key)  # rows of E and P, as the first block reads them
    tabled = not split and ids.ndim == 1 and as_they_are and n_tokens <= d_model  # more would cost more
    more = dict(split=split, rows=rows, frozen=frozen, gated=gated, dropout_key=dropout_key)
    more["looked_up"] = look_up(params, ids) if tabled else ()
    return run_tokens(params, gates, tokens_of(params, ids), shape, readout, **more)


def look_up(params: Encoder, ids: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Queries, keys, values [1, T, h, k] of a merged stream of ids [T] in the first block, without LayerNorm: W multiplies the rows
    of E and P, not every token of every sequence of a batch.
    """
    block, one_hot = params.blocks[0], jax.nn.one_hot(ids, len(params.E))

    def of(W, b=None):
        of_token, of_position = project(params.E[None], W), project(params.P[None, : len(ids)], W, b)
        return jnp.einsum("tv,ovhk->othk", one_hot, of_token) + of_position

    return of(block.W_Q, block.b_Q), of(block.W_K), of(block.W_V, block.b_V)


def tokens_of(params: Encoder, ids: jax.Array) -> jax.Array:
    """Rows of E of a sequence, [T, d]."""
    return params.E[ids] if ids.ndim == 1 else jnp.where((ids >= 0)[..., None], params.E[ids], 0).sum(1)


def of_origin_E(tokens: jax.Array) -> jax.Array:
    """Tokens [T, d] as streams [3, T, d] by origin."""
    return jnp.pad(tokens[None], [(0, 2), (0, 0), (0, 0)])


def scale_of(norm: LayerNorm | None, streams: jax.Array, given: jax.Array | None) -> jax.Array | None:
    """The scale [t] of a LayerNorm, if there is one: the one given, or the streams' own."""
    return None if norm is None else norm_scale(streams) if given is None else given


def run_tokens(
    params: Encoder,
    gates: jax.Array,
    tokens: jax.Array,
    shape: Shape,
    readout: int,
    *,
    split: bool = True,
    rows: slice = EVERY,
    frozen: Scales | None = None,
    gated: jax.Array | None = None,
    looked_up: Sequence[jax.Array] = (),
    dropout_key: jax.Array | None = None,
) -> Pass:
    """One sequence of tokens through the encoder: [T, d], of origin E, or [3, T, d] by origin; gates [depth, h, 12].

    With `split` the stream keeps its three origins through every block, so gates act and terms exist everywhere; without, it is
    merged (cheaper; right only where all gates are 1) and has no trace. An MLP's output has no origin: the stream is merged after
    it, and gates beyond are not read. `rows`: which of the last block are computed, the readout among them. `frozen`: LayerNorm's
    scales, in place of the stream's own. `gated` [q, t]: where gates act (see `positions.Geometry`). `looked_up`: see `look_up`.
    `dropout_key`: what this sequence's dropout is drawn from, in training (None: there is none).
    """
    T, last, drops = tokens.shape[-2], shape.depth - 1, shape.drops(dropout_key)
    drop = dropper(dropout_key, shape.dropout, 1 + 2 * shape.depth, T, shape.d_model) if drops else lambda site, x, rows=EVERY: x
    streams = of_origin_E(tokens) if tokens.ndim == 2 else tokens
    streams = streams.at[1].add(params.P[:T])
    streams = drop(0, streams if split else streams.sum(0, keepdims=True))
    geometry = shape.geometry(jnp.arange(T), jnp.arange(T)).replace(gated=gated)
    traces, attention, mlps = [], [], []
    for layer, block in enumerate(passes(params, shape)):
        wanted, given = rows if layer == last else EVERY, looked_up if layer == 0 else ()
        of_attention, of_mlp = (None, None) if frozen is None else (frozen.attention[layer], frozen.mlp[layer])
        scale = scale_of(block.norm, streams, of_attention)
        dropped = partial(drop, 1 + 2 * layer, rows=wanted) if drops else None
        streams, trace = attend(block, gates[layer], streams, geometry.of_queries(wanted), wanted, scale, given, dropped)
        attention.append(scale_of(block.after, streams, of_attention) if block.norm is None else scale)
        streams = normalise(block.after, streams, attention[-1])
        mlps.append(scale_of(block.mlp_norm, streams, of_mlp))
        if block.mlp is not None:
            written = drop(2 + 2 * layer, apply_mlp(block, streams.sum(0), mlps[-1]), wanted)
            streams = streams.at[-1].add(written)
            streams = streams if layer == last else streams.sum(0, keepdims=True)
            mlps[-1] = scale_of(block.mlp_after, streams, of_mlp) if block.mlp_norm is None else mlps[-1]
            streams = normalise(block.mlp_after, streams, mlps[-1])
            trace = trace and trace.replace(mlp=written)
        traces.append(trace)
    x = streams.sum(0)[None, readout - rows.indices(T)[0]]
    at_readout = scale_of(params.norm, x[None], None if frozen is None else frozen.readout)
    embedding = unit(projected(params, normalise(params.norm, x[None], at_readout)[0, 0]))
    return Pass(embedding, tuple(t for t in traces if t is not None), streams, Scales(tuple(attention), tuple(mlps), at_readout))


@struct.dataclass
class Tables:
    """A one-block encoder contracted over d_model, for one readout token.

    token_scores [h, v, 1 or p], position_scores [h, p]: the score of a key. token_values [h, v, k], position_values [h, p, k]: the
    value that a head reads there, gated. constant [d]: what the stream holds whatever attention does (residual stream, biases).
    scale [v, p]: LayerNorm's, of what is read.
    """

    token_scores: jax.Array
    position_scores: jax.Array
    token_values: jax.Array
    position_values: jax.Array
    constant: jax.Array
    scale: jax.Array | None


def first_rows(params: Encoder) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
    """What the first block reads: rows E [v, d], P [p, d], B [d], and the scale [v, p] of a token at a position (None: 1)."""
    E, P, norm = params.E, params.P, params.blocks[0].norm
    if norm is None:
        return E, P, jnp.zeros_like(P[0]), None
    E, P = (x - x.mean(-1, keepdims=True) for x in (E, P))
    variance = ((E * E).sum(-1)[:, None] + 2 * E @ P.T + (P * P).sum(-1)[None]) / E.shape[-1]
    gamma = norm.gamma[None]
    return E * gamma, P * gamma, norm.beta, jax.lax.rsqrt(variance + NORM_EPS)


def make_tables(params: Encoder, gates: jax.Array, shape: Shape, forms: tuple[Form, ...]) -> tuple[Tables, ...]:
    """Contract the one block of `params`; gates [1, h, 12]. One set of tables a form: they differ in query, not in values."""
    (block,), gate = params.blocks, gates[0]
    E, P, B, scale = first_rows(params)
    VE, VP, VB = gate[:, VALUE_GRID].T[:, :, None]
    n_tokens, rows = len(E), jnp.concatenate([E, P])
    value_gate = jnp.where(jnp.arange(len(rows)) < n_tokens, VE, VP)  # [h, v + p]
    values = jnp.einsum("vd,dhk->hvk", rows, block.W_V) * value_gate[:, :, None]
    b_V = block.b_V if block.norm is None else block.b_V + jnp.einsum("d,dhk->hk", B, block.W_V)
    bias = block.b_O + jnp.einsum("hk,hkd->d", b_V * VB, block.W_O)

    def tables(form: Form) -> Tables:
        token_scores, position_scores = readout_tables(block, gate, shape, form, E, P, B, scale)
        return Tables(
            token_scores=token_scores,
            position_scores=position_scores,
            token_values=values[:, :n_tokens],
            position_values=values[:, n_tokens:],
            constant=params.E[form.template[form.readout]] + params.P[form.readout] + bias,
            scale=scale,
        )

    return tuple(tables(form) for form in forms)


def readout_tables(block: Block, gate: jax.Array, shape: Shape, form: Form, E, P, B, scale) -> tuple[jax.Array, jax.Array]:
    """token_scores [h, v, 1 or p] and position_scores [h, p] of `Tables`, of rows E, P, B and `scale` of `first_rows`."""
    at = form.template[form.readout], form.readout
    geometry = shape.geometry(jnp.array([form.readout]), jnp.arange(len(P)))
    own = jnp.stack([E[at[0]], P[at[1]]]) if scale is None else jnp.stack([E[at[0]], P[at[1]]]) * scale[at]
    query = project(jnp.concatenate([own, B[None]])[:, None], block.W_Q, block.b_Q)
    query = gated_queries(query, gate, key_origins(block, geometry))  # [c, 1, h, k]
    if geometry.angles_t is not None:
        query = places.rotate(query, geometry.angles_q - geometry.angles_t)  # [c, p, h, k]: turned against each key
    # one head's query beside zeros for the others: so W_K is read as it lies, which costs less than turning it head by head
    apart = jnp.einsum("cqhk,hg->cqhgk", query, np.eye(shape.n_heads, dtype=np.float32))
    back = jnp.einsum("cqhgk,dgk->chqd", apart, block.W_K)
    token_scores = jnp.einsum("hqd,vd->hvq", back[0], E)
    position_scores = jnp.einsum("hqd,pd->hqp", back[1], P)
    position_scores = position_scores[:, 0] if query.shape[1] == 1 else jnp.diagonal(position_scores, axis1=1, axis2=2)
    if scale is not None:
        token_scores, position_scores = (token_scores + position_scores[:, None]) * scale[None], jnp.zeros_like(position_scores)
    if (b_K := key_bias(block, geometry)) is not None:
        position_scores += back[2] @ B + jnp.einsum("qhk,hk->hq", query[2], b_K)
    if geometry.bias is not None:
        position_scores += geometry.bias[:, 0] * gate[:, GATES.index("PP"), None]
    return token_scores, position_scores


MANY_TOKENS = 500  # slots x tokens beyond which these are looked up by number: 2.6 times as fast at 18 x 274 on a CPU


def by_one_hot(v: int):
    """How tables of v tokens are read and masses [h, b] of slots put to their tokens [b], none of them v: as one-hots."""
    one_hot = lambda token: jax.nn.one_hot(token, v, dtype=jnp.float32, axis=0)  # [v, b]
    take = lambda table, token: jnp.einsum("hvp,vb->hpb", table, one_hot(token))
    return take, lambda masses, tokens: sum(
        mass[:, None] * one_hot(token)[None] for mass, token in zip(masses, tokens, strict=True)
    )


def by_number(v: int):
    """The same where tokens and slots are many."""

    def take(table, token):
        return jnp.take(table, token, 1, mode="fill", fill_value=0).transpose(0, 2, 1)

    def put(masses, tokens):
        mass, token = jnp.stack(masses), jnp.stack(tokens)  # [S, h, b], [S, b]
        empty = jnp.zeros((v, mass.shape[2], mass.shape[1]))
        found = empty.at[token, jnp.arange(mass.shape[2])].add(mass.transpose(0, 2, 1), mode="drop")
        return found.transpose(2, 0, 1)

    return take, put


def read_tables(tables: Tables, form: Form, slots: Slots, *, causal: bool) -> jax.Array:
    """A batch of sequences to the values [b, h, k] that their readout token gathers, from the slots [S, b] alone.

    A form's template is tabled along with its positions, and a slot is a *change* of token: it changes a score, and what attention
    to its position reads. The batch is the last axis until the end, and S is unrolled (1 to 18): both are for the compiler, which
    vectorises the one and would spell out broadcasts over the other.
    """
    T = form.readout + 1 if causal else len(form.template)  # what the readout token may attend to
    n_tokens = tables.token_scores.shape[1]
    template = (np.array(form.template)[:T, None] == np.arange(n_tokens)).astype(np.float32)  # [T, v], no token where EMPTY
    replaced = (form.replaced == np.arange(FIRST_SLOT_TOKEN)).astype(np.float32)  # [FIRST_SLOT_TOKEN]: special tokens are first

    def changes(table):  # [h, v, x]: of a slot's token, from the one that it replaces
        return table[:, FIRST_SLOT_TOKEN:] - jnp.einsum("v,hvx->hx", replaced, table[:, :FIRST_SLOT_TOKEN])[:, None]

    v = n_tokens - FIRST_SLOT_TOKEN
    take, put = by_number(v) if len(slots.tokens) * v > MANY_TOKENS else by_one_hot(v)
    # a slot's token, none if it is the one that it replaces; its place as a mask [1, T, b]
    tokens = [jnp.where(token < FIRST_SLOT_TOKEN, v, token - FIRST_SLOT_TOKEN) for token in slots.tokens]
    places = [jax.nn.one_hot(position, T, dtype=bool, axis=0)[None] for position in slots.positions]

    def along(table):  # a table [h, v, 1 or p] read along the sequences: [h, T, b]
        table = table[:, :, :T]
        change = changes(table)
        read = jnp.einsum("tv,hvt->ht", template, jnp.broadcast_to(table, (*table.shape[:2], T)))[:, :, None]
        for token, place in zip(tokens, places, strict=True):
            read = read + take(change, token) * place
        return read

    scores = along(tables.token_scores) + tables.position_scores[:, :T, None]
    pattern = jnp.exp(scores - jax.lax.stop_gradient(scores.max(1, keepdims=True)))
    pattern = pattern / pattern.sum(1, keepdims=True)  # [h, T, b]
    weight = pattern if tables.scale is None else pattern * along(tables.scale[None])

    token_mass = put([(weight * place).sum(1) for place in places], tokens)  # [h, v, b]
    template_values = jnp.einsum("tv,hvk->htk", template, tables.token_values) + tables.position_values[:, :T]
    mass = jnp.concatenate([token_mass, weight], axis=1)
    rows = jnp.concatenate([changes(tables.token_values), template_values], axis=1)
    return jnp.einsum("hvb,hvk->bhk", mass, rows)


def finish(params: Encoder, gathered: jax.Array, constant: jax.Array) -> jax.Array:
    """Unit embeddings [b, e] of what `read_tables` gathered [b, h, k], and of the `constant` [b, d] of the stream: W_O, an MLP,
    LayerNorm and projection. W_O and W_proj multiply what the batch gathered, not the tables: that is as cheap at 256 sequences,
    and half the work at 50.
    """
    block = params.blocks[0]
    after = lambda norm, x: x if norm is None else normalise(norm, x[None])[0]
    x = after(block.after, constant + jnp.einsum("bhk,hkd->bd", gathered, block.W_O))
    x = x if block.mlp is None else after(block.mlp_after, x + apply_mlp(block, x))
    return unit(projected(params, normalise(params.norm, x[None])[0]))


def encode(
    params: Encoder,
    gates: jax.Array,
    batches: tuple[tuple[Form, Slots], ...],
    shape: Shape,
    *,
    split: bool = True,
    shift: jax.Array | None = None,
    frozen_at: jax.Array | None = None,
    dropout_key: jax.Array | None = None,
) -> tuple[jax.Array, ...]:
    """Embeddings of batches of sequences, each a form and its slots [S, ...] -> [..., e]: by tables if there is one block.

    shift [h, p], of one block only, is added to the readout row of scores. frozen_at: gates [depth, h, 12] under which LayerNorm's
    scales are taken, in place of those under `gates`. dropout_key: in training, what each sequence's own dropout is drawn from.
    """
    scaled = params.blocks[0].norm is not None and any(form.adds for form, _ in batches)  # the scale of a sum is in no table
    drops = shape.drops(dropout_key)  # then a token is another in every sequence
    if shape.depth > 1 or scaled or drops or (frozen_at is not None and shape.layer_norm):
        if shift is not None:
            raise ValueError("a row of scores can be shifted in a one-block encoder only")
        return encode_sequences(params, gates, batches, shape, split, frozen_at, dropout_key if drops else None)
    gathered, constants = [], []
    forms = tuple(form for form, _ in batches)
    for tables, (form, slots) in zip(make_tables(params, gates, shape, forms), batches, strict=True):
        if shift is not None:
            tables = tables.replace(position_scores=tables.position_scores + shift)
        flat = jax.tree.map(lambda x: x.reshape(len(x), -1), slots)
        gathered.append(read_tables(tables, form, flat, causal=shape.causal))
        constants.append(jnp.broadcast_to(tables.constant, (len(gathered[-1]), shape.d_model)))
    embeddings = finish(params, jnp.concatenate(gathered), jnp.concatenate(constants))
    ends = np.cumsum([len(x) for x in gathered])[:-1]
    parts = jnp.split(embeddings, ends)
    return tuple(x.reshape(*slots.tokens.shape[1:], -1) for x, (_, slots) in zip(parts, batches, strict=True))


def encode_sequences(
    params: Encoder,
    gates: jax.Array,
    batches: tuple[tuple[Form, Slots], ...],
    shape: Shape,
    split: bool,
    frozen_at: jax.Array | None,
    dropout_key: jax.Array | None,
) -> tuple[jax.Array, ...]:
    """`encode` by the definition, sequence by sequence."""

    def one(form, ids, *number):
        at = shape, form.readout
        only = slice(form.readout, form.readout + 1)
        given = None if frozen_at is None else run(params, frozen_at, ids, *at, rows=only).scales
        key = jax.random.fold_in(dropout_key, *number) if number else None
        return run(params, gates, ids, *at, split=split, rows=only, frozen=given, dropout_key=key).embedding

    embeddings, first = [], 0
    for form, slots in batches:
        shaped = slots.tokens.shape[1:]
        numbers = () if dropout_key is None else (first + jnp.arange(math.prod(shaped)).reshape(shaped),)
        signature = ("(t,c)" if form.adds else "(t)") + ",()" * len(numbers) + "->(e)"
        embeddings.append(jnp.vectorize(partial(one, form), signature=signature)(fill(form, slots), *numbers))
        first += math.prod(shaped)
    return tuple(embeddings)


def unit(x: jax.Array) -> jax.Array:
    """x over its L2 norm along the last axis."""
    return x * jax.lax.rsqrt((x * x).sum(-1, keepdims=True))
