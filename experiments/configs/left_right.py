"""App J: half of the captions say `right of`; text with 1 and 2 layers. N in {5, 15, 25}, 8 seeds: 48 models.

python -m experiments.sweep --config=experiments/configs/left_right.py --workdir=runs/left_right
"""

from lrjax.config import get_config as defaults


def get_config():
    return defaults(n_labels=(5, 15, 25), relations="left+right", n_layers_text=(1, 2))
