"""App C: in which order do the skills come, and when the gradient? N = 15, 16 seeds, an evaluation every 50 steps.

python -m experiments.sweep --config=experiments/configs/phases.py --workdir=runs/phases
python -m experiments.gradient --ckpt=runs/phases
"""

from lrjax.config import get_config as defaults


def get_config():
    return defaults(n_labels=(15,), seeds=16, eval_every=50)
