"""App B, Fig 10: does weight decay help? Weight decay in {0, 0.1, 0.3, 1} at N = 15, 16 seeds: 64 models.

python -m experiments.sweep --config=experiments/configs/weight_decay.py --workdir=runs/weight_decay
"""

from lrjax.config import get_config as defaults


def get_config():
    return defaults(n_labels=(15,), weight_decay=(0.0, 0.1, 0.3, 1.0), seeds=16)
