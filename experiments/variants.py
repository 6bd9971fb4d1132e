"""Restore a sweep of other encoders and put them side by side: accuracies, what carries the gradient, what ablations take away.

python -m experiments.variants --ckpt=runs/positions [--labels=15] [--where=n_heads=4] [--frozen] [--format=png|svg|pdf]

For any sweep whose models differ in kind of position, LayerNorm, MLP, number or size of heads, or width (App K, App R). `--frozen`
keeps LayerNorm's scales as they are without the ablation.
"""

from absl import flags

from experiments import common
from lrjax import cli
from lrjax.analysis import gradient
from lrjax.analysis.ablate import ablate_terms
from lrjax.analysis.models import tidy
from lrjax.metrics import SHOWN, tabled
from lrjax.plotting import ablation
from lrjax.plotting import encoders as figures
from lrjax.stats import conditions, joined
from lrjax.terms import TERMS
from lrjax.training.run import model_columns

common.define_flags(encoder=False, frozen=True)


def main() -> None:
    run = common.restore()
    columns = model_columns(run.sweep)
    by = conditions(columns, columns)
    models = common.models_of(run)
    common.print_summary(models, by, tabled(models))
    carried = gradient.carried(tidy(gradient.strongest(gradient.gradient(run))))
    shares = {f"share_{term}": term for term in TERMS if abs(carried[f"gradient_{term}"]).max() > 1e-6}
    common.print_summary(
        carried | {"size": abs(carried["position_gradient"])}, by, {"size": "|gradient|", "ratio": "ratio"} | shares
    )
    measured = ("position_gradient", "label_spread", "ratio", *shares)
    common.write_table("variants", joined(models, carried, measured))
    common.draw("variants", figures.accuracies, models, by[1:] or ("n_labels",), "Other encoders")
    table = ablate_terms(run, frozen=flags.FLAGS.frozen)
    common.print_summary(table, (*by, "ablation"), tabled(table))
    common.write_table("variants_ablate", table)
    common.draw("variants_ablate", ablation.ablation, table, "Other encoders, terms at zero", SHOWN)


if __name__ == "__main__":
    cli.run(main)
