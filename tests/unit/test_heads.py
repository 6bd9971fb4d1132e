import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import figures_read
from conftest import one_command, tiny_model, untrained
from experiments.heads import print_models
from lrjax.analysis import heads
from lrjax.analysis.ablate import ablate
from lrjax.analysis.models import tidy
from lrjax.data.scenes import FIRST_LABEL
from lrjax.errors import InputError
from lrjax.gates import parse_gates
from lrjax.models.clip import unit_gates
from lrjax.plotting import heads as figures
from lrjax.stats import select


@pytest.fixture(scope="module")
def run(shaken):
    return shaken


@pytest.fixture(scope="module")
def answer(run):
    return heads.heads(run)


in_images = jax.jit(heads.in_images, static_argnums=0)


def by_hand(static, params):
    """Head 0 scores a key by its position, head 1 by the number of its label."""
    zero = jax.tree.map(jnp.zeros_like, params.vision)
    block = zero.blocks[0]
    block = block.replace(
        b_Q=block.b_Q.at[:, 0].set(1.0), W_K=block.W_K.at[0, 0, 0].set(1.0).at[1, 1, 0].set(1.0)
    )  # scores: entry 0 of the key's vector in head 0, entry 1 in head 1
    P = zero.P.at[:, 0].set(jnp.arange(static.L + 1.0))
    E = zero.E.at[FIRST_LABEL:, 1].set(jnp.arange(static.n_labels_total) + 1.0)
    return params.replace(vision=zero.replace(E=E, P=P, blocks=(block,)))


def test_a_head_of_positions_leans_and_a_head_of_labels_does_not(tiny):
    static, hyper, params, splits = tiny
    found = in_images(static, hyper, splits, by_hand(static, params), unit_gates(static))
    np.testing.assert_array_equal(found["head_bias"], [[1, 0.5]])
    np.testing.assert_array_equal(found["bias_by_distance"][0, 0], np.ones(static.L - 1))
    np.testing.assert_allclose(found["bias_by_distance"][0, 1], 0.5, rtol=1e-6)
    x, y = np.indices((static.n_heldout, static.n_heldout))
    np.testing.assert_array_equal(found["bias_by_labels"][0, 1], np.where(x == y, np.nan, y > x))
    assert found["attention_right"][0, 0] > found["attention_left"][0, 0]


def test_a_gate_reverses_a_head_and_a_tie_counts_one_half(tiny):
    static, hyper, params, splits = tiny
    for text, bias in (("vision.h0:BP=-1", 0), ("vision.h0:BP=0", 0.5)):
        gates = jax.tree.map(jnp.asarray, parse_gates(text, {"vision": 1, "text": 1}, 2).at(0))
        found = in_images(static, hyper, splits, by_hand(static, params), gates)
        np.testing.assert_array_equal(found["head_bias"], [[bias, 0.5]])


def test_a_model_that_is_not_a_number_has_no_bias(tiny):
    static, hyper, params, splits = tiny
    broken = params.replace(vision=params.vision.replace(P=params.vision.P * jnp.nan))
    assert np.isnan(in_images(static, hyper, splits, broken, unit_gates(static))["head_bias"]).all()


def test_bias_is_the_mean_over_distances_and_over_labels(answer):
    """Every layout has one distance, L - d layouts have distance d; every ordered pair has all layouts."""
    assert answer.head_bias.dims == ("model", "layer", "head") and len(np.unique(answer.head_bias)) > 4
    layouts = 10 - answer.distance
    by_distance = (answer.bias_by_distance * layouts).sum("distance") / layouts.sum()
    np.testing.assert_allclose(by_distance, answer.head_bias, atol=1e-6)
    np.testing.assert_allclose(answer.bias_by_labels.mean(heads.PAIR), answer.head_bias, atol=1e-6)


def test_what_heads_are_together(answer):
    bias = answer.head_bias.copy(data=np.array([[[0.1, 0.9]], [[0.2, 0.3]], [[0.5, 2 / 3]], [[0.5, 0.95]]]))
    together = heads.of_a_model(answer.assign(head_bias=bias))
    np.testing.assert_array_equal(together.n_left[:, 0], [1, 2, 0, 0])
    np.testing.assert_array_equal(together.n_right[:, 0], [1, 0, 0, 1])
    np.testing.assert_allclose(together.complementarity[:, 0], [0.8, 0.1, 1 / 6, 0.45])
    np.testing.assert_allclose(together.strongest_lean[:, 0], [0.4, 0.3, 1 / 6, 0.45])


