"""App R: LayerNorm, an MLP of 4 x d_model, both, neither. N in {5, 15, 25}, 8 seeds: 96 models.

python -m experiments.sweep --config=experiments/configs/norm_mlp.py --workdir=runs/norm_mlp
"""

from lrjax.config import get_config as defaults


def get_config():
    return defaults(n_labels=(5, 15, 25), layer_norm=(False, True), mlp_ratio=(0, 4))
