"""Supervision without the contrastive loss: images are never compared with captions. N in {5, 15, 25}, 8 seeds: 24 models.

python -m experiments.sweep --config=experiments/configs/supervision_alone.py --workdir=runs/supervision_alone
"""

from lrjax.config import get_config as defaults


def get_config():
    return defaults(n_labels=(5, 15, 25), supervision=1.0, contrastive=0.0)
