"""Results as data: an ablation is a record, whose text is parsed once, and a metric says what it measures."""

import numpy as np
import pytest

from conftest import tiny_model
from lrjax import config
from lrjax.ablations import COLUMNS, CONTROL_KINDS, Ablation, described, labelled
from lrjax.analysis.ablate import ABLATIONS, CONTROLS, DOSES, GRID_ABLATIONS, TASK_ABLATIONS, VARIANT_ABLATIONS, Ablate, ablate
from lrjax.errors import InputError, in_python
from lrjax.gates import ENCODERS, GATES, NONE
from lrjax.metrics import I2T, MEASURES, METRICS, T2I, Metric, ends, of_decoding, of_head, of_retrieval, of_words

PLACES = [
    dict(encoder=encoder, layers=layers, heads=heads)
    for encoder in ("vision", "text")
    for layers in ((), (1,), (0, 2))
    for heads in ((), (0,), (1, 3))
]
ALONE = [
    Ablation(terms, scale, control, **place)
    for terms in (("EP",), ("EP", "PP", "BP"), ("VE", "VP", "VB"))
    for scale in (0, 0.5, 0.875, 1, -2, 1e-7)
    for control in (NONE, *CONTROL_KINDS)
    for place in PLACES
]
TOGETHER = [Ablation(("EP",), also=(Ablation(("PP",), 0.5, heads=(1,)), Ablation(("EE",), encoder="text")))]
TEXTS = {*ABLATIONS, *CONTROLS, *DOSES, *GRID_ABLATIONS, *TASK_ABLATIONS, *VARIANT_ABLATIONS}


def test_a_text_of_a_record_is_that_record_again():
    for record in (Ablation(), *ALONE, *TOGETHER):
        assert Ablation.parse(str(record)) == record
    texts = [str(record) for record in ALONE]
    assert len(set(texts)) == len(ALONE), "different records have different labels"


def test_the_label_of_what_lrjax_asks_for_is_its_text():
    assert {text for text in TEXTS if str(Ablation.parse(text)) != text} == {"EP=0", "EP+PP+BP=0"}, "a dose of 0 is the ablation"
    assert list(labelled(DOSES)) == list(DOSES), "tables say it as it was asked"


def test_nothing_is_nothing_in_any_place():
    assert list(labelled((NONE, Ablation(), Ablation(encoder="text"), Ablation(heads=(1,))))) == [NONE]


def test_the_order_of_terms_and_spaces_mean_nothing():
    record = Ablation(("EP", "PP", "BP"), heads=(0, 2))
    for text in ("vision.h0.h2:EP+PP+BP=0", "vision.h2.h0 : BP + PP + EP", " vision.h0.h2:EP+PP+BP "):
        assert Ablation.parse(text) == record
    assert Ablation(("BP", "PP", "EP"), heads=(2, 0, 2)) == record


def test_a_text_without_a_place_is_of_the_place_that_is_asked_for():
    assert Ablation.parse("EP", "text", [1, 0]) == Ablation(("EP",), encoder="text", heads=(0, 1))
    assert Ablation.parse("vision.L1:EP=0", "text", [1]) == Ablation(("EP",), layers=(1,)), "its own place comes first"
    assert Ablation.parse("none", "text") == Ablation(encoder="text")


@pytest.mark.parametrize("record", [Ablation(), *TOGETHER, *(one for one in ALONE if one.control == NONE)], ids=str)
def test_an_ablation_is_gates_of_its_scale_in_its_place(record):
    static = config.make_static([tiny_model(n_layers_vision=3, n_layers_text=3, n_heads=4)])
    factors, weights = Ablate((record,)).factors_and_weights(static)
    expected = {name: np.ones((3, 4, len(GATES)), np.float32) for name in ENCODERS}
    for part in record.parts:
        heads, terms = part.heads or range(4), [GATES.index(term) for term in part.terms]
        expected[part.encoder][np.ix_(part.layers or range(3), heads, terms)] = part.scale
    for name in ENCODERS:
        np.testing.assert_array_equal(getattr(factors, name)[0], expected[name])
    assert not any(weight.any() for weight in weights.values())


