"""A reader of raw tokens as large as CLIP: d_model = 200, 178,000 parameters for CLIP's 176,001. N in {5, 25}, 8 seeds: 16 models.

python -m experiments.sweep --config=experiments/configs/autoregressive_wide.py --workdir=runs/autoregressive_wide
"""

from lrjax.config import get_config as defaults


def get_config():
    return defaults(n_labels=(5, 25), objective="autoregressive_raw", d_model=200)
