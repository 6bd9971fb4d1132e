"""The models of docs/explorer.html: N of 2, 5 and 15, small and large initial values, one seed; all checkpoints stay.

python -m experiments.sweep --config=experiments/configs/explorer.py --workdir=runs/explorer
docs/guides/explorer.md has the command that makes the page of them.
"""

from lrjax.config import get_config as defaults


def get_config():
    return defaults(n_labels=(2, 5, 15), scales=((0.3, 0.02), (1.0, 1.0)), seeds=1, eval_every=100, keep_checkpoints=0)
