"""Kinds of position: learned (with and without CLS's), sinusoidal, rotary, ALiBi, none. N in {5, 15, 25}, 8 seeds: 144 models.

python -m experiments.sweep --config=experiments/configs/positions.py --workdir=runs/positions
"""

from lrjax.config import get_config as defaults

KINDS = ("learned", "learned_no_cls", "sinusoidal", "rotary", "alibi", "none")


def get_config():
    return defaults(n_labels=(5, 15, 25), positions=KINDS)
