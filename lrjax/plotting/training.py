"""Figures of training: the accuracies of a sweep, and its phases."""

import dataclasses
from pathlib import Path

import numpy as np

from lrjax.metrics import LABEL_SET, ORDER, SETS, TOP1, Metric
from lrjax.plotting.style import (
    COLOURS,
    LINES,
    MARKERS,
    PANEL,
    Figure,
    conditions_of,
    finish,
    headline,
    left_out,
    legend_below,
    line,
    name_left,
    panels,
    save,
    styled,
)
from lrjax.stats import ACCURACY, Table, groups, mean_interval, select

PANELS = {  # the first is what matters; the others say what it is made of
    TOP1: ("Unseen pair of labels", "top-1"),
    ORDER: ("Unseen pair: order", "true caption above\nthe swapped one"),
    LABEL_SET: ("Unseen pair: label set", "best caption names\nthe right labels"),
    Metric("single"): ("One object, held-out position", "top-1"),
    Metric("seen_pair"): ("Trained pair, held-out layout", "top-1"),
}
PHASES = (*(Metric(name) for name in SETS), ORDER)


@styled
def fig3(models: Table, path: Path | None = None) -> Figure:
    """Fig 3 of the paper: the accuracies of a trained sweep against N, a line per n2 (or what else varies). Where there is one
    line, dotted the mean of the same among the captions of the set alone, if the table has it. Top-1 on unseen pairs has the width
    of the figure.
    """
    figure, axes = first_and_small(len(PANELS))
    conditions = conditions_of(models)
    among_set = {metric: dataclasses.replace(metric, candidates="set").column for metric in PANELS}
    in_set = {metric: column for metric, column in among_set.items() if not np.isnan(models.get(column, np.nan)).all()}
    if len(conditions) > 1:
        in_set = {}  # twice as many lines cannot be told apart
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
        legend_below(figure, *axes[0].get_legend_handles_labels())
    title = "A dot is a model: what it gets right, by how many labels it saw in training; mean over seeds, 95 % interval"
    dotted = "; dotted: among the captions of the set alone" if in_set else ""
    headline(figure, title + dotted + left_out(models))
    return save(figure, path)


def first_and_small(n: int, height: float = 2.5):
    """A figure whose first panel has its whole width, with n - 1 smaller ones below, two beside each other; and its axes [n]."""
    rows = 1 + -(-(n - 1) // 2)
    figure = Figure(figsize=(2 * PANEL, height * rows + 1), layout="constrained")
    places = figure.add_gridspec(rows, 2, height_ratios=(1.4, *(rows - 1) * (1,)))
    axes = [figure.add_subplot(places[0, :])]
    axes += [figure.add_subplot(places[1 + i // 2, i % 2], sharey=axes[0]) for i in range(n - 1)]
    return figure, axes


@styled
def phases(history: Table, path: Path | None = None) -> Figure:
    """App C of the paper: the three generalisations during training, a panel per N and condition."""
    labels, conditions = sorted(set(history["n_labels"].tolist())), conditions_of(history)
    figure, axes = panels(len(labels) * len(conditions), sharey=True)
    places = [(name, chosen, n) for name, chosen in conditions.items() for n in labels]
    for axis, (name, chosen, n) in zip(axes, places, strict=True):
        panel = select(history, chosen[history["n_labels"][chosen] == n])
        by_step = groups(panel, ("step",))
        for k, metric in enumerate(metric.column for metric in PHASES):
            mean, low, high = np.array([mean_interval(panel[metric][i], ACCURACY) for i in by_step.values()]).T
            steps, style = [step for (step,) in by_step], dict(color=COLOURS[k], ls=LINES[k], marker=MARKERS[k], ms=3, lw=1.3)
            axis.plot(steps, mean, label=metric.replace("_", " "), **style)
            axis.fill_between(steps, low, high, color=COLOURS[k], alpha=0.15, lw=0)
        finish(axis, "training step", "accuracy", f"N = {n} labels" + (f"\n{name}" if name else ""))
    name_left(axes)
    legend_below(figure, *axes[0].get_legend_handles_labels())
    headline(figure, "What is learned when: mean over seeds, 95 % interval" + left_out(history))
    return save(figure, path)


@styled
def against(models: Table, column: str, name: str, path: Path | None = None) -> Figure:
    """Accuracies on unseen pairs against one axis of a sweep, each of its values a place of its own; a panel per N."""
    labels, values = sorted(set(models["n_labels"].tolist())), sorted(set(models[column].tolist()))
    figure, axes = panels(len(labels), sharey=True)
    measures = {metric.column: metric.name for metric in (TOP1, ORDER, LABEL_SET)}
    for axis, n in zip(axes, labels, strict=True):
        part = select(models, models["n_labels"] == n)
        for k, (metric, label) in enumerate(measures.items()):
            line(axis, range(len(values)), [part[metric][part[column] == value] for value in values], k, label, ACCURACY)
        finish(axis, name, "accuracy, unseen pairs", f"N = {n} labels", 0.5)
        axis.set_xticks(range(len(values)), [f"{value:g}" for value in values])
    name_left(axes)
    legend_below(figure, *axes[0].get_legend_handles_labels())
    headline(figure, f"What {name} does: mean over seeds, 95 % interval, seeds as dots")
    return save(figure, path)