@pytest.mark.slow
def test_a_record_and_its_text_have_the_same_rows(shaken):
    records = Ablation(("EP",), 0.5), Ablation(("EP", "PP"), heads=(1,)), Ablation(("EE",), control="mean")
    texts = "EP=0.5", "vision.h1:EP+PP=0", "mean EE"
    of_records, of_texts = (ablate(shaken, (NONE, *asked), sets=("unseen_pair",)) for asked in (records, texts))
    for name, column in of_records.items():
        np.testing.assert_array_equal(column, of_texts[name], err_msg=name)


@pytest.mark.slow
def test_columns_say_what_the_record_says(shaken):
    """Figures and claims read columns: no label is parsed again."""
    asked = (NONE, "EP+PP=0.5", "random EP", "vision.h1:PP=0", "text.L0.h0.h1:EE=0", "vision:EP=0;text:PP=0")
    table = ablate(shaken, asked, heads=[0], sets=("unseen_pair",))
    columns = {name: table[name][table["model"] == 0].tolist() for name in COLUMNS}
    assert columns["terms"] == ["none", "EP+PP", "EP", "PP", "EE", "EP;PP"]
    assert columns["scale"] == [1, 0.5, 0, 0, 0, 0]
    assert columns["control"] == ["none", "none", "random", "none", "none", "none"]
    assert columns["encoder"] == ["vision", "vision", "vision", "vision", "text", "vision;text"]
    assert columns["heads"] == ["0", "0", "0", "1", "0+1", "all"]
    np.testing.assert_array_equal(columns["head"], [0, 0, 0, 1, np.nan, np.nan])
    np.testing.assert_array_equal(columns["layer"], [np.nan, np.nan, np.nan, np.nan, 0, np.nan])
    assert table["ablation"][:6].tolist() == list(asked)


def test_an_older_table_is_described_by_its_labels():
    labels = np.array([NONE, "EP=0.5", "vision.L1.h0:VE+VP+VB=0", "mean EE"])
    table = described({"ablation": labels, "encoder": np.full(4, "text")})
    assert table["encoder"].tolist() == ["text"] * 4, "what a table says stays"
    assert table["terms"].tolist() == [NONE, "EP", "VE+VP+VB", "EE"] and table["scale"].tolist() == [1, 0.5, 0, 0]
    np.testing.assert_array_equal(table["layer"], [np.nan, np.nan, 1, np.nan])
    assert described(table) is table


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Ablation(("EQ",)), "terms: 'EQ' does not exist; expected terms of EE EP"),
        (lambda: Ablation("EP"), "terms='EP': is text; expected a tuple such as ('EP',), or Ablation.parse('EP')"),
        (lambda: Ablation(("EP",), control="median"), "control='median': does not exist; expected none or one of mean random"),
        (lambda: Ablation(("EP",), encoder="txt"), "encoder='txt': does not exist (did you mean 'text'?); expected vision or text"),
        (lambda: Ablation(("EP",), float("nan")), "scale=nan: is not a finite number"),
        (lambda: Ablation(("EP",), heads=(0, -1)), "heads: -1 is out of range; expected numbers from 0"),
        (lambda: Ablation.parse(""), "ablation: term '' does not exist; expected terms of EE EP"),
        (lambda: Ablation.parse("EP="), "ablation: 'EP=' is not an ablation; expected TERMS, TERMS=number"),
        (lambda: Ablation.parse("EP=1>0@5-9"), "ablation: 'EP=1>0@5-9': '1>0@5-9' is not a finite number"),
        (lambda: Ablation.parse("Mean EP"), "'Mean EP' is not an ablation (did you mean 'mean'?)"),
        (lambda: Ablation.parse("vision.x1:EP=0"), "'x1' is neither a layer nor a head; expected L<layer> or h<head>"),
        (lambda: labelled(("EP", Ablation(("EP",))), "text"), "--ablations: 'EP' is asked of {'terms': 'EP'"),
    ],
)
def test_what_is_no_ablation_is_named(make, says):
    with pytest.raises(InputError) as error:
        make()
    assert says in str(error.value)


