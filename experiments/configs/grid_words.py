"""The four words left-of, right-of, above, below on 4 x 4 grids, with one text layer and with two. N in {5, 15, 25}, 8 seeds: 48
models.

python -m experiments.sweep --config=experiments/configs/grid_words.py --workdir=runs/grid_words
"""

from lrjax.config import get_config as defaults


def get_config():
    return defaults(n_labels=(5, 15, 25), task="grid", relations="all", n_layers_text=(1, 2), n1=8, n2=30)
