"""Maps and shares of the terms: what they sum to, and what they are on encoders made by hand."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest

import figures_read
from compiled import caches
from conftest import shake, tiny_model
from lrjax import config
from lrjax.analysis import decompose, gradient
from lrjax.analysis.models import map_models, tidy
from lrjax.plotting import decompose as figures
from lrjax.plotting import gradient as gradient_figures
from lrjax.terms import ROW_CONSTANT, TERMS
from lrjax.training import loop
from lrjax.training.programs import init_program
from lrjax.training.run import models_table


@pytest.mark.parametrize("encoder", ["vision", "text"])
def test_shares_sum_to_one_and_what_softmax_ignores_has_none(shaken, encoder):
    answer = decompose.decompose(shaken, encoder)
    assert answer.share.dims == ("model", "layer", "rows", "term", "head") and answer["term"].values.tolist() == list(TERMS)
    np.testing.assert_allclose(answer.share.sum("term"), 1, atol=1e-5)
    np.testing.assert_allclose(answer.share_all.sum("term"), 1, atol=1e-5)
    np.testing.assert_allclose(answer.share.sel(term=list(ROW_CONSTANT)), 0, atol=1e-5)
    assert (abs(answer.share.sel(term=["EE", "EP", "PE", "PP", "BE", "BP"])) > 1e-5).any("model").all()


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["vision", "text"])
def test_ratios_of_standard_deviations_are_those_of_the_scores(shaken, encoder):
    """By numpy, from the traces of one model: scores centred per row, over what the query may attend to."""
    answer = decompose.decompose(shaken, encoder).isel(model=1, layer=0)
    static = shaken.programs[0].static
    params = jax.tree.map(lambda x: x[1], getattr(shaken.states[0].params, encoder))
    gates = np.ones((1, static.n_heads, 12), np.float32)
    (cache,) = caches(params, gates, static, encoder, decompose.unseen_sequences(static, encoder))
    terms, T = np.asarray(cache.terms, np.float64), cache.terms.shape[-1]  # [n, term, h, q, t]
    readout = T - 1 if encoder == "text" else 0
    for which, queries in (("readout", [readout]), ("all", range(T))):
        rows = [terms[..., q, : q + 1 if encoder == "text" else T] for q in queries]
        centred = np.concatenate([row - row.mean(-1, keepdims=True) for row in rows], -1)  # [n, term, h, q t]
        std = lambda x, axes: np.sqrt((x**2).mean(axes))
        total, learned = (
            centred.sum(1, keepdims=True),
            centred[:, [TERMS.index(t) for t in decompose.LEARNED]].sum(1, keepdims=True),
        )
        own = answer.sel(rows=which)
        for kind, axes in (("", (0, 3)), ("_all", (0, 2, 3))):  # of each head, over all heads
            close = partial(np.testing.assert_allclose, rtol=2e-3, atol=1e-5)
            close(own[f"std_ratio{kind}"], std(centred, axes) / std(total, axes))
            close(own[f"std_ratio_learned{kind}"], (std(learned, axes) / std(total, axes))[0])


def test_the_readout_row_of_the_maps_is_the_analysis_of_the_gradient(shaken):
    """EP, PP and BP of the CLS row are the same in every image, so the mean over images is them."""
    answer = decompose.decompose(shaken)
    row = answer.scores.sel(layer=0, query="CLS", term=["EP", "PP", "BP"]).sum("term").isel(key=slice(1, None)).values
    n = row.shape[-1]
    i, j = np.triu_indices(n, 1)
    np.testing.assert_allclose(
        (row[..., j] - row[..., i]).mean(-1), gradient.gradient(shaken).position_gradient, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("encoder", ["vision", "text"])
def test_tables_hold_the_scores_of_every_scene(shaken, encoder):
    """The terms of one sequence, read from the tables by id and position, against the cache."""
    static = shaken.programs[0].static
    tables = decompose.tables(shaken, encoder).isel(model=2)
    ids = np.asarray(decompose.unseen_sequences(static, encoder))[7]
    params = jax.tree.map(lambda x: x[2], getattr(shaken.states[0].params, encoder))
    gates = np.ones((1, static.n_heads, 12), np.float32)
    (cache,) = caches(params, gates, static, encoder, ids[None])
    place = np.arange(len(ids))
    index = {"E": ids, "P": place}
    for term in ("EE", "EP", "PE", "PP"):
        np.testing.assert_allclose(
            tables[term].values[:, index[term[0]]][..., index[term[1]]], cache.terms[0, TERMS.index(term)], rtol=1e-4, atol=1e-5
        )
    np.testing.assert_allclose(tables.BE.values[:, ids], cache.terms[0, TERMS.index("BE"), :, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_gates_in_force_are_in_the_maps_and_shares():
    """A model trained without EP has no EP; padded labels and depth are no matter."""
    models = [tiny_model(n_layers_vision=2, gates=gates, n_labels=n) for gates, n in (("EP=0", 4), ("none", 6))]
    run = loop.start(config.Sweep(tuple(models), steps=10, eval_every=10))
    run.states = [shake(jax.device_get(init_program(p.static, p.hyper)), models=len(p.rows)) for p in run.programs]
    answer = decompose.decompose(run)
    assert answer.sizes["layer"] == 2
    ep = answer.share_all.sel(term="EP")
    np.testing.assert_allclose(ep.isel(model=0), 0, atol=1e-6)
    assert (abs(ep.isel(model=1)) > 1e-4).all()
    np.testing.assert_allclose(answer.share.sum("term"), 1, atol=1e-4)


def test_answers_of_other_shapes_stand_side_by_side():
    """Programs with 1 and 2 heads: what a model does not have is NaN, and no row of the tidy table."""
    models = tuple(tiny_model(n_heads=h, seed=s) for h in (1, 2) for s in (0, 1))
    run = loop.start(config.Sweep(models, steps=10, eval_every=10))
    run.states = [jax.device_get(init_program(p.static, p.hyper)) for p in run.programs]
    answer = gradient.gradient(run)
    assert answer.sizes == {"model": 4, "head": 2} and answer.n_heads.values.tolist() == [1, 1, 2, 2]
    assert np.isnan(answer.position_gradient.values[:2, 1]).all() and np.isfinite(answer.position_gradient.values[2:]).all()
    table = tidy(answer)
    assert table["model"].tolist() == [0, 1, 2, 2, 3, 3] and table["seed"].tolist() == [0, 1, 0, 0, 1, 1]


def test_equal_questions_compile_once(shaken):
    from lrjax.analysis import models

    gradient.gradient(shaken)
    before = models._map_in_one_program._cache_size()
    gradient.gradient(dataclasses.replace(shaken, states=shaken.states))
    assert models._map_in_one_program._cache_size() == before


def test_a_question_sees_each_model_alone(shaken):
    """Padding to divide among devices is dropped; the seed and N that a question reads are those of its row."""

    def question(static, hyper, splits, params, gates):
        return {"N": hyper.n_labels, "key": hyper.seed, "E": params.vision.E.sum()}

    answer = map_models(shaken, question, {"N": (), "key": (), "E": ()})
    assert answer.N.values.tolist() == answer.n_labels.values.tolist() and answer.key.values.tolist() == answer.seed.values.tolist()
    np.testing.assert_allclose(answer.E, shaken.states[0].params.vision.E.sum((1, 2)), rtol=1e-4)


def test_examples_are_chosen_by_accuracy():
    assert decompose.examples(np.array([0.5, 0.95, 0.3]), 0.8, 0.6) == (1, 2)
    assert decompose.examples(np.array([0.7, 0.75]), 0.8, 0.6) == (None, None)


@pytest.fixture(scope="module", params=["vision", "text"])
def decomposed(trained, request):
    """An encoder, and what `decompose` says of its layer."""
    return request.param, decompose.decompose(trained[1], request.param).isel(layer=0)


def test_maps_show_the_scores_of_each_term_and_head_less_the_mean_of_each_row(decomposed):
    _, answer = decomposed
    figure = figures.maps(answer.isel(model=0), "title")
    names = (*figures.SHOWN, "sum")
    shown = np.reshape([axis for axis in figure.axes if axis.images], (len(names), -1))  # terms, heads
    assert [axis.get_ylabel().split("\n")[0] for axis in shown[:, 0]] == [*names]
    scores = answer.scores.isel(model=0)
    scores = scores - scores.mean("key")
    for head, axes in enumerate(shown.T):
        images = {name: np.ma.filled(axis.images[0].get_array(), np.nan) for name, axis in zip(names, axes, strict=True)}
        for term in figures.SHOWN:
            np.testing.assert_allclose(images[term], scores.sel(term=term, head=head), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(images["sum"], sum(images[term] for term in figures.SHOWN), rtol=1e-4, atol=1e-5)
        limits = {axis.images[0].get_clim() for axis in axes}
        assert len(limits) == 1 and min(limits)[0] == -min(limits)[1] < 0, "a head has one scale, white at 0"


def test_a_row_of_labels_and_the_readouts_own_are_drawn_by_position(trained, decomposed):
    encoder, readout = decomposed[0], {"vision": "CLS", "text": "EOT"}[decomposed[0]]
    tables = decompose.tables(trained[1], encoder).isel(model=0)
    figure = figures.by_label(tables, encoder, "title")
    ep = tables.EP - tables.EP.mean("key_position")
    n_heads, axes = tables.sizes["head"], figure.axes
    assert n_heads == 2 and axes[n_heads].get_ylabel() == f"query: {readout}"
    for head in range(n_heads):
        assert axes[head].images[0].get_array().shape == (5 + 4, tables.sizes["key_position"]), "the model's labels, no padding"
        line = figures_read.points(axes[n_heads + head].lines[0])
        np.testing.assert_allclose(line[:, 1], ep.sel(head=head, query_token=readout), rtol=1e-5, atol=1e-6)


def test_shares_are_drawn_against_the_number_of_labels(decomposed):
    _, answer = decomposed
    figure = figures.shares(answer)
    of_readout, of_all, *ratios = figure.axes
    assert [axis.get_title() for axis in (of_readout, of_all)] == ["readout row", "all rows"] and len(ratios) == 2
    for axis, rows in ((of_readout, "readout"), (of_all, "all")):
        series = figures_read.series(axis)
        assert [*series] == [*figures.SHOWN, "(E+P)W(E+P)"]
        for term in figures.SHOWN:
            means = answer.share_all.sel(term=term, rows=rows).groupby("n_labels").mean()
            np.testing.assert_allclose(series[term], np.stack([[4, 6], means], 1), rtol=1e-5, atol=1e-7)


def test_a_predictor_is_drawn_against_what_it_predicts(trained):
    models = models_table(trained[1])
    ratio = gradient.strongest(gradient.gradient(trained[1])).ratio.values
    figure = gradient_figures.predictor(ratio, models)
    for axis, metric in zip(figure.axes, ("unseen_pair_order", "unseen_pair"), strict=True):
        series = figures_read.series(axis)
        assert [*series] == ["N = 4", "N = 6"] and axis.get_xscale() == "log"
        for n in (4, 6):
            rows = models["n_labels"] == n
            np.testing.assert_allclose(series[f"N = {n}"], np.stack([ratio, models[metric]], 1)[rows], rtol=1e-6)
