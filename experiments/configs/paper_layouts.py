"""The paper's full model with few and with many layouts: n2 in {1, 40} at N = 15 (its Fig 3), 4 seeds; n2 = 10 is in `paper.py`.

python -m experiments.sweep --config=experiments/configs/paper_layouts.py --workdir=runs/paper_layouts
"""

from experiments.configs import paper


def get_config():
    return paper.get_config("15", n2=(1, 40))
