"""When does a model generalise? Initial values at the paper's weight decay, beside `forgetting.py`, which has those of scale 1.

The simplified model of `paper_mechanism.py`, N = 15, E and P of one scale of {2, .5, .25}, weight decay .2, 4 seeds: 12 models of
160,000 steps.

python -m experiments.sweep --config=experiments/configs/forgetting_scales.py --workdir=runs/forgetting_scales
"""

from experiments.configs import forgetting

SCALES = ((2.0, 2.0), (0.5, 0.5), (0.25, 0.25))


def get_config():
    return forgetting.get_config(weight_decay=(0.2,), scales=SCALES)
