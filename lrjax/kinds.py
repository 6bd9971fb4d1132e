"""The kinds that a config chooses among, by name. What a kind does stands in the module that its line names."""

from typing import Any

DATA = ("resampled", "fixed")  # data laws; lrjax/data/finite_set.py has the fixed one
POSITIONS = ("learned", "learned_no_cls", "sinusoidal", "rotary", "alibi", "none", "row_column")  # lrjax/models/positions.py
LEARNED = ("learned", "learned_no_cls", "row_column")  # kinds of position whose P is trained
WITHOUT_P = ("rotary", "alibi", "none")  # kinds of position that have no P
NORMS = ("pre", "post")  # lrjax/models/encoder.py
PROJECTIONS = ("both", "text")  # lrjax/models/clip.py
# name -> where the objective stands, as module:attribute, or the objective itself (`lrjax.models.objectives`)
OBJECTIVES: dict[str, Any] = {
    "contrastive": "lrjax.models.contrastive:CONTRASTIVE",
    "autoregressive": "lrjax.models.autoregressive:AUTOREGRESSIVE",
    "autoregressive_raw": "lrjax.models.autoregressive:RAW",
}
LOSSES = ("softmax", "sigmoid")  # lrjax/models/losses.py
PRECISIONS = ("float32", "tensorfloat32", "bfloat16")  # of jax.default_matmul_precision
