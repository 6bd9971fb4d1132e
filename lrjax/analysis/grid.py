"""Two dimensions: is there a horizontal gradient (left to right) and a vertical one, and in which heads?

A head's CLS row of scores by position, s = EP + PP + BP over the tokens of a grid, is the sum of four parts: its mean, a
*horizontal* part that depends on the column alone, a *vertical* part that depends on the row alone, and the rest. The shares of
variance of the last three sum to 1. `gradient_horizontal` is the mean of s_q - s_p over tokens p, q with p left of q;
`gradient_vertical` is the same with p above q. `ablate` takes a part away: `horizontal EP+PP+BP`.

Axes: h heads, p positions, y rows and x columns of tokens, v tokens.
"""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from lrjax.analysis.gradient import ramp, readout_scores, readout_template
from lrjax.analysis.models import check_objective, map_models, tidy, with_trained_P
from lrjax.config import Hyper, Static
from lrjax.data.splits import Splits
from lrjax.data.tasks.grid import Grid
from lrjax.errors import InputError
from lrjax.gates import Gates
from lrjax.models.clip import CLIP, encoder_as_run, encoder_configs
from lrjax.stats import Table, conditions, groups, select, total
from lrjax.terms import POSITION_TERMS, TOKEN_TERMS
from lrjax.training.run import Run

PARTS = ("horizontal", "vertical", "rest")


def grid_shape_of(static: Static, who: str) -> tuple[int, int]:
    """Rows and columns of tokens. Raises InputError that names the analysis if the task has no two dimensions."""
    if static.task_object.grid_shape is None:
        raise InputError(f"{who}: task={static.task!r}: has one dimension; expected a sweep of task 'grid'")
    if static.layer_norm and static.norm == "pre" and static.task_object.image.adds:
        raise InputError(f"{who}: layer_norm=True, task={static.task!r}: with LayerNorm a patch's scores are no sum; leave it out")
    check_objective(static, who)
    return static.task_object.grid_shape


def parts(scores: jax.Array, grid_shape: tuple[int, int]) -> dict[str, jax.Array]:
    """A score by position [..., p - 1] of tokens in reading order, less its mean, as the sum of PARTS."""
    on_grid = scores.reshape(*scores.shape[:-1], *grid_shape)
    on_grid = on_grid - on_grid.mean((-2, -1), keepdims=True)
    horizontal, vertical = on_grid.mean(-2, keepdims=True), on_grid.mean(-1, keepdims=True)
    found = {"horizontal": horizontal, "vertical": vertical, "rest": on_grid - horizontal - vertical}
    return {name: jnp.broadcast_to(part, on_grid.shape).reshape(scores.shape) for name, part in found.items()}


def position_rows(static: Static, params: CLIP, gates: Gates) -> tuple[dict[str, jax.Array], jax.Array]:
    """The CLS row of the first block: every position term [h, p - 1], and what held-out labels score [h, label], as a token
    shows them: the mean over the pixels of a patch, times how many of them an object fills, the mean over its places.
    """
    with_trained_P(static, "grid")
    vision, encoder_config = encoder_as_run(static, params, "vision"), encoder_configs(static)["vision"]
    scores = readout_scores(vision, gates.vision, encoder_config, readout_template(static, "vision"))
    first, per_label = (
        static.task_object.n_first,
        (static.task_object.n_tokens - static.task_object.n_first) // static.n_labels_total,
    )
    labels = slice(first, first + per_label * static.n_heldout)
    by_label = total(scores[term] for term in TOKEN_TERMS)[:, labels].mean(-1)
    rows = {term: scores[term][:, labels, 1:].mean(1) for term in POSITION_TERMS}
    assert isinstance(static.task_object, Grid)
    return rows, static.task_object.filled * by_label.reshape(len(by_label), static.n_heldout, per_label).mean(-1)


