"""Gradients in two dimensions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from compiled import embed_images, evaluate, model_splits
from conftest import tiny_model, untrained
from lrjax.analysis import ablate, grid
from lrjax.analysis import reader as reading
from lrjax.errors import InputError
from lrjax.models import clip
from lrjax.models.interventions import Interventions, ModelInterventions
from lrjax.plotting import tasks as task_figures
from lrjax.training.run import model_columns


def test_grids_of_several_sizes_are_drawn_each_as_large_as_it_is():
    """What the smaller grid of a sweep does not have is NaN in its scores, and is in no table."""
    scores = np.full((2, 1, 1, 3, 3), np.nan)  # model, term, head, row, column
    scores[0, ..., :2, :2] = [[-20], [20]]
    scores[1] = [[-3], [0], [3]]
    dims = {"scores": ("model", "term", "head", "row", "column")} | dict.fromkeys(
        ("gradient_horizontal", "gradient_vertical"), ("model", "head")
    )
    columns = {"model": np.arange(2), "n_labels": np.full(2, 5), "task": np.array(["grid:height=2", "grid:height=3"])}
    axes = {name: ("model", values) for name, values in columns.items()}
    places = {"head": [0], "row": [1, 2, 3], "column": [1, 2, 3]}
    data = {name: (of, scores if name == "scores" else np.zeros((2, 1))) for name, of in dims.items()}
    table = grid.best_maps(xr.Dataset(data, axes | places), columns | {"unseen_pair": np.zeros(2)})
    assert len(table["score"]) == 4 + 9
    images = [axis.images[0] for axis in task_figures.maps(table).axes if axis.images]
    assert [image.get_array().shape for image in images] == [(2, 2), (3, 3)]
    assert [image.get_clim() for image in images] == [(-20, 20), (-3, 3)]


GRID = dict(task="grid:height=3,width=4", relations="left+above", n2=5)


def test_a_row_of_scores_is_what_depends_on_the_column_on_the_row_and_on_both():
    y, x = np.indices((3, 4)).reshape(2, -1)
    rng = np.random.default_rng(0)
    by_column, by_row = rng.normal(size=4)[x], rng.normal(size=3)[y]
    found = grid.parts(jnp.array(by_column + by_row + 5), (3, 4))
    np.testing.assert_allclose(found["horizontal"], by_column - by_column.mean(), atol=1e-6)
    np.testing.assert_allclose(found["vertical"], by_row - by_row.mean(), atol=1e-6)
    np.testing.assert_allclose(found["rest"], 0, atol=1e-6)
    scores = jnp.array(rng.normal(size=12))
    np.testing.assert_allclose(sum(grid.parts(scores, (3, 4)).values()), scores - scores.mean(), atol=1e-6)


@pytest.fixture(scope="module")
def grids():
    """Two grids with every parameter moved: a row of P a token, and one a row and one a column."""
    return untrained(*(tiny_model(**GRID, positions=kind) for kind in ("learned", "row_column")))


@pytest.mark.slow
def test_rows_and_columns_have_no_rest(grids):
    """Scores are linear in P: a sum of a row's and a column's embedding scores as a sum of both. Float32, scores of order 1."""
    found = grid.directions(grids)
    np.testing.assert_allclose(found.share.sum("part"), 1, atol=1e-5)
    rest = found.share.sel(part="rest")
    assert (rest.sel(model=0) > 0.05).all() and (rest.sel(model=1) < 1e-9).all()


def test_a_gradient_is_the_mean_step_to_the_right_and_down(grids):
    found = grid.directions(grids).isel(model=0, head=0)
    total = found.scores.sum("term").values
    steps = lambda s: np.mean([s[..., b] - s[..., a] for a in range(s.shape[-1]) for b in range(a + 1, s.shape[-1])])
    np.testing.assert_allclose(found.gradient_horizontal, steps(total), rtol=1e-4)
    np.testing.assert_allclose(found.gradient_vertical, steps(total.T), rtol=1e-4)


def test_maps_are_of_the_best_model_of_each_condition(grids):
    answer = grid.directions(grids)
    models = model_columns(grids.sweep) | {"unseen_pair": np.array([0.2, np.nan])}
    found = grid.best_maps(answer, models)
    assert set(found["model"].tolist()) == {0, 1}, "they differ in positions, so each is the best of its own"
    assert len(found["score"]) == 2 * 2 * 12
    of_head = (found["model"] == 0) & (found["head"] == 1)
    total = answer.scores.sum("term").sel(model=0, head=1)
    np.testing.assert_allclose(found["score"][of_head], (total - total.mean()).values.ravel(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["gradient_vertical"][of_head], answer.gradient_vertical.sel(model=0, head=1), rtol=1e-6)


def test_without_horizontal_and_vertical_parts_pixels_score_alike_where_rows_and_columns_are_all(grids):
    """The rest is 0 there, so both parts away leave the mean: a preference for CLS over pixels, and for none among these."""
    question = ablate.Ablate(("horizontal EP+PP+BP", "vertical EP+PP+BP"), sets=("unseen_pair",))
    program, state = grids.programs[1], grids.states[1]
    static, hyper, params = program.static, *(jax.tree.map(lambda x: x[0], tree) for tree in (program.hyper, state.params))
    gates, task = clip.unit_gates(static), static.task_object
    images = jax.jit(lambda: task.image_edits(task.unseen()))()
    weights = {name: question.factors_and_weights(static)[1][name].sum(0) for name in ("horizontal", "vertical")}
    assert np.array_equal(
        ablate.Ablate(("vertical EP+PP+BP=0.25",)).factors_and_weights(static)[1]["vertical"][0], 0.75 * weights["vertical"]
    ), "a dose"
    embed = lambda shift: embed_images(static, params, Interventions(gates.vision, score_shift=shift), images)
    row = jax.jit(lambda: sum(grid.position_rows(static, params, gates)[0].values()))()
    flat = jnp.pad(row.mean(-1, keepdims=True) - row, [(0, 0), (1, 0)])
    shift = jax.jit(lambda weights: ablate.controls(static, hyper, params, gates, weights))
    taken, both = {name: shift({name: weights[name]}) for name in weights}, shift(weights)
    np.testing.assert_allclose(both, flat, atol=1e-5)  # float32, scores of order 1
    np.testing.assert_allclose(both, taken["horizontal"] + taken["vertical"], atol=1e-5)
    assert all(abs(embed(other) - embed(both)).max() > 0.01 for other in (0 * both, *taken.values()))


@pytest.mark.slow
def test_a_direction_at_zero_is_that_of_columns_or_rows_all_alike():
    """Through `ablate`, on top of the model's own gates: with VP at zero P acts in scores alone, and where P has a row a row and
    one a column, `horizontal` at zero equals P with the mean of its columns in place of each. Of a thousand images one may change
    sides by rounding. P is large, lest it make no difference.
    """
    run = untrained(tiny_model(**GRID, positions="row_column", gates="vision:VP=0", p_scale=6.0))
    table = ablate.ablate(run, ("none", "horizontal EP+PP+BP", "vertical EP+PP+BP"), sets=("unseen_pair",))
    program, state = run.programs[0], run.states[0]
    static, hyper, params = program.static, *(jax.tree.map(lambda x: x[0], tree) for tree in (program.hyper, state.params))
    splits, P, columns = model_splits(static, hyper), params.vision.P, slice(1 + 3, None)  # of P: CLS, 3 rows, 4 columns
    flat = {"none": P, "horizontal": P.at[columns].set(P[columns].mean(0)), "vertical": P.at[1:4].set(P[1:4].mean(0))}
    found = {}
    for row, (name, P) in enumerate(flat.items()):
        alike = params.replace(vision=params.vision.replace(P=P))
        own = ModelInterventions.of_gates(hyper.gates.at(0))
        asked = evaluate(static, hyper, splits, alike, own, True, ("unseen_pair",))
        found[name] = {metric: table[metric][row] for metric in asked}
        for metric, value in asked.items():
            np.testing.assert_allclose(found[name][metric], value, atol=1e-3, err_msg=f"{name}: {metric}")
    for name, other in (("none", "horizontal"), ("none", "vertical"), ("horizontal", "vertical")):
        assert max(abs(found[name][metric] - found[other][metric]) for metric in asked) > 0.005


def test_a_ratio_is_of_the_head_that_has_it_and_apart_says_how_much_it_keeps_to_itself():
    """By hand: head 0 has a horizontal gradient of 6 and a vertical one of 2, head 1 of 1 and 9, of label spreads 2 and 3."""
    axes = {"model": [0], "head": [0, 1]}
    values = {"gradient_horizontal": [6.0, -1.0], "gradient_vertical": [-2.0, 9.0], "label_spread": [2.0, 3.0]}
    answer = xr.Dataset({name: (("model", "head"), [value]) for name, value in values.items()}, axes)
    found = grid.best_heads(answer).isel(model=0)
    assert (found.ratio_horizontal, found.ratio_vertical, found.ratio_least) == (3, 3, 3)
    assert (found.head_horizontal, found.head_vertical) == (0, 1)
    np.testing.assert_allclose(found.apart, (6 / 8 + 9 / 10) / 2)
    alike = grid.best_heads(answer.assign(gradient_vertical=answer.gradient_horizontal)).isel(model=0)
    assert alike.apart == 0.5 and alike.head_horizontal == alike.head_vertical == 0


@pytest.mark.slow
def test_a_grid_is_no_row_and_a_row_no_grid(grids, trained):
    with pytest.raises(
        InputError, match=r"--ablations: 'mean EE': task='grid:height=3,width=4': is asked of the row of pixels alone"
    ):
        ablate.ablate(grids, ("mean EE",))
    with pytest.raises(InputError, match="--ablations: 'horizontal EP': task='row': has one dimension"):
        ablate.ablate(trained[1], ("horizontal EP",))
    with pytest.raises(InputError, match="--ablations: 'horizontal EE': EE has no direction; expected terms of EP PP BP"):
        ablate.ablate(grids, ("horizontal EE",))
    with pytest.raises(
        InputError, match=r"--ablations: 'horizontl EP' is not an ablation \(did you mean 'horizontal'\?\); expected TERMS"
    ):
        ablate.ablate(grids, ("horizontl EP",))
    patched = untrained(tiny_model(task="grid:height=4,width=4,patch=2", relations="left", n2=5, layer_norm=True))
    with pytest.raises(InputError, match="grid: layer_norm=True, task='grid:height=4,width=4,patch=2': with LayerNorm a patch's"):
        grid.directions(patched)
    turned = untrained(tiny_model(objective="autoregressive_raw", positions="rotary"))
    with pytest.raises(InputError, match="decoder: positions='rotary': expected one of 'learned'"):
        reading.reading(turned)
