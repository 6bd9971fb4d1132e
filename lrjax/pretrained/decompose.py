"""Which origins do the scores of a pretrained image encoder hold, and do its terms sum to them?"""

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.pretrained.config import EncoderConfig
from lrjax.pretrained.model import Model
from lrjax.pretrained.readout import layer_names, mean_of, observed_of, query_row
from lrjax.pretrained.result import Result, grid_table
from lrjax.pretrained.terms import ORIGINS, TERMS
from lrjax.pretrained.transformer import LayerCache, term_scores


def decompose(model: Model, pixels: np.ndarray) -> Result:
    """Each term's share of the variance of the readout's scores, and each origin's share of what heads read.

    The share of a term is Cov(term, score) / Var(score) over keys; shares of a head sum to 1. `written` is the part of what the
    head writes at the readout that comes from values of the key's origin, as a share of its squared length, by the same rule.

    Args:
        model: The model.
        pixels: Pictures [n, 3, H, W]; shares are means over them.

    Returns:
        A row a layer, head and term; `written` is the same for all terms of a key's origin.
    """
    config = model.config.vision
    shares, written = mean_of(observed_of(model, pixels, _shares))
    axes = {"layer": layer_names(config), "head": range(config.n_heads), "term": TERMS}
    measures = {"share": shares, "written": np.tile(written, (1, 1, len(ORIGINS)))}
    found = grid_table(model.name, axes, measures)
    return Result("decompose", found, ("share",), ("layer", "head", "term"), by=("model", "layer", "term"))


def _shares(cache: LayerCache, config: EncoderConfig) -> tuple[jax.Array, jax.Array]:
    """Shares of terms [h, 16] and of origins of values [h, 4] in one picture."""
    rows = jnp.einsum("ohk,cthk->ocht", query_row(cache, config), cache.k)
    rows = rows.reshape(len(TERMS), *rows.shape[2:])
    rows = rows - rows.mean(-1, keepdims=True)
    total = rows.sum(0)
    of_terms = (rows * total[None]).sum(-1) / (total * total).sum(-1)[None]
    pattern = cache.state.pattern[:, 0] if config.has_cls else cache.state.pattern.mean(1)
    read = jnp.einsum("ht,othk->ohk", pattern, cache.v)
    whole = read.sum(0)
    of_values = (read * whole[None]).sum(-1) / (whole * whole).sum(-1)[None]
    return of_terms.T, of_values.T


def sum_errors(model: Model, pixels: np.ndarray) -> Result:
    """How far the terms of every layer are from summing to its scores, and values to values, in float32.

    An error is the greatest difference to the product of whole queries and keys, over the greatest of these products; the greatest
    over pictures and heads.

    Returns:
        A row a layer: `scores` and `values`, the errors of the two sums.
    """
    found = observed_of(model, pixels, _errors)
    errors = jax.tree.map(lambda *arrays: np.max(arrays, 0), *found)
    table = grid_table(model.name, {"layer": layer_names(model.config.vision)}, errors)
    return Result("sum_errors", table, ("scores", "values"), ("layer",), by=("model", "layer"))


def _errors(cache: LayerCache, config: EncoderConfig) -> dict[str, jax.Array]:
    """Relative errors of the sums of one layer in one picture."""
    scores = jnp.einsum("qhk,thk->hqt", cache.q.sum(0), cache.k.sum(0))
    values = jnp.einsum("hqt,thk->qhk", cache.state.pattern, cache.v.sum(0))
    read = jnp.einsum("hqt,othk->oqhk", cache.state.pattern, cache.v).sum(0)
    relative = lambda found, whole: abs(found - whole).max() / abs(whole).max()
    return {"scores": relative(term_scores(cache).sum((0, 1)), scores), "values": relative(read, values)}
