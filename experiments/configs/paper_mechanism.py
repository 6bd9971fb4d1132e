"""The paper's simplified model (its section 4 on): one block, no LayerNorm, no MLP, under the recipe that the paper prints.

A finite set of images, 10,000 epochs, batch 50, learning rate 1e-4, weight decay .2, a projection on the text side alone,
captions of four tokens, n2 = 10. What the paper does not print is an axis or a stated choice: initial values N(0, 1), tokens as
they are or times sqrt(d_model), betas (.9, .98), eps 1e-8, no warm-up, no dropout, temperature 1/.07 at the start, and a last
batch that is not full left out. 64 models of 50,000 (N = 5) to 780,000 steps (N = 20): days on 2 cores, so give fewer epochs
there, or some numbers of labels alone, as `paper_mechanism.py:5,15`. The checkpoints of all evaluations stay, since the study
asks by which route the order is known over time: 2.2 GB.

python -m experiments.sweep --config=experiments/configs/paper_mechanism.py --workdir=runs/paper_mechanism
"""

from lrjax.config import get_config as defaults

DATA = dict(data="fixed", batch_size=50, n1=(5,), n2=(10,), single_caption_length=4)
RECIPE = dict(lr=(1e-4,), weight_decay=(0.2,), warmup_steps=0, projection="text", scales=((1.0, 1.0),))


def get_config(labels: str = "5,10,15,20", /, **changes):
    n_labels = tuple(int(n) for n in labels.split(","))
    length = dict(epochs=10_000, evaluations=20, checkpoint_every=10_000, keep_checkpoints=0)
    sweep = dict(n_labels=n_labels, seeds=8, token_multiplier=(1.0, 128**0.5))
    return defaults(**(DATA | RECIPE | length | sweep | changes))
