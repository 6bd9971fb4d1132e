import importlib

import jax
import numpy as np
import pytest

from conftest import tiny_model, tiny_sweep
from experiments.studies.encoder_claims import LATE, RETRAINED
from experiments.studies.study import sweep_of
from lrjax import config
from lrjax.errors import InputError
from lrjax.gates import canonical, in_steps, parse_gates
from lrjax.terms import GATES

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


@pytest.mark.parametrize(
    ("form", "texts"),
    [
        ("none", ["none ", " none"]),
        ("EP=0", ["EP=0 ", "EP = 0.0", "vision:EP=-0", "EP=0e3", "EP=0>0@3-5", "EP+EP=0"]),
        ("EP+PP=0.5", ["PP+EP=.5", "PP=0.50;EP=5e-1", " EP=0.5 ; vision : PP=0.5"]),
        ("EP=0;text:PP=0", ["text:PP=0;EP=0"]),
        ("vision.L1.h0.h2:EP=0.25", ["vision.h2.L1.h0:EP=0.25", "vision.h0.h2.h0.L1:EP=0.25"]),
        ("EP=1>0@5-10", ["EP=1.0>0.0@05-10"]),
        ("EP=0;VP=1>0@5-10", ["VP=1>0@5-10;EP=0"]),
    ],
)
def test_equal_gates_are_one_value(form, texts):
    assert canonical(form) == form
    for text in texts:
        assert canonical(text) == form and config.Model(gates=text) == config.Model(gates=form), text
        jax.tree.map(np.testing.assert_array_equal, gates_at(text, 7), gates_at(form, 7))
        with pytest.raises(InputError, match=r"config.gates: .* repeats a value; give each value once"):
            tiny_sweep(gates=(form, text))


def test_gates_of_shipped_configs_and_claims_stand_in_that_form():
    for name in ("training_ablation", "pruned"):
        wanted = importlib.import_module(f"experiments.configs.{name}").get_config()
        assert all(canonical(text) == text for text in wanted.gates)
        quick = sweep_of(wanted, 8, 8, quick=True)
        assert len({model.gates for model in quick.models}) == len(wanted.gates), "a trial has schedules that act in it"
    assert canonical(RETRAINED) == RETRAINED and canonical(LATE) == LATE
    assert in_steps("EP=1>0@2000-2500;text:PP=0", 0.01) == "EP=1>0@20-25;text:PP=0" and in_steps("none", 0.1) == "none"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("EP=1>0@2000-2500", "gates: 'EP=1>0@2000-2500' never acts in 20 steps of training; start it earlier, or leave it out"),
        ("PP=0;text:EP=1>0.5@20-30", "gates: 'text:EP=1>0.5@20-30' never acts in 20 steps of training; start it earlier, or leave"),
        ("EP=1>0@19-2500", "gates: 'EP=1>0@19-2500' never acts in 20 steps of training; start it earlier"),  # the last is step 19
        ("EP=1", "gates: 'EP=1' never acts: a gate is 1 if nothing sets it; leave it out"),
        ("EP=0;EP=0.5", "gates: 'EP=0' and 'EP=0.5' set the same gate; give each gate once"),
        ("EP+PP=0;vision.h1:PP=1", "gates: 'EP+PP=0' and 'vision.h1:PP=1' set the same gate; give each gate once"),
        ("vision.h0.h1:EP=0;vision.h1.L0:EP=0", "gates: 'vision.h0.h1:EP=0' and 'vision.L0.h1:EP=0' set the same gate"),
    ],
)
def test_gates_that_never_act_or_contradict_are_refused(text, says):
    with pytest.raises(InputError) as error:
        tiny_sweep(gates=text)
    assert str(error.value).startswith(says)


@pytest.mark.parametrize(
    ("other", "fields", "where"),
    [
        ("vision.L0:EP=0", {}, "n_heads = 2, n_layers_vision = 1"),
        ("vision.h0.h1:EP=0", {}, "n_heads = 2"),
        ("vision.h0:EP=0;vision.h1:EP=0", {"n_layers_vision": 2}, "n_heads = 2, n_layers_vision = 2"),
        ("vision.h0.h1:EP=0", {"n_heads": (2, 4)}, "n_heads = 2"),
        ("vision.L0.L1:EP=0", {"n_repeats": 2}, "n_repeats = 2"),
        ("EP=1e-60", {}, "n_heads = 2"),  # in float32
    ],
)
def test_texts_that_are_the_same_gates_in_a_model_are_refused(other, fields, where):
    with pytest.raises(
        InputError, match=f"^config.gates: 'EP=0' and '{other}' are the same in a model of .*{where}.*; give one"
    ) as error:
        tiny_sweep(gates=("none", "EP=0", other), **fields)
    assert "\n" not in str(error.value)


def test_texts_that_are_different_gates_in_every_model_are_accepted():
    for gates in (("EP=0", "vision.h0:EP=0"), ("EP=0", "text:EP=0"), ("EP=0", "EP=1>0@5-10", "EP=1>0@5-11")):
        assert len({model.gates for model in tiny_sweep(gates=gates).models}) == len(gates)
    assert tiny_sweep(gates=("EP=0", "vision.L0:EP=0"), n_layers_vision=2)


def test_gates_that_act_are_accepted():
    for text in ("EP=1>0@18-30", "EP=0.5>1@50-60", "EP=0;text:EP=0.5", "vision.h0:EP=0;vision.h1:EP=0.5", "vision.L0:EP=0"):
        assert tiny_sweep(gates=text).models[0] == tiny_model(n_labels=4, gates=text)
