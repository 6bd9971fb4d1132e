"""What a one-block encoder computes when its inputs are ids, and the one place that says when it applies: `encode`.

Only the readout row is wanted, so every score is an entry of a table over token ids plus one of a table over positions, and what is
gathered is a weighted sum of table rows. `encoder.run`, the definition, is tested equal. A variant is a table: rotary queries turn
with the key's position, LayerNorm's scale is one of (token, position).

Axes: v token ids, p positions, h heads, k d_head, d d_model, e d_embed, S edits, T tokens of a sequence, b sequences,
q templates.
"""

import dataclasses
import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from lrjax.data.scenes import EMPTY, FIRST_EDIT_TOKEN, SequenceTemplate, TokenEdits, render
from lrjax.models.attention import NORM_EPS, Block, into_heads, normalise, out_of_heads
from lrjax.models.block import apply_mlp
from lrjax.models.encoder import Encoder, EncoderConfig, l2_normalize, projected, run
from lrjax.models.interventions import Interventions
from lrjax.models.qk_scores import qk_scores
from lrjax.terms import VALUE_GRID


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
    """What the first block reads: the rows E [v, d], P [p, d] and B [d], and LayerNorm's scale [v, p] of a token at a position
    (None: 1).
    """
    E, P, norm = params.E, params.P, params.blocks[0].norm
    if norm is None:
        return E, P, jnp.zeros_like(P[0]), None
    E, P = (x - x.mean(-1, keepdims=True) for x in (E, P))
    variance = ((E * E).sum(-1)[:, None] + 2 * E @ P.T + (P * P).sum(-1)[None]) / E.shape[-1]
    gamma = norm.gamma[None]
    return E * gamma, P * gamma, norm.beta, jax.lax.rsqrt(variance + NORM_EPS)


def make_tables(
    params: Encoder, gates: jax.Array, encoder_config: EncoderConfig, templates: tuple[SequenceTemplate, ...]
) -> tuple[Tables, ...]:
    """Contract the one block of `params`; gates [1, h, 12]. One set of tables a template: they differ in query, not in values."""
    (block,), gate = params.blocks, gates[0]
    E, P, B, scale = first_rows(params)
    VE, VP, VB = gate[:, VALUE_GRID].T[:, :, None]
    n_tokens, rows = len(E), jnp.concatenate([E, P])
    value_gate = jnp.where(jnp.arange(len(rows)) < n_tokens, VE, VP)  # [h, v + p]
    values = into_heads(rows, block.W_V).swapaxes(0, 1) * value_gate[:, :, None]
    b_V = block.b_V if block.norm is None else block.b_V + into_heads(B, block.W_V)
    bias = block.b_O + out_of_heads(b_V * VB, block.W_O)

    token_scores, position_scores = readout_tables(block, gate, encoder_config, templates, E, P, B, scale)

    def tables(number: int, template: SequenceTemplate) -> Tables:
        return Tables(
            token_scores=token_scores[number],
            position_scores=position_scores[number],
            token_values=values[:, :n_tokens],
            position_values=values[:, n_tokens:],
            constant=params.E[template.tokens[template.readout]] + params.P[template.readout] + bias,
            scale=scale,
        )

    return tuple(tables(number, template) for number, template in enumerate(templates))


def readout_tables(
    block: Block, gate: jax.Array, encoder_config: EncoderConfig, templates: tuple[SequenceTemplate, ...], E, P, B, scale
) -> tuple[jax.Array, jax.Array]:
    """token_scores [q, h, v, 1 or p] and position_scores [q, h, p] of `Tables`, for the readout tokens of q templates, from rows E,
    P, B and the `scale` of `first_rows`.
    """

    def query_of(template: SequenceTemplate) -> jax.Array:  # [3, 1, d], by origin
        at = template.tokens[template.readout], template.readout
        own = jnp.stack([E[at[0]], P[at[1]]])
        return jnp.concatenate([own if scale is None else own * scale[at], B[None]])[:, None]

    @jax.vmap  # one product for all templates
    def scores(query, readout):
        geometry = encoder_config.geometry(readout[None], jnp.arange(len(P)))
        token_scores, position_scores, added = qk_scores(block, gate, query, (E, P, B), geometry)
        position_scores = position_scores[:, 0]
        if scale is not None:
            token_scores = (token_scores + position_scores[:, None]) * scale[None]
            position_scores = jnp.zeros_like(position_scores)
        return token_scores, position_scores if added is None else position_scores + added[:, 0]

    return scores(jnp.stack([query_of(template) for template in templates]), jnp.array([each.readout for each in templates]))


