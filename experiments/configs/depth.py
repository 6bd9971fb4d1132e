"""App L: 1, 2 and 3 vision layers, N in {5, 25}, 8 seeds: 48 models.

python -m experiments.sweep --config=experiments/configs/depth.py --workdir=runs/depth
"""

from lrjax.config import get_config as defaults


def get_config():
    return defaults(n_labels=(5, 25), n_layers_vision=(1, 2, 3))
