"""What the attention scores are made of, term by term (Fig 5a-d, App F/G of the paper).

`tables`: each term of the first block between every pair of what it reads: EP is token query x position key, E W_QK P^T over
sqrt(d_head). They hold everything: per label (rows and columns are tokens) and whole (not the readout alone).
`scores`: the terms as they stand in scenes, averaged over all unseen pairs (captions of all unseen pairs in text), in every layer.
`share`: Cov(term, total) / Var(total) over the same scenes, scores centred per row; the shares of all terms sum to 1, and so the
share of (E+P) W_QK (E+P)^T is that of EE + EP + PE + PP. `std_ratio`: the standard deviation of a term's scores over the total's,
centred likewise, as the paper's App D has it. Ratios do not sum to 1, so that of (E+P) W_QK (E+P)^T stands apart, `_learned`.

Axes: h heads, q, t query and key positions, v tokens, n scenes.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from lrjax.analysis.gradient import readout_template
from lrjax.analysis.models import check_encoder, depth_of, map_models, position_names, row_of, token_names, traced
from lrjax.config import Hyper, Static
from lrjax.data.scenes import pair_caption_edits, render
from lrjax.data.splits import Splits
from lrjax.errors import InputError
from lrjax.gates import Gates
from lrjax.models import encoder as encoders
from lrjax.models import positions
from lrjax.models.attention import BlockCache
from lrjax.models.clip import CLIP, encoder_configs
from lrjax.models.encoder import Encoder
from lrjax.models.interventions import Interventions
from lrjax.models.lookup_tables import first_rows
from lrjax.models.qk_scores import SINGLE_TERMS, qk_scores
from lrjax.terms import GATES, ROW_CONSTANT, TERMS
from lrjax.training.run import Run

LEARNED = ("EE", "EP", "PE", "PP")  # what (E+P) W_QK (E+P)^T is made of
SHARES = ("share", "share_all", "std_ratio", "std_ratio_all", "std_ratio_learned", "std_ratio_learned_all")


def unseen_sequences(static: Static, encoder: str) -> jax.Array:
    """Token ids [n, T] of the images of all unseen pairs, or of the captions of all unseen pairs with all relation words."""
    row = row_of(static, "decompose")
    if encoder == "vision":
        return render(row.image, row.image_edits(row.unseen()))
    word, x, y = np.indices((static.n_relations, static.n_heldout, static.n_heldout)).reshape(3, -1)
    word, x, y = (jnp.asarray(values[x != y]) for values in (word, x, y))
    return render(readout_template(static, encoder), pair_caption_edits(x, y, word))


def caches(encoder_params: Encoder, gates: jax.Array, static: Static, encoder: str, ids: jax.Array) -> tuple[BlockCache, ...]:
    """The cache of every layer [layers] on sequences ids [n, T]: leaves [n, ...]."""
    traced(static, encoder, "decompose")
    encoder_config, readout = encoder_configs(static)[encoder], readout_template(static, encoder).readout
    return jax.vmap(lambda one: encoders.run(encoder_params, Interventions(gates), one, encoder_config, readout).caches)(ids)


def in_scenes(encoder: str, static: Static, hyper: Hyper, splits: Splits, params: CLIP, gates: Gates) -> dict[str, jax.Array]:
    """The question: `scores` [layer, term, h, q, t] over scenes; `pattern` [layer, h, q, t]; `share`, `std_ratio` and, over all
    heads, `share_all`, `std_ratio_all` of the scores, [layer, rows, term, h] and [layer, rows, term], with rows the readout's and
    all; `std_ratio_learned` [layer, rows, h] and `std_ratio_learned_all` [layer, rows], of EE + EP + PE + PP.
    """
    encoder_params, gate = getattr(params, encoder), getattr(gates, encoder)
    found = caches(encoder_params, gate, static, encoder, unseen_sequences(static, encoder))
    T = found[0].pattern.shape[-1]
    seen = np.tril(np.ones((T, T), bool)) if encoder == "text" else np.ones((T, T), bool)
    readout = np.arange(T) == readout_template(static, encoder).readout
    layers = []
    for layer, cache in enumerate(found):
        term_gate = gate[layer][:, [GATES.index(term) for term in TERMS]].T[None, :, :, None, None]
        terms = cache.terms * term_gate  # [n, term, h, q, t]
        centred = jnp.where(seen, terms - _row_mean(terms, seen), 0)
        total = centred.sum(1, keepdims=True)
        learned = centred[:, [TERMS.index(term) for term in LEARNED]].sum(1, keepdims=True)
        by_rows = _by_rows(centred * total, readout)
        squares = jnp.concatenate([_by_rows(x * x, readout) for x in (centred, learned, total)], 1)  # [rows, term + 2, h]
        std, std_all = jnp.sqrt(squares), jnp.sqrt(squares.sum(-1))
        std, std_all = std[:, :-1] / std[:, -1:], std_all[:, :-1] / std_all[:, -1:]
        layers.append(
            {
                "scores": jnp.where(seen, terms.mean(0), jnp.nan),
                "pattern": cache.pattern.mean(0),
                "share": by_rows / by_rows.sum(1, keepdims=True),
                "share_all": by_rows.sum(-1) / by_rows.sum((1, -1))[:, None],
                "std_ratio": std[:, :-1],
                "std_ratio_all": std_all[:, :-1],
                "std_ratio_learned": std[:, -1],
                "std_ratio_learned_all": std_all[:, -1],
            }
        )
    return jax.tree.map(lambda *x: jnp.stack(x), *layers)


def _by_rows(products: jax.Array, readout: np.ndarray) -> jax.Array:
    """Sums [rows, term, h] of [n, term, h, q, t]: over the readout's row of scores, and over all rows."""
    of_queries = products.sum((0, -1))  # [term, h, q]
    return jnp.stack([of_queries[..., readout].sum(-1), of_queries.sum(-1)])


