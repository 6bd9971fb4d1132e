"""Two dimensions: 4 x 4 grids, captions left-of and above; a row of P a token, or one a row and one a column. N in {5, 15, 25}, 8
seeds: 48 models.

python -m experiments.sweep --config=experiments/configs/grid.py --workdir=runs/grid
"""

from lrjax.config import get_config as defaults


def get_config():
    return defaults(n_labels=(5, 15, 25), task="grid", relations="left+above", positions=("learned", "row_column"), n1=8, n2=30)