MANY_TOKENS = 500  # edits x tokens beyond which these are looked up by number: 2.6 times as fast at 18 x 274 on a CPU


def by_one_hot(v: int):
    """How tables [h, v, p] of v tokens are read at the tokens [S, b] of edits, to [h, p, S, b], and how masses [h, S, b] of edits
    go to their tokens, to [h, v, b]. Token v is none of them. Here as one-hots.
    """
    one_hot = lambda tokens: jax.nn.one_hot(tokens, v, dtype=jnp.float32, axis=0)  # [v, S, b]
    take = lambda table, tokens: jnp.einsum("hvp,vsb->hpsb", table, one_hot(tokens))
    return take, lambda masses, tokens: (masses[:, None] * one_hot(tokens)[None]).sum(2)


def by_number(v: int):
    """The same by gather and scatter, for many tokens and edits."""

    def take(table, tokens):
        return jnp.take(table, tokens, 1, mode="fill", fill_value=0).transpose(0, 3, 1, 2)

    def put(masses, tokens):
        empty = jnp.zeros((v, masses.shape[2], masses.shape[0]))
        found = empty.at[tokens, jnp.arange(masses.shape[2])].add(masses.transpose(1, 2, 0), mode="drop")
        return found.transpose(2, 0, 1)

    return take, put


