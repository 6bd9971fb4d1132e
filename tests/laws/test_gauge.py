"""A law of the paper's own model: in a one-block vision encoder E_cls and P_0 enter only as their sum, so the split of the position
gradient between EP and PP is not learned. Under AdamW E_cls - P_0 shrinks as prod(1 - lr_t wd), whatever the data.
"""

import dataclasses

import jax
import numpy as np
import pytest

from conftest import shake, tiny_model, untrained
from lrjax import config
from lrjax.analysis import gauge, gradient
from lrjax.data.scenes import CLS
from lrjax.errors import InputError
from lrjax.models.clip import embed_images, init_clip, model_splits, unit_gates
from lrjax.models.interventions import Interventions
from lrjax.storage import workdir
from lrjax.terms import GATES
from lrjax.training import loop
from lrjax.training.step import init_state, train_steps

splits_of, state_of = (jax.jit(f, static_argnums=0) for f in (model_splits, init_state))


@pytest.mark.slow
def test_e_cls_minus_p_0_shrinks_as_a_product():
    model = tiny_model(lr=0.01, weight_decay=0.7, warmup_steps=10, e_scale=0.3, p_scale=0.3)
    static, hyper = config.make_static([model]), config.make_hyper(model)
    state = state_of(static, hyper)
    difference = lambda state: np.asarray(state.params.vision.E[CLS] - state.params.vision.P[0])
    total = lambda state: np.asarray(state.params.vision.E[CLS] + state.params.vision.P[0])
    before, before_sum = difference(state), total(state)
    steps = 30
    state, _ = train_steps(static, hyper, splits_of(static, hyper), state, 0, steps)
    lr = 0.01 * np.minimum(1, (np.arange(steps) + 1) / 10)
    shrink = np.prod(1 - lr * 0.7)
    assert shrink < 0.9
    # float32 parameters of order 0.3, 30 roundings of 3e-8 each way
    np.testing.assert_allclose(difference(state), before * shrink, atol=3e-6)
    assert abs(total(state) - shrink * before_sum).max() > 0.05, "the sum itself is learned"


@pytest.mark.slow
def test_the_split_is_a_gauge(tiny):
    """The same function with its CLS vector moved into E_cls or into P_0: same embeddings, opposite answers to zeroing EP."""
    static, _, params, _ = tiny
    vision = params.vision
    total = vision.E[CLS] + vision.P[0]
    in_token = params.replace(vision=vision.replace(E=vision.E.at[CLS].set(total), P=vision.P.at[0].set(0)))
    in_position = params.replace(vision=vision.replace(E=vision.E.at[CLS].set(0), P=vision.P.at[0].set(total)))
    gates = unit_gates(static)

    @jax.jit
    def under(params, vision_gates):
        return embed_images(
            static, params, Interventions(vision_gates), static.task_object.image_edits(static.task_object.unseen())
        )

    def embed(params, *zero):
        vision_gates = gates.vision.at[:, :, [GATES.index(term) for term in zero]].set(0) if zero else gates.vision
        return under(params, vision_gates)

    for moved in (in_token, in_position):
        np.testing.assert_allclose(embed(moved), embed(params), atol=2e-5)
    np.testing.assert_allclose(embed(in_position, "EP"), embed(in_position), atol=2e-5)
    assert abs(embed(in_token, "EP") - embed(in_token)).max() > 0.05


@pytest.mark.slow
def test_eot_is_not_a_gauge():
    """EOT stands at two positions: its difference to either moves with the data."""
    model = tiny_model(lr=0.01, weight_decay=0.0)
    static, hyper = config.make_static([model]), config.make_hyper(model)
    state = state_of(static, hyper)
    state = state.replace(params=shake(state.params))
    before = state.params.text
    after = train_steps(static, hyper, splits_of(static, hyper), state, 0, 10)[0].params.text
    from lrjax.data.scenes import EOT

    for position in (2, 3):
        assert abs((after.E[EOT] - after.P[position]) - (before.E[EOT] - before.P[position])).max() > 1e-3


def test_initial_values_of_text_and_vision_differ():
    static, hyper = config.make_static([tiny_model()]), config.make_hyper(tiny_model())
    params = jax.device_get(jax.jit(init_clip, static_argnums=0)(static, hyper))
    assert not np.array_equal(params.vision.E, params.text.E)


