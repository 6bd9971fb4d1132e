"""Answers that studies ask of a run beside the analyses: a function of a run each, whose table a claim or a figure reads."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from lrjax import stats
from lrjax.analysis import decompose, gradient, heads, routes
from lrjax.analysis.models import tidy
from lrjax.analysis.selection import healthy, where
from lrjax.config import steps_per_epoch
from lrjax.stats import Table
from lrjax.storage import workdir
from lrjax.training.run import Run, history_table, model_columns, models_table

PHASES = ("single", "seen_pair", "unseen_pair", "unseen_pair_order", "unseen_pair_label_set")  # the accuracies of `curves`
CHAINS = ("unseen_chain", "unseen_chain_order")


def monotone(run: Run) -> Table:
    """Is the CLS row of EP monotone from left to right? A row per model: Spearman's |rank correlation| with the pixel, and the
    strength of EP's gradient, of the head whose EP gradient is greatest; the model's top-1.
    """
    from scipy.stats import spearmanr

    ep = decompose.tables(run).EP.sel(query_token="CLS").isel(key_position=slice(1, None))  # [model, head, pixel]
    strength = abs(gradient.gradient(run).gradient_EP)
    best = strength.argmax("head")
    rows = ep.isel(head=best).values
    rank = [abs(float(spearmanr(np.arange(row.size), row)[0])) for row in rows]  # pyright: ignore[reportArgumentType]  # scipy
    table = tidy(strength.isel(head=best).drop_vars("head").to_dataset(name="gradient_EP"))
    return table | {"monotone": np.array(rank), "unseen_pair": models_table(run)["unseen_pair"]}


def late_gain(run: Run) -> Table:
    """By how much each metric rose in the last 30 % of training: a row per model."""
    history = history_table(run)
    last = int(history["evaluation"].max())
    rows = lambda evaluation: stats.select(history, history["evaluation"] == evaluation)
    before, end, columns = rows(round(0.7 * last)), rows(last), model_columns(run.sweep)
    return columns | {name: end[name] - before[name] for name in history if name not in ("step", "evaluation", *columns)}


def pruned_of(run: Run, n_heads: int) -> Table:
    """Every subset of heads kept, at N = 15, of the models of a run with so many heads (each number of heads has 2^n subsets)."""
    part = where(run, ["n_labels=15", f"n_heads={n_heads}"])
    return heads.pruning(part, heads.heads(part))


def curves(run: Run) -> Table:
    """The accuracies PHASES in training, and that of chains where there are three objects: a row per evaluation (its number from 0)
    and model, with its step, and `epoch`, how many epochs of a finite set it has made by then (NaN of resampled data).
    """
    history, models = history_table(run), run.sweep.models
    per_epoch = [steps_per_epoch(model) if model.data == "fixed" else np.nan for model in models]
    epoch = history["step"] / np.tile(per_epoch, len(history["step"]) // len(models))
    chains = [name for name in CHAINS if name in history and not np.isnan(history[name]).all()]
    names = ("step", "evaluation", *model_columns(run.sweep), *PHASES, *chains)
    return {name: history[name] for name in names} | {"epoch": epoch}


def binding(run: Run) -> Table:
    """By which route images say what stands left (`analysis.routes`), a row a model. `agreement` is that of the
    head with the largest part of the value route.
    """
    return tidy(routes.of_strongest(routes.routes(run)))


def over_time(folder: Path, answer: Callable[[Run], Table]) -> Table:
    """An answer at every checkpoint that a sweep's folder holds (all evaluations, if it trained with keep_checkpoints=0), with the
    columns `evaluation` and `step` of each model.
    """
    tables = []
    for checkpoint in workdir.evaluations(folder):
        run = healthy(workdir.restore(checkpoint))
        table, numbers = answer(run), model_columns(run.sweep)["model"]
        place = {
            model: (evaluated - 1, step)
            for program, evaluated, step in zip(run.programs, run.evaluated, run.at, strict=True)
            for model in numbers[program.rows].tolist()
        }
        evaluation, step = np.array([place[model] for model in table["model"].tolist()]).T
        tables.append(table | {"evaluation": evaluation, "step": step})
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
