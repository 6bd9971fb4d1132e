"""Is there one rotation from image labels to text labels? Fitted on the N trained labels, tested on held-out ones, against
rotations of the same rank fitted on permuted labels.

python -m experiments.align --ckpt=runs/diversity [--labels=25] [--where=n_heads=4] [--format=png|svg|pdf]

`experiments/configs/align.py` is a sweep up to N = 200, where the rotation is determined.
"""

from experiments import common
from lrjax import cli
from lrjax.analysis.align import FITS, align
from lrjax.analysis.models import tidy
from lrjax.plotting import align as figures
from lrjax.stats import ACCURACY, Table, conditions, format_interval, format_table, groups, select
from lrjax.training.run import model_columns

common.define_flags(encoder=False)
SCALES = {"cosine": None, "retrieval": ACCURACY, "retrieval_all": ACCURACY}  # measure -> ends of its scale


def main() -> None:
    run = common.restore()
    table = tidy(align(run))
    print_tables(table, tuple(model_columns(run.sweep)), f"step {run.step}")
    common.write_table("align", table)
    common.draw("align", figures.alignment, table, run.sweep.models[0].n_heldout)


def print_tables(table: Table, axes: tuple[str, ...], where: str) -> None:
    by = conditions(table, axes)
    for key, rows in groups(table, by).items():
        part = select(table, rows)
        models = len(set(part["model"].tolist()))
        print(f"\n{', '.join(f'{n} = {v}' for n, v in zip(by, key, strict=True))}: {where}, {models} models")
        lines = []
        for space in dict.fromkeys(part["space"].tolist()):
            for fit in FITS:
                cell = select(part, (part["space"] == space) & (part["fit"] == fit))
                measures = (format_interval(cell[name], within=ends) for name, ends in SCALES.items())
                fitted = fit == "rotation"
                lines.append([space, fit, *measures, *(f"{cell[n].mean():.2f}" if fitted else "" for n in ("rank", "inside"))])
        print(format_table(["space", "rotation", "cosine", "nearest of held-out", "nearest of all", "rank", "inside"], lines))
    print("\nHeld-out labels, image to text and back; mean over models [95 % interval]. `control`: fitted on permuted labels.")
    print("`inside`: the share of a held-out row's norm in the span that trained labels fix; it knows nothing of the rest.\n")


if __name__ == "__main__":
    cli.run(main)
