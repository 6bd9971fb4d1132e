"""Figures of training: the accuracies of a sweep, and its phases."""

import dataclasses
from pathlib import Path

import numpy as np

from lrjax.metrics import LABEL_SET, ORDER, SETS, TOP1, Metric
from lrjax.plotting.style import COLOURS, LINES, MARKERS, Figure, conditions_of, finish, left_out, line, save, styled, subplots
from lrjax.stats import ACCURACY, Table, groups, mean_interval, select

PANELS = {
    Metric("single"): ("One object, held-out position", "top-1"),
    Metric("seen_pair"): ("Trained pair, held-out layout", "top-1"),
    TOP1: ("Unseen pair of labels", "top-1"),
    ORDER: ("Unseen pair: order", "true caption above\nthe swapped one"),
    LABEL_SET: ("Unseen pair: label set", "best caption names\nthe right labels"),
}
PHASES = (*(Metric(name) for name in SETS), ORDER)


@styled
def fig3(models: Table, path: Path | None = None) -> Figure:
    """Fig 3 of the paper: the accuracies of a trained sweep against N, a line per n2 (or what else varies), and dotted the mean of
    the same among the captions of the set alone, where the table has it.
    """
    figure, axes = subplots(1, 5, figsize=(15, 3.1), sharey=True)
    conditions = conditions_of(models)
    among_set = {metric: dataclasses.replace(metric, candidates="set").column for metric in PANELS}
    in_set = {metric: column for metric, column in among_set.items() if not np.isnan(models.get(column, np.nan)).all()}
    for axis, (metric, (title, y_label)) in zip(axes, PANELS.items(), strict=True):
        for k, (name, chosen) in enumerate(conditions.items()):
            rows = select(models, chosen)
            by_n = groups(rows, ("n_labels",))
            line(axis, [n for (n,) in by_n], [rows[metric.column][i] for i in by_n.values()], k, name, ACCURACY)
            if metric in in_set:
                means = [mean_interval(rows[in_set[metric]][i])[0] for i in by_n.values()]
                axis.plot([n for (n,) in by_n], means, color=COLOURS[k % 7], ls=":", lw=1.6)
        finish(axis, "number of training labels N", y_label, title, metric.chance)
        axis.set_xticks(sorted(set(models["n_labels"].tolist())))
    if len(conditions) > 1:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(len(conditions), 6))
    title = "Accuracy against label diversity: mean over seeds, 95 % interval, seeds as dots"
    dotted = "; dotted: among the captions of the set alone" if in_set else ""
    figure.suptitle(title + dotted + left_out(models), size=10)
    return save(figure, path)


@styled
def phases(history: Table, path: Path | None = None) -> Figure:
    """App C of the paper: the three generalisations during training, a column per N, a row per condition."""
    labels, conditions = sorted(set(history["n_labels"].tolist())), conditions_of(history)
    size = (2.9 * len(labels) + 0.6, 2.7 * len(conditions) + 0.4)
    figure, axes = subplots(len(conditions), len(labels), figsize=size, sharey=True, squeeze=False)
    for row, (name, chosen) in zip(axes, conditions.items(), strict=True):
        for axis, n in zip(row, labels, strict=True):
            panel = select(history, chosen[history["n_labels"][chosen] == n])
            by_step = groups(panel, ("step",))
            for k, metric in enumerate(metric.column for metric in PHASES):
                mean, low, high = np.array([mean_interval(panel[metric][i], ACCURACY) for i in by_step.values()]).T
                steps, style = [step for (step,) in by_step], dict(color=COLOURS[k], ls=LINES[k], marker=MARKERS[k], ms=3, lw=1.3)
                axis.plot(steps, mean, label=metric.replace("_", " "), **style)
                axis.fill_between(steps, low, high, color=COLOURS[k], alpha=0.15, lw=0)
            finish(axis, "training step", "accuracy" if axis is row[0] else "", f"N = {n} labels" + (f"\n{name}" if name else ""))
    axes[0, 0].legend(loc="lower right", fontsize=8)
    if missing := left_out(history):
        figure.suptitle(missing.strip("; "), size=10)
    return save(figure, path)


@styled
def against(models: Table, column: str, name: str, path: Path | None = None) -> Figure:
    """Accuracies on unseen pairs against one axis of a sweep, each of its values a place of its own; a panel per N."""
    labels, values = sorted(set(models["n_labels"].tolist())), sorted(set(models[column].tolist()))
    figure, axes = subplots(1, len(labels), figsize=(3.6 * len(labels) + 0.6, 3.1), sharey=True, squeeze=False)
    measures = {metric.column: metric.name for metric in (TOP1, ORDER, LABEL_SET)}
    for axis, n in zip(axes[0], labels, strict=True):
        part = select(models, models["n_labels"] == n)
        for k, (metric, label) in enumerate(measures.items()):
            line(axis, range(len(values)), [part[metric][part[column] == value] for value in values], k, label, ACCURACY)
        finish(axis, name, "accuracy, unseen pairs" if axis is axes[0, 0] else "", f"N = {n} labels", 0.5)
        axis.set_xticks(range(len(values)), [f"{value:g}" for value in values])
    axes[0, -1].legend(fontsize=8)
    return save(figure, path)
