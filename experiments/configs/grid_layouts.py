"""Objects of 2 x 2 pixels, whole and in patches of 2 x 2, for twice as long as in `grid_objects`, of as many layouts a pair and of
ten times as many: asked after that sweep, where they were not yet learned. N = 25, 8 seeds: 32 models.

python -m experiments.sweep --config=experiments/configs/grid_layouts.py --workdir=runs/grid_layouts
"""

from lrjax.config import get_config as defaults

TASKS = ("grid:height=7,width=7,size=2", "grid:height=8,width=8,size=2,patch=2")


def get_config():
    return defaults(n_labels=(25,), task=TASKS, relations="left+above", n_layers_text=2, n1=8, n2=(20, 200), steps=6000)
