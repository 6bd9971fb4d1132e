from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import figures_read
from conftest import tiny_model, untrained
from lrjax.analysis.ablate import ABLATIONS, READOUT_TERMS, ablate, controls, each
from lrjax.errors import InputError
from lrjax.gates import parse_gates
from lrjax.metrics import METRICS, SETS, tabled
from lrjax.models import clip
from lrjax.models.interventions import ModelInterventions
from lrjax.plotting import training
from lrjax.plotting.ablation import ablation as ablation_figure
from lrjax.plotting.training import fig3, phases
from lrjax.stats import select
from lrjax.training import retrieval
from lrjax.training.run import history_table, models_table


@pytest.mark.slow
def test_each_row_is_an_evaluation_under_its_gates(shaken):
    """The batched program against one evaluation at a time, gates written as text."""
    table = ablate(shaken, sets=SETS)
    assert table["ablation"].tolist() == list(ABLATIONS) * 4 and table["n_labels"].tolist() == [4] * 24 + [6] * 24
    (program,), (state,) = shaken.programs, shaken.states
    one = jax.jit(partial(retrieval.evaluate, program.static, exhaustive=True))
    for row in (1, 2):
        hyper, params = (jax.tree.map(lambda x: x[row], tree) for tree in (program.hyper, state.params))
        splits = clip.model_splits(program.static, hyper)
        for ablation in ("none", "EP", "EP+PP+BP", "EP+VP"):
            gates = parse_gates("none" if ablation == "none" else f"{ablation}=0", {"vision": 1, "text": 1}, 2).at(0)
            alone = one(hyper, splits, params, ModelInterventions.of_gates(gates))
            mine = select(table, (table["model"] == row) & (table["ablation"] == ablation))
            for metric in METRICS:
                np.testing.assert_allclose(mine[metric], [alone[metric]], atol=2e-3, err_msg=f"{ablation} {metric}")


@pytest.mark.slow
def test_ablations_matter_where_they_should(shaken):
    vision, text = ablate(shaken), ablate(shaken, encoder="text")
    none = vision["unseen_pair_order"][vision["ablation"] == "none"]
    np.testing.assert_array_equal(none, text["unseen_pair_order"][text["ablation"] == "none"])
    for table in (vision, text):
        assert (table["unseen_pair_order"][table["ablation"] == "EE"] != none).any()


@pytest.mark.slow
def test_without_any_position_term_and_value_vision_is_blind_to_order(shaken):
    """EP, PP, BP and VP at zero: an image is a bag of its labels, and every image ties with its mirror."""
    table = ablate(shaken, ("EP+PP+BP+VP",))
    np.testing.assert_allclose(table["unseen_pair_order"], 0.5, atol=1e-6)
    np.testing.assert_allclose(table["unseen_pair_order_t2i"], 0.5, atol=1e-6)


@pytest.mark.slow
def test_heads_and_labels_select(shaken):
    both, one, other = (ablate(shaken, ("EP",), heads=h)["unseen_pair_order"] for h in ((0, 1), (0,), (1,)))
    np.testing.assert_array_equal(both, ablate(shaken, ("EP",))["unseen_pair_order"])
    assert (one != other).any()
    some = ablate(shaken, ("none", "EP"), n_labels=[6])
    assert set(some["n_labels"].tolist()) == {6} and some["model"].tolist() == [2, 2, 3, 3]


@pytest.mark.slow
def test_depth_and_training_gates_are_ablated_too():
    models = [tiny_model(n_layers_vision=2, gates=gates) for gates in ("PP=0", "none")]
    table = ablate(untrained(*models), ("none", "PP", "EP"))
    order = table["unseen_pair_order"].reshape(2, 3)
    np.testing.assert_array_equal(order[0, 0], order[0, 1])  # trained without PP: zeroing it again changes nothing
    assert table["gates"].tolist() == ["PP=0"] * 3 + ["none"] * 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (dict(ablations=("EQ",)), "--ablations: term 'EQ' does not exist; expected terms of EE EP"),
        (
            dict(ablations=("median EP",)),
            "'median EP' is not an ablation (did you mean 'mean'?); expected TERMS, TERMS=number, or TERMS after one of",
        ),
        (dict(ablations=("mean VE",)), "VE is no row of scores; expected terms of EE EP PE PP BE BP"),
        (dict(ablations=("random EP",), encoder="text"), "'random EP' needs one block"),
        (dict(ablations=("vision:EP=0;vision.h0:EP=1",)), "'EP=0' and 'vision.h0:EP=1' set the same gate"),
        (dict(ablations=("EP=x",)), "'x' is not a finite number"),
        (dict(ablations=("EP=",)), "'EP=' is not an ablation; expected TERMS, TERMS=number"),
        (dict(heads=[2]), "--heads: head 2 is out of range; expected 0..1"),
        (dict(encoder="visoin"), "--encoder=visoin: does not exist (did you mean 'vision'?)"),
        (dict(n_labels=[7]), "--labels=7: no model has so many labels; expected some of 4, 6"),
    ],
)
def test_what_does_not_exist_is_named(trained, arguments, says):
    with pytest.raises(InputError) as error:
        ablate(trained[1], **arguments)
    assert says in str(error.value)


