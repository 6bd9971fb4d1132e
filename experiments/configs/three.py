"""Three objects on a row: captions of pairs, and the chain "x left of y left of z". N in {5, 15, 25}, 8 seeds: 24 models.

python -m experiments.sweep --config=experiments/configs/three.py --workdir=runs/three
"""

from lrjax.config import get_config as defaults


def get_config():
    return defaults(n_labels=(5, 15, 25), task="three", n2=30)
