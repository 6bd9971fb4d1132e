"""Towers whose scores are chosen by hand."""

import numpy as np

from lrjax.data.scenes import FIRST_LABEL
from lrjax.models import encoder as encoders
from lrjax.models.encoder import Encoder


def encoder_with(static, by_pixel, by_label):
    """A vision encoder, one head of d_head 2 at work: CLS scores `by_pixel` [L] (through P) and `by_label` [5] (through E)."""
    d, v = 4, FIRST_LABEL + static.n_labels_total
    E, P = np.zeros((v, d), np.float32), np.zeros((static.L + 1, d), np.float32)
    E[1, 0] = np.sqrt(2)  # CLS asks with 1 in both dimensions of the head, after the division by sqrt(d_head)
    P[1:, 1], E[FIRST_LABEL : FIRST_LABEL + 5, 2] = by_pixel, by_label
    W_Q, W_K = np.zeros((d, 1, 2), np.float32), np.zeros((d, 1, 2), np.float32)
    W_Q[0, 0] = 1
    W_K[1, 0, 0] = W_K[2, 0, 1] = 1
    zero = np.zeros((1, 2), np.float32)
    block = encoders.Block(W_Q, W_K, W_K, np.zeros((1, 2, d), np.float32), zero, zero, zero, np.zeros(d, np.float32))
    return Encoder(E, P, (block,), np.eye(d, dtype=np.float32))
