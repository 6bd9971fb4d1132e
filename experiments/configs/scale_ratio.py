"""Ours: which term carries the gradient? Initial E:P of {1/4, 1, 4, 16, 64} (P at 0.02) x N in {5, 15}, 16 seeds: 160 models.

python -m experiments.sweep --config=experiments/configs/scale_ratio.py --workdir=runs/scale_ratio
python -m experiments.ratio --ckpt=runs/scale_ratio
"""

from lrjax.config import get_config as defaults


def get_config():
    return defaults(n_labels=(5, 15), e_scale=(0.005, 0.02, 0.08, 0.32, 1.28), p_scale=(0.02,), seeds=16)
