"""App K: heads pruned at step 3,000 and the rest retrained to 6,000: each head kept alone, and pairs. N = 15, 8 seeds: 64 models.

A pruned head has VE = VP = VB = 0. Which number a head has means nothing, so head 0 and another are any two.

python -m experiments.sweep --config=experiments/configs/pruned.py --workdir=runs/pruned
"""

from lrjax.analysis.heads import keep
from lrjax.config import get_config as defaults
from lrjax.gates import NONE

KEPT = ((0,), (1,), (2,), (3,), (0, 1), (0, 2), (0, 3))


def get_config():
    return defaults(n_labels=(15,), gates=(NONE, *(keep(kept, 4, "1>0@3000-3001") for kept in KEPT)), steps=6000)
