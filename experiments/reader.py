"""Restore a sweep of autoregressive readers: to which object do they attend at each word, and what is lost without a term? (App O)

python -m experiments.reader --ckpt=runs/autoregressive [--labels=25] [--where=n_heads=4] [--format=png|svg|pdf]
"""

from experiments import common
from lrjax import cli
from lrjax.analysis import reader
from lrjax.analysis.ablate import TASK_ABLATIONS, ablate
from lrjax.analysis.models import tidy
from lrjax.metrics import SHOWN, of_decoding
from lrjax.plotting import tasks as figures
from lrjax.stats import conditions
from lrjax.training.run import model_columns

common.define_flags(encoder=False)
SHOWN_OF_HEAD = {"attends_to_left": "first: attends left", "attends_to_right": "second: attends right", "bias_shift": "shift"}
SHOWN_OF_HEAD |= {"gradient_first": "first: gradient", "gradient_second": "second: gradient"}


def main() -> None:
    run = common.restore()
    found = reader.reading(run)
    columns = model_columns(run.sweep)
    by = conditions(columns, columns)
    common.print_summary(common.models_of(run), by, SHOWN)
    table = tidy(found[["prefers_right", "attention_left", "attention_right"]])
    common.write_table("reader", table)
    common.write_table("reader_gradient", tidy(found[["gradient"]]))
    common.print_summary(tidy(reader.attends_to(found)), by, SHOWN_OF_HEAD)
    common.draw("reader", figures.attends_to, table)
    zeroed = ablate(run, TASK_ABLATIONS, encoder="text", sets=("unseen_pair",))
    common.write_table("reader_ablate", zeroed)
    common.print_summary(zeroed, (*by, "ablation"), {metric.column: metric.name for metric in of_decoding("unseen_pair")})


if __name__ == "__main__":
    cli.run(main)
