"""Figures of the attention gradient: does it predict, and when does it appear."""

from pathlib import Path

import numpy as np

from lrjax.analysis.gradient import GENERALISES, prediction, recorded
from lrjax.plotting.style import (
    COLOURS,
    LINES,
    MARKERS,
    PANEL,
    Figure,
    finish,
    legend_below,
    name_left,
    panels,
    save,
    styled,
    subplots,
)
from lrjax.stats import ACCURACY, Table, groups, mean_interval, select


@styled
def predictor(ratio: np.ndarray, models: Table, path: Path | None = None) -> Figure:
    """`ratio` [M], each model's greatest |position_gradient| / label_spread, against its order and its top-1 on unseen pairs."""
    figure, axes = subplots(1, 2, figsize=(2 * PANEL, 3.6), sharex=True)
    found = prediction(ratio, models)
    for axis, metric, name in zip(axes, ("unseen_pair_order", "unseen_pair"), ("order", "top-1"), strict=True):
        for k, ((n,), rows) in enumerate(groups(models, ("n_labels",)).items()):
            style = dict(marker=MARKERS[k % 7], color=COLOURS[k % 7], s=16, alpha=0.8, label=f"N = {n}")
            axis.scatter(ratio[rows], models[metric][rows], **style)
        row = found["accuracy"].tolist().index(metric)
        title = f"{name}: rank correlation {found['rank_correlation'][row]:.2f},\nAUC {found['auc'][row]:.2f}"
        finish(
            axis,
            "greatest |position gradient|\n/ label spread of a head",
            f"{name}, unseen pairs",
            title,
            0.5 if k and "order" in metric else None,
        )
        axis.axvline(1, color="0.5", lw=0.8, ls="--")
        axis.axhline(GENERALISES, color="0.8", lw=0.8)
        axis.set_xscale("log")
    axes[1].legend(fontsize=8)
    return save(figure, path)


@styled
def phases(history: Table, path: Path | None = None) -> Figure:
    """App C with the gradient on the same axis: the three generalisations and the greatest |position_gradient|, a panel per N."""
    by_n = groups(history, ("n_labels",))
    figure, axes = panels(len(by_n), sharey=True)
    strength = np.nanmax(np.abs([history[name] for name in recorded(history)]), 0)
    top = np.nanmax(strength)
    curves = {"single": "single", "seen_pair": "seen pair", "unseen_pair": "unseen pair", "unseen_pair_order": "order, unseen pair"}
    for axis, ((n,), rows) in zip(axes, by_n.items(), strict=True):
        part = select(history | {"strength": strength / top}, rows)
        for k, (column, name) in enumerate((curves | {"strength": f"|position gradient| / {top:.1f}"}).items()):
            by_step = groups(part, ("step",))
            mean, low, high = np.array([mean_interval(part[column][i], ACCURACY) for i in by_step.values()]).T
            steps = [step for (step,) in by_step]
            axis.plot(steps, mean, color=COLOURS[k], ls=LINES[k], lw=2 if column == "strength" else 1.2, label=name)
            axis.fill_between(steps, low, high, color=COLOURS[k], alpha=0.15, lw=0)
        finish(axis, "training step", "accuracy;\ngradient over its maximum", f"N = {n} labels")
    name_left(axes)
    legend_below(figure, *axes[0].get_legend_handles_labels())
    return save(figure, path)