def test_the_law_holds_in_every_model_of_a_trained_sweep(trained):
    """From the restored checkpoint alone, N and padding no matter; and it is a law of what was trained: shaken models break it."""
    folder, run = trained
    answer = gauge.law(workdir.restore(folder))
    assert answer.deviation.dims == ("model",) and (answer.deviation < 1e-5).all() and (answer.shrunk < 1).all()
    moved = dataclasses.replace(run, states=[s.replace(params=jax.tree.map(lambda x: x + 0.1, s.params)) for s in run.states])
    moved.states[0].params.vision.E[:, CLS] += 0.1
    assert (gauge.law(moved).deviation > 0.01).all()


@pytest.mark.slow
def test_ep_to_pp_is_the_multiplier_where_e_cls_is_p_0():
    """What `law` leads to: initial values are forgotten, or were small from the start."""
    run = untrained(tiny_model(token_multiplier=1.0), tiny_model(token_multiplier=3.0))
    vision = run.states[0].params.vision
    vision = vision.replace(E=np.array(vision.E), P=np.array(vision.P))
    vision.E[:, CLS] = vision.P[:, 0]
    equal = dataclasses.replace(run, states=[run.states[0].replace(params=run.states[0].params.replace(vision=vision))])
    found = gauge.ratio(equal)
    assert found.ratio.dims == ("model",) and (found.apart < 1e-6).all()
    np.testing.assert_allclose(found.ratio, [1, 3], rtol=1e-5)
    np.testing.assert_allclose(found.deviation, 0, atol=1e-5)
    apart = gauge.ratio(run)
    assert (apart.deviation > 0.01).all() and (apart.apart > 0.01).all()


def test_ep_to_pp_is_what_decay_has_left_of_it_in_every_trained_model(trained):
    """After a few steps far from m, and as `law` and x = m E_cls + P_0 have it."""
    found = gauge.ratio(trained[1])
    np.testing.assert_allclose(found.ratio, found.expected, rtol=1e-4)
    assert (found.deviation > 0.1).all()


def test_ep_to_pp_elsewhere_is_what_the_terms_are(shaken):
    found, terms = gauge.ratio(shaken), gradient.gradient(shaken)
    size = lambda term: np.sqrt((terms[f"gradient_{term}"] ** 2).sum("head"))
    np.testing.assert_allclose(found.ratio, size("EP") / size("PP"), rtol=1e-4)
    assert (found.deviation > 0.01).all() and (found.apart > 0.01).all()
    assert (abs(found.ratio / found.expected - 1) > 0.01).all(), "shaken models break the law"
    run = loop.start(config.Sweep((tiny_model(decay_cls=False),), steps=1, eval_every=1))
    with pytest.raises(InputError, match="gauge: decay_cls=False; expected True"):
        gauge.ratio(run)


@pytest.mark.slow
def test_moving_cls_changes_no_answer_but_that_to_an_ablation(shaken):
    table = gauge.moved(shaken)
    at = lambda cls, ablation: table["unseen_pair_order"][(table["cls"] == cls) & (table["ablation"] == ablation)]
    for place in gauge.PLACES:  # 900 images: one more or less may tie
        np.testing.assert_allclose(at(place, "none"), at("as trained", "none"), atol=2e-3)
        np.testing.assert_allclose(at(place, "EP+PP"), at("as trained", "EP+PP"), atol=2e-3)
    np.testing.assert_allclose(at("wholly P_0", "EP"), at("as trained", "none"), atol=2e-3)
    np.testing.assert_allclose(at("wholly E_cls", "PP"), at("as trained", "none"), atol=2e-3)
    np.testing.assert_allclose(at("wholly E_cls", "EP"), at("wholly P_0", "PP"), atol=2e-3)
    assert (at("wholly E_cls", "EP") != at("as trained", "none")).any() and (at("as trained", "EP") != at("wholly P_0", "EP")).any()


def test_deeper_vision_has_no_gauge():
    model = tiny_model(n_layers_vision=2)
    run = loop.start(config.Sweep((model,), steps=10, eval_every=10))
    for ask in (gauge.law, gauge.query_law, gauge.ratio, gauge.moved, lambda run: gauge.move_cls(run, 1.0)):
        with pytest.raises(InputError, match="gauge: n_layers_vision=2; expected 1"):
            ask(run)
