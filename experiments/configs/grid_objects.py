"""Objects of 1, 2, 3 pixels a side on 6 x 6 pixels, and patches of several pixels. N in {5, 15, 25}, 8 seeds: 120 models.

python -m experiments.sweep --config=experiments/configs/grid_objects.py --workdir=runs/grid_objects
"""

from lrjax.config import get_config as defaults

SIZES = ("size=1", "size=2", "size=3", "size=2,patch=2", "size=3,patch=3")


def get_config():
    tasks = tuple(f"grid:height=6,width=6,{size}" for size in SIZES)
    return defaults(n_labels=(5, 15, 25), task=tasks, relations="left+above", n1=8, n2=20)