@pytest.mark.slow
def test_tables_show_both_kinds_of_candidates_where_there_are_two(shaken):
    table = ablate(shaken, ("none",), sets=("unseen_pair",))
    shown = {"unseen_pair_order": "order", "unseen_pair": "top-1", "unseen_pair_label_set": "label set"}
    both = tabled(table)
    assert [*both.values()] == ["order", "top-1", "top-1 in set", "label set"] and set(both) == {*shown, "unseen_pair_in_set"}
    assert (table["unseen_pair_in_set"] >= table["unseen_pair"]).all()
    nothing = np.full(4, np.nan)
    assert tabled(table | {"unseen_pair_in_set": nothing}) == shown == tabled(shown), "readers, older versions"


def test_fig3_shows_the_mean_at_each_number_of_labels_and_every_seed(trained):
    table = models_table(trained[1])
    figure = fig3(table)
    for axis, (measured, (title, _)) in zip(figure.axes, training.PANELS.items(), strict=True):
        metric = measured.column
        assert axis.get_title() == title
        means = [[n, table[metric][table["n_labels"] == n].mean()] for n in (4, 6)]
        np.testing.assert_allclose(figures_read.points(axis.lines[0]), means, rtol=1e-6)
        assert figures_read.dots(axis) == set(zip(table["n_labels"].tolist(), table[metric].tolist(), strict=True))
        assert figures_read.level_lines(axis) == ([0.5] if metric == "unseen_pair_order" else [])


def test_phases_show_each_accuracy_at_each_evaluation(trained):
    history = history_table(trained[1])
    figure = phases(history)
    for axis, n in zip(figure.axes, (4, 6), strict=True):
        assert axis.get_title() == f"N = {n} labels"
        series = figures_read.series(axis)
        assert [*series] == ["single", "seen pair", "unseen pair", "unseen pair order"]
        for name, line in series.items():
            values = history[name.replace(" ", "_")]
            at = lambda step, n=n, values=values: values[(history["n_labels"] == n) & (history["step"] == step)].mean()
            np.testing.assert_allclose(line, [[step, at(step)] for step in (0, 10, 20)], rtol=1e-6)


@pytest.mark.slow
def test_an_ablation_is_drawn_with_what_it_takes_away_and_how_much_is_left(trained):
    table = ablate(trained[1], ("none", "EP"))
    figure = ablation_figure(table, "title", {"unseen_pair_order": "order"})
    assert figure.get_suptitle() == "title" and figures_read.tick_labels(figure.axes[-1]) == ["none", "EP"]
    for axis, n in zip(figure.axes, (4, 6), strict=True):
        assert axis.get_title() == f"N = {n} labels" and figures_read.level_lines(axis) == [0.5]
        of = lambda name, n=n: table["unseen_pair_order"][(table["ablation"] == name) & (table["n_labels"] == n)].mean()
        np.testing.assert_allclose(figures_read.series(axis)["order"][:, 1], [of("none"), of("EP")], rtol=1e-6)


