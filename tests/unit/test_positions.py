"""Kinds of position encoding: each has one interface, and no other code asks which one a model has."""

import re
from pathlib import Path

import numpy as np
import pytest

from conftest import tiny_model
from lrjax import config, kinds
from lrjax.errors import InputError
from lrjax.models import positions
from lrjax.models.positions import PositionEncoding
from lrjax.terms import TERMS

SOURCES = [*Path("lrjax").rglob("*.py"), *Path("experiments").rglob("*.py")]


@pytest.mark.parametrize("name", kinds.POSITIONS)
def test_every_name_of_the_config_has_its_kind(name):
    """Its terms exist, only a P can be trained, and without a P before training there is none."""
    kind = positions.find(name)
    assert isinstance(kind, PositionEncoding) and set(kind.position_terms) <= set(TERMS)
    assert kind.has_P or not kind.trained
    P = kind.initial(np.ones((4, 8), np.float32), np.float32(1), np.float32(1), has_cls=True)
    assert np.asarray(P).shape == (4, 8) and np.asarray(P).any() == kind.has_P
    assert (kind.trained_rows(4, has_cls=True).sum() > 0) == kind.trained


@pytest.mark.parametrize("name", kinds.POSITIONS)
def test_rows_of_p_add_up_to_positions(name):
    """A layout makes a row for CLS and one for each token of an image of 3 x 4, from fewer rows; CLS shares its row with none."""
    parts = positions.find(name).layout((3, 4))
    if parts is None:
        return
    assert len(parts) == 1 + 3 * 4 and parts.shape[1] < len(parts)
    assert (parts[1:] @ parts[0] == 0).all() and len({row.tobytes() for row in parts}) == len(parts)
    assert positions.find(name).layout(None) is None, "text has no layout"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(positions="rotary", d_head=5), "config.d_head: 5 is not possible; expected an even number, to rotate pairs"),
        (dict(positions="row_column"), "config.positions: 'row_column' is not possible; expected a task of two dimensions"),
        (dict(positions="alibi", e_scale=0.0), "config.e_scale: 0.0 is not possible; expected above 0 where positions are not"),
        (
            dict(positions="row_column", objective="autoregressive", task="grid", n1=5),
            "config.positions: 'row_column' is not possible; expected another kind: a decoder has one row of P for each token",
        ),
        (
            dict(positions="learnt"),
            f"config.positions: 'learnt' is not possible; expected {' or '.join(map(repr, kinds.POSITIONS))}",
        ),
    ],
    ids=lambda part: str(part)[:40],
)
def test_a_kind_says_what_it_demands(fields, message):
    with pytest.raises(InputError, match=re.escape(message)):
        config.validate_model(tiny_model(**fields))


def test_no_other_code_asks_which_kind_of_position_a_model_has():
    branch = re.compile(r"\bpositions\b\s*(==|!=|in \(|not in\b|in [A-Z])")
    found = [f"{path}: {line.strip()}" for path in SOURCES for line in path.read_text().splitlines() if branch.search(line)]
    assert not found, found
    assert len(SOURCES) > 100
