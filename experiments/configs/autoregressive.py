"""A reader that says captions word by word (App O), of a vision encoder's tokens or of raw ones. N in {5, 25}, 8 seeds: 32 models.

python -m experiments.sweep --config=experiments/configs/autoregressive.py --workdir=runs/autoregressive
"""

from lrjax.config import get_config as defaults


def get_config():
    return defaults(n_labels=(5, 25), objective=("autoregressive", "autoregressive_raw"))
