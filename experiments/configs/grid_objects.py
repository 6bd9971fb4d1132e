"""Objects of 1, 2, 3 pixels a side on grids that leave each of them 36 places, and patches of several pixels, with 49. N in {5, 15,
25}, 8 seeds: 120 models.

python -m experiments.sweep --config=experiments/configs/grid_objects.py --workdir=runs/grid_objects
"""

from lrjax.config import get_config as defaults

SIZES = ((6, "size=1"), (7, "size=2"), (8, "size=3"), (8, "size=2,patch=2"), (9, "size=3,patch=3"))


def get_config():
    tasks = tuple(f"grid:height={side},width={side},{size}" for side, size in SIZES)
    return defaults(n_labels=(5, 15, 25), task=tasks, relations="left+above", n_layers_text=2, n1=8, n2=20)
