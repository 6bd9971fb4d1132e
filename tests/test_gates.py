import jax
import numpy as np
import pytest

from lrjax.attention import GATES
from lrjax.errors import InputError
from lrjax.gates import parse_gates

LAYERS = {"vision": 2, "text": 1}
EP, PP = GATES.index("EP"), GATES.index("PP")


def gates_at(text, step=0):
    return jax.tree.map(np.asarray, parse_gates(text, LAYERS, 3).at(step))


def test_none_is_all_ones_at_every_step():
    for step in (0, 10, 10_000):
        gates = gates_at("none", step)
        assert gates.vision.shape == (2, 3, 12) and gates.text.shape == (1, 3, 12)
        assert (gates.vision == 1).all() and (gates.text == 1).all()


def test_a_clause_sets_its_terms_and_no_others():
    gates = gates_at("EP+PP=0")
    assert (gates.vision[:, :, [EP, PP]] == 0).all()
    assert gates.vision.sum() == 2 * 3 * 10 and (gates.text == 1).all()


def test_clauses_select_encoder_layer_and_heads():
    gates = gates_at("vision.L1.h0.h2:EP=0.25;text:PP=0")
    assert gates.vision[1, :, EP].tolist() == [0.25, 1, 0.25]
    assert (gates.vision[0] == 1).all() and (gates.text[0, :, PP] == 0).all()


@pytest.mark.parametrize(("step", "gate"), [(0, 1), (2000, 1), (2250, 0.5), (2500, 0), (9999, 0)])
def test_a_scheduled_gate_is_a_clipped_line(step, gate):
    assert np.allclose(gates_at("EP=1>0@2000-2500", step).vision[:, :, EP], gate)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("EQ=0", "term 'EQ' does not exist; expected terms of EE EP PE PP"),
        ("EP", "'EP' is not a gate"),
        ("EP=x", "'x' is not a finite number"),
        ("EP=inf", "'inf' is not a finite number"),
        ("EP=1>0@5-5", "must end after it starts"),
        ("audio:EP=0", "encoder 'audio' does not exist"),
        ("vision.h3:EP=0", "head 3 is out of range; expected 0..2"),
        ("vision.L2:EP=0", "layer 2 is out of range; expected 0..1"),
        ("vision.x:EP=0", "'x' is neither a layer nor a head"),
        ("", "'' is not a gate"),
    ],
)
def test_bad_gates_are_named(text, says):
    with pytest.raises(InputError) as error:
        parse_gates(text, LAYERS, 3)
    assert says in str(error.value) and "\n" not in str(error.value)