@pytest.mark.slow
def test_pruning_a_head_is_taking_its_output_away(run, answer):
    """Gates on the values against the same parameters with W_O of the pruned head at zero."""
    table = heads.pruning(run, answer)
    assert table["heads_kept"].tolist() == ["0", "1", "0+1"] * 4 and table["n_heads_kept"].tolist() == [1, 1, 2] * 4

    def without(state, head):
        vision = state.params.vision
        (block,) = vision.blocks
        block = block.replace(W_O=block.W_O.at[:, head].set(0))  # [model, h, k, d]
        return state.replace(params=state.params.replace(vision=vision.replace(blocks=(block,))))

    states = run.states
    for kept, others in (("0", [without(s, 1) for s in states]), ("1", [without(s, 0) for s in states]), ("0+1", states)):
        pruned, known = (
            select(t, m)
            for t, m in (
                (table, table["heads_kept"] == kept),
                (ablate(dataclasses.replace(run, states=others), ("none",)), slice(None)),
            )
        )
        for metric in ("unseen_pair_order", "unseen_pair", "single"):
            np.testing.assert_allclose(pruned[metric], known[metric], atol=2e-3, err_msg=f"{kept} {metric}")
    assert (
        table["unseen_pair_order"][table["heads_kept"] == "0"] != table["unseen_pair_order"][table["heads_kept"] == "0+1"]
    ).any()


def test_composition_of_subsets(run, answer):
    bias = answer.head_bias.copy(data=np.array([[[0.1, 0.9]], [[0.2, 0.5]], [[0.5, 0.6]], [[0.8, 0.9]]]))
    table = heads.pruning(run, answer.assign(head_bias=bias))
    assert table["directions"].tolist() == ["one", "one", "both", "one", "neither", "one", *["neither"] * 3, *["one"] * 3]
    np.testing.assert_allclose(table["spread"], [0, 0, 0.8, 0, 0, 0.3, 0, 0, 0.1, 0, 0, 0.1], atol=1e-6)
    grouped = heads.by_composition(table)
    assert grouped["subsets"].tolist() == [2, 1, 1, 1, 1, 2, 1, 2, 1]
    first = select(grouped, (grouped["model"] == 0) & (grouped["n_heads_kept"] == 1))
    np.testing.assert_allclose(first["unseen_pair_order"], table["unseen_pair_order"][:2].mean(keepdims=True), rtol=1e-6)


def test_all_subsets_of_four_heads():
    assert len(heads.subsets(4)) == 15 == len({heads.keep(kept, 4) for kept in heads.subsets(4)})
    assert heads.keep((1, 3), 4) == "vision.h0.h2:VE+VP+VB=0" and heads.keep((0, 1, 2, 3), 4) == "none"
    with pytest.raises(InputError) as error:
        heads.subsets(9)
    assert str(error.value) == "n_heads=9: has 511 subsets of heads; expected at most 8 heads; leave pruning out (--nopruning)"


@pytest.mark.slow
def test_depth_and_numbers_of_heads_may_differ():
    run = untrained(tiny_model(n_heads=1), tiny_model(n_heads=2, n_layers_vision=2, n_labels=4))
    answer = heads.heads(run)
    assert np.isnan(answer.head_bias[0, 1]).all() and np.isfinite(answer.head_bias[1]).all()
    assert len(heads.head_table(answer)["model"]) == 1 + 4  # what a model does not have is no row
    together = heads.of_a_model(answer)
    assert np.isnan(together.n_left[0, 1]) and np.isnan(together.n_right[0, 1]) and np.isfinite(together.n_left[1]).all()
    assert len(tidy(together)["model"]) == 1 + 2  # layers
    table = heads.pruning(run, answer)
    assert table["model"].tolist() == [0, 1, 1, 1] and table["heads_kept"].tolist() == ["0", "0", "1", "0+1"]
    assert table["spread"][3] == pytest.approx(float(np.ptp(answer.head_bias[1].values)))  # over all layers
    assert heads.whole(table)["heads_kept"].tolist() == ["0", "0+1"]
    assert heads.pruning(run, answer, [4])["model"].tolist() == [1, 1, 1]
    figure = figures.bias(heads.head_table(answer))
    shown = [len(points) for axis in figure.axes for points in figures_read.series(axis).values()]
    assert sum(shown) == 1 + 4, "no head that a model does not have"


