"""The horizontal attention gradient: does a head's readout attend by position, or by label?

`position_gradient` (the paper's Delta_p.e.): mean over i < j of s_j - s_i, with s the score that a key gets from its position, the
mean over held-out labels of what it scores there; positive leans right (in captions: towards the label named second). It is a sum
over terms, given apart too: EP + PP + BP where positions are learned. Under rotary positions the others depend on the offset. With
ALiBi it is PP, and fixed. `label_spread` (Delta_label): mean over pairs of held-out labels of |t_x - t_y|, with t the score that a
key gets from its token, the mean over positions: EE + PE + BE where positions are learned. The paper's condition for generalising
is |position_gradient| > label_spread: `ratio` above 1.

Of EP and PP only the sum is learned in a one-block vision encoder (see `ablate`).

All of the first block's readout row, per head: CLS in images, EOT in pair captions. Axes: h heads, p positions, v tokens.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from lrjax.analysis.models import check_encoder, line_of, map_models
from lrjax.config import Hyper, Static
from lrjax.data.scenes import PAIR_CAPTION, SequenceTemplate
from lrjax.data.splits import Splits
from lrjax.errors import InputError
from lrjax.gates import Gates
from lrjax.models import objectives
from lrjax.models.clip import CLIP, encoder_configs
from lrjax.models.encoder import Encoder, EncoderConfig
from lrjax.models.lookup_tables import first_rows, readout_tables
from lrjax.models.qk_scores import SINGLE_TERMS
from lrjax.stats import Table, groups, mean_interval, total, undiverged
from lrjax.terms import GATES, TERMS, VALUES

GENERALISES = 0.8  # top-1 on unseen pairs above which a model counts as generalising


def readout_template(static: Static, encoder: str) -> SequenceTemplate:
    """The form of an encoder's two-object sequences."""
    return static.task_object.image if encoder == "vision" else PAIR_CAPTION


def edits_of(static: Static, encoder: str) -> np.ndarray:
    """The positions at which labels stand, from left to right."""
    return np.arange(1, static.L + 1) if encoder == "vision" else np.array([0, 2])


def ramp(n: int) -> np.ndarray:
    """Weights [n] with which a sum of scores s is the mean over i < j of s_j - s_i."""
    return (2 * np.arange(n) - (n - 1)) / (n * (n - 1) / 2)


def readout_scores(
    encoder_params: Encoder, gates: jax.Array, encoder_config: EncoderConfig, template: SequenceTemplate
) -> dict[str, jax.Array]:
    """The first block's readout row by term, gated: what every token scores at every position, [h, v, p] each.

    With learned positions EP, PP, BP are functions of the position alone and EE, PE, BE of the token alone; under rotary positions
    all are functions of the offset, and LayerNorm divides all by the norm of what is read. EB, PB and BB are 0 where they are
    constant along the row, which softmax ignores.
    """
    rows = first_rows(encoder_params)

    def of_term(single):
        gate = gates[0] * single[None]
        (of_token,), (of_position,) = readout_tables(encoder_params.blocks[0], gate, encoder_config, (template,), *rows)
        return of_token + of_position[:, None]

    return dict(zip(TERMS, jax.vmap(of_term)(jnp.asarray(SINGLE_TERMS)), strict=True))


def first_block(encoder: str, static: Static, hyper: Hyper, splits: Splits, params: CLIP, gates: Gates) -> dict[str, jax.Array]:
    """The question: per head [h] position_gradient, its terms, its max - min, its least-squares slope; label_spread, the ratio;
    `writes`, 0 for a pruned head.
    """
    first = line_of(static, "gradient").n_first
    encoder_params, gate, template = getattr(params, encoder), getattr(gates, encoder), readout_template(static, encoder)
    scores = readout_scores(encoder_params, gate, encoder_configs(static)[encoder], template)
    places, labels = edits_of(static, encoder), slice(first, first + static.n_heldout)
    weight = ramp(len(places))
    scores = {term: score[:, labels][:, :, places] for term, score in scores.items()}
    terms = {f"gradient_{term}": score.mean(1) @ weight for term, score in scores.items()}
    summed = total(scores.values())
    by_position, by_token = summed.mean(1), summed.mean(2)
    centred = places - places.mean()
    x, y = np.triu_indices(static.n_heldout, 1)
    spread = jnp.abs(by_token[:, x] - by_token[:, y]).mean(-1)
    gradient = by_position @ weight
    writes = jnp.abs(gate[0][:, [GATES.index(value) for value in VALUES]]).max(-1) > 0
    return {
        "position_gradient": gradient,
        **terms,
        "range": by_position.max(-1) - by_position.min(-1),
        "slope": by_position @ centred / (centred @ centred),
        "label_spread": spread,
        "ratio": jnp.abs(gradient) / spread,
        "writes": writes.astype(jnp.float32),
    }


