"""Other tasks, encoders and losses under the recipe that the paper prints, from CLIP's small initial values or large ones.

The recipe is that of `paper_mechanism.py`; batches are of 100 where captions have two words, as the paper says. N in {5, 15}, 4
seeds: 8 models. `NAME` is a key of VARIANTS, and ends in `_large` for E, P ~ N(0, 1).

python -m experiments.sweep --config=experiments/configs/printed_tasks.py:NAME --workdir=runs/printed_NAME
"""

from experiments.configs import paper_mechanism

SMALL, LARGE = (0.02, 0.088), (1.0, 1.0)  # CLIP's tokens and positions; PyTorch's default
TWO_WORDS = dict(batch_size=100, n_layers_text=2)
GRID = dict(relations="left+above", **TWO_WORDS)

VARIANTS = {
    "row": {},
    "grid": dict(task="grid", **GRID),
    "grid_words": dict(task="grid", relations="all", **TWO_WORDS),
    "patches": dict(task="grid:height=8,width=8,size=2,patch=2", **GRID),
    "three": dict(task="three"),
    "left_right": dict(relations="left+right", **TWO_WORDS),
    "layers": dict(n_layers_vision=2),
    "norm_mlp": dict(layer_norm=True, mlp_ratio=4),
    "rotary": dict(positions="rotary"),
    "siglip": dict(pair_loss="sigmoid", mask_repeats=True),
    "reader": dict(objective="autoregressive", projection="both"),
    "reader_raw": dict(objective="autoregressive_raw", projection="both"),
}


def get_config(name: str = "row"):
    variant = name.removesuffix("_large")
    if variant not in VARIANTS:
        raise ValueError(f"{name!r} is no variant; expected one of {', '.join(VARIANTS)}, or one of these with _large")
    scales = (LARGE if name != variant else SMALL,)
    length = dict(epochs=0, steps=16_000, eval_every=2_000, checkpoint_every=4_000, keep_checkpoints=2)
    models = dict(n_labels=(5, 15), seeds=4, scales=scales, token_multiplier=(1.0,))
    return paper_mechanism.get_config(**(models | length | VARIANTS[variant]))
