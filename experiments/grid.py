"""Restore a sweep of grids: is there a horizontal gradient and a vertical one, in which heads, and what is lost without either?

python -m experiments.grid --ckpt=runs/grid [--labels=25] [--where=n_heads=4] [--format=png|svg|pdf]
"""

from experiments import common
from lrjax import cli
from lrjax.analysis import grid
from lrjax.analysis.ablate import GRID_ABLATIONS, TASK_ABLATIONS, ablate
from lrjax.analysis.models import tidy
from lrjax.metrics import of_words, tabled
from lrjax.plotting import tasks as figures
from lrjax.stats import conditions, joined
from lrjax.training.run import model_columns

common.define_flags(encoder=False)


def main() -> None:
    run = common.restore()
    found = grid.directions(run)
    models = common.models_of(run)
    columns = model_columns(run.sweep)
    by = conditions(columns, columns)
    heads = tidy(grid.best_heads(found))
    common.write_table("grid", joined(models, heads, ("ratio_horizontal", "ratio_vertical", "apart")))
    common.write_table("grid_heads", by_head := tidy(found[["gradient_horizontal", "gradient_vertical", "label_spread"]]))
    by_word = {metric.column: metric.name for metric in of_words(models)}
    common.print_summary(models, by, tabled(models) | by_word)
    common.print_summary(
        heads, by, {"ratio_horizontal": "horizontal / spread", "ratio_vertical": "vertical / spread", "apart": "apart"}
    )
    table = ablate(run, (*TASK_ABLATIONS, *GRID_ABLATIONS), sets=("unseen_pair",))
    common.write_table("grid_ablate", table)
    common.print_summary(table, (*by, "ablation"), tabled(table) | by_word)
    common.write_table("grid_maps", maps := grid.best_maps(found, models))
    common.draw("grid_taken", figures.taken, table)
    common.draw("grid_maps", figures.maps, maps)
    common.draw("grid_directions", figures.directions, by_head)


if __name__ == "__main__":
    cli.run(main)
