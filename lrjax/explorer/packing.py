"""Tables as text: rounded to steps that no cosine sees, each row in as many bits as its largest entry needs.

Cosines do not see a rotation of the embedding space. So the space is turned until row i has entries in its first i + 1 places
alone, which leaves out a quarter to a half of all numbers. `assets/forward.js: unpack` reads the text. Cosines of the page are
Python's to 1e-5 (`tests/unit/test_explorer.py`).
"""

import base64
from collections.abc import Mapping

import numpy as np

from lrjax.explorer.tables import Tables

SCORES = 2.0**-22  # the step of scores
WRITTEN = 1.4e-6  # the step of what is written, over the length of a usual embedding
HEADER = 6  # bits in which a row says how many bits an entry has
MOST = 53  # bits of an entry, which a number of JavaScript holds


def pack(found: Mapping[str, Tables]) -> tuple[list[dict], str]:
    """The tables of a model's encoders as one text, and the specification by which forward.js reads it.

    Args:
        found: the tables of each encoder; both have one width of embeddings.

    Returns:
        The arrays in their order, each with `encoder`, `name`, `shape` and `step`, scores first; and the text, in base 85.
    """
    written = {(encoder, name): getattr(of, name) for encoder, of in found.items() for name in ("values", "constant")}
    rows = turned(np.concatenate([array.reshape(-1, array.shape[-1]) for array in written.values()]))
    steps = {encoder: WRITTEN * usual_length(of) for encoder, of in found.items()}
    spec, parts, at = [], [], 0
    for encoder, of in found.items():
        spec.append({"encoder": encoder, "name": "scores", "shape": list(of.scores.shape), "step": SCORES})
        parts += [in_bits(row, SCORES) for row in of.scores.reshape(-1, of.scores.shape[-1])]
    for (encoder, name), array in written.items():
        shape = [*array.shape[:-1], rows.shape[-1]]
        spec.append({"encoder": encoder, "name": name, "shape": shape, "step": steps[encoder]})
        last = at + array[..., 0].size
        parts += [in_bits(rows[i, : i + 1], steps[encoder]) for i in range(at, last)]
        at = last
    return spec, base64.b85encode(np.packbits(np.concatenate(parts)).tobytes(), pad=True).decode()


def usual_length(of: Tables) -> float:
    """The length of an embedding if every head reads the mean of all rows, once as token and once as position: of an encoder's
    readouts the shorter one.
    """
    read = 2 * of.values[:, :-1].mean(1) + of.values[:, -1]
    return float(np.linalg.norm(of.constant + read.sum(0), axis=-1).min())


def turned(rows: np.ndarray) -> np.ndarray:
    """Rows [r, e] under a rotation of their space, [r, min(r, e)]: row i is 0 after its first i + 1 entries."""
    return np.asarray(np.linalg.qr(rows.T, mode="r")).T


def in_bits(row: np.ndarray, step: float) -> np.ndarray:
    """The bits of a row, as whole numbers of a step: how many bits an entry has, then the entries, signed, highest bit first."""
    whole = np.rint(row / step).astype(np.int64)
    size = int(np.abs(whole).max()).bit_length() + 1
    if size > MOST:
        raise ValueError(f"row: its largest entry is {np.abs(row).max()}, more than {MOST} bits of steps of {step}")
    return np.concatenate([_bits(np.array([size]), HEADER), _bits(whole, size)])


def _bits(whole: np.ndarray, size: int) -> np.ndarray:
    return ((whole[:, None] >> np.arange(size)[::-1]) & 1).astype(np.uint8).ravel()
