"""Is a head relational or label-specific, image by image? P(relational) beside P(attends right) - P(attends left). (Fig 5c, 5d)

python -m experiments.relational --ckpt=runs/diversity [--labels=15] [--where=n_heads=4] [--format=png|svg|pdf]
"""

from experiments import common
from lrjax import cli
from lrjax.analysis import relational
from lrjax.analysis.models import tidy
from lrjax.plotting import relational as figures
from lrjax.stats import ACCURACY, Table, conditions, format_interval, format_table, groups, select
from lrjax.training.run import model_columns

common.define_flags(encoder=False)
SHOWN = {
    "size": ("|P(right)-P(left)|", ACCURACY),
    "relational_printed": ("P(relational), printed", ACCURACY),
    "gap_printed": ("less it", None),
    "relational_sums": ("P(relational), sums", ACCURACY),
    "gap_sums": ("less it", None),
    "directions_differ_printed": ("leans differ, printed", ACCURACY),
    "directions_differ_sums": ("sums", ACCURACY),
}
MEANING = """Images of unseen pairs, CLS's row of the first block. all: mean over a model's heads; leans most: its head of the
greatest |P(right) - P(left)|. printed: from EE and EP alone; sums: from EE + PE + BE and EP + PP + BP. less it: the paired
difference P(relational) - |P(right) - P(left)|, which the paper says is about 0. leans differ: share of heads whose mean Delta_pe
points elsewhere than their attention. Mean over models [95 % interval].
"""


def main() -> None:
    run = common.restore()
    table = relational.head_table(relational.relational(run))
    columns = model_columns(run.sweep)
    print_models(relational.of_a_model(table), conditions(columns, columns))
    common.write_table("relational", table)
    common.draw("relational", figures.claim, table)
    for kind, row, title in common.examples(run):
        images = relational.images(run, row)
        common.write_table(f"relational_images_{kind}", tidy(images))
        common.draw(f"relational_scatter_{kind}", figures.scatter, images, title)
        own = select(table, table["model"] == int(images.model))
        common.draw(f"relational_bars_{kind}", figures.bars, own, title)


def print_models(table: Table, by: tuple[str, ...]) -> None:
    lines = []
    for key, rows in groups(table, (*by, "heads")).items():
        cells = (format_interval(table[name][rows], ends is None, ends) for name, (_, ends) in SHOWN.items())
        lines.append([*key, len(rows), *cells])
    print(format_table([*by, "heads", "models", *(name for name, _ in SHOWN.values())], lines))
    print(MEANING)


if __name__ == "__main__":
    cli.run(main)
