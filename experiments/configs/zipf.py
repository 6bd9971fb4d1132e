"""Unbalanced labels: the r-th occurs as r^-z. N in {5, 15, 25}, 8 seeds: 96 models.

python -m experiments.sweep --config=experiments/configs/zipf.py --workdir=runs/zipf
"""

from lrjax.config import get_config as defaults


def get_config():
    return defaults(n_labels=(5, 15, 25), zipf=(0.0, 0.5, 1.0, 1.5))