def columns(static: Static, hyper: Hyper, splits: Splits, params: CLIP, gates: Gates) -> dict[str, jax.Array]:
    """The measure that `experiments.sweep` records at every evaluation: vision's position_gradient and label_spread, a column a
    head; nothing on a grid, which has two gradients (`grid`), and of a reader, which has no CLS (`reader`).
    """
    if static.task_object.grid_shape or objectives.of(static).refusal("gradient"):
        return {}
    found = first_block("vision", static, hyper, splits, params, gates)
    return {f"{name}_h{h}": found[name][h] for name in ("position_gradient", "label_spread") for h in range(static.n_heads)}


_QUESTIONS = {encoder: partial(first_block, encoder) for encoder in ("vision", "text")}  # made once: equal questions compile once
NAMES = ("position_gradient", *(f"gradient_{t}" for t in TERMS), "range", "slope", "label_spread", "ratio", "writes")


def gradient(run, encoder: str = "vision", n_labels=None) -> xr.Dataset:
    """`first_block` of all models: arrays [model, head]."""
    return map_models(
        run, _QUESTIONS[check_encoder(encoder)], dict.fromkeys(NAMES, ("head",)), lambda s: {"head": range(s.n_heads)}, n_labels
    )


def strongest(answer: xr.Dataset) -> xr.Dataset:
    """The best head of each model by `ratio`, [model]: one head that attends by position suffices to know the order. A pruned head,
    which writes nothing, is never the best.
    """
    return answer.isel(head=best_head(answer)).drop_vars("head")


def best_head(answer: xr.Dataset) -> xr.DataArray:
    """The number of a model's best head [model]."""
    return answer.ratio.where(answer.writes > 0).fillna(-1).argmax("head")


def in_row(static: Static, hyper: Hyper, splits: Splits, params: CLIP, gates: Gates) -> dict[str, jax.Array]:
    """The question: `score` [term, h, pixel], what each term of CLS's row gives a pixel, the mean over held-out labels, less its
    mean over pixels, which softmax ignores. Under rotary positions pixel p is offset p: EE(D), BE(D), and EB(D) + BB(D), Pi_bias.
    """
    first = line_of(static, "gradient").n_first
    scores = readout_scores(params.vision, gates.vision, encoder_configs(static)["vision"], static.task_object.image)
    rows = jnp.stack([scores[term][:, first : first + static.n_heldout, 1:].mean(1) for term in TERMS])
    return {"score": rows - rows.mean(-1, keepdims=True)}


def rows_of_best(run, n_labels=None) -> xr.Dataset:
    """`in_row` of each model's best head, turned so that it leans right: score [model, term, pixel]."""
    of_heads = gradient(run, n_labels=n_labels)
    best = best_head(of_heads)
    names = lambda s: {"term": TERMS, "head": range(s.n_heads), "pixel": range(1, s.L + 1)}
    found = map_models(run, in_row, {"score": ("term", "head", "pixel")}, names, n_labels).isel(head=best)
    return (found * np.sign(of_heads.position_gradient.isel(head=best))).drop_vars("head")


def scale_ratio(table: Table) -> np.ndarray:
    """Initial scale of E over that of P, to three digits."""
    with np.errstate(divide="ignore"):
        return np.array([float(f"{ratio:.3g}") for ratio in table["e_scale"] / table["p_scale"]])


def carried(best: Table) -> Table:
    """`strongest`'s tidy table with `ratio_EP`, the ratio of initial scales, and `share_EP`, `share_PP` ...: the part of the
    position gradient that each term carries (they sum to 1).
    """
    there = [term for term in TERMS if f"gradient_{term}" in best]
    with np.errstate(divide="ignore", invalid="ignore"):  # of no gradient there are no shares
        shares = {f"share_{term}": best[f"gradient_{term}"] / best["position_gradient"] for term in there}
    return best | {"ratio_EP": scale_ratio(best)} | shares


