"""Restore a sweep of deeper encoders: where does the gradient form, which layer, head, term and path is causal? (App L)

python -m experiments.depth --ckpt=runs/depth [--labels=25] [--where=n_heads=4] [--encoder=vision|text] [--frozen]
    [--format=png|svg|pdf]

`--frozen` keeps LayerNorm's scales as they are where a whole layer's terms are at zero.
"""

from absl import flags

from experiments import common
from lrjax import cli
from lrjax.analysis import depth
from lrjax.analysis.models import tidy
from lrjax.errors import InputError
from lrjax.metrics import tabled
from lrjax.plotting import encoders as figures
from lrjax.stats import conditions, least
from lrjax.training.run import model_columns

common.define_flags(frozen=True)


def main() -> None:
    encoder, frozen = flags.FLAGS.encoder, flags.FLAGS.frozen
    if frozen and encoder != "vision":
        raise InputError(f"--frozen, --encoder={encoder}: whole layers are ablated in vision alone; expected --encoder=vision")
    run = common.restore()
    in_layers = depth.layers(run, encoder)
    models = common.models_of(run)
    columns = model_columns(run.sweep)
    by = conditions(columns, columns)
    common.print_summary(models, by, tabled(models))
    found = tidy(in_layers[["position_gradient", "label_invariance"]])
    common.write_table("depth_layers", found)
    # a value a model: heads and paths of one model are no sample
    size = abs(found["position_gradient"])
    best = least(found | {"size": size, "-size": -size}, ("model", "layer"), "-size")
    common.print_summary(best, (*by, "layer"), {"size": "|gradient| of the best head", "label_invariance": "its label_invariance"})
    common.draw("depth_layers", figures.layers, found)
    if encoder == "vision":
        zeroed = depth.by_layer(run, frozen=frozen)
        common.write_table("depth_by_layer", zeroed)
        common.print_summary(zeroed, (*by, "ablation"), tabled(zeroed))
    common.print_strongest_effects("depth", run, encoder, by)


if __name__ == "__main__":
    cli.run(main)
