"""The task that docs/guides/extend.md adds: "x is nearer to the middle than y". N in {5, 15, 25}, 8 seeds: 24 models.

python -m experiments.sweep --config=experiments/configs/nearer.py --workdir=runs/nearer
"""

from lrjax.config import get_config as defaults


def get_config():
    return defaults(n_labels=(5, 15, 25), task="nearer", relations="nearer")
