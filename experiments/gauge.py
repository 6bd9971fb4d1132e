"""Mind the gauge: E_cls - P_0 is not learned; the same function with its CLS vector elsewhere answers ablations in another way.
How the position gradient divides between EP, PP and BP, beside what follows from the multiplier of tokens and from the size of CLS.

python -m experiments.gauge --ckpt=runs/diversity [--labels=15] [--where=n_heads=4] [--format=png|svg|pdf]
"""

from experiments import common
from lrjax import cli
from lrjax.analysis import gauge
from lrjax.analysis.models import tidy
from lrjax.errors import InputError
from lrjax.metrics import tabled
from lrjax.plotting import ablation as figures
from lrjax.stats import ACCURACY, conditions, format_interval, format_table, groups, select
from lrjax.training.run import Run, model_columns

common.define_flags(encoder=False)


def main() -> None:
    run = common.restore()
    law = tidy(gauge.law(run))
    print(f"the law: E_cls - P_0 = initial value x prod(1 - lr_t wd); largest relative deviation {law['deviation'].max():.1e}")
    print(f"over {len(law['seed'])} models; norms now: E_cls {law['E_cls'].mean():.2f}, P_0 {law['P_0'].mean():.2f}\n")
    common.write_table("gauge_law", law)

    print_shares(run)

    table = gauge.moved(run)
    rows, shown = [], tabled(table)
    columns = model_columns(run.sweep)
    by = conditions(columns, columns)
    for key, chosen in groups(table, (*by, "cls", "ablation")).items():
        cells = [format_interval(table[name][chosen], within=ACCURACY) for name in shown]
        rows.append([*key, *cells])
    order = {name: i for i, name in enumerate((*gauge.PLACES, *gauge.ABLATIONS))}
    at = len(by)
    rows.sort(key=lambda row: (row[:at], order[row[at]], order[row[at + 1]]))
    print(format_table([*by, "CLS vector", "zero", *shown.values()], rows))
    common.write_table("gauge", table)
    common.draw("gauge", figures.gauge, table)


def print_shares(run: Run) -> None:
    """Print and write how the position gradient divides between EP, PP and BP, beside what the laws say of it."""
    try:
        ratios, found = tidy(gauge.ratio(run)), tidy(gauge.query_law(run))
    except InputError as error:  # LayerNorm, dropout, a grid
        print(f"How the position gradient divides between EP, PP and BP is not asked: {error}\n")
        return
    by = conditions(ratios, model_columns(run.sweep))
    names = {"ratio": "EP : PP", "expected": "by the law", "deviation": "off m : 1", "apart": "|E_cls - P_0| / |P_0|"}
    common.print_summary(ratios, by, names)
    common.write_table("gauge_ratio", ratios)
    names = {"norm_x": "|x|_1", "predicted": "1 / (1 + |x|_1)", "share": "share of BP in what is learned"}
    names |= {"share_of_all": "in all of EP + PP + BP", "deviation": "W_Q off the law"}
    print("x = m E_cls + P_0; shares are of the position gradient of the head that attends most by position")
    common.print_summary(select(found, found["strongest"] == 1), by, names)
    common.write_table("query_law", found)


if __name__ == "__main__":
    cli.run(main)
