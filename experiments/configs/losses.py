"""SigLIP's loss beside CLIP's, each with and without the swapped caption as a hard negative; equal captions of a batch are no
negatives of one another, since few labels repeat often. N in {5, 15, 25}, 8 seeds: 96 models.

python -m experiments.sweep --config=experiments/configs/losses.py --workdir=runs/losses
"""

from lrjax.config import get_config as defaults


def get_config():
    return defaults(n_labels=(5, 15, 25), pair_loss=("softmax", "sigmoid"), hard_negatives=(False, True), mask_repeats=True)
