"""Restore a sweep whose captions say left-of and right-of: how is right-of solved, layer by layer, path by path? (App J)

python -m experiments.left_right --ckpt=runs/left_right [--labels=15] [--format=png|svg|pdf]
"""

from lrjax import answers, cli
from lrjax.analysis import depth
from lrjax.analysis.ablate import ablate_each
from lrjax.analysis.models import tidy
from lrjax.evaluate import MEASURES
from lrjax.figures import encoders as figures
from lrjax.stats import conditions, least
from lrjax.sweep import model_columns

answers.define_flags(encoder=False)


def main() -> None:
    run, n_labels = answers.restore()
    models = answers.models_of(run, n_labels)
    columns = model_columns(run.sweep)
    by = conditions(columns, columns)
    of_words = {f"unseen_pair_order_{word}": f"order of {word}" for word in ("left", "right")}
    answers.tell_by(models, by, MEASURES | {name: told for name, told in of_words.items() if name in models})
    answers.draw("left_right", figures.accuracies, models, by[1:] or ("n_labels",), "Left-of and right-of")
    each = ablate_each(run, "text", n_labels)
    answers.write_table("left_right_each", each)
    causes = depth.causal(each, "text", by)
    answers.tell_by(causes, (*by, "layer", "term"), {"unseen_pair_order": "change of order, the head that costs most"})
    two = depth.deep(run, "text")
    if two.programs:
        paths = tidy(depth.paths(two, "text", n_labels)[["change"]])
        answers.write_table("left_right_paths", paths)
        strongest = least(paths, ("model", "exchanged", "layer", "via"), "change")  # a value a model: its paths are no sample
        answers.tell_by(strongest, (*by, "exchanged", "layer", "via"), {"change": "change of order, the strongest path"})
        answers.draw("left_right_paths", figures.paths, paths)


if __name__ == "__main__":
    cli.run(main)
