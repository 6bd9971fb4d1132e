"""What is read off the line that declares a field."""

import dataclasses

import numpy as np
import pytest

from lrjax.config import AXES, FIELDS, STATIC, TABLE_FIELDS, TRACED, Hyper, Model, Static, make_hyper, make_static
from lrjax.declarations import RUN_FIELDS
from lrjax.errors import InputError
from lrjax.fields import PAIR, declared, field


@dataclasses.dataclass(frozen=True)
class Record:
    size: int = field(4, "a size", low=2, high=9)
    many: int = field(0, "a number of things", zero="all", low=0)
    rate: float = field(0.5, "a rate", low=0, below=1)
    step: float = field(0.1, "a step", above=0)
    pair: tuple[float, float] = field((0.1, 0.2), "two rates", low=0, below=1, columns=("first", "second"))
    kind: str = field("a", "a kind", choices=("a", "b"))
    name: str = field("x", "a name", canonical=str.strip)
    on: bool = field(True, "a switch")


FOUND = declared(Record)


@pytest.mark.parametrize(
    ("name", "possible", "impossible", "expected"),
    [
        ("size", (2, 9), (1, 10), "2..9"),
        ("many", (0, 1, 10**9), (-1,), "0 (all) or 1 or more"),
        ("rate", (0.0, 0.99), (-0.1, 1.0, 1 - 1e-12, float("nan")), "a number in [0, 1)"),
        ("step", (1e-30, 1e30), (0.0, 1e-60, 1e39, float("inf"), float("nan")), "a finite number above 0"),
        ("pair", ((0.0, 0.9),), ((0.0, 1.0), (-0.1, 0.5)), "two numbers in [0, 1)"),
        ("kind", ("a", "b"), ("c",), "'a' or 'b'"),
    ],
)
def test_a_field_says_which_values_are_possible(name, possible, impossible, expected):
    """Numbers count as programs hold them, in 32 bits: there 1e-60 is 0, and 1 - 1e-12 is 1."""
    for value in possible:
        FOUND[name].check(value)
    for value in impossible:
        with pytest.raises(InputError) as error:
            FOUND[name].check(value)
        assert str(error.value) == f"config.{name}: {value!r} is not possible; expected {expected}"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("size", "4", 4),
        ("rate", "0.5", 0.5),
        ("pair", "(0.1, 0.2)", (0.1, 0.2)),
        ("on", "False", False),
        ("name", " x ", "x"),
        ("size", "four", None),
        ("on", "yes", None),
    ],
)
def test_the_text_of_a_value_is_read_as_the_fields_type(name, text, value):
    assert FOUND[name].parse(text) == value


def test_a_misspelt_attribute_of_a_field_is_an_error():
    with pytest.raises(TypeError, match="lowest"):
        declared(dataclasses.make_dataclass("Wrong", [("x", int, field(1, "a number", lowest=0))]))


@pytest.mark.parametrize("of_field", [*FIELDS.values(), *RUN_FIELDS.values(), *TABLE_FIELDS.values()], ids=lambda f: f.name)
def test_a_field_of_a_config_has_a_possible_default_and_one_line_of_meaning(of_field):
    of_field.check(of_field.default)
    assert 0 < len(of_field.meaning) < 110 and "\n" not in of_field.meaning and not of_field.meaning.endswith(".")


def test_every_field_is_traced_or_static():
    assert {*TRACED, *STATIC} == set(FIELDS) and not {*TRACED} & {*STATIC}
    assert set(Hyper.__dataclass_fields__) == set(TRACED) == {"seed", *AXES}
    assert set(Static.__dataclass_fields__) == {*STATIC, "n_labels_max", "gated", "noisy", "zipfian", "supervised"}


def test_models_that_differ_in_traced_fields_alone_share_a_program():
    """Equal static sides are equal, with equal hashes: jit compiles once for both."""
    one, other = Model(seed=0, lr=1e-3), Model(seed=7, lr=1e-2, betas=(0.5, 0.6), n_labels=9)
    same = make_static([one, other])
    assert same == make_static([other, one]) and hash(same) == hash(make_static([other, one]))
    assert same != make_static([one, dataclasses.replace(other, n_labels=20)]), "arrays are padded to 20 labels there"
    for name in STATIC:
        assert getattr(same, name) == getattr(one, name)


def test_traced_values_have_the_declared_types():
    hyper = make_hyper(Model(seed=2**32 - 1, betas=(0.5, 0.6)))
    dtypes = {int: np.int32, float: np.float32, PAIR: np.float32, bool: np.bool_}
    for name in AXES:
        if name != "gates":
            assert getattr(hyper, name).dtype == dtypes[FIELDS[name].type], name
    assert hyper.seed.dtype == np.uint32 and hyper.seed == 2**32 - 1 and hyper.betas.shape == (2,)
