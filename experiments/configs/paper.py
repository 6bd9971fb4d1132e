"""The paper's full model (its Fig 3): two blocks run twice with tied weights, LayerNorm, MLP and dropout, under its printed recipe.

What the paper does not print is as in `paper_mechanism.py`; besides, LayerNorm stands before attention and MLP, as in the code base
that the paper starts from (`--config.norm=post`: after them). An accelerator's job: a step costs some 50 times that of the
simplified model, so name the numbers of labels to train those alone: `paper.py:5,15`.

python -m experiments.sweep --config=experiments/configs/paper.py --workdir=runs/paper
"""

from experiments.configs import paper_mechanism


def get_config(labels: str = "5,10,15,20", /, **changes):
    encoder = dict(n_layers_vision=2, n_layers_text=2, n_repeats=2, layer_norm=True, mlp_ratio=4, dropout=0.1)
    return paper_mechanism.get_config(labels, **(dict(seeds=4, token_multiplier=(128**0.5,)) | encoder | changes))
