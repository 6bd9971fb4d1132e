"""Does everything run? 4 small models, 40 steps: under 40 s on 2 cores with compilation. Its accuracies mean nothing.

python -m experiments.sweep --config=experiments/configs/smoke.py --workdir=runs/smoke
"""

from lrjax.config import get_config as defaults


def get_config():
    return defaults(n_labels=(5, 8), seeds=2, steps=40, eval_every=10, d_model=32, d_embed=32, batch_size=64)
