"""How many labels does a rotation from image labels to text labels need? N in {25, 50, 100, 200}, 4 seeds: 16 models.

From N = 129 on, the trained labels' centred rows span all 128 dimensions, and the rotation is determined. Evaluated at the start
and at the end only: with 205 labels there are 42,025 captions, and one exhaustive evaluation takes nearly as long as all training.
About 12 minutes on 2 busy CPU cores, by its measured parts: 25 steps of all models 2.8 s, the two evaluations 86 s and 268 s.

python -m experiments.sweep --config=experiments/configs/align.py --workdir=runs/align
"""

from lrjax.config import get_config as defaults


def get_config():
    return defaults(n_labels=(25, 50, 100, 200), seeds=4, eval_every=3000)
