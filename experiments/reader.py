"""Restore a sweep of autoregressive readers: where do they look while they speak, and what is lost without a term? (App O)

python -m experiments.reader --ckpt=runs/autoregressive [--labels=25] [--where=n_heads=4] [--format=png|svg|pdf]
"""

from lrjax import answers, cli
from lrjax.analysis import reader
from lrjax.analysis.ablate import TASK_ABLATIONS, ablate
from lrjax.analysis.models import tidy
from lrjax.evaluate import MEASURES
from lrjax.figures import worlds as figures
from lrjax.stats import conditions
from lrjax.sweep import model_columns

answers.define_flags(encoder=False)
LEANS = {"looks_left": "first: looks left", "looks_right": "second: looks right", "turns": "turns"}
LEANS |= {"gradient_first": "first: gradient", "gradient_second": "second: gradient"}


def main() -> None:
    run = answers.restore()
    found = reader.reading(run)
    columns = model_columns(run.sweep)
    by = conditions(columns, columns)
    answers.tell_by(answers.models_of(run), by, MEASURES)
    table = tidy(found[["prefers_right", "attention_left", "attention_right"]])
    answers.write_table("reader", table)
    answers.write_table("reader_gradient", tidy(found[["gradient"]]))
    answers.tell_by(tidy(reader.leans(found)), by, LEANS)
    answers.draw("reader", figures.looks, table)
    zeroed = ablate(run, TASK_ABLATIONS, encoder="text", sets=("unseen_pair",))
    answers.write_table("reader_ablate", zeroed)
    answers.tell_by(zeroed, (*by, "ablation"), MEASURES | {"unseen_pair_named": "named", "unseen_pair_alone": "said alone"})


if __name__ == "__main__":
    cli.run(main)
