"""Figures of other tasks: the position row on a grid, and where a decoder attends."""

from pathlib import Path

import numpy as np

from lrjax.metrics import ORDER, of_words
from lrjax.plotting.ablation import bars
from lrjax.plotting.style import (
    COLOURS,
    MARKERS,
    PANEL,
    Figure,
    conditions_of,
    finish,
    headline,
    in_lines,
    legend_below,
    name_left,
    panels,
    save,
    styled,
    subplots,
)
from lrjax.stats import ACCURACY, Table, groups, select

COMPASS = ("left", "right", "above", "below")


@styled
def maps(table: Table, path: Path | None = None) -> Figure:
    """The CLS row of EP + PP + BP on the grid, at the most labels: a row a condition (its best model), a panel a head with its
    gradients. From `grid.best_maps`.
    """
    table = select(table, table["n_labels"] == table["n_labels"].max())
    named, n_heads = conditions_of(table), len(set(table["head"].tolist()))
    size = (2 * PANEL, 2.1 * len(named) + 0.6)
    figure, axes = subplots(len(named), n_heads, figsize=size, squeeze=False)
    for row_of_axes, (name, rows) in zip(axes, named.items(), strict=True):
        most = np.abs(table["score"][rows]).max()
        for axis in row_of_axes:
            axis.set_axis_off()
        for (head,), i in groups(select(table, rows), ("head",)).items():
            one, axis = select(table, rows[i]), row_of_axes[head]
            on_grid = np.full((int(one["row"].max()), int(one["column"].max())), np.nan)
            on_grid[one["row"].astype(int) - 1, one["column"].astype(int) - 1] = one["score"]
            image = axis.imshow(on_grid, cmap="RdBu_r", vmin=-most, vmax=most)
            horizontal, vertical = one["gradient_horizontal"][0], one["gradient_vertical"][0]
            axis.set_title(f"head {head}\nhorizontal {horizontal:+.1f}\nvertical {vertical:+.1f}", size=9)
        figure.colorbar(image, ax=row_of_axes, label=in_lines(name), shrink=0.8)
    headline(
        figure, f"Where EP + PP + BP draw CLS's attention (centred), in the model with the best top-1, N = {table['n_labels'][0]}"
    )
    return save(figure, path)


@styled
def by_recipe(found: dict[tuple[str, bool, int], np.ndarray], path: Path | None = None) -> Figure:
    """Top-1 on unseen pairs, a row a task: small initial values on the left, large ones on the right; a colour a number of labels.

    Args:
      found: (task, whether initial values are large, N) -> top-1 [models].
      path: where the figure goes, if it goes to a file.
    """
    tasks, labels = list(dict.fromkeys(task for task, _, _ in found)), sorted({n for _, _, n in found})
    figure, axes = subplots(1, 2, figsize=(2 * PANEL, 0.42 * len(tasks) + 1.9), sharey=True)
    for axis, large in zip(axes, (False, True), strict=True):
        for k, n in enumerate(labels):
            rows = [(row, found[task, large, n]) for row, task in enumerate(tasks) if (task, large, n) in found]
            at = np.array([row for row, _ in rows]) + 0.24 * (k - (len(labels) - 1) / 2)
            for place, (_, top1) in zip(at, rows, strict=True):
                axis.plot(top1, [place] * len(top1), ls="none", marker=".", ms=4, alpha=0.5, color=COLOURS[k])
            means = [float(np.mean(top1)) for _, top1 in rows]
            axis.plot(means, at, ls="none", marker=MARKERS[k], ms=6, color=COLOURS[k], label=f"N = {n}")
        axis.set(
            xlim=(-0.03, 1.03), xlabel="top-1, unseen pairs", title="initial values N(0, 1)" if large else "small initial values"
        )
    axes[0].set_yticks(range(len(tasks)), [in_lines(task) for task in tasks])
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(labels))
    headline(figure, "How far a task gets depends on its initial values: mean at its last step, a dot a model")
    return save(figure, path)


