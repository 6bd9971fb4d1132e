"""Fig 3: does layout diversity matter? The ends of the axis, n2 in {1, 40}, at every N, 8 seeds: 80 models; n2 = 10: diversity.py.

python -m experiments.sweep --config=experiments/configs/layouts.py --workdir=runs/layouts
"""

from lrjax.config import get_config as defaults


def get_config():
    return defaults(n_labels=(5, 10, 15, 20, 25), n2=(1, 40), seeds=8)
