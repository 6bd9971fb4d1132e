"""The kinds that a config chooses among, by name. What a kind does stands in the module that its line names."""

from typing import Any

DATA = ("resampled", "fixed")  # data laws; lrjax/data/finite_set.py has the fixed one
NORMS = ("pre", "post")  # lrjax/models/encoder.py
PROJECTIONS = ("both", "text")  # lrjax/models/clip.py
# name -> what it names, or where that stands, as module:attribute (`lrjax.registry`)
POSITIONS: dict[str, Any] = {
    "learned": "lrjax.models.positions:LEARNED",
    "learned_no_cls": "lrjax.models.positions:LEARNED_NO_CLS",
    "sinusoidal": "lrjax.models.positions:SINUSOIDAL",
    "rotary": "lrjax.models.positions:ROTARY",
    "alibi": "lrjax.models.positions:ALIBI",
    "none": "lrjax.models.positions:NONE",
    "row_column": "lrjax.models.positions:ROW_COLUMN",
}
OBJECTIVES: dict[str, Any] = {
    "contrastive": "lrjax.models.contrastive:CONTRASTIVE",
    "autoregressive": "lrjax.models.autoregressive:AUTOREGRESSIVE",
    "autoregressive_raw": "lrjax.models.autoregressive:RAW",
}
LOSSES = ("softmax", "sigmoid")  # lrjax/models/losses.py
PRECISIONS = ("float32", "tensorfloat32", "bfloat16")  # of jax.default_matmul_precision
