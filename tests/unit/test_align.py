"""Procrustes against SciPy's, its partial isometry, and encoders by hand whose rotation is known."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import figures_read
from compiled import init_clip
from conftest import shake, tiny_model
from lrjax import config
from lrjax.analysis.align import MEASURES, align, permutations, procrustes, rows, spaces, written
from lrjax.analysis.models import tidy
from lrjax.data.scenes import FIRST_LABEL
from lrjax.errors import InputError
from lrjax.models.clip import unit_gates
from lrjax.plotting.align import FITS, PANELS, SPACES, alignment
from lrjax.plotting.style import PANEL
from lrjax.terms import GATES
from lrjax.training import loop
from lrjax.training.programs import init_program


def centred(rng, n, d):
    x = rng.normal(size=(n, d))
    return (x - x.mean(0)).astype(np.float32)


def test_with_enough_labels_it_is_scipys_procrustes():
    rng = np.random.default_rng(0)
    X, Y = centred(rng, 40, 8), centred(rng, 40, 8)
    R, keep = procrustes(jnp.asarray(X), jnp.asarray(Y), jnp.ones(40), 40)
    assert keep.sum() == 8
    np.testing.assert_allclose(R, scipy.linalg.orthogonal_procrustes(X, Y)[0], atol=2e-5)  # float32, well conditioned


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 5, 9])
def test_with_few_it_is_an_isometry_of_the_fitted_span_and_nothing_else(n):
    """Rank n - 1, singular values 1 or 0, the span of X goes onto that of Y; rows of weight 0 change nothing."""
    rng = np.random.default_rng(n)
    X, Y = (np.concatenate([centred(rng, n, 12), rng.normal(size=(4, 12))]).astype(np.float32) for _ in range(2))
    weight = jnp.arange(n + 4) < n
    R, keep = procrustes(jnp.asarray(X), jnp.asarray(Y), weight, n)
    assert keep.sum() == n - 1
    np.testing.assert_allclose(np.linalg.svd(R)[1], np.arange(12) < n - 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(X[:n] @ R, axis=1), np.linalg.norm(X[:n], axis=1), rtol=1e-4)
    np.testing.assert_allclose(X[:n] @ R @ R.T, X[:n], atol=1e-4)
    alone, _ = procrustes(jnp.asarray(X[:n]), jnp.asarray(Y[:n]), jnp.ones(n), n)
    np.testing.assert_allclose(R, alone, atol=2e-5)


def with_text_rows(run, make):
    """The run with the label rows of text made from those of vision: make(rng, rows [A, d]) -> [A, d], for every model."""
    (state,) = run.states
    vision, text = np.array(state.params.vision.E), np.array(state.params.text.E)
    for m in range(len(vision)):
        rng = np.random.default_rng(m)
        rows = rng.normal(size=(len(vision[m]) - FIRST_LABEL, 3)) @ rng.normal(size=(3, vision.shape[-1]))  # N = 4 span it
        vision[m, FIRST_LABEL:], text[m, FIRST_LABEL:] = rows, make(rng, rows)
    encoders = {"vision": state.params.vision.replace(E=vision), "text": state.params.text.replace(E=text)}
    return dataclasses.replace(run, states=[state.replace(params=state.params.replace(**encoders))])


@pytest.mark.slow
def test_a_rotation_that_is_there_is_found(trained):
    """Text rows = rotated vision rows + an offset: held-out labels match after the fit, not before, not under the control."""

    def rotated(rng, rows):
        return rows @ np.linalg.qr(rng.normal(size=(rows.shape[1],) * 2))[0] + rng.normal(size=rows.shape[1])

    found = align(with_text_rows(trained[1], rotated)).sel(space="E")
    after, before, control = (found.sel(fit=fit) for fit in ("rotation", "before", "control"))
    np.testing.assert_allclose(after.cosine, 1, atol=1e-4)
    np.testing.assert_allclose(after.cosine_trained, 1, atol=1e-4)
    np.testing.assert_allclose(found.inside, 1, atol=1e-4)
    np.testing.assert_allclose(after.cosine_inside, 1, atol=1e-4)
    assert (found["rank"] == 3).all(), "the cut: 4 or 6 labels that span 3 dimensions"
    assert (after.retrieval == 1).all() and (after.retrieval_all == 1).all()
    assert (before.cosine < 0.9).all() and (control.cosine < 0.9).all()
    assert before.retrieval.mean() < 0.7 and control.retrieval.mean() < 0.7


def test_rows_that_are_equal_need_no_rotation_and_noise_has_none(trained):
    same = align(with_text_rows(trained[1], lambda rng, rows: rows)).sel(space="E")
    np.testing.assert_allclose(same.cosine.sel(fit=["before", "rotation"]), 1, atol=1e-4)
    noise = align(with_text_rows(trained[1], lambda rng, rows: rng.normal(size=rows.shape))).sel(space="E", fit="rotation")
    assert noise.cosine.mean() < 0.3 < 0.6 < noise.cosine_trained.mean(), "what is fitted fits; what is not says so"


def test_ov_is_what_one_token_would_write(trained):
    """`written` against the attention formula, one head and label at a time, with a gate."""
    (state,) = trained[1].states
    encoder_params = jax.tree.map(lambda x: jnp.asarray(x[1]), state.params.vision)
    gates = jnp.ones((1, 2, len(GATES))).at[0, 1, GATES.index("VE")].set(0.5)
    (block,), e = encoder_params.blocks, encoder_params.E[FIRST_LABEL + 2]
    expected = sum(g * e @ block.W_V[:, h] @ block.W_O[h] @ encoder_params.W_proj for h, g in enumerate((1.0, 0.5)))
    np.testing.assert_allclose(written(encoder_params, gates, FIRST_LABEL)[2], expected, atol=1e-5)


@pytest.mark.slow
def test_images_without_a_projection_are_images_with_that_of_identity():
    """projection = "text": what vision writes is compared as it is, in d_model dimensions."""
    of_text, both = (config.make_static([tiny_model(projection=name)]) for name in ("text", "both"))
    params = shake(init_clip(of_text, config.make_hyper(tiny_model(projection="text"))))
    vision = params.vision
    assert vision.W_proj is None
    with_identity = params.replace(vision=vision.replace(W_proj=jnp.eye(16)))
    found = jax.jit(partial(rows, of_text))(params, unit_gates(of_text))
    expected = jax.jit(partial(rows, both))(with_identity, unit_gates(both))
    assert tuple(found) == spaces(of_text) == ("E", "OV", "embedding")
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), found, expected)
    by_head = [vision.blocks[0].W_V[:, h] @ vision.blocks[0].W_O[h] for h in range(2)]
    np.testing.assert_allclose(found["OV"][0], vision.E[FIRST_LABEL:] @ sum(by_head), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_padding_is_inert(trained):
    """A model of 4 labels, padded to 6 in its program, answers as it does alone."""
    _, run = trained
    together = align(run).sel(model=0)
    (program,), (state,) = run.programs, run.states
    alone = loop.start(config.Sweep((run.sweep.models[0],), 20, 10))
    n = FIRST_LABEL + program.static.n_heldout + 4
    params = jax.tree.map(lambda x: x[:1], state.params)
    params = params.replace(**{e: getattr(params, e).replace(E=getattr(params, e).E[:, :n]) for e in ("vision", "text")})
    alone.states, alone.at = [state.replace(params=params)], run.at
    alone = align(alone).sel(model=0)
    for name in (*MEASURES, "rank", "inside", "above_control"):
        np.testing.assert_allclose(together[name], alone[name], atol=1e-3, err_msg=name)


def test_permutations_shuffle_the_trained_labels_and_differ_by_seed():
    models = tuple(tiny_model(seed=s, n_labels=n) for s in (0, 1) for n in (4, 9))
    static = config.make_static(models)
    drawn = [np.asarray(permutations(static, config.make_hyper(m), 6)) for m in models]
    for order, model in zip(drawn, models, strict=True):
        labels = np.arange(5, 5 + model.n_labels)
        assert (np.sort(order[:, labels], axis=1) == labels).all() and len({tuple(o) for o in order}) > 1
    assert (drawn[1] != drawn[3]).any()


@pytest.mark.slow
def test_depth_has_no_ov():
    models = (tiny_model(), tiny_model(n_layers_text=2))
    run = loop.start(config.Sweep(models, steps=1, eval_every=1))
    run.states = [jax.device_get(init_program(p.static, p.hyper)) for p in run.programs]
    answer = align(run, count=2)
    assert answer.cosine.sel(space="OV", fit="rotation").notnull().values.tolist() == [True, False]
    assert answer.cosine.sel(space="E").notnull().all()
    figure = alignment(tidy(answer[list(MEASURES)]), 5)
    axes = np.reshape(figure.axes, (-1, 3))  # spaces, each of two models but OV; measures
    assert figure.get_figwidth() == 2 * PANEL, "a phone shows it"
    assert [axis.get_title() for axis in axes[0]] == [*PANELS.values()]
    titles = [" ".join(axis.get_ylabel().split()) for axis in axes[:, 0]]
    kinds = [(space, layers) for space in SPACES for layers in (1, 2) if (space, layers) != ("OV", 2)]
    assert titles == [f"{SPACES[space]} n_layers_text = {layers}" for space, layers in kinds]
    for row, (space, layers) in zip(axes, kinds, strict=True):
        for axis, measure in zip(row, PANELS, strict=True):
            series = figures_read.series(axis)
            assert [*series] == [*FITS.values(), "chance"]
            for fit, name in FITS.items():
                np.testing.assert_allclose(series[name], [[6, answer[measure].sel(space=space, fit=fit)[layers - 1]]], rtol=1e-6)


def test_what_does_not_exist_is_named(trained):
    with pytest.raises(InputError) as error:
        align(trained[1], n_labels=[7])
    assert str(error.value) == "--labels=7: no model has so many labels; expected some of 4, 6"
