"""Labels or layouts: how much of unseen-pair accuracy does each explain? A two-way analysis of variance over a grid (Fig 3).

python -m experiments.factors --ckpt=runs/diversity_grid [--where=n_heads=4] [--axes=n_labels,n2]
"""

from absl import flags

from experiments import common
from lrjax import cli
from lrjax.analysis.factors import explained
from lrjax.errors import InputError
from lrjax.stats import format_table
from lrjax.training.run import models_table

common.define_flags(encoder=False)
AXES = flags.DEFINE_list("axes", ["n_labels", "n2"], "the two axes of the sweep")
METRICS = ("unseen_pair", "unseen_pair_order", "unseen_pair_label_set")


def main() -> None:
    run = common.restore()
    if so_far := common.unfinished(run):
        raise InputError(so_far)
    table = models_table(run)
    if len(AXES.value) != 2 or not set(AXES.value) <= set(table):
        raise InputError(f"--axes={','.join(AXES.value)}: expected two columns of models.csv, such as n_labels,n2")
    rows, found = [], {}
    for metric in METRICS:
        shares = explained(table, metric, *AXES.value)
        found |= {f"{metric}_{name}": shares[name] for name in ("share", "low", "high")} | {"factor": shares["factor"]}
        rows += [[metric, f, f"{s:.3f} [{low:.3f}, {high:.3f}]"] for f, s, low, high in zip(*shares.values(), strict=True)]
    print(format_table(["accuracy", "factor", "share of variance"], rows))
    common.write_table("factors", found)


if __name__ == "__main__":
    cli.run(main)
