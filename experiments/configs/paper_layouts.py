"""The paper's full model with few and with many layouts: n2 in {1, 40} at N = 15 (its Fig 3), 4 seeds; n2 = 10 is in `paper.py`.

An epoch with 40 layouts has forty times the pairs of one with a single layout. A number trains all models for so many steps in
place of the paper's 10,000 epochs: `paper_layouts.py:8000`.

python -m experiments.sweep --config=experiments/configs/paper_layouts.py --workdir=runs/paper_layouts
"""

from experiments.configs import paper


def get_config(steps: str = "", /):
    n = int(steps or 0)
    length = dict(epochs=0, steps=n, eval_every=n // 16, checkpoint_every=n // 4) if n else {}
    return paper.get_config("15", n2=(1, 40), **length)
