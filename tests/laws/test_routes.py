"""Two routes by which an image says what stands left: the identities that hold in any model, and a bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compiled import evaluate, init_clip, model_splits
from conftest import shake, tiny_model, untrained
from lrjax import config
from lrjax.analysis import routes as module
from lrjax.analysis.routes import measure, of_strongest, routes
from lrjax.errors import InputError
from lrjax.gates import parse_gates
from lrjax.models.interventions import Interventions, ModelInterventions

NO_POSITION = "vision:EP=0;vision:PP=0;vision:BP=0"
NO_LABEL = "vision:EE=0;vision:PE=0;vision:BE=0"
NO_PLACE = "vision:VP=0"
ZERO = dict(atol=1e-6)  # sums of some 10^4 numbers of order .1 in float32
ask = jax.jit(measure, static_argnums=0)


def shaken(gates="none", relations="left", scale=1.0):
    """static, hyper, params and gates of one model with every parameter away from 0."""
    model = tiny_model(e_scale=scale, p_scale=0.7, relations=relations)
    static, hyper = config.make_static([model]), config.make_hyper(model)
    return static, hyper, shake(init_clip(static, hyper)), parse_gates(gates, {"vision": 1, "text": 1}, static.n_heads).at(0)


def found(gates="none", relations="left", scale=1.0):
    """`measure` of one shaken model under gates, as NumPy."""
    static, hyper, params, gates = shaken(gates, relations, scale)
    return jax.tree.map(np.asarray, ask(static, hyper, model_splits(static, hyper), params, gates))


@pytest.fixture(scope="module")
def whole():
    return found()


@pytest.mark.slow
def test_scores_without_positions_leave_no_attention_route(whole):
    answer = found(NO_POSITION)
    np.testing.assert_allclose(answer["share_attention"] * answer["binding"], 0, **ZERO)
    assert abs(whole["share_attention"] * whole["binding"]) > 1e-4, "of which there was one"


@pytest.mark.parametrize("gates", [NO_PLACE, NO_LABEL + ";" + NO_POSITION])
def test_no_position_values_or_an_even_attention_leave_no_value_route(whole, gates):
    answer = found(gates)
    np.testing.assert_allclose(answer["share_value"] * answer["binding"], 0, **ZERO)
    assert abs(whole["share_value"] * whole["binding"]) > 1e-4


@pytest.mark.parametrize("gates", [f"{NO_POSITION};{NO_PLACE}", f"{NO_POSITION};{NO_LABEL}"])
def test_without_both_routes_order_is_a_coin(whole, gates):
    """Exactly: s and s' then have one embedding, and one of them is decided rightly."""
    answer = found(gates)
    np.testing.assert_allclose([answer["binding"], answer["order"] - 0.5], 0, **ZERO)
    assert abs(whole["order"] - 0.5) > 0.01


def test_order_is_that_of_the_evaluation(whole):
    """The margin is the sum of all parts, and the norm of a pair of images changes no sign of one."""
    static, hyper, params, gates = shaken()
    interventions = ModelInterventions(Interventions(gates.vision), Interventions(gates.text))
    found = evaluate(static, hyper, model_splits(static, hyper), params, interventions, True, ("unseen_pair",))
    np.testing.assert_allclose(whole["order"], found["unseen_pair_order"], atol=1e-6)


@pytest.mark.slow
def test_agreement_says_which_way_a_head_s_value_route_goes():
    """Where scores know no position, a head's part is half the mean of (a_x - a_y) times its caption's coordinate, over the norm of
    the image, which differs between images: so the signs are those of `agreement`, and larger is larger.
    """
    answers = [found(NO_POSITION, relations, scale) for relations in ("left", "left+right") for scale in (0.5, 1.0, 2.0)]
    agreement, of_head = (np.concatenate([answer[name] for answer in answers]) for name in ("agreement", "value_of_head"))
    assert (np.abs(agreement) <= 1 + 1e-6).all()
    clear = np.abs(agreement) > 0.05
    assert clear.sum() >= 6 and (np.sign(agreement) == np.sign(of_head))[clear].all()


@pytest.mark.slow
def test_text_that_knows_the_attention_agrees_wholly():
    """d is built from the attention itself: along the direction of the position values it is a_x - a_y, in every pair."""
    static, _, params, gates = shaken(NO_POSITION)
    ids, _, role = module.samples("vision", static, params, gates)
    patterns, values = jax.vmap(lambda ids: module._head_reads(params, gates, ids, module.encoder_configs(static)["vision"]))(ids)
    at = lambda place: jnp.einsum("sht,st->sh", patterns, (role == place).astype(jnp.float32))
    direction = jnp.einsum("te,st->e", values[0, 0], (role == module.LEFT) - 1.0 * (role == module.RIGHT))
    told = jnp.outer((at(module.LEFT) - at(module.RIGHT))[:, 0], direction)  # of head 0
    np.testing.assert_allclose(module._agreement(static, params, gates, ids, told, role)[0], 1, atol=1e-5)
    np.testing.assert_allclose(module._agreement(static, params, gates, ids, -told, role)[0], -1, atol=1e-5)


@pytest.mark.slow
def test_all_models_at_once_and_the_strongest_head():
    run = untrained(tiny_model(n_labels=4), tiny_model(n_labels=6))
    answer = routes(run)
    assert answer["agreement"].dims == ("model", "head") and answer.sizes["model"] == 2
    best = of_strongest(answer)
    head = int(np.argmax(answer["value_of_head"].values[0]))
    assert float(best["agreement"][0]) == float(answer["agreement"][0, head]) and "head" not in best.dims


@pytest.mark.slow
@pytest.mark.parametrize(("field", "value"), [("layer_norm", True), ("n_layers_vision", 2), ("n_repeats", 2), ("mlp_ratio", 2)])
def test_models_whose_position_values_are_not_their_own_are_refused(field, value):
    with pytest.raises(InputError, match=f"routes: {field}={value}"):
        routes(untrained(tiny_model(**{field: value})))
