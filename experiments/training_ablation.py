"""Restore a sweep over gates in training: without EP (or more), which term takes over, how fast, at which N?

python -m experiments.training_ablation --ckpt=runs/training_ablation [--labels=15] [--where=n_heads=4] [--format=png|svg|pdf]

Mind the gauge: with one vision block E_cls and P_0 enter as their sum, so EP off from the start leaves the whole of the readout's
position gradient to PP. That is no other mechanism: it is the same gradient, with the CLS vector in P_0.
"""

import numpy as np

from experiments import common
from lrjax import cli
from lrjax.analysis import gradient
from lrjax.analysis.models import tidy
from lrjax.metrics import tabled
from lrjax.plotting import encoders as figures
from lrjax.stats import joined
from lrjax.terms import POSITION_TERMS
from lrjax.training.run import history_table

common.define_flags(encoder=False)
SHARES = {f"share_{term}": term for term in POSITION_TERMS}


def main() -> None:
    run = common.restore()
    models, history = common.models_of(run), history_table(run)
    skilled = {"model": np.unique(history["model"]), "skilled_at": gradient.first_step(history, "unseen_pair_order")}
    carried = gradient.carried(tidy(gradient.strongest(gradient.gradient(run))))
    table = joined(joined(models, skilled, ["skilled_at"]), carried, ["position_gradient", "label_spread", "ratio", *SHARES])
    by = ("n_labels", "gates")
    common.print_summary(table, by, tabled(table) | {"skilled_at": "order .8 at step"})
    common.print_summary(table | {"size": abs(table["position_gradient"])}, by, {"size": "|gradient|"} | SHARES)
    common.write_table("training_ablation", table)
    common.draw("training_ablation", figures.accuracies, table, ("gates",), "Gates in training")
    common.draw("training_ablation_share", figures.shares, table, ("gates",))
    common.draw("training_ablation_order", figures.order_in_training, history)


if __name__ == "__main__":
    cli.run(main)
