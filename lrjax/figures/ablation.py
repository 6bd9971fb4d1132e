"""Figures of what an ablation takes away."""

from pathlib import Path

import numpy as np

from lrjax.figures.style import COLOURS, MARKERS, conditions_of, finish, plt, save
from lrjax.stats import Table, mean_interval, select


def ablation(table: Table, title: str, measures: dict[str, str], path: Path) -> Path:
    """`measures` (column -> name) of unseen pairs under each ablation: a panel per N and condition; seeds as dots."""
    panels = {
        f"N = {n} labels" + (f", {name}" if name else ""): chosen[table["n_labels"][chosen] == n]
        for n in sorted(set(table["n_labels"].tolist()))
        for name, chosen in conditions_of(table).items()
    }
    names = list(dict.fromkeys(table["ablation"].tolist()))
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(0.75 * len(names) + 2, 2.1 * len(panels) + 0.8), sharex=True, squeeze=False, layout="constrained"
    )
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
        finish(axis, "", "accuracy, unseen pairs", name, 0.5)
    axes[-1, 0].set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes[-1, 0].set_xlabel("what is taken away")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
    figure.suptitle(title, size=10, x=0.02, ha="left")
    return save(figure, path)
