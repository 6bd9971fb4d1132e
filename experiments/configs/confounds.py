"""What does label diversity go with? N = 5 against 15 for equal steps and for equal epochs; with repeated captions masked, and not.

The simplified model of `paper_mechanism.py`, E and P ~ N(0, 1), 8 seeds, 44,000 steps: 32 models. An epoch has 5 steps at N = 5 and
44 at N = 15, and the learning rate is constant, so that the models of N = 5 stand after 5,000 steps where those of N = 15 end: at
1,000 epochs. `confounds_images.py` has equal numbers of images.

python -m experiments.sweep --config=experiments/configs/confounds.py --workdir=runs/confounds
"""

from experiments.configs import paper_mechanism


def get_config(**changes):
    length = dict(epochs=0, steps=44_000, eval_every=1_000, checkpoint_every=4_000)
    models = dict(n_labels=(5, 15), seeds=8, token_multiplier=(1.0,), mask_repeats=(False, True))
    return paper_mechanism.get_config(**(length | models | changes))