def test_models_that_lack_a_layer_are_not_counted_there(answer, capsys):
    """Model 0 has one layer, whose heads lean left and right; model 1 has two."""
    bias = np.array([[[0.1, 0.9], [np.nan, np.nan]], [[0.1, 0.9], [0.2, 0.8]]])
    own = answer.head_bias.isel(model=[0, 1], layer=[0, 0]).copy(data=bias).assign_coords(layer=[0, 1])
    print_models(own.to_dataset(name="head_bias"), ())
    first, second = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()[:1] in ("0", "1")]
    assert first[:2] == ["0", "2"] and second[:4] == ["1", "1", "1.000", "1.000"]


def test_the_bias_of_every_head_is_drawn_at_its_seed(answer):
    table = heads.head_table(answer)
    figure = figures.bias(table)
    for axis, n in zip(figure.axes, (4, 6), strict=True):
        assert axis.get_title() == f"N = {n} labels" and figures_read.level_lines(axis) == [0.5]
        series = figures_read.series(axis)
        assert [*series] == ["head 0", "head 1"]
        for head in (0, 1):
            own = select(table, (table["n_labels"] == n) & (table["head"] == head))
            np.testing.assert_allclose(series[f"head {head}"][:, 1], own["head_bias"])
            assert np.round(series[f"head {head}"][:, 0]).tolist() == own["seed"].tolist()


def test_the_bias_by_distance_is_drawn_for_each_way_that_heads_lean(answer):
    table = heads.distance_table(answer)
    figure = figures.by_distance(table)
    for axis, n in zip(figure.axes, (4, 6), strict=True):
        series, own = figures_read.series(axis), select(table, table["n_labels"] == n)
        assert {f"heads that lean {lean}" for lean in own["bias_direction"].tolist()} == set(series)
        for lean in set(own["bias_direction"].tolist()):
            rows = select(own, own["bias_direction"] == lean)
            means = [[d, rows["bias_by_distance"][rows["distance"] == d].mean()] for d in range(1, 10)]
            np.testing.assert_allclose(series[f"heads that lean {lean}"], means, rtol=1e-6)


def test_pruning_is_drawn_by_how_many_heads_are_kept(run, answer):
    table = heads.by_composition(heads.pruning(run, answer))
    measures = {"unseen_pair_order": "order", "unseen_pair": "top-1"}
    figure = figures.pruning(table, measures)
    panels = [(metric, n) for metric in measures for n in (4, 6)]
    for axis, (metric, n) in zip(figure.axes, panels, strict=True):
        assert axis.get_ylabel() == (measures[metric] if n == 4 else "") and axis.get_title() == f"N = {n} labels"
        own = select(table, table["n_labels"] == n)
        known = {(kept, value) for kept, value in zip(own["n_heads_kept"].tolist(), own[metric].tolist(), strict=True)}
        assert {(round(x), y) for x, y in figures_read.dots(axis)} == known


@pytest.mark.slow
def test_the_command_writes_what_it_says(trained):
    folder, _ = trained
    done = one_command("heads", f"--ckpt={folder}", "--labels=4", "--format=svg")
    assert done.returncode == 0, done.stderr
    for name, rows in (("heads", 2 * 2), ("heads_labels", 2 * 2 * 20), ("heads_distance", 2 * 2 * 9), ("pruning", 2 * 3)):
        assert len((folder / f"analysis/{name}_N4.csv").read_text().splitlines()) == 1 + rows
    for name in ("heads", "heads_distance", "pruning"):
        assert str(folder / f"figures/{name}_N4.svg") in done.stdout
        assert "N = 4 labels" in figures_read.texts(folder / f"figures/{name}_N4.svg")
