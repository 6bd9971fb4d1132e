"""The figure that every result has: means over models with 95 % intervals, into axes of the caller's if there are any."""

import numpy as np
import pandas as pd

from lrjax.plotting.style import COLOURS, MARKERS, Figure, headline, panels, styled


@styled
def means(summary: pd.DataFrame, measures: tuple[str, ...], title: str, ax=None) -> Figure:
    """Draw `Result.summary`.

    Args:
      summary: indexed by the number of labels and places; for each measure its mean, `_low` and `_high`.
      measures: what is drawn, a panel each.
      title: the title of the figure.
      ax: axes to draw the first measure into.

    Returns:
      The figure, or that of `ax`.
    """
    if ax is None:
        figure, axes = panels(len(measures), 3.2)
    else:
        figure, axes = ax.figure, [ax]
    labels = summary.index.get_level_values(0)
    for axis, measure in zip(axes, measures, strict=False):
        for k, n in enumerate(dict.fromkeys(labels)):
            part = summary[labels == n]
            names = [", ".join(map(str, key[1:])) if isinstance(key, tuple) else "" for key in part.index]
            x = np.arange(len(part)) + (k - (len(set(labels)) - 1) / 2) * 0.15
            mean, low, high = (np.asarray(part[f"{measure}{end}"], float) for end in ("", "_low", "_high"))
            style = dict(color=COLOURS[k % 7], marker=MARKERS[k % 7], ls="none", ms=4.5, capsize=2, lw=1.2)
            axis.errorbar(
                x,
                mean,
                [np.nan_to_num(mean - low), np.nan_to_num(high - mean)],
                label=f"N = {n}" if summary.index.names[0] == "n_labels" else str(n),
                **style,
            )
            axis.set_xticks(range(len(names)), names, rotation=30, ha="right")
        axis.set(ylabel=measure.replace("_", " "), title="")
    axes[0].legend(fontsize=8)
    if ax is None:
        headline(figure, title)
    else:
        ax.set_title(title)
    return figure