def in_two_dimensions(static: Static, hyper: Hyper, splits: Splits, params: CLIP, gates: Gates) -> dict[str, jax.Array]:
    """The gradients of one model: `scores` [term, h, y, x] of position terms; gradient_horizontal, gradient_vertical and
    label_spread [h]; `share` [h, part] of the row's variance.
    """
    grid_shape = grid_shape_of(static, "grid")
    rows, by_label = position_rows(static, params, gates)
    summed = total(rows.values())
    of_parts = parts(summed, grid_shape)
    variance = jnp.stack([(of_parts[name] ** 2).sum(-1) for name in PARTS], -1)
    x, y = np.triu_indices(static.n_heldout, 1)
    maps = jnp.stack([row.reshape(len(row), *grid_shape) for row in rows.values()])
    return {
        "scores": maps,
        "gradient_horizontal": summed.reshape(-1, *grid_shape).mean(1) @ ramp(grid_shape[1]),
        "gradient_vertical": summed.reshape(-1, *grid_shape).mean(2) @ ramp(grid_shape[0]),
        "share": variance / variance.sum(-1, keepdims=True),
        "label_spread": jnp.abs(by_label[:, x] - by_label[:, y]).mean(-1),
    }


def directions(run: Run, n_labels=None) -> xr.Dataset:
    """`in_two_dimensions` of all models: scores [model, term, head, row, column]; gradient_horizontal, gradient_vertical and
    label_spread [model, head]; share [model, head, part].
    """
    dims = {"scores": ("term", "head", "row", "column"), "share": ("head", "part")}
    dims |= dict.fromkeys(("gradient_horizontal", "gradient_vertical", "label_spread"), ("head",))

    def coords(static):
        rows, columns = grid_shape_of(static, "grid")
        axes = {"term": POSITION_TERMS, "part": PARTS, "row": range(1, rows + 1), "column": range(1, columns + 1)}
        return axes | {"head": range(static.n_heads)}

    return map_models(run, in_two_dimensions, dims, coords, n_labels)


def best_maps(answer: xr.Dataset, models: Table) -> Table:
    """Where the gradients come from: `score`, EP + PP + BP less its mean, a row per head and token with the head's gradients, of
    the model of each condition whose top-1 is best. From `directions` and a table of its models.
    """
    by = conditions(models, [name for name in answer.coords if answer[name].dims == ("model",)])
    top1 = np.nan_to_num(models["unseen_pair"], nan=-1)
    best = sorted(models["model"][rows[top1[rows].argmax()]] for rows in groups(models, by).values())
    found = answer.sel(model=best)
    score = found.scores.sum("term", skipna=False)
    gradients = found[["gradient_horizontal", "gradient_vertical"]]
    table = tidy(gradients.assign(score=score - score.mean(("row", "column"))))
    return select(table, ~np.isnan(table["score"]))  # of models that diverged, and of tokens that a smaller grid does not have


def best_heads(answer: xr.Dataset) -> xr.Dataset:
    """The heads with a model's greatest horizontal and vertical gradients.

    Returns:
      By model: `ratio_horizontal` and `ratio_vertical`, the greatest |gradient| over label spread of each direction; `ratio_least`,
      the lesser of both; `head_horizontal` and `head_vertical`, the heads that have them. `apart` says how much these heads keep to
      their own direction: the mean over both of |own gradient| / (|own| + |other|). It is 1 if each head has one gradient alone,
      1/2 if one head has both alike.
    """
    gradient = {name: abs(answer[f"gradient_{name}"]) for name in ("horizontal", "vertical")}
    ratio = {name: (size / answer.label_spread).fillna(-1) for name, size in gradient.items()}
    known = answer.label_spread.notnull().all("head")
    found = {f"ratio_{name}": value.max("head").where(known) for name, value in ratio.items()}
    found["ratio_least"] = np.minimum(*found.values())
    head = {name: value.argmax("head") for name, value in ratio.items()}
    own = [gradient[name].isel(head=head[name]) / sum(size.isel(head=head[name]) for size in gradient.values()) for name in head]
    found["apart"] = sum(share.drop_vars("head") for share in own) / 2
    return xr.Dataset(found | {f"head_{name}": index for name, index in head.items()})
