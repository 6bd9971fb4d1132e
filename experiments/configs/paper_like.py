"""The paper's regime, as far as `make regime` found it: the best of 400 configurations by the paper's joint finding.

Larger initial token embeddings against positions (E:P = 44), a higher learning rate, more decay, more layouts, and fewer steps than
lrjax's defaults; its steps are where the search found it best. N in {5, 10, 15, 20, 25}, 16 seeds: 80 models.

The search's confirmation holds eight rows. `make reproduce` trained the regime again, and one row did not repeat: heads of both
directions (docs/findings.md).

python -m experiments.sweep --config=experiments/configs/paper_like.py --workdir=runs/paper_like
"""

from lrjax.config import get_config as defaults


def get_config():
    found = dict(e_scale=(1.228,), p_scale=(0.0276,), lr=(2.164e-3,), weight_decay=(0.3207,), n1=(5,), n2=(32,))
    return defaults(n_labels=(5, 10, 15, 20, 25), seeds=16, steps=1750, eval_every=250, **found)
