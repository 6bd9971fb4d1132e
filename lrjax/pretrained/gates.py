"""Gates of a pretrained model as text, in the form of `lrjax.gates`, over the terms of `pretrained.terms`.

EP                    no EP, in every layer and head of the vision encoder
EP+PP+BP+MP=0.5       half of what is scored by the position of a key
vision.L3.h1:EP=0     no EP in head 1 of layer 3
L3.h1:EP              the same; several parts are joined by `;`
"""

import numpy as np

from lrjax.errors import InputError
from lrjax.gates import ENCODERS, Gates, clauses, once, places_of
from lrjax.pretrained.config import EncoderConfig, ModelConfig
from lrjax.pretrained.terms import GATES


def unit(config: ModelConfig) -> Gates:
    """All gates 1: of each encoder [depth, h, 20]; [0, 0, 20] where there is no encoder."""
    return Gates(*(_unit(getattr(config, name)) for name in ENCODERS))  # pyright: ignore[reportArgumentType]


def _unit(config: EncoderConfig | None) -> np.ndarray:
    shape = (0, 0) if config is None else (config.depth, config.n_heads)
    return np.ones((*shape, len(GATES)), np.float32)


def parse(text: str, config: ModelConfig, encoder: str = ENCODERS[0]) -> Gates:
    """The gates that a text describes.

    Args:
        text: As people write it.
        config: The model.
        encoder: The encoder of a part that names none.

    Raises:
        InputError: The text is no gates, or a term, a layer, a head or an encoder does not exist.
    """
    if not isinstance(text, str):
        raise InputError(f"terms={text!r}: is no text; expected terms such as 'EP+PP'")
    found = once(clauses(";".join(_completed(part, encoder) for part in text.split(";")), GATES))
    gates = unit(config)
    for clause in found:
        of_encoder = getattr(config, clause.encoder)
        if of_encoder is None:
            raise InputError(f"terms={text!r}: this model has no {clause.encoder} encoder; expected terms of vision")
        layers, heads = places_of(clause, of_encoder.depth, of_encoder.n_heads, f"terms={text!r}")
        g0, g1, *_ = clause.values
        if g0 != g1:
            raise InputError(f"terms={text!r}: changes in time, which only training has; expected one value")
        getattr(gates, clause.encoder)[np.ix_(layers, heads, clause.terms)] = g0
    return gates


def _completed(part: str, encoder: str) -> str:
    """A part of a text with its encoder and its value, where they are left out."""
    where, colon, terms = part.strip().rpartition(":")
    place = where.strip() if colon else ""
    if place.split(".")[0] not in ENCODERS:
        place = f"{encoder}.{place}" if place else encoder
    return f"{place}:{terms if '=' in terms else terms + '=0'}"