def test_a_layer_or_head_that_a_model_does_not_have_is_named(trained):
    for record, says in ((Ablation(("EP",), layers=(1,)), "layer 1"), (Ablation(("EP",), control="mean", heads=(2,)), "head 2")):
        with pytest.raises(InputError, match=rf"--ablations: '{record}': {says} is out of range; expected 0"):
            ablate(trained[1], (record,))


WORDS = ("left", "below", "xzy")
EVERY = {
    metric
    for name in ("single", "seen_pair", "unseen_pair", "seen_chain", "unseen_chain")
    for metric in (*of_retrieval(name, WORDS), *of_decoding(name), *of_head(name))
} | {Metric("unseen_pair", measure) for measure in MEASURES}


def test_a_column_is_of_one_metric():
    """The columns of committed tables and checkpoints: each is named by one metric, and that is found again."""
    columns = [metric.column for metric in EVERY]
    assert len(set(columns)) == len(EVERY)
    assert [Metric.parse(column) for column in columns] == list(EVERY)
    assert set(METRICS) < set(columns)


def test_columns_have_the_names_that_checkpoints_have():
    assert [metric.column for metric in of_retrieval("seen_pair", ["above"])] == [
        "seen_pair",
        "seen_pair_in_set",
        "seen_pair_order",
        "seen_pair_label_set",
        "seen_pair_label_set_in_set",
        "seen_pair_labels",
        "seen_pair_t2i",
        "seen_pair_order_t2i",
        "seen_pair_label_set_t2i",
        "seen_pair_order_above",
    ]
    assert [metric.column for metric in of_retrieval("single")] == ["single", "single_in_set", "single_t2i"]
    assert [metric.column for metric in of_decoding("single")] == ["single"]
    assert [metric.column for metric in (*of_decoding("unseen_pair"), *of_head("unseen_pair"))] == [
        *("unseen_pair", "unseen_pair_order", "unseen_pair_label_set", "unseen_pair_named", "unseen_pair_alone"),
        *("unseen_pair_place", "unseen_pair_order_located"),
    ]


@pytest.mark.parametrize("column", ["loss", "single_token_objects", "seen", "unseen_pair_left", "unseen_pair_order_", "pair_loss"])
def test_what_is_no_metric_has_no_scale(column):
    assert Metric.parse(column) is None and ends(column) is None
    assert ends("seen_chain_order_xzy") == (0, 1)


def test_words_are_told_apart_by_their_records():
    table = ("seed", "unseen_pair_order", "unseen_pair_order_left", "seen_pair_order_left", "unseen_pair_order_t2i")
    assert of_words(table) == (Metric("unseen_pair", "order", I2T, "all", "left"),)
    assert Metric.parse("unseen_pair_order_t2i") == Metric("unseen_pair", "order", T2I)
    assert of_words(table)[0].name == "order of left" and of_words(table)[0].chance == 0.5


@pytest.mark.parametrize(
    ("on_the_command_line", "to_python"),
    [
        (
            "heads: objective='autoregressive': is a decoder; expected CLIP, or ask experiments.reader",
            "or ask run.analyze('decoder')",
        ),
        (
            "gradient: task='grid': has two dimensions; expected a row of pixels, or ask experiments.grid",
            "or ask run.analyze('grid')",
        ),
        (
            "--ckpt=runs: no such folder; give a workdir of experiments.sweep",
            "path=runs: no such folder; give the folder of lrjax.train",
        ),
        ("give another folder, or replace it with --overwrite of experiments.sweep", "overwrite=True of lrjax.train"),
    ],
)
def test_errors_send_users_of_python_to_functions_not_to_commands(on_the_command_line, to_python):
    with pytest.raises(InputError) as raised, in_python():
        raise InputError(on_the_command_line)
    assert to_python in str(raised.value) and "experiments." not in str(raised.value)
