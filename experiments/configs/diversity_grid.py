"""Fig 3 whole: labels x layouts. N in {5, 10, 15, 20, 25} x n2 in {1, 5, 10, 20, 40}, 8 seeds: 200 models.

python -m experiments.sweep --config=experiments/configs/diversity_grid.py --workdir=runs/diversity_grid
"""

from lrjax.config import get_config as defaults


def get_config():
    return defaults(n_labels=(5, 10, 15, 20, 25), n2=(1, 5, 10, 20, 40), seeds=8)
