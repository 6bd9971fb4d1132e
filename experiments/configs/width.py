"""The smallest model that generalises: d_model 16..256, d_head 8..64, 4 heads. N = 15, 8 seeds: 160 models.

python -m experiments.sweep --config=experiments/configs/width.py --workdir=runs/width
"""

from lrjax.config import get_config as defaults


def get_config():
    return defaults(n_labels=(15,), d_model=(16, 32, 64, 128, 256), d_head=(8, 16, 32, 64))
