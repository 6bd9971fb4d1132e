"""Studies with drawn numbers in place of trained models."""

import itertools

import numpy as np

from experiments.studies.study import Study, config_of, sweep_of
from lrjax import stats
from lrjax.training import retrieval
from lrjax.training.programs import make_programs
from lrjax.training.run import model_columns

ACCURACIES = ("loss", "unseen_pair", "unseen_pair_order", "unseen_pair_label_set")


def with_numbers(rng, table, names, low=0.05):
    n = len(next(iter(table.values())))
    return table | {name: rng.uniform(low, 1, n) for name in names}


def crossed(table, **axes):
    """Every row of a table with every combination of the axes."""
    n, keys = len(table["model"]), list(itertools.product(*axes.values()))
    columns = {name: np.repeat(column, len(keys)) for name, column in table.items()}
    return columns | {name: np.tile([key[i] for key in keys], n) for i, name in enumerate(axes)}


def measured(wanted):
    """The accuracies that models of a sweep have, whatever their shapes."""
    of = [retrieval.metric_names(p.static, p.static.task_object.SETS) for p in make_programs(wanted)]
    return ("loss", *(name for name in of[0] if all(name in names for names in of)))


def drawn(folder, parts, answers, measured, low=0.05):
    """A study of the real sweeps of `parts`, 2 seeds, whose numbers are drawn, not trained; answers: name -> (axes, columns), which
    are `low` to 1.
    """
    made, rng = Study(folder, parts, kept=folder), np.random.default_rng(0)  # tables without sweeps: an archive
    for name, part in parts.items():
        wanted = sweep_of(config_of(part), 2, 8, quick=False)
        columns = model_columns(wanted)
        own = measured(wanted)
        models = with_numbers(rng, columns, own)
        history = with_numbers(rng, crossed(columns, step=(0, 300, 600)), own)
        history["unseen_pair_order"] = np.where(history["step"] > 0, 0.9, 0.5)
        stats.write_csv(made.path(name) / "models.csv", models)
        stats.write_csv(made.path(name) / "history.csv", history)
        for answer in part.answers:
            axes, numbers = answers[answer]
            numbers = own if numbers is None else numbers
            table = with_numbers(rng, crossed(columns, **axes), numbers, low)
            stats.write_csv(made.path(name) / "analysis" / f"{answer}.csv", table)
    return made
