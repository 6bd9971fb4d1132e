"""Who decides the order? The true-against-swapped decision on unseen pairs, attributed to what is written to the readout token: the
residual, b_O, each head; and what heads write by source (CLS, objects, background) and by origin of the value (VE, VP, VB).

python -m experiments.values --ckpt=runs/diversity [--labels=15] [--where=n_heads=4] [--encoder=vision|text] [--format=png|svg|pdf]
"""

from absl import flags

from experiments import common
from lrjax import cli
from lrjax.analysis.models import tidy
from lrjax.analysis.values import PARTS, SOURCES, ranked, values
from lrjax.plotting import values as figures
from lrjax.stats import ACCURACY, Table, conditions, format_interval, format_table, groups, select
from lrjax.training.run import model_columns

common.define_flags()
SCALES = {"mean": None, "sd": None, "order_alone": ACCURACY, "order_without": ACCURACY}  # measure -> ends of its scale


def main() -> None:
    encoder = flags.FLAGS.encoder
    run = common.restore()
    answer = values(run, encoder)
    by_rank = tidy(ranked(answer))
    print_tables(by_rank, tuple(model_columns(run.sweep)), f"{encoder} encoder, step {run.step}")

    common.write_table("values", tidy(answer[list(PARTS)]))
    common.write_table("values_sources", tidy(answer[list(SOURCES)]))
    title = (
        f"Which parts of the {encoder} embedding decide the order of unseen pairs: mean over seeds, 95 % interval; heads by rank"
    )
    common.draw("values", figures.attribution, by_rank, title)


def print_tables(table: Table, axes: tuple[str, ...], where: str) -> None:
    by = conditions(table, axes)
    for key, rows in groups(table, by).items():
        part = select(table, rows)
        print(
            f"\n{', '.join(f'{n} = {v}' for n, v in zip(by, key, strict=True))}: {where}, {len(set(part['model'].tolist()))} models"
        )
        lines = []
        for name in dict.fromkeys(part["part"].tolist()):
            of_part = select(part, part["part"] == name)
            lines.append([name, *(format_interval(of_part[m], within=ends) for m, ends in SCALES.items())])
        print(format_table(["part", "mean", "sd over images", "order by it alone", "order without it"], lines))
    print(
        "\nCosine with the true caption minus that with the swapped one (text: image minus mirrored image), unseen pairs; mean over"
    )
    print(
        "models [95 % interval]. The residual, b_O and heads sum to the margin. Then what heads write, split by its source, and by"
    )
    print(
        "the origin of its value. Direct contributions, every pattern as it is. Heads by rank: their numbers differ among seeds.\n"
    )


if __name__ == "__main__":
    cli.run(main)
