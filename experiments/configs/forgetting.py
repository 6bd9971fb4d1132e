"""When does a model generalise? Weight decay at large initial values: is it the time that decay needs to forget them (lr wd steps)?

The simplified model of `paper_mechanism.py`, N = 15, E and P ~ N(0, 1), weight decay of {0, .05, .2, .8}, 4 seeds: 16 models of
160,000 steps: lr wd steps of .8 at .05, and of 3.2 at the paper's .2. `forgetting_scales.py` varies the initial values instead.

python -m experiments.sweep --config=experiments/configs/forgetting.py --workdir=runs/forgetting
"""

from experiments.configs import paper_mechanism


def get_config(**changes):
    length = dict(epochs=0, steps=160_000, eval_every=4_000, checkpoint_every=4_000)
    models = dict(n_labels=(15,), seeds=4, token_multiplier=(1.0,), weight_decay=(0.0, 0.05, 0.2, 0.8))
    return paper_mechanism.get_config(**(length | models | changes))
