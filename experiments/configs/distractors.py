"""Pixels that no caption speaks of: 0 to 6 of them. N in {5, 15, 25}, 8 seeds: 96 models.

python -m experiments.sweep --config=experiments/configs/distractors.py --workdir=runs/distractors
"""

from lrjax.config import get_config as defaults


def get_config():
    return defaults(n_labels=(5, 15, 25), task=("row", "row:distractors=2", "row:distractors=4", "row:distractors=6"))
