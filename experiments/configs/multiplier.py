"""Which term carries the gradient? The multiplier of tokens x whether E_cls is decayed, at small initial values.

The simplified model of `paper_mechanism.py`, N = 15, E and P ~ N(0, .02^2), multiplier m of {1, 2, 4, sqrt(128)}, 4 seeds: 32
models of 24,000 steps. Where E_cls and P_0 are decayed alike their difference only shrinks, and what is small from the start is
nothing beside what both learn: EP : PP of CLS's row is then to be m : 1.

python -m experiments.sweep --config=experiments/configs/multiplier.py --workdir=runs/multiplier
"""

from experiments.configs import paper_mechanism

MULTIPLIERS = (1.0, 2.0, 4.0, 128**0.5)


def get_config():
    length = dict(epochs=0, steps=24_000, eval_every=2_000, checkpoint_every=4_000)
    models = dict(n_labels=(15,), seeds=4, token_multiplier=MULTIPLIERS, decay_cls=(True, False), scales=((0.02, 0.02),))
    return paper_mechanism.get_config(**(length | models))