def test_fig_3_has_a_line_for_each_number_of_layouts(trained, monkeypatch):
    """And dotted ones, among the captions of the set, only where there is one condition: of several they cannot be told apart."""
    table, drawn = models_table(trained[1]), []
    both = {name: np.concatenate([column, column]) for name, column in table.items()}
    both["n2"] = np.repeat([5, 20], len(table["n2"]))
    monkeypatch.setattr(training, "save", lambda figure, path: drawn.append(figure))
    fig3(both, None)
    fig3(table, None)
    several, one = drawn
    dotted = lambda axis: sum(line.get_linestyle() == ":" for line in axis.get_lines())
    for axis in several.axes:
        assert axis.get_legend_handles_labels()[1] == ["n2 = 5", "n2 = 20"] and dotted(axis) == 0
    for axis in one.axes:
        assert dotted(axis) == (0 if "order" in axis.get_title() else 1), axis.get_title()


def order(table, name):
    return table["unseen_pair_order"][table["ablation"] == name]


@pytest.mark.slow
def test_a_dose_of_one_is_none_and_of_zero_is_the_ablation(shaken):
    table = ablate(shaken, ("none", "EP", "EP=0", "EP=0.5", "EP=1", "vision:EP=0"), sets=("unseen_pair",))
    np.testing.assert_array_equal(order(table, "EP=1"), order(table, "none"))
    np.testing.assert_array_equal(order(table, "EP=0"), order(table, "EP"))
    np.testing.assert_array_equal(order(table, "vision:EP=0"), order(table, "EP"))
    assert (order(table, "EP=0.5") != order(table, "EP")).any() and (order(table, "EP=0.5") != order(table, "none")).any()
    assert "single" not in table and "unseen_pair_labels" in table


@pytest.mark.slow
def test_what_is_the_same_in_every_image_is_its_own_mean(shaken):
    """EP, PP and BP of the CLS row do not depend on the image: mean-ablation gives them back. EE does, and is lost."""
    table = ablate(shaken, ("none", "EP", "mean EP", "mean EP=0.3", "mean EP+PP+BP", "EE", "mean EE"), sets=("unseen_pair",))
    for same in ("mean EP", "mean EP=0.3", "mean EP+PP+BP"):
        np.testing.assert_allclose(order(table, same), order(table, "none"), atol=2e-3)  # 900 images: one or two may tie
    assert (abs(order(table, "mean EE") - order(table, "none")) > 5e-3).any()
    assert (order(table, "mean EE") != order(table, "EE")).any(), "the mean keeps what tells CLS from pixels"


@pytest.mark.slow
def test_a_random_row_has_the_norm_of_the_row_it_replaces(shaken):
    (program,), (state,) = shaken.programs, shaken.states
    hyper, params = (jax.tree.map(lambda x: jnp.asarray(x[1]), tree) for tree in (program.hyper, state.params))
    static = program.static
    only = np.zeros((static.n_heads, 6), np.float32)
    only[1, READOUT_TERMS.index("EP")] = 1
    gates = clip.unit_gates(static)
    row, noise = (controls(static, hyper, params, gates, {kind: only}) for kind in ("mean", "random"))
    centred = row - row.mean(-1, keepdims=True)
    np.testing.assert_allclose(jnp.linalg.norm(noise, axis=-1), jnp.linalg.norm(centred, axis=-1), rtol=1e-4)
    assert (row[0] == 0).all() and abs(jnp.corrcoef(noise[1], centred[1])[0, 1]) < 0.95
    other = controls(static, hyper.replace(seed=hyper.seed + 1), params, gates, {"random": only})
    assert (other[1] != noise[1]).any(), "drawn from the model's seed"


@pytest.mark.slow
def test_each_head_alone(shaken):
    names = each(shaken.programs[0].static, terms=("EP",))
    assert tuple(map(str, names)) == (
        "none",
        *(f"vision.h{h}:{terms}=0" for h in (0, 1) for terms in ("EP", "VE+VP+VB")),
    )
    table = ablate(shaken, names, sets=("unseen_pair",))
    np.testing.assert_array_equal(order(table, "vision.h0:EP=0"), order(ablate(shaken, ("EP",), heads=[0]), "EP"))


@pytest.mark.slow
def test_order_within_the_right_set(shaken):
    table = ablate(shaken, ("none", "EE"))
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = table["unseen_pair"] / table["unseen_pair_label_set"]
    known = table["unseen_pair_label_set"] > 0
    np.testing.assert_allclose(table["unseen_pair_order_given_set"][known], expected[known], rtol=1e-6)
    assert np.isnan(table["unseen_pair_order_given_set"][~known]).all()
    assert (table["unseen_pair_labels"] >= table["unseen_pair_label_set"] - 1e-6).all(), "a right set names both labels"
