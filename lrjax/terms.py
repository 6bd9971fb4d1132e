"""The names of the parts of attention: the origins of the residual stream, the terms of scores and of values, and their order.

The residual stream is a sum of three origins: E (token embeddings), P (position embeddings) and B (biases). A score is a product of
a query and a key, so it is a sum of nine TERMS, named query first: EP is token query x position key. Values are a sum of three. A
gate multiplies each of the twelve (`lrjax.gates`); `lrjax.models.attention` computes them.
"""

import numpy as np

ORIGINS = "EPB"
TERMS = ("EE", "EP", "PE", "PP", "EB", "PB", "BE", "BP", "BB")
ROW_CONSTANT = ("EB", "PB", "BB")  # terms without a key's token or position: equal for all keys of a query
POSITION_TERMS, TOKEN_TERMS = ("EP", "PP", "BP"), ("EE", "PE", "BE")  # by what they have of the key: its position, its token
VALUES = ("VE", "VP", "VB")
GATES = TERMS + VALUES  # the last axis of every array of gates

TERM_GRID = np.array([[GATES.index(query + key) for key in ORIGINS] for query in ORIGINS])  # [query, key] -> index into GATES
VALUE_GRID = np.array([GATES.index("V" + origin) for origin in ORIGINS])  # [origin] -> index into GATES
