"""The names of the parts of attention in a pretrained encoder: those of `lrjax.terms`, and those of what MLPs wrote.

A pretrained encoder has an MLP in every block. What an MLP writes has no origin among token, position and bias, so it is an origin
of its own, M. A score is then a sum of sixteen terms, and values are a sum of four parts. The first twelve gates are lrjax's own,
in their order; those of M follow.
"""

import numpy as np

from lrjax import terms

ORIGINS = "EPMB"  # B is last: what projects a stream adds its bias to the last origin
MLP_TERMS = ("EM", "PM", "BM", "ME", "MP", "MB", "MM")
GATES = (*terms.GATES, *MLP_TERMS, "VM")  # the last axis of every array of gates
TERMS = tuple(query + key for query in ORIGINS for key in ORIGINS)  # the order of `term_scores`
VALUES = tuple("V" + origin for origin in ORIGINS)

TERM_GRID = np.array([[GATES.index(query + key) for key in ORIGINS] for query in ORIGINS])  # [query, key] -> index into GATES
VALUE_GRID = np.array([GATES.index(name) for name in VALUES])  # [origin] -> index into GATES
E, P, M, B = range(len(ORIGINS))  # indices into ORIGINS
