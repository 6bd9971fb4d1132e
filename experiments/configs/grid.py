"""Two dimensions: 4 x 4 grids, captions left-of and above; a row of P a token, or one a row and one a column; one text layer, which
cannot let a word decide which label stands first, and two. N in {5, 15, 25}, 8 seeds: 96 models.

python -m experiments.sweep --config=experiments/configs/grid.py --workdir=runs/grid
"""

from lrjax.config import get_config as defaults


def get_config():
    sides = dict(positions=("learned", "row_column"), n_layers_text=(1, 2))
    return defaults(n_labels=(5, 15, 25), task="grid", relations="left+above", n1=8, n2=30, **sides)