@styled
def directions(table: Table, path: Path | None = None) -> Figure:
    """Horizontal against vertical |gradient|, over label spread, a dot a head, a panel per N and condition: are they in different
    heads? From `grid.directions`.
    """
    labels, named = sorted(set(table["n_labels"].tolist())), conditions_of(table)
    places = [(name, rows, n) for name, rows in named.items() for n in labels]
    figure, axes = panels(len(places), 2.4)
    for axis, (name, rows, n) in zip(axes, places, strict=True):
        part = select(table, rows[table["n_labels"][rows] == n])
        horizontal, vertical = (np.abs(part[f"gradient_{way}"]) / part["label_spread"] for way in ("horizontal", "vertical"))
        axis.plot(horizontal, vertical, ls="none", ms=3.5, alpha=0.7, color=COLOURS[0], marker=MARKERS[0])
        axis.axline((0, 0), slope=1, color="0.4", lw=0.8, ls=":")
        axis.set(xlabel="horizontal", ylabel="vertical", title=f"N = {n} labels\n{in_lines(name)}".strip())
    headline(figure, "A dot is a head, |gradient| over label spread: off the diagonal it keeps to one direction")
    return save(figure, path)


@styled
def taken(table: Table, path: Path | None = None) -> Figure:
    """Order on unseen pairs by word, as it is and without a direction of the position gradient, at the most labels, a panel a
    condition: mean, 95 % interval, models as dots. From a table of ablations.
    """
    table = select(table, table["n_labels"] == table["n_labels"].max())
    names = ["none", *(f"{part} EP+PP+BP" for part in ("horizontal", "vertical")), "EP+PP+BP"]
    words = [metric for metric in of_words(table) if metric.word in COMPASS]
    named = conditions_of(table)
    figure, axes = panels(len(named), 3.1, sharey=True)
    for axis, (name, rows) in zip(axes, named.items(), strict=True):
        for k, metric in enumerate(words or [ORDER]):
            samples = [table[metric.column][rows[table["ablation"][rows] == ablation]] for ablation in names]
            offset = (k - (len(words) - 1) / 2) * 0.8 / max(len(words), 1)
            bars(axis, np.arange(len(names)) + offset, samples, k, metric.word or metric.name, ACCURACY)
        finish(axis, "", "order, unseen pairs", in_lines(name), 0.5)
        axis.set_xticks(range(len(names)), ["nothing", "horizontal", "vertical", "both, all"])
        axis.set_xlabel("taken away of EP + PP + BP")
    name_left(axes)
    legend_below(figure, *axes[0].get_legend_handles_labels())
    headline(figure, "What is left of order without a direction of the gradient: mean over models, 95 % interval")
    return save(figure, path)


@styled
def attends_to(table: Table, path: Path | None = None) -> Figure:
    """How often each head of a decoder attends more to the right object, at the words before the first and the second label."""
    conditions = conditions_of(table)
    figure, axes = panels(len(conditions))
    words = list(dict.fromkeys(table["word"].tolist()))
    for axis, (name, rows) in zip(axes, conditions.items(), strict=True):
        for k, n in enumerate(sorted(set(table["n_labels"][rows].tolist()))):
            for w, word in enumerate(words):
                own = rows[(table["n_labels"][rows] == n) & (table["word"][rows] == word)]
                x = w + (k - 0.5) * 0.25 + (np.arange(len(own)) % 9 - 4) * 0.02
                style = dict(ls="none", ms=3.5, alpha=0.6, color=COLOURS[k], marker=MARKERS[k])
                axis.plot(x, table["prefers_right"][own], label=f"N = {n}" if not w else None, **style)
        axis.axhline(0.5, color="0.4", lw=0.8, ls=":")
        axis.set(ylim=(-0.03, 1.03), title=name, ylabel="attends more to the right object")
        axis.set_xticks(range(len(words)), [f"before the\n{word} label" for word in words])
    axes[0].legend(fontsize=8)
    headline(figure, "A decoder attends to one side before each label; a dot is a head")
    return save(figure, path)
