"""What does label diversity go with? N = 5 against 15 with equal numbers of distinct images, beside `confounds.py`.

As there, but all images of a pair are different: n2 = 42 at N = 5 and n2 = 4 at N = 15 are 840 images of two objects both. The two
others tell what images do at equal labels. 32 models of 44,000 steps.

python -m experiments.sweep --config=experiments/configs/confounds_images.py --workdir=runs/confounds_images
"""

from experiments.configs import confounds


def get_config():
    return confounds.get_config(n2=(4, 42), distinct=True, mask_repeats=False, eval_every=4_000)
