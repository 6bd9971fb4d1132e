"""Restore a sweep and ask which way its heads look, and which subsets of heads keep the skill. (Fig 4c, App K, Fig 22)

python -m experiments.heads --ckpt=runs/diversity [--labels=15] [--where=n_heads=4] [--nopruning] [--format=png|svg|pdf]
"""

import numpy as np
from absl import flags

from experiments import common
from lrjax import cli
from lrjax.analysis import heads
from lrjax.analysis.ablate import ablate
from lrjax.analysis.gradient import prediction
from lrjax.analysis.models import tidy
from lrjax.gates import NONE
from lrjax.metrics import SHOWN, tabled
from lrjax.plotting import heads as figures
from lrjax.stats import ACCURACY, Table, conditions, format_interval, format_table, groups, select
from lrjax.training.run import model_columns

common.define_flags(encoder=False)
PRUNING = flags.DEFINE_bool("pruning", True, "evaluate every subset of heads kept")
TOGETHER = {
    "n_left": "lean left",
    "n_right": "lean right",
    "both": "have both",
    "complementarity": "complementarity",
    "strongest_lean": "strongest lean",
}


def main() -> None:
    run = common.restore()
    answer = heads.heads(run)
    columns = model_columns(run.sweep)
    by = conditions(columns, columns)
    print_models(answer, by)
    pruned = heads.pruning(run, answer) if PRUNING.value else None
    accuracy = ablate(run, (NONE,)) if pruned is None else heads.whole(pruned)
    print_prediction(heads.of_a_model(answer).max("layer"), accuracy)
    table = heads.head_table(answer)
    common.write_table("heads", table)
    common.write_table("heads_labels", tidy(answer[["bias_by_labels"]]))
    distances = heads.distance_table(answer)
    common.write_table("heads_distance", distances)
    common.draw("heads", figures.bias, table)
    common.draw("heads_distance", figures.by_distance, distances)
    if pruned is not None:
        grouped = heads.by_composition(pruned)
        print_pruning(grouped, by)
        common.write_table("pruning", pruned)
        common.draw("pruning", figures.pruning, grouped, SHOWN)


def print_models(answer, by: tuple[str, ...]) -> None:
    together = tidy(heads.of_a_model(answer))  # a model has no row of a layer that it lacks
    together["both"] = (together["n_left"] > 0) & (together["n_right"] > 0)
    lines = []
    for key, rows in groups(together, (*by, "layer")).items():
        lines.append([*key, len(rows), *(format_interval(together[name][rows]) for name in TOGETHER)])
    print(format_table([*by, "layer", "models", *TOGETHER.values()], lines))
    print(
        f"Heads a model that lean left (head_bias < {heads.LEFT:.2f}) and right (> {heads.RIGHT:.2f}); share of models with both;"
    )
    print("complementarity = max - min of head_bias; strongest lean = max |head_bias - 1/2|. Mean over seeds [95 % interval].\n")


def print_prediction(together, accuracy: Table) -> None:
    lines = []
    for name in ("complementarity", "strongest_lean"):
        found = prediction(together[name].values, accuracy)
        for row in range(len(found["accuracy"])):
            lines.append([TOGETHER[name], found["accuracy"][row], *(f"{found[x][row]:.2f}" for x in ("rank_correlation", "auc"))])
    print(format_table(["predictor", "accuracy", "rank correlation", "AUC (> 0.8)"], lines))
    print(f"Over all {len(accuracy['model'])} models, at this step.\n")


def print_pruning(grouped: Table, by: tuple[str, ...]) -> None:
    lines, shown = [], tabled(grouped)
    for key, rows in groups(grouped, (*by, "n_heads_kept", "directions")).items():
        part = select(grouped, rows)
        accuracies = (format_interval(part[name], within=ACCURACY) for name in shown)
        lines.append([*key, len(rows), int(np.sum(part["subsets"])), *accuracies])
    print(format_table([*by, "kept", "ways they lean", "models", "subsets", *shown.values()], lines))
    print("Subsets of heads kept; unseen pairs; mean over models of a model's mean [95 % interval over models].\n")


if __name__ == "__main__":
    cli.run(main)
