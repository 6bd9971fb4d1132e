"""The models of docs/explorer.html: two recipes, N of 5 and 15; all checkpoints stay.

`quick` is the recipe of `make sweep`. `printed` is that of `paper_mechanism.py`, from CLIP's small initial values and from N(0, 1),
2 seeds, for 40,000 steps: 8,000 of the paper's 10,000 epochs at N = 5, and 909 at N = 15. docs/guides/explorer.md has the
commands that make the page of both.

python -m experiments.sweep --config=experiments/configs/explorer.py:quick --workdir=runs/quick
python -m experiments.sweep --config=experiments/configs/explorer.py:printed --workdir=runs/printed
"""

from experiments.configs import paper_mechanism
from experiments.configs.printed_tasks import LARGE, SMALL
from lrjax.config import get_config as defaults

MODELS = dict(n_labels=(5, 15), keep_checkpoints=0)


def get_config(name: str = "quick"):
    if name == "quick":
        return defaults(**MODELS, seeds=1, eval_every=150)
    if name == "printed":
        length = dict(epochs=0, steps=40_000, eval_every=2_000, checkpoint_every=2_000)
        models = dict(seeds=2, scales=(SMALL, LARGE), token_multiplier=(1.0,))
        return paper_mechanism.get_config(**(length | MODELS | models))
    raise ValueError(f"{name!r} is no recipe; expected quick or printed")
