"""Origins that need no knowledge of a model: how much of keys, and of the readout's scores, is of the place, and how much of the
picture?

A key k[n, t] of picture n at place t is the sum of four parts, which are orthogonal over pictures and places: its mean over both,
`position` (the mean over pictures at a place), `image` (the mean over places of a picture), and `rest`. The query is the sum of its
`mean` over pictures and the rest, which is a picture's `own`. Softmax does not see what is the same for all keys, so a score is a
sum of four products: (mean or own) of the query times (position or rest) of the key.

This is an analysis of variance of two factors, picture and place; the bi-orthogonal factors of arXiv 2601.05328 are near to it.
Origins by parameters, E, P, M and B, are in `pretrained.decompose`: what an MLP writes about a place is `position` here, and of
origin M there.
"""

import jax
import numpy as np

from lrjax import stats
from lrjax.errors import InputError
from lrjax.pretrained.config import EncoderConfig
from lrjax.pretrained.model import Model
from lrjax.pretrained.readout import layer_names, observed_of, patch_keys, query_row
from lrjax.pretrained.result import Result, grid_table
from lrjax.pretrained.transformer import LayerCache

KEYS = ("position", "image", "rest")
SCORES = ("mean_position", "mean_rest", "own_position", "own_rest")  # query's part, key's part


def statistical(model: Model, pixels: np.ndarray) -> Result:
    """The statistical parts of keys and of the readout's scores, for every layer and head.

    Args:
        model: The model.
        pixels: Pictures [n, 3, H, W], two at least. Of few pictures the mean at a place holds some of their content: the share of
            `position` is too large by about 1 / n of the rest.

    Returns:
        A row a layer and head: `keys_position`, `keys_image` and `keys_rest`, shares of the variance of keys, which sum to 1;
        `scores_mean_position` and the like, each product's share of the variance of scores over places, which sum to 1.

    Raises:
        InputError: There is one picture alone.
    """
    if len(pixels := model._checked(pixels)) < 2:
        raise InputError(f"pixels: hold {len(pixels)} picture; expected two or more, whose mean is of the place")
    query, keys = (np.stack(arrays) for arrays in zip(*observed_of(model, pixels, _query_and_keys), strict=True))
    parts = key_parts(keys)
    variance = {name: (part**2).sum(-1).mean((0, 2)) for name, part in parts.items()}
    whole = stats.total(variance.values())
    measures = {f"keys_{name}": variance[name] / whole for name in KEYS}
    measures |= {f"scores_{name}": share for name, share in zip(SCORES, score_shares(query, parts), strict=True)}
    config = model.config.vision
    table = grid_table(model.name, {"layer": layer_names(config), "head": range(config.n_heads)}, measures)
    return Result("statistical", table, tuple(measures), ("layer", "head"), by=("model", "layer"))


def key_parts(keys: np.ndarray) -> dict[str, np.ndarray]:
    """The parts of keys [n, l, t, h, k], without their mean over pictures and places; each is of a shape that fits theirs."""
    of_place = keys.mean(0, keepdims=True)
    of_picture = keys.mean(2, keepdims=True)
    mean = of_place.mean(2, keepdims=True)
    return {"position": of_place - mean, "image": of_picture - mean, "rest": keys - of_place - of_picture + mean}


def score_shares(query: np.ndarray, parts: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The shares [l, h] of the products in `SCORES`, of queries [n, l, h, k] and the parts of keys."""
    mean = query.mean(0, keepdims=True)
    own = query - mean
    pairs = [(mean, "position"), (mean, "rest"), (own, "position"), (own, "rest")]
    products = [(of_query[:, :, None] * parts[key]).sum(-1) for of_query, key in pairs]  # [n or 1, l, t, h]
    scores = stats.total(products)
    variance = (scores**2).mean((0, 2))
    return [(product * scores).mean((0, 2)) / variance for product in products]


def _query_and_keys(cache: LayerCache, config: EncoderConfig, readout: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of one layer in one picture: the readout's query [h, k] and the keys of patches [t, h, k]."""
    return query_row(cache, config, readout).sum(0), patch_keys(cache.k, config).sum(0)
