"""The gradient of the readout row, against scores measured on whole sequences and on hand-made encoders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compiled import init_clip, run_encoder
from conftest import shake, tiny_model, untrained
from encoders_by_hand import encoder_with
from lrjax import config, stats
from lrjax.analysis import gradient
from lrjax.analysis.decompose import unseen_sequences
from lrjax.analysis.models import tidy
from lrjax.errors import InputError
from lrjax.models.clip import encoder_configs, unit_gates
from lrjax.models.interventions import Interventions
from lrjax.terms import POSITION_TERMS, ROW_CONSTANT, TERMS


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["vision", "text"])
@pytest.mark.parametrize("variant", [{}, {"positions": "rotary", "layer_norm": True}, {"positions": "alibi"}])
def test_readout_scores_are_the_readout_row_of_the_trace(encoder, variant):
    """Tables by id against encoder.run on a sequence, term by term, under gates that are not 1."""
    static = config.make_static([tiny_model(**variant)])
    encoder_params, shape = (
        getattr(shake(init_clip(static, config.make_hyper(tiny_model(**variant)))), encoder),
        encoder_configs(static)[encoder],
    )
    gates = jax.random.uniform(jax.random.key(3), shape.unit_gates().shape)
    template = gradient.readout_template(static, encoder)
    ids = np.asarray(jax.jit(lambda: unseen_sequences(static, encoder)[7])())
    (cache,) = jax.device_get(run_encoder(encoder_params, Interventions(gates), ids, shape, template.readout).caches)
    gates = np.asarray(gates)
    found = jax.device_get(jax.jit(lambda: gradient.readout_scores(encoder_params, gates, shape, template))())
    for i, term in enumerate(TERMS):
        own, expected = found[term][:, ids, np.arange(len(ids))], gates[0][:, i, None] * cache.terms[i, :, template.readout]
        if term in ROW_CONSTANT and shape.positions != "rotary":
            expected = expected - expected.mean(-1, keepdims=True)
        # float32 sums of 16 products in another order
        np.testing.assert_allclose(own, expected, rtol=2e-4, atol=1e-4)


def test_the_gradient_of_a_ramp_is_its_slope_times_the_mean_distance(tiny):
    """s_p = 0.5 p: the mean over i < j of s_j - s_i is 0.5 (L + 1) / 3; labels 0..4 in steps of 0.1 are 0.2 apart on average."""
    static, hyper, params, splits = tiny
    encoder_params = encoder_with(static, 0.5 * np.arange(static.L), 0.1 * np.arange(5))
    gates = unit_gates(static).replace(vision=jnp.ones((1, 1, 12)))
    ask = jax.jit(lambda vision: gradient.first_block("vision", static, hyper, splits, params.replace(vision=vision), gates))
    found = ask(encoder_params)
    expected = {"position_gradient": 0.5 * 11 / 3, "slope": 0.5, "range": 4.5, "label_spread": 0.2, "ratio": 0.5 * 11 / 3 / 0.2}
    for name, value in (expected | {"gradient_EP": 0.5 * 11 / 3, "gradient_PP": 0, "gradient_BP": 0}).items():
        np.testing.assert_allclose(found[name], [value], rtol=1e-5, atol=1e-6, err_msg=name)
    swapped = encoder_with(static, -0.5 * np.arange(static.L), 0.1 * np.arange(5))
    lean_left = ask(swapped)
    np.testing.assert_allclose(lean_left["position_gradient"], -found["position_gradient"], rtol=1e-6)


def test_its_terms_sum_to_the_gradient_in_every_model(shaken):
    for encoder in ("vision", "text"):
        answer = gradient.gradient(shaken, encoder)
        assert answer.position_gradient.dims == ("model", "head") and answer.sizes == {"model": 4, "head": 2}
        total = sum(answer[f"gradient_{term}"] for term in POSITION_TERMS)
        np.testing.assert_allclose(total, answer.position_gradient, rtol=1e-4, atol=1e-5)
        assert (answer.label_spread > 0).all()
    table = tidy(gradient.gradient(shaken, n_labels=[6]))
    assert (
        table["model"].tolist() == [2, 2, 3, 3]
        and table["head"].tolist() == [0, 1, 0, 1]
        and set(table["n_labels"].tolist()) == {6}
    )


def test_history_columns_are_the_analysis(shaken):
    """What a sweep records at its evaluations is what `gradient` finds in its checkpoint."""
    answer = gradient.gradient(shaken)
    (program,), (state,) = shaken.programs, shaken.states
    args = jax.tree.map(lambda x: jnp.asarray(x[1]), (program.hyper, state.params))
    found = gradient.columns(program.static, args[0], None, args[1], unit_gates(program.static))
    assert set(found) == {f"{name}_h{h}" for name in ("position_gradient", "label_spread") for h in (0, 1)}
    np.testing.assert_allclose(found["label_spread_h1"], answer.label_spread[1, 1], rtol=1e-5)


def test_strongest_is_the_head_of_the_greatest_ratio(shaken):
    answer = gradient.gradient(shaken)
    np.testing.assert_array_equal(gradient.strongest(answer).ratio, answer.ratio.max("head"))


@pytest.mark.slow
@pytest.mark.parametrize("variant", [{}, {"positions": "rotary"}])
def test_the_rows_of_the_best_head_lean_right_and_make_its_gradient(variant):
    run = untrained(tiny_model(**variant), tiny_model(seed=1, **variant))
    best, rows = gradient.strongest(gradient.gradient(run)), gradient.rows_of_best(run).score
    np.testing.assert_allclose(rows.mean("pixel"), 0, atol=1e-5)
    weight = gradient.ramp(rows.sizes["pixel"])
    # sums of ten float32 scores of order 1
    np.testing.assert_allclose((rows.sum("term") * weight).sum("pixel"), abs(best.position_gradient), rtol=1e-4, atol=1e-5)
    offsets = rows.sel(term=["EB", "BB"])
    assert (abs(offsets).max() > 1e-3) == bool(variant), "a key's bias tells its place if it turns"


def test_auc_and_onsets_by_hand():
    assert gradient.auc(np.array([1, 2, 3, 4.0]), np.array([False, False, True, True])) == 1
    assert gradient.auc(np.array([1, 1.0]), np.array([False, True])) == 0.5 and np.isnan(gradient.auc(np.ones(2), np.ones(2, bool)))
    steps = np.array([0, 10, 20, 30] * 2)
    history = {
        "model": np.repeat([0, 1], 4),
        "n_labels": np.full(8, 5),
        "step": steps,
        "position_gradient_h0": np.array([0, -8, -9, -10, 0, 0, 0, 10.0]),  # its size counts: model 0 early, model 1 late
        "unseen_pair": np.array([0, 0.1, 0.5, 0.8, 0, 0.5, 0.9, 0.9]),
        "unseen_pair_order": np.array([0.5, 0.5, 0.8, 0.9, 0.5, 0.9, 0.9, 0.9]),
    }
    found = gradient.onsets(history)
    assert found["models"].tolist() == [2] and found["gradient"].tolist() == [20] and found["top1"].tolist() == [15]
    assert found["gradient_first"].tolist() == [0.5] and found["gradient_last"].tolist() == [0.5]
    assert (found["gradient_first_low"], found["gradient_first_high"]) == stats.share_interval(np.array([True, False]))[1:]


def test_onsets_leave_diverged_models_out():
    nan = np.nan
    history = {
        "model": np.repeat([0, 1], 3),
        "n_labels": np.full(6, 5),
        "step": np.array([0, 10, 20] * 2),
        "position_gradient_h0": np.array([0, 8, 9, 0, nan, nan]),
        "unseen_pair": np.array([0, 0.1, 0.9, 0, nan, nan]),
        "unseen_pair_order": np.array([0.5, 0.5, 0.9, 0.5, nan, nan]),
    }
    found = gradient.onsets(history)
    assert (found["models"], found["gradient"], found["top1"], found["gradient_first"]) == (1, 10, 20, 1)
    with pytest.raises(InputError, match="all models have diverged"):
        gradient.onsets(stats.select(history, history["model"] == 1))


def test_an_encoder_that_does_not_exist_is_named(trained):
    with pytest.raises(InputError, match="--encoder=visoin: does not exist"):
        gradient.gradient(trained[1], "visoin")


def test_shaken_is_shaken(shaken):
    """The fixture moves every parameter, or the identities above would hold for zero biases alone."""
    assert all(
        (b != 0).all() for state in shaken.states for b in (state.params.vision.blocks[0].b_Q, state.params.text.blocks[0].b_K)
    )
