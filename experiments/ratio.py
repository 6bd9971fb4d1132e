"""Which term carries the gradient? Initial scales decide: the terms' shares and what ablating them does, against E:P.

python -m experiments.ratio --ckpt=runs/scale_ratio [--labels=15] [--where=n_heads=4] [--format=png|svg|pdf]
"""

from experiments import common
from lrjax import cli
from lrjax.analysis import gauge, gradient
from lrjax.analysis.ablate import ablate
from lrjax.analysis.models import tidy
from lrjax.errors import InputError
from lrjax.plotting import ablation as figures
from lrjax.stats import ACCURACY, format_interval, format_table, groups
from lrjax.terms import POSITION_TERMS

common.define_flags(encoder=False)


def main() -> None:
    run = common.restore()
    if len({(m.e_scale, m.p_scale) for m in run.sweep.models}) < 2:
        raise InputError("--ckpt: all models have the same initial scales; give a sweep such as experiments/configs/scale_ratio.py")
    carried = gradient.carried(tidy(gradient.strongest(gradient.gradient(run))))
    table = ablate(run, gauge.ABLATIONS, sets=("unseen_pair",))
    rows = []
    for key, chosen in groups(carried, ("n_labels", "ratio_EP")).items():
        shares = [format_interval(carried[f"share_{term}"][chosen]) for term in POSITION_TERMS]
        mine = (table["n_labels"] == key[0]) & (gradient.scale_ratio(table) == key[1])
        order = [
            format_interval(table["unseen_pair_order"][mine & (table["ablation"] == a)], within=ACCURACY)
            for a in ("none", "EP", "PP", "EP+PP+BP")
        ]
        rows.append([*key, *shares, *order])
    print("share of the position gradient of each model's best head by term; order on unseen pairs with terms at zero")
    print(format_table(["n_labels", "E:P", "EP", "PP", "BP", "order", "EP=0", "PP=0", "EP+PP+BP=0"], rows))
    common.write_table("ratio_gradient", carried)
    common.write_table("ratio_ablate", table)
    common.draw("ratio", figures.ratio, carried, table)


if __name__ == "__main__":
    cli.run(main)