def stretches(tokens: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(token, its first position, the one after its last) of each stretch of one token."""
    found, first = [], 0
    for token, same in itertools.groupby(tokens):
        end = first + len([*same])
        found.append((token, first, end))
        first = end
    return found


def rows_of_tokens(tokens: tuple[int, ...], table: jax.Array) -> jax.Array:
    """The row of a table [h, v, x] for each token of a template: [h, T, x], 0 where the token is EMPTY. A template is static,
    so that rows are slices.
    """
    row = lambda token: jnp.zeros_like(table[:, :1]) if token == EMPTY else table[:, token, None]
    parts = [jnp.broadcast_to(row(token), (len(table), end - first, table.shape[2])) for token, first, end in stretches(tokens)]
    return jnp.concatenate(parts, axis=1)


def entries_at_positions(tokens: tuple[int, ...], table: jax.Array) -> jax.Array:
    """The entry of a table [h, v, T] for each token of a template, at the token's own position: [h, T], 0 where EMPTY."""
    part = lambda token, at: jnp.zeros_like(table[:, 0, at]) if token == EMPTY else table[:, token, at]
    return jnp.concatenate([part(token, slice(first, end)) for token, first, end in stretches(tokens)], axis=1)


def read_tables(tables: Tables, template: SequenceTemplate, edits: TokenEdits, *, causal: bool) -> jax.Array:
    """A batch of sequences to the values [b, h, k] that their readout token gathers, from the edits [S, b] alone.

    A template is tabled along with its positions, and an edit is a *change* of token: it changes a score, and what attention
    to its position reads. The batch is the last axis until the end, for the compiler, which vectorises it.
    """
    T = template.readout + 1 if causal else len(template.tokens)  # what the readout token may attend to
    n_tokens = tables.token_scores.shape[1]

    def changes(table):  # [h, v, x]: of the token of an edit, from the one that it replaces
        of_edits = table[:, FIRST_EDIT_TOKEN:]
        return of_edits if template.replaced == EMPTY else of_edits - table[:, template.replaced, None]

    v = n_tokens - FIRST_EDIT_TOKEN
    take, put = by_number(v) if len(edits.tokens) * v > MANY_TOKENS else by_one_hot(v)
    # the tokens of edits, none of one that is the token that it replaces; their places as a mask [T, S, b]
    tokens = jnp.where(edits.tokens < FIRST_EDIT_TOKEN, v, edits.tokens - FIRST_EDIT_TOKEN)
    places = jax.nn.one_hot(edits.positions, T, dtype=bool, axis=0)

    def along(table):  # a table [h, v, 1 or p] read along the sequences: [h, T, b]
        table = table[:, :, :T]
        change = changes(table)
        read = entries_at_positions(template.tokens[:T], jnp.broadcast_to(table, (*table.shape[:2], T)))[:, :, None]
        return read + (take(change, tokens) * places[None]).sum(2)

    scores = along(tables.token_scores) + tables.position_scores[:, :T, None]
    pattern = jnp.exp(scores - jax.lax.stop_gradient(scores.max(1, keepdims=True)))
    pattern = pattern / pattern.sum(1, keepdims=True)  # [h, T, b]
    weight = pattern if tables.scale is None else pattern * along(tables.scale[None])

    token_mass = put((weight[:, :, None] * places[None]).sum(1), tokens)  # [h, v, b]
    template_values = rows_of_tokens(template.tokens[:T], tables.token_values) + tables.position_values[:, :T]
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
    x = after(block.after, constant + out_of_heads(gathered, block.W_O))
    x = x if block.mlp is None else after(block.mlp_after, x + apply_mlp(block, x))
    return l2_normalize(projected(params, normalise(params.norm, x[None])[0]))


def encode(
    params: Encoder,
    interventions: Interventions,
    batches: tuple[tuple[SequenceTemplate, TokenEdits], ...],
    encoder_config: EncoderConfig,
    *,
    split: bool = True,
) -> tuple[jax.Array, ...]:
    """Embeddings of batches of sequences, each a template and its edits [S, ...] -> [..., e]: by tables where `is_tabled` says so.

    Each sequence has a dropout of its own, drawn from the key of `interventions` and the number of the sequence.
    """
    if not is_tabled(params, interventions, batches, encoder_config):
        return encode_sequences(params, interventions, batches, encoder_config, split)
    gates = encoder_config.unit_gates() if interventions.gates is None else interventions.gates
    shift = interventions.score_shift
    gathered, constants = [], []
    templates = tuple(template for template, _ in batches)
    for tables, (template, edits) in zip(make_tables(params, gates, encoder_config, templates), batches, strict=True):
        if shift is not None:
            tables = dataclasses.replace(tables, position_scores=tables.position_scores + shift)
        flat = jax.tree.map(lambda x: x.reshape(len(x), -1), edits)
        gathered.append(read_tables(tables, template, flat, causal=encoder_config.causal))
        constants.append(jnp.broadcast_to(tables.constant, (len(gathered[-1]), encoder_config.d_model)))
    embeddings = finish(params, jnp.concatenate(gathered), jnp.concatenate(constants))
    ends = np.cumsum([len(x) for x in gathered])[:-1]
    parts = jnp.split(embeddings, ends)
    return tuple(x.reshape(*edits.tokens.shape[1:], -1) for x, (_, edits) in zip(parts, batches, strict=True))


def is_tabled(
    params: Encoder,
    interventions: Interventions,
    batches: tuple[tuple[SequenceTemplate, TokenEdits], ...],
    encoder_config: EncoderConfig,
) -> bool:
    """Whether tables compute what the definition does: of one block, whose tokens are the same in every sequence."""
    if encoder_config.depth > 1 or encoder_config.drops(interventions.dropout_key) or interventions.gate_mask is not None:
        return False
    if params.blocks[0].norm is not None and any(template.adds for template, _ in batches):
        return False  # the scale of a sum of tokens is in no table
    frozen = interventions.norm_gates is not None or interventions.frozen_norm_scale is not None
    return not (frozen and encoder_config.layer_norm)


def encode_sequences(
    params: Encoder,
    interventions: Interventions,
    batches: tuple[tuple[SequenceTemplate, TokenEdits], ...],
    encoder_config: EncoderConfig,
    split: bool,
) -> tuple[jax.Array, ...]:
    """`encode` by the definition, sequence by sequence."""
    dropout_key = interventions.dropout_key if encoder_config.drops(interventions.dropout_key) else None

    def one(template, ids, *number):
        key = None if dropout_key is None else jax.random.fold_in(dropout_key, *number)
        only = slice(template.readout, template.readout + 1)
        return run(
            params,
            dataclasses.replace(interventions, dropout_key=key),
            ids,
            encoder_config,
            template.readout,
            split=split,
            query_slice=only,
        ).embedding

    embeddings, first = [], 0
    for template, edits in batches:
        batch_shape = edits.tokens.shape[1:]
        numbers = () if dropout_key is None else (first + jnp.arange(math.prod(batch_shape)).reshape(batch_shape),)
        signature = ("(t,c)" if template.adds else "(t)") + ",()" * len(numbers) + "->(e)"
        embeddings.append(jnp.vectorize(partial(one, template), signature=signature)(render(template, edits), *numbers))
        first += math.prod(batch_shape)
    return tuple(embeddings)
