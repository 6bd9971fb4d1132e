"""Does a head attend by position or by label? The gradient, the label spread, and how well their ratio tells who generalises.

python -m experiments.gradient --ckpt=runs/diversity [--labels=15] [--where=n_heads=4] [--encoder=vision|text]
    [--format=png|svg|pdf]
"""

from absl import flags

from experiments import common
from lrjax import cli
from lrjax.analysis import gradient
from lrjax.analysis.models import tidy
from lrjax.plotting import gradient as figures
from lrjax.stats import conditions, format_interval, format_table, groups
from lrjax.terms import TERMS
from lrjax.training.run import history_table, model_columns, models_table

common.define_flags()


def main() -> None:
    run = common.restore()
    answer = gradient.gradient(run, flags.FLAGS.encoder)
    best = gradient.strongest(answer)
    there = [term for term in TERMS if abs(best[f"gradient_{term}"]).max() > 1e-6]  # rotary positions have others than learned ones
    rows, columns = [], model_columns(run.sweep)
    by = conditions(columns, columns)
    for key, models in groups(columns, by).items():
        part = best.isel(model=models)
        terms = [format_interval(abs(part[f"gradient_{term}"])) for term in there]
        measures = (format_interval(x) for x in (abs(part.position_gradient), part.label_spread, part.ratio))
        rows.append([*key, len(models), *measures, *terms])
    print("each model's head of the greatest ratio; mean over seeds [95 % interval]")
    header = [*by, "seeds", "|position_gradient|", "label_spread", "ratio", *(f"|{t}|" for t in there)]
    print(format_table(header, rows))
    common.write_table("gradient", tidy(answer))

    if so_far := common.unfinished(run):
        print(f"How well the ratio predicts, and when it appears, is not asked: {so_far}")
    elif flags.FLAGS.encoder == "vision":
        models = models_table(run)
        found = gradient.prediction(best.ratio.values, models)
        print(f"\nhow well the ratio predicts, over {len(models['seed'])} models (generalises: above {gradient.GENERALISES})")
        print(format_table(list(found), [[_short(v) for v in row] for row in zip(*found.values(), strict=True)]))
        common.write_table("gradient_predicts", found)
        common.draw("gradient_predicts", figures.predictor, best.ratio.values, models)
        if gradient.recorded(history := history_table(run)):
            when = gradient.onsets(history)
            print("\nfirst evaluation at which half of the final value is reached; share of models whose gradient is there first")
            print(format_table(list(when), [[_short(v) for v in row] for row in zip(*when.values(), strict=True)]))
            common.write_table("gradient_onset", when)
            common.draw("gradient_phases", figures.phases, history)


def _short(value) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    cli.run(main)
