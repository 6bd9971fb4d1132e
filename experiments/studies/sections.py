"""The table of accuracies that a section of a page has."""

import numpy as np

from experiments.studies.claim_values import TOP1
from experiments.studies.templating import Grid
from lrjax.analysis.gradient import GENERALISES
from lrjax.metrics import tabled
from lrjax.stats import ACCURACY, Table, groups, mean_interval


def summary(models: Table, by: tuple[str, ...], more: tuple[str, ...] = ()) -> Table:
    """Mean accuracies on unseen pairs, the share of models that generalise, both with intervals, and `more` means, by condition."""
    lines, accuracies = [], tabled(models)
    for key, rows in groups(models, by).items():
        line = dict(zip(by, key, strict=True)) | {"models": len(rows)}
        line |= {metric: np.nanmean(models[metric][rows]) for metric in (*accuracies, *more)}
        for metric in accuracies:
            line[f"{metric}_low"], line[f"{metric}_high"] = mean_interval(models[metric][rows], ACCURACY)[1:]
        share, low, high = mean_interval(models[TOP1][rows] > GENERALISES)
        lines.append(line | {"generalise": share, "generalise_low": low, "generalise_high": high})
    return {name: np.array([line[name] for line in lines]) for name in lines[0]}


def shown(table: Table) -> Grid:
    """A table for the page; intervals are in the CSV alone."""
    limits = {f"{name}{end}" for name in table for end in ("_low", "_high")}
    table = {name: column for name, column in table.items() if name not in limits}
    cell = lambda value: f"{value:.3f}" if isinstance(value, float) else str(value)
    rows = zip(*(column.tolist() for column in table.values()), strict=True)
    return Grid(list(table), [[cell(value) for value in row] for row in rows])
