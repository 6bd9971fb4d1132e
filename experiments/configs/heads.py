"""App K: 1, 2, 4 and 8 heads at fixed d_model (d_head = 128 / n_heads) and at fixed d_head (32). N in {5, 15, 25}, 8 seeds: 192
models.

python -m experiments.sweep --config=experiments/configs/heads.py --workdir=runs/heads
"""

from lrjax.config import get_config as defaults


def get_config():
    return defaults(n_labels=(5, 15, 25), n_heads=(1, 2, 4, 8), d_head=(0, 32))
