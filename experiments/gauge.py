"""Mind the gauge: E_cls - P_0 is not learned; the same function with its CLS vector elsewhere answers ablations in another way.

python -m experiments.gauge --ckpt=runs/diversity [--labels=15] [--where=n_heads=4] [--format=png|svg|pdf]
"""

from experiments import common
from lrjax import cli
from lrjax.analysis import gauge
from lrjax.analysis.models import tidy
from lrjax.plotting import ablation as figures
from lrjax.stats import ACCURACY, conditions, format_interval, format_table, groups
from lrjax.training.retrieval import tabled
from lrjax.training.run import model_columns

common.define_flags(encoder=False)


def main() -> None:
    run = common.restore()
    law = tidy(gauge.law(run))
    print(f"the law: E_cls - P_0 = initial value x prod(1 - lr_t wd); largest relative deviation {law['deviation'].max():.1e}")
    print(f"over {len(law['seed'])} models; norms now: E_cls {law['E_cls'].mean():.2f}, P_0 {law['P_0'].mean():.2f}\n")
    common.write_table("gauge_law", law)

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


if __name__ == "__main__":
    cli.run(main)
