"""Gates fixed or moved in training: what takes over when EP may not carry the gradient? N in {5, 15, 25}, 8 seeds: 192 models.

python -m experiments.sweep --config=experiments/configs/training_ablation.py --workdir=runs/training_ablation
"""

from lrjax.config import get_config as defaults

GATES = (
    "none",
    "EP=0",
    "EP+PP=0",
    "EP+PP+BP=0",
    "VP=0",
    "vision.h0:EP=0",
    "EP=1>0@2000-2500",  # annealed away
    "EP=0>1@3000-3001",  # off until half way
)


def get_config():
    return defaults(n_labels=(5, 15, 25), gates=GATES, steps=6000)