def prediction(ratio: np.ndarray, models: Table) -> Table:
    """How well a ratio [M] predicts accuracy over models: Spearman's rank correlation with order and with top-1 on unseen pairs,
    and the AUC for "generalises" (top-1 above GENERALISES). One row a measure; NaN where a column is constant. They describe these
    models, and have no interval here; `report.claims.predicts` resamples models for one.
    """
    from scipy.stats import spearmanr

    rows: dict[str, list] = {"accuracy": [], "rank_correlation": [], "auc": [], "models": []}
    for name in ("unseen_pair_order", "unseen_pair", "unseen_pair_label_set"):
        known = ~np.isnan(models[name]) & ~np.isnan(ratio)
        x, y = ratio[known], models[name][known]
        rows["accuracy"].append(name)
        rows["rank_correlation"].append(spearmanr(x, y)[0] if len(set(x)) > 1 and len(set(y)) > 1 else np.nan)
        rows["auc"].append(auc(x, y > GENERALISES))
        rows["models"].append(len(x))
    return {name: np.array(values) for name, values in rows.items()}


def auc(score: np.ndarray, positive: np.ndarray) -> float:
    """The probability that a positive scores above a negative, ties 1/2; NaN if there is only one kind."""
    up, down = score[positive], score[~positive]
    if not len(up) or not len(down):
        return np.nan
    return float(((up[:, None] > down) + 0.5 * (up[:, None] == down)).mean())


def recorded(history: Table) -> tuple[str, ...]:
    """The history's columns of |position_gradient|, one a head; none if the sweep was trained without `columns` as a measure."""
    return tuple(name for name in history if name.startswith("position_gradient_h"))


def onsets(history: Table, share: float = 0.5) -> Table:
    """Which comes first in training, the gradient or the skill? A row per N: medians over models of the first evaluation at which
    the greatest |position_gradient| of a head, and unseen-pair order and top-1, have gone `share` of their way from the first
    evaluation to the last; `gradient_first`, `gradient_last`: shares of models whose gradient is there strictly before (after)
    top-1, with their intervals `_low`, `_high`. Diverged models are left out. Raises InputError if all have diverged.
    """
    history = undiverged(history, recorded(history))
    if not len(history["step"]):
        raise InputError("history: all models have diverged: there is nothing to ask; train with a lower lr")
    strength = np.nanmax(np.abs([history[name] for name in recorded(history)]), 0)
    curves = {"gradient": strength, "order": history["unseen_pair_order"], "top1": history["unseen_pair"]}
    lines = []
    for (n,), rows in groups(history, ("n_labels",)).items():
        part = {name: column[rows] for name, column in (history | curves).items()}
        reached = {name: _reached(part, name, share) for name in curves}
        line = {"n_labels": n, "models": len(reached["top1"])} | {name: float(np.median(steps)) for name, steps in reached.items()}
        comes = {"first": reached["gradient"] < reached["top1"], "last": reached["gradient"] > reached["top1"]}
        for when, true in comes.items():
            names = (f"gradient_{when}", f"gradient_{when}_low", f"gradient_{when}_high")
            line |= dict(zip(names, mean_interval(true), strict=True))
        lines.append(line)
    return {name: np.array([line[name] for line in lines]) for name in lines[0]}


def first_step(history: Table, metric: str, level: float = GENERALISES) -> np.ndarray:
    """Per model, in order: the first evaluation at which a metric is at least `level`; NaN if none is."""
    found = []
    for rows in groups(history, ("model",)).values():
        above = history["step"][rows][history[metric][rows] >= level]
        found.append(above.min() if len(above) else np.nan)
    return np.array(found, float)


def _reached(history: Table, column: str, share: float) -> np.ndarray:
    """Per model, in order: the first step at which `column` has gone `share` of its way from its first value to its last."""
    found = []
    for rows in groups(history, ("model",)).values():
        rows = rows[np.argsort(history["step"][rows])]
        gone = history[column][rows] - history[column][rows[0]]
        there = gone >= share * gone[-1] if gone[-1] > 0 else gone < 0
        found.append(history["step"][rows][np.argmax(there)] if there.any() else np.nan)
    return np.array(found, float)