def _row_mean(terms: jax.Array, seen: np.ndarray) -> jax.Array:
    return jnp.where(seen, terms, 0).sum(-1, keepdims=True) / seen.sum(-1)[None, None, None, :, None]


def decompose(run: Run, encoder: str = "vision", n_labels=None) -> xr.Dataset:
    """`in_scenes` of all models: scores, pattern, share, share_all, std_ratio, ... [model, layer, ...]."""
    places = ("query", "key")
    dims = {
        "scores": ("layer", "term", "head", *places),
        "pattern": ("layer", "head", *places),
        "std_ratio_learned": ("layer", "rows", "head"),
        "std_ratio_learned_all": ("layer", "rows"),
    }
    dims |= dict.fromkeys(("share", "std_ratio"), ("layer", "rows", "term", "head"))
    dims |= dict.fromkeys(("share_all", "std_ratio_all"), ("layer", "rows", "term"))

    def coords(static):
        names = position_names(static, encoder)
        depth = depth_of(static, encoder)
        heads = range(static.n_heads)
        return {"layer": range(depth), "term": TERMS, "head": heads, "rows": ("readout", "all"), "query": names, "key": names}

    return map_models(run, _QUESTIONS[check_encoder(encoder)], dims, coords, n_labels)


def block_tables(encoder: str, static: Static, hyper: Hyper, splits: Splits, params: CLIP, gates: Gates) -> dict[str, jax.Array]:
    """The question: every term of the first block, gated, between all tokens v and positions p: EE [h, v, v], EP [h, v, p] ... With
    LayerNorm before it is divided by the norms of what is compared. Raises InputError if positions turn queries and keys.
    """
    if positions.find(static.positions).turns:
        kind = f"positions={static.positions!r}"
        raise InputError(f"decompose: {kind}: has no maps by token or position, its terms depend on the offset; read `scores`")
    encoder_params, gate = getattr(params, encoder), getattr(gates, encoder)[0]
    E, P, B, _ = first_rows(encoder_params)
    n, nothing = len(E), jnp.zeros_like
    by_origin = [jnp.concatenate(rows) for rows in ((E, nothing(P)), (nothing(E), P))]
    queries = jnp.stack([*by_origin, jnp.broadcast_to(B, by_origin[0].shape)])  # [o, v + p, d]
    geometry = encoder_configs(static)[encoder].geometry(
        jnp.concatenate([jnp.zeros(n, int), jnp.arange(len(P))]), jnp.arange(len(P))
    )
    of_term = lambda single: qk_scores(encoder_params.blocks[0], gate * single[None], queries, (E, P, B), geometry)
    of_tokens, of_positions, added = jax.vmap(of_term)(SINGLE_TERMS)
    by_key = {"E": jnp.swapaxes(of_tokens, 2, 3), "P": of_positions if added is None else of_positions + added}  # [term, h, q, .]
    rows = {"E": slice(0, n), "P": slice(n, None), "B": 0}  # of every query the bias is the same
    return {t: by_key[t[1]][i][:, rows[t[0]]] for i, t in enumerate(TERMS) if t not in ROW_CONSTANT}


def tables(run: Run, encoder: str = "vision", n_labels=None) -> xr.Dataset:
    """`block_tables` of all models: EE [model, head, query_token, key_token], EP [model, head, query_token, key_position] ...

    The row of a query that is a bias (BE, BP) has no query axis. Terms constant along a row, which softmax ignores, are left out.
    """
    query = {"E": ("query_token",), "P": ("query_position",), "B": ()}
    key = {"E": "key_token", "P": "key_position"}
    dims = {t: ("head", *query[t[0]], key[t[1]]) for t in TERMS if t not in ROW_CONSTANT}

    def coords(static):
        tokens, places = token_names(static), position_names(static, encoder)
        axes = {"query_token": tokens, "key_token": tokens, "query_position": places, "key_position": places}
        return {"head": range(static.n_heads)} | axes

    return map_models(run, _TABLES[check_encoder(encoder)], dims, coords, n_labels)


# One object an encoder, made once: equal questions compile once.
_QUESTIONS = {encoder: partial(in_scenes, encoder) for encoder in ("vision", "text")}
_TABLES = {encoder: partial(block_tables, encoder) for encoder in ("vision", "text")}


def examples(top1: np.ndarray, generalises: float, fails: float) -> tuple[int | None, int | None]:
    """The two models that are drawn side by side, chosen by their unseen-pair accuracy [M]: the best one if it is above
    `generalises`, and the worst one if it is below `fails`. None where there is no such model.
    """
    best, worst = int(np.nanargmax(top1)), int(np.nanargmin(top1))
    return best if top1[best] > generalises else None, worst if top1[worst] < fails else None
