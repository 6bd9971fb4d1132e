"""Tidy tables in, matplotlib figures out. Colours are Okabe and Ito's; markers and line styles differ too, to be read in grey."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from lrjax.config import AXES, STATIC
from lrjax.stats import Table, groups, mean_interval, select, varying

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), "-")
plt.rcParams |= {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "font.size": 9,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "figure.dpi": 110,
    "savefig.bbox": "tight",
    "svg.hashsalt": "lrjax",
}

PANELS = {
    "single": ("One object, held-out position", "top-1"),
    "seen_pair": ("Trained pair, held-out layout", "top-1"),
    "unseen_pair": ("Unseen pair of labels", "top-1"),
    "unseen_pair_order": ("Unseen pair: order", "true caption above the swapped one"),
    "unseen_pair_label_set": ("Unseen pair: label set", "best caption names the right labels"),
}


def _save(figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)
    return path


def _finish(axis, x_label: str, y_label: str, title: str, chance: float | None = None) -> None:
    axis.set(xlabel=x_label, ylabel=y_label, title=title, ylim=(-0.03, 1.03))
    if chance is not None:
        axis.axhline(chance, color="0.4", lw=0.8, ls=(0, (1, 2)))
        axis.annotate("chance", (1, chance), xycoords=("axes fraction", "data"), ha="right", va="bottom", size=7, color="0.35")


def _line(axis, x, samples, k: int, label: str | None) -> None:
    """Mean and 95 % interval of samples [len(x)][n] at x, seeds as dots."""
    mean, low, high = np.array([mean_interval(values) for values in samples]).T
    axis.plot(x, mean, color=COLOURS[k % 7], marker=MARKERS[k % 7], ls=LINES[k % 7], ms=4, lw=1.4, label=label)
    axis.fill_between(x, low, high, color=COLOURS[k % 7], alpha=0.18, lw=0)
    for place, values in zip(x, samples, strict=True):
        axis.plot(np.full(len(values), place), values, ".", color=COLOURS[k % 7], ms=3, alpha=0.45)


CONDITIONS = (*(name for name in AXES if name not in ("n_labels", "betas")), "beta1", "beta2", *STATIC)


def _conditions(table: Table, leave_out: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """The rows of each condition, named by the axes (beside N and seeds) that vary: seeds are pooled, conditions never."""
    by = varying(table, tuple(name for name in CONDITIONS if name not in leave_out))
    return {", ".join(f"{n} = {v}" for n, v in zip(by, key, strict=True)): rows for key, rows in groups(table, by).items()}


def _left_out(table: Table) -> str:
    """`; 2 diverged models left out`, if a table has models without accuracies."""
    models = set(table["model"][np.isnan(table["unseen_pair"])].tolist())
    return f"; {len(models)} diverged model{'s' if len(models) > 1 else ''} left out" if models else ""


def fig3(models: Table, path: Path) -> Path:
    """Fig 3 of the paper: the accuracies of a trained sweep against N, a line per n2 (or what else varies)."""
    figure, axes = plt.subplots(1, 5, figsize=(15, 3.1), sharey=True, layout="constrained")
    conditions = _conditions(models)
    for axis, (metric, (title, y_label)) in zip(axes, PANELS.items(), strict=True):
        for k, (name, chosen) in enumerate(conditions.items()):
            rows = select(models, chosen)
            by_n = groups(rows, ("n_labels",))
            _line(axis, [n for (n,) in by_n], [rows[metric][i] for i in by_n.values()], k, name)
        _finish(axis, "number of training labels N", y_label, title, 0.5 if metric.endswith("order") else None)
        axis.set_xticks(sorted(set(models["n_labels"].tolist())))
    if len(conditions) > 1:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(len(conditions), 6))
    title = "Accuracy against label diversity: mean over seeds, 95 % interval, seeds as dots"
    figure.suptitle(title + _left_out(models), size=10)
    return _save(figure, path)


def phases(history: Table, path: Path) -> Path:
    """App C of the paper: the three generalisations during training, a column per N, a row per condition."""
    labels, conditions = sorted(set(history["n_labels"].tolist())), _conditions(history)
    size = (2.9 * len(labels) + 0.6, 2.7 * len(conditions) + 0.4)
    figure, axes = plt.subplots(len(conditions), len(labels), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for row, (name, chosen) in zip(axes, conditions.items(), strict=True):
        for axis, n in zip(row, labels, strict=True):
            panel = select(history, chosen[history["n_labels"][chosen] == n])
            by_step = groups(panel, ("step",))
            for k, metric in enumerate(("single", "seen_pair", "unseen_pair", "unseen_pair_order")):
                mean, low, high = np.array([mean_interval(panel[metric][i]) for i in by_step.values()]).T
                steps, style = [step for (step,) in by_step], dict(color=COLOURS[k], ls=LINES[k], marker=MARKERS[k], ms=3, lw=1.3)
                axis.plot(steps, mean, label=metric.replace("_", " "), **style)
                axis.fill_between(steps, low, high, color=COLOURS[k], alpha=0.15, lw=0)
            _finish(axis, "training step", "accuracy" if axis is row[0] else "", f"N = {n} labels" + (f"\n{name}" if name else ""))
    axes[0, 0].legend(loc="lower right", fontsize=8)
    if left_out := _left_out(history):
        figure.suptitle(left_out.strip("; "), size=10)
    return _save(figure, path)


def ablation(table: Table, path: Path, title: str) -> Path:
    """Order, label set and top-1 of unseen pairs under each ablation: a panel per N and condition; seeds as dots."""
    panels = {
        f"N = {n} labels" + (f", {name}" if name else ""): chosen[table["n_labels"][chosen] == n]
        for n in sorted(set(table["n_labels"].tolist()))
        for name, chosen in _conditions(table).items()
    }
    names = list(dict.fromkeys(table["ablation"].tolist()))
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(0.75 * len(names) + 2, 2.1 * len(panels) + 0.8), sharex=True, squeeze=False, layout="constrained"
    )
    measures = {"unseen_pair_order": "order", "unseen_pair_label_set": "label set", "unseen_pair": "top-1"}
    for axis, (name, rows) in zip(axes[:, 0], panels.items(), strict=True):
        panel = select(table, rows)
        for k, (metric, label) in enumerate(measures.items()):
            samples = [panel[metric][panel["ablation"] == name] for name in names]
            mean, low, high = np.array([mean_interval(values) for values in samples]).T
            x = np.arange(len(names)) + (k - 1) * 0.24
            style = dict(color=COLOURS[k], marker=MARKERS[k], ls="none", ms=4.5, capsize=2, lw=1.2)
            axis.errorbar(x, mean, [np.nan_to_num(mean - low), np.nan_to_num(high - mean)], label=label, **style)
            for place, values in zip(x, samples, strict=True):
                axis.plot(np.full(len(values), place) + 0.07, values, ".", color=COLOURS[k], ms=2.5, alpha=0.45)
        _finish(axis, "", "accuracy, unseen pairs", name, 0.5)
    axes[-1, 0].set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes[-1, 0].set_xlabel("terms set to zero")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
    figure.suptitle(title + _left_out(table), size=10, x=0.02, ha="left")
    return _save(figure, path)
