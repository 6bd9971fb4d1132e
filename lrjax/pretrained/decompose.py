"""Which origins do the scores of a pretrained encoder hold, of images and of texts, and do its terms sum to them?"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.pretrained.config import EncoderConfig
from lrjax.pretrained.model import Model
from lrjax.pretrained.readout import is_seen, layer_names, mean_of, observed_of, pattern_row, query_row, sequences_of
from lrjax.pretrained.result import Result, grid_table
from lrjax.pretrained.terms import ORIGINS, TERMS
from lrjax.pretrained.transformer import LayerCache, term_scores


def decompose(model: Model, given: np.ndarray | Sequence[str]) -> Result:
    """Each term's share of the variance of the readout's scores, and each origin's share of what heads read.

    The share of a term is Cov(term, score) / Var(score) over the keys that the readout sees; shares of a head sum to 1. `written`
    is the part of what the head writes at the readout that comes from values of the key's origin, as a share of its squared length,
    by the same rule.

    Args:
        model: The model.
        given: Pictures [n, 3, H, W], or captions; shares are means over them.

    Returns:
        A row an encoder ("vision" of pictures, "text" of captions), layer, head and term; `written` is the same for all terms of a
        key's origin.

    Raises:
        InputError: The pictures are of another shape, or the model has no text encoder for captions.
    """
    encoder, config = _encoder_of(model, given)
    shares, written = mean_of(observed_of(model, given, _shares))
    axes = {"encoder": [encoder], "layer": layer_names(config), "head": range(config.n_heads), "term": TERMS}
    measures = {"share": shares, "written": np.tile(written, (1, 1, len(ORIGINS)))}
    found = grid_table(model.name, axes, measures)
    by = ("model", "encoder", "layer", "term")
    return Result("decompose", found, ("share",), ("encoder", "layer", "head", "term"), by=by)


def _encoder_of(model: Model, given: np.ndarray | Sequence[str]) -> tuple[str, EncoderConfig]:
    """The encoder that pictures or captions go through, and its config."""
    encoder = sequences_of(model, given).encoder
    return encoder, getattr(model.config, encoder)


def _shares(cache: LayerCache, config: EncoderConfig, readout: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Shares of terms [h, 16] and of origins of values [h, 4] in one picture or caption."""
    seen = is_seen(cache, config, readout)[None, None]
    rows = jnp.einsum("ohk,cthk->ocht", query_row(cache, config, readout), cache.k)
    rows = rows.reshape(len(TERMS), *rows.shape[2:])
    rows = (rows - (rows * seen).sum(-1, keepdims=True) / seen.sum()) * seen
    total = rows.sum(0)
    of_terms = (rows * total[None]).sum(-1) / (total * total).sum(-1)[None]
    read = jnp.einsum("ht,othk->ohk", pattern_row(cache, config, readout), cache.v)
    whole = read.sum(0)
    of_values = (read * whole[None]).sum(-1) / (whole * whole).sum(-1)[None]
    return of_terms.T, of_values.T


def sum_errors(model: Model, given: np.ndarray | Sequence[str]) -> Result:
    """How far the sums over origins of every layer are from the whole, in float32.

    `scores` compares the sum of the sixteen terms with the product of whole queries and whole keys, for all queries and keys.
    `values` compares the sum over origins of what heads read with what they read of whole values. An error is the greatest
    difference over the greatest size of what is compared with; the greatest over pictures or captions, and over heads.

    Args:
        model: The model.
        given: Pictures [n, 3, H, W], or captions.

    Returns:
        A row an encoder and layer: `scores` and `values`.
    """
    encoder, config = _encoder_of(model, given)
    found = observed_of(model, given, _errors)
    errors = jax.tree.map(lambda *arrays: np.max(arrays, 0), *found)
    table = grid_table(model.name, {"encoder": [encoder], "layer": layer_names(config)}, errors)
    by = ("model", "encoder", "layer")
    return Result("sum_errors", table, ("scores", "values"), ("encoder", "layer"), by=by)


def _errors(cache: LayerCache, config: EncoderConfig, readout: jax.Array) -> dict[str, jax.Array]:
    """Relative errors of the sums of one layer in one picture or caption."""
    scores = jnp.einsum("qhk,thk->hqt", cache.q.sum(0), cache.k.sum(0))
    values = jnp.einsum("hqt,thk->qhk", cache.state.pattern, cache.v.sum(0))
    read = jnp.einsum("hqt,othk->oqhk", cache.state.pattern, cache.v).sum(0)
    relative = lambda found, whole: abs(found - whole).max() / abs(whole).max()
    return {"scores": relative(term_scores(cache).sum((0, 1)), scores), "values": relative(read, values)}
