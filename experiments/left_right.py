"""Restore a sweep whose captions say left-of and right-of: how is right-of solved, layer by layer, path by path? (App J)

python -m experiments.left_right --ckpt=runs/left_right [--labels=15] [--where=n_heads=4] [--format=png|svg|pdf]
"""

from experiments import common
from lrjax import cli
from lrjax.metrics import of_words, tabled
from lrjax.plotting import encoders as figures
from lrjax.stats import conditions
from lrjax.training.run import model_columns

common.define_flags(encoder=False)


def main() -> None:
    run = common.restore()
    models = common.models_of(run)
    columns = model_columns(run.sweep)
    by = conditions(columns, columns)
    common.print_summary(models, by, tabled(models) | {metric.column: metric.name for metric in of_words(models)})
    common.draw("left_right", figures.accuracies, models, by[1:] or ("n_labels",), "Left-of and right-of")
    common.print_strongest_effects("left_right", run, "text", by)


if __name__ == "__main__":
    cli.run(main)
