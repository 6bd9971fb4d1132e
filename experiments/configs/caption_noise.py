"""Captions that say the opposite with probability p. N in {5, 15, 25}, 8 seeds: 120 models.

python -m experiments.sweep --config=experiments/configs/caption_noise.py --workdir=runs/caption_noise
"""

from lrjax.config import get_config as defaults


def get_config():
    return defaults(n_labels=(5, 15, 25), caption_noise=(0.0, 0.05, 0.1, 0.2, 0.3))
