"""LayerNorm in depth: with two vision layers an ablation in the first moves the second's scale. N = 15, 8 seeds: 16 models.

python -m experiments.sweep --config=experiments/configs/norm_depth.py --workdir=runs/norm_depth
"""

from lrjax.config import get_config as defaults


def get_config():
    return defaults(n_labels=(15,), layer_norm=True, n_layers_vision=(1, 2))
