"""One-block encoders contracted to tables of rows: all that a forward pass needs, a fifth of the numbers of the parameters.

Only the readout token's row of scores is wanted. So a score is an entry of a table (the query's origin x a row of E or P), and
what a head writes is a weighted sum of rows that have passed W_V, W_O and the projection already. Gates multiply entries of these
tables, so that none of them has to be chosen here. `assets/forward.js` reads them.

Axes: f readouts, h heads, o origins of the query, r rows of E then rows of P, e d_embed, d d_model, k d_head.
"""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from lrjax.analysis.models import row_of
from lrjax.config import Hyper, Static
from lrjax.data.captions import all_captions, words_of
from lrjax.data.scenes import BACKGROUND, CLS, EOT
from lrjax.data.text import write_caption
from lrjax.errors import InputError
from lrjax.models.clip import CLIP, as_read, encoder_configs
from lrjax.models.encoder import Encoder
from lrjax.terms import ORIGINS

WHO = "explorer"
SHOWS = "the explorer shows one-block encoders with learned positions, without LayerNorm or MLP, of the row of pixels"
SHOWN = {"n_layers_vision": 1, "n_layers_text": 1, "n_repeats": 1, "positions": "learned", "layer_norm": False, "mlp_ratio": 0}


class Readout(NamedTuple):
    """Where sequences are read out: CLS or EOT, and its position. Captions of one object end earlier than those of two."""

    token: int
    position: int


@dataclasses.dataclass(frozen=True)
class Tables:
    """One encoder of one model.

    Attributes:
        scores: [f, h, o, r], over sqrt(d_head): the readout's query of an origin with the key of a row. b_K is left out: what it
            adds is equal for all keys, so that softmax does not see it.
        values: [h, r + 1, e], what a head writes where it reads a row, projected; the last row is that of b_V.
        constant: [f, e], what the readout holds whatever attention does, projected.
    """

    scores: np.ndarray
    values: np.ndarray
    constant: np.ndarray


@dataclasses.dataclass(frozen=True)
class Sequences:
    """The sequences of an encoder, in rows of its tables.

    Attributes:
        tokens: [v] the token ids whose rows of E the tables have.
        positions: how many rows of P they have.
        readouts: where they are read out.
    """

    tokens: np.ndarray
    positions: int
    readouts: tuple[Readout, ...]


def check(static: Static) -> None:
    """Raise InputError that says what the explorer can show, unless it can show models of these static fields."""
    for name, shown in SHOWN.items():
        if (value := getattr(static, name)) != shown:
            raise InputError(f"{WHO}: {name}={value!r}: {SHOWS}; choose such models with --where={name}={shown}")
    try:
        row_of(static, WHO)
    except InputError as error:
        raise InputError(f"{error} ({SHOWS})") from error


def images(static: Static, n_labels: int) -> Sequences:
    """The images of a model of N labels: tokens are background, CLS, then the labels that exist."""
    task = static.task_object
    labels = task.n_first + np.arange(task.n_heldout + n_labels)
    readout = Readout(CLS, task.image.readout)
    return Sequences(np.concatenate([[BACKGROUND, CLS], labels]), len(task.image.tokens), (readout,))


def captions(static: Static, hyper: Hyper) -> tuple[Sequences, list[dict]]:
    """The captions of a model: their sequences, and each caption that exists.

    Returns:
        The sequences, and for each caption `readout` (its number), `tokens` (rows of the tables, up to EOT), `names` (the label on
        the left and the one on the right; one label twice) and `text`.
    """
    task = static.task_object

    def every(hyper):
        found = task.captions(hyper)
        return found.exists, found.names, words_of(task, all_captions(task, found))

    exists, names, ids = jax.device_get(jax.jit(every)(jax.device_put(hyper)))
    ids = ids[exists]
    ends = np.argmax(ids == EOT, 1)  # captions end there: the readout attends to nothing behind it
    readouts = tuple(Readout(EOT, int(end)) for end in np.unique(ends))
    tokens = np.unique(np.concatenate([row[: end + 1] for row, end in zip(ids, ends, strict=True)]))
    listed = [
        {
            "readout": readouts.index(Readout(EOT, int(end))),
            "tokens": np.searchsorted(tokens, row[: end + 1]).tolist(),
            "names": of.tolist(),
            "text": write_caption(task, row),
        }
        for row, end, of in zip(ids, ends, names[:, exists].T, strict=True)
    ]
    return Sequences(tokens, int(ends.max()) + 1, readouts), listed


def contract(params: Encoder, sequences: Sequences) -> Tables:
    """The tables of a one-block encoder, computed in float64; parameters as the encoder reads them (E with its multiplier)."""
    (block,) = params.blocks
    E, P, block = jax.tree.map(lambda x: np.asarray(x, np.float64), (params.E, params.P, block))
    rows = np.concatenate([E[sequences.tokens], P[: sequences.positions]])
    projected = lambda x: x if params.W_proj is None else x @ np.asarray(params.W_proj, np.float64)
    origins = np.array([[E[readout.token], P[readout.position], np.zeros_like(P[0])] for readout in sequences.readouts])
    queries = np.einsum("fod,dhk->fohk", origins, block.W_Q)
    queries[:, ORIGINS.index("B")] += block.b_Q
    keys = np.einsum("rd,dhk->rhk", rows, block.W_K)
    values = np.concatenate([np.einsum("rd,dhk->hrk", rows, block.W_V), block.b_V[:, None]], 1)
    return Tables(
        scores=np.einsum("fohk,rhk->fhor", queries, keys) / np.sqrt(keys.shape[-1]),
        values=projected(np.einsum("hrk,hkd->hrd", values, block.W_O)),
        constant=projected(origins.sum(1) + block.b_O),
    )


def of_model(static: Static, hyper: Hyper, params: CLIP, seen: Sequences, said: Sequences) -> dict[str, Tables]:
    """The tables of both encoders of one model, whose parameters are as training holds them."""
    read = as_read(hyper, params)
    assert all(config.depth == 1 for config in encoder_configs(static).values())  # `check` has let nothing else pass
    return {"vision": contract(read.vision, seen), "text": contract(read.text, said)}
