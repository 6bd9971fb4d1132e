"""Three objects, where each image is told its caption in a wrong order, too: such are rare in a batch. N in {5, 15, 25}, 8 seeds.

python -m experiments.sweep --config=experiments/configs/three_hard.py --workdir=runs/three_hard
"""

from lrjax.config import get_config as defaults


def get_config():
    return defaults(n_labels=(5, 15, 25), task="three", n2=30, hard_negatives=True)
