"""Fig 3, over N: does label diversity drive generalisation? lrjax's defaults, N in {5, 10, 15, 20, 25}, 8 seeds: 40 models.

python -m experiments.sweep --config=experiments/configs/diversity.py --workdir=runs/diversity
"""

from lrjax.config import get_config as defaults


def get_config():
    return defaults(n_labels=(5, 10, 15, 20, 25), seeds=8)
