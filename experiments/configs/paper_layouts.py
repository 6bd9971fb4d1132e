"""The paper's full model with few and with many layouts: n2 in {1, 40} at N = 15 (its Fig 3), 4 seeds; n2 = 10 is in `paper.py`.

An epoch with 40 layouts has 28 times the steps of one with a single layout. The argument is a number of steps, a multiple of 16.
`paper_layouts.py:8000` trains all models for 8,000 steps in place of the paper's 10,000 epochs.

python -m experiments.sweep --config=experiments/configs/paper_layouts.py --workdir=runs/paper_layouts
"""

from experiments.configs import paper
from lrjax.errors import InputError

EVALUATIONS = 16


def get_config(steps: str = "", /):
    if not steps:
        return paper.get_config("15", n2=(1, 40))
    if not steps.isdecimal() or int(steps) < EVALUATIONS or int(steps) % EVALUATIONS:
        raise InputError(f"paper_layouts.py:{steps}: expected a number of steps, a multiple of {EVALUATIONS}, such as 8000")
    n = int(steps)
    length = dict(epochs=0, steps=n, eval_every=n // EVALUATIONS, checkpoint_every=n // 4)
    return paper.get_config("15", n2=(1, 40), **length)
