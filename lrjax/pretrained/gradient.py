"""Does a pretrained image encoder score by position? The position gradient of every layer and head, and its odd share.

The position part of the readout's scores is what is scored by the P-origin of the keys: the sum of the terms EP, PP, MP and BP over
patches, a map over rows and columns. Its slope over columns says which way a head leans. Under a mirror a map is the sum of an even
and an odd part: left and right can be told apart by the odd part alone, so a model whose training pictures were mirrored at random
has no use for it.

The *statistical* position part exists for any model, and needs no origins: the mean over pictures of each key at its place, minus
the mean over places, scored against the mean query.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.errors import InputError
from lrjax.pretrained import terms
from lrjax.pretrained.config import EncoderConfig
from lrjax.pretrained.model import Model
from lrjax.pretrained.readout import layer_names, mean_of, observed_of, patch_keys, query_row
from lrjax.pretrained.result import Result, grid_table
from lrjax.pretrained.transformer import LayerCache
from lrjax.stats import Table

PARTS = tuple(f"{origin}P" for origin in terms.ORIGINS)  # the terms that are scored by position


def gradient(model: Model, pixels: np.ndarray) -> Result:
    """The position gradient of every layer and head.

    Args:
        model: The model.
        pixels: Pictures [n, 3, H, W] over which the maps are averaged. Their content matters little: it enters through the scales
            of LayerNorm and, above layer 0, through patterns.

    Returns:
        A row a layer and head, for `columns` (left to right) and `rows` (top to bottom):
        `slope_columns`: from the left edge to the right one, in units of scores; positive leans right.
        `odd_columns`: the share of the map's variance that changes sign under a left-right mirror.
        `odd_size_columns`: the standard deviation of that part, in units of scores.
        `slope_columns_z`: the slope over the standard deviation that it has when the map's values are shuffled among patches.
        `slope_columns_EP` and the like: the slope of each term.
        `statistical_...`: the same of the statistical position part.
        `odd_shuffled`: the odd share that shuffled maps have on average.
        In `arrays`: `maps` [depth, head, row, column] and `statistical_maps`.
    """
    config, pixels = model.config.vision, model._checked(pixels)
    parts, query, key, norm = mean_of(observed_of(model, pixels, _position_part))
    shape = (*parts.shape[:3], config.grid, config.grid)
    parts = parts.reshape(shape)
    maps = parts.sum(1)
    statistical = np.einsum("lhk,lthk->lht", query, key - key.mean(1, keepdims=True)).reshape(maps.shape)
    measures = measures_of(maps)
    for name, by_term in zip(PARTS, parts.swapaxes(0, 1), strict=True):
        measures |= {f"slope_columns_{name}": slope(by_term, -1), f"slope_rows_{name}": slope(by_term, -2)}
    measures |= {f"statistical_{name}": values for name, values in measures_of(statistical).items()}
    measures["position_share"] = maps.var((-2, -1)) / norm
    measures["odd_shuffled"] = np.full(maps.shape[:2], odd_when_shuffled(config.grid))
    table = grid_table(model.name, {"layer": layer_names(config), "head": range(config.n_heads)}, measures)
    shown = ("slope_columns", "odd_columns", "slope_rows", "odd_rows")
    arrays = {"maps": maps, "statistical_maps": statistical}
    return Result("gradient", table, shown, ("layer", "head"), _drawn, by=("model", "layer"), arrays=arrays, signed=True)


def _drawn(result: Any):
    from lrjax.plotting.pretrained import gradients

    return gradients(result.table)


def _position_part(cache: LayerCache, config: EncoderConfig, readout: jax.Array):
    """Of one layer in one picture: position parts by origin of the query [o, h, t]; the whole query [h, k] and the whole keys
    [t, h, k], for the statistical part; the variance of the whole scores over patches [h].
    """
    query, keys = query_row(cache, config, readout), patch_keys(cache.k, config)
    parts = jnp.einsum("ohk,thk->oht", query, keys[terms.P])
    whole = jnp.einsum("hk,thk->ht", query.sum(0), keys.sum(0))
    return parts, query.sum(0), keys.sum(0), whole.var(-1)


def measures_of(maps: np.ndarray) -> dict[str, np.ndarray]:
    """The measures of maps [..., row, column]."""
    found = {}
    for name, axis in (("columns", -1), ("rows", -2)):
        found[f"slope_{name}"] = slope(maps, axis)
        found[f"slope_{name}_z"] = found[f"slope_{name}"] / slope_when_shuffled(maps, axis)
        found[f"odd_{name}"] = odd_share(maps, axis)
        found[f"odd_size_{name}"] = odd_part(maps, axis).std((-2, -1))
    return found


def slope(maps: np.ndarray, axis: int) -> np.ndarray:
    """The least-squares slope of maps [..., row, column] along an axis, from its first place to its last."""
    n = maps.shape[axis]
    at = np.arange(n) - (n - 1) / 2
    other = -1 if axis == -2 else -2
    return (n - 1) * (maps.mean(other) @ at) / (at @ at)


def slope_when_shuffled(maps: np.ndarray, axis: int) -> np.ndarray:
    """The standard deviation of `slope` over all orders of a map's values; their mean is 0."""
    n, size = maps.shape[axis], maps.shape[-1] * maps.shape[-2]
    at = np.arange(n) - (n - 1) / 2
    weights = (n - 1) * at / (at @ at) / (size / n)
    variance = maps.var((-2, -1)) * size / (size - 1)  # of n values drawn without replacement
    return np.sqrt(variance * (weights @ weights) * (size / n))


