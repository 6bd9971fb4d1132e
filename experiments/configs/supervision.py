"""Explicit spatial supervision: a head that is asked where objects are, beside the contrastive loss. N in {5, 15, 25}, 8 seeds: 120
models.

python -m experiments.sweep --config=experiments/configs/supervision.py --workdir=runs/supervision
"""

from lrjax.config import get_config as defaults


def get_config():
    return defaults(n_labels=(5, 15, 25), supervision=(0.0, 0.1, 0.3, 0.6, 1.0))
