"""Is label diversity a driver of generalisation, or a remedy for large initial values? Initial values x N under the printed recipe.

The simplified model of `paper_mechanism.py`, E and P of one scale, from PyTorch's default (1) down to .02, and CLIP's own (tokens
.02, positions .088); N from 2 to 15, 4 seeds, equal steps for all N: 100 models. 48,000 steps are all of the paper's at N = 5 and a
tenth of them at N = 15; whether top-1 still moves is asked of the last third. About 1.5 hours on 2 cores.

python -m experiments.sweep --config=experiments/configs/initial_values.py --workdir=runs/initial_values
"""

from experiments.configs import paper_mechanism

SCALES = ((1.0, 1.0), (0.3, 0.3), (0.1, 0.1), (0.02, 0.02), (0.02, 0.088))


def get_config():
    length = dict(epochs=0, steps=48_000, eval_every=4_000, checkpoint_every=4_000)
    return paper_mechanism.get_config(n_labels=(2, 3, 5, 10, 15), seeds=4, scales=SCALES, token_multiplier=(1.0,), **length)
