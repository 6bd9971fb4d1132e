"""Can ONE head in ONE layer ever succeed? (App K and open question 2 of the paper) What `analysis.search` draws from, at N = 15."""

from lrjax.analysis.search import Space
from lrjax.config import Model

SPACE = Space(
    base=Model(n_labels=15, n_heads=1),
    ranges={
        "lr": (3e-4, 1e-2),
        "weight_decay": (0.01, 1.0),
        "e_scale": (0.05, 3.0),
        "p_scale": (0.005, 1.0),
        "logit_scale": (2.0, 100.0),
    },
    shapes={"d_head": (32, 64, 128), "batch_size": (128, 256, 512)},
)
