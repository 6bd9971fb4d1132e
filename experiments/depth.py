"""Restore a sweep of deeper encoders: where does the gradient form, which layer, head, term and path is causal? (App L)

python -m experiments.depth --ckpt=runs/depth [--labels=25] [--encoder=vision|text] [--format=png|svg|pdf]
"""

from absl import flags

from lrjax import answers, cli
from lrjax.analysis import depth
from lrjax.analysis.ablate import ablate_each
from lrjax.analysis.models import tidy
from lrjax.errors import InputError
from lrjax.evaluate import MEASURES
from lrjax.figures import encoders as figures
from lrjax.stats import conditions, least
from lrjax.sweep import model_columns

answers.define_flags()


def main() -> None:
    run, n_labels = answers.restore()
    encoder = flags.FLAGS.encoder
    models = answers.models_of(run, n_labels)
    columns = model_columns(run.sweep)
    by = conditions(columns, columns)
    answers.tell_by(models, by, MEASURES)
    found = tidy(depth.layers(run, encoder, n_labels)[["position_gradient", "steadiness"]])
    answers.write_table("depth_layers", found)
    # a value a model: heads and paths of one model are no sample
    size = abs(found["position_gradient"])
    best = least(found | {"size": size, "-size": -size}, ("model", "layer"), "-size")
    answers.tell_by(best, (*by, "layer"), {"size": "|gradient| of the best head", "steadiness": "its steadiness"})
    answers.draw("depth_layers", figures.layers, found)
    if encoder == "vision":
        zeroed = depth.by_layer(run, n_labels)
        answers.write_table("depth_by_layer", zeroed)
        answers.tell_by(zeroed, (*by, "ablation"), MEASURES)
    answers.write_table("depth_each", each := ablate_each(run, encoder, n_labels))
    causes = depth.causal(each, encoder, by)
    answers.tell_by(causes, (*by, "layer", "term"), {"unseen_pair_order": "change of order, the head that costs most"})
    deeper = depth.deep(run, encoder)
    if not deeper.programs:
        return
    try:
        paths = tidy(depth.paths(deeper, encoder, n_labels)[["change"]])
    except InputError as error:  # LayerNorm: all the rest is there
        print(f"paths are not asked: {error}")
        return
    answers.write_table("depth_paths", paths)
    strongest = least(paths, ("model", "exchanged", "layer", "via"), "change")
    answers.tell_by(strongest, (*by, "exchanged", "layer", "via"), {"change": "change of order, the strongest path"})
    answers.draw("depth_paths", figures.paths, paths)


if __name__ == "__main__":
    cli.run(main)