def odd_share(maps: np.ndarray, axis: int) -> np.ndarray:
    """The share of the variance of maps [..., row, column] that changes sign when an axis is mirrored; NaN of a constant map."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return odd_part(maps, axis).var((-2, -1)) / maps.var((-2, -1))


def odd_part(maps: np.ndarray, axis: int) -> np.ndarray:
    """The part of maps [..., row, column] that changes sign when an axis is mirrored; its mean is 0."""
    return (maps - np.flip(maps, axis)) / 2


def odd_when_shuffled(n: int) -> float:
    """The mean of `odd_share` over all orders of the values of a map n x n."""
    size = n * n
    paired = size - (n if n % 2 else 0)  # the middle of an odd number of columns is its own mirror image
    return 0.5 * paired / (size - 1)


def net_lean(found: Result, axis: str = "columns") -> float:
    """How far the heads of a layer lean the same way: the sum of their slopes over the sum of the sizes, the mean over layers.

    1 where all lean one way, 0 where each has its mirror image. A model that pictures and their mirror images train alike may have
    heads that lean, but none of the two ways should be preferred.
    """
    n_heads = found.arrays["maps"].shape[1]
    by_layer = found.table[f"slope_{axis}"].reshape(-1, n_heads)
    return float((abs(by_layer.sum(1)) / abs(by_layer).sum(1)).mean())


def class_token_difference(model: Model) -> float:
    """The length of E_cls - P_0 over that of E_cls + P_0: 0 where the two are equal, NaN without a class token.

    Both receive the same gradient. Under AdamW's decay of both, their difference only shrinks, so that long training
    makes them equal.
    """
    vision = model.params.vision
    if vision.cls is None:
        return float("nan")
    cls, P = jax.device_get((vision.cls, vision.P))
    return float(np.linalg.norm(cls - P[0]) / np.linalg.norm(cls + P[0]))


def leaning(found: Result, n: int = 5) -> Table:
    """The heads that lean most to the left and most to the right.

    Args:
        found: Of `gradient`.
        n: How many of each, as far as so many heads lean that way.
    """
    slope = found.table["slope_columns"]
    order = np.argsort(slope, kind="stable")
    left, right = ([i for i in ranked if sign * slope[i] > 0][:n] for ranked, sign in ((order, -1), (order[::-1], 1)))
    shown = ("model", "layer", "head", "slope_columns", "slope_columns_z", "odd_columns", "slope_rows", "odd_rows")
    direction = np.repeat(["left", "right"], [len(left), len(right)])
    return {"direction": direction} | {name: found.table[name][np.array([*left, *right], int)] for name in shown}


def gauge(model: Model, pixels: np.ndarray) -> Result:
    """What the position gradient owes to how the sum of the class token and its position row is divided.

    The two enter only as their sum. So the gradient is measured as the weights have it, with the whole sum counted as E, and as P:
    what EP and PP change into each other, and whether their sum moves (above layer 0 it may: patches have read the class token).

    Returns:
        A row a division, layer and head. `gauge`: stored, E or P.
    """
    if not model.config.vision.has_cls:
        raise InputError(f"{model.name}: has no class token; its position gradient has no gauge")
    tables = []
    for name, share in (("stored", None), ("E", 1.0), ("P", 0.0)):
        found = gradient(model if share is None else model.regauge(share), pixels).table
        tables.append(found | {"gauge": np.full(len(found["model"]), name)})
    keys = ("model", "gauge", "layer", "head", "slope_columns", *(f"slope_columns_{part}" for part in PARTS))
    table = {key: np.concatenate([t[key] for t in tables]) for key in keys}
    return Result("gauge", table, keys[4:], ("gauge", "layer", "head"), by=("model", "gauge", "layer"), signed=True)


def exchanged(model: Model, how: str, seed: int = 0) -> Model:
    """The model with position rows of patches exchanged, while their content stays.

    Args:
        model: The model.
        how: "columns" (left and right change places), "rows" (top and bottom), or "shuffled" (patches in a random order).
        seed: Of the random order.
    """
    config = model.config.vision
    orders: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "columns": lambda at: at[:, ::-1],
        "rows": lambda at: at[::-1],
        "shuffled": lambda at: np.random.default_rng(seed).permutation(at.ravel()),
    }
    if how not in orders:
        raise InputError(f"how={how!r}: expected one of {', '.join(orders)}")
    first = int(config.has_cls)
    order = orders[how](np.arange(config.grid**2).reshape(config.grid, config.grid)).ravel()
    P = np.asarray(jax.device_get(model.params.vision.P))
    return model.with_positions(np.concatenate([P[:first], P[first:][order]]))
