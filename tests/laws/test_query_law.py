"""A law of the paper's own model: the only query of a one-block vision encoder is CLS's, x W_Q + b_Q with x = m E_cls + P_0. Under
AdamW W_Q[d] learns sign(x_d) times what b_Q learns, so BP has 1 / (1 + |x|_1) of the position gradient that is learned.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compiled import init_clip, init_state, model_splits
from conftest import tiny_model
from lrjax import config
from lrjax.analysis import gauge, gradient
from lrjax.data.scenes import CLS
from lrjax.errors import InputError
from lrjax.models.clip import as_read, unit_gates
from lrjax.terms import POSITION_TERMS
from lrjax.training import loop
from lrjax.training import step as training

STEPS, LR, DECAY = 60, 0.01, 0.7
MODEL = dict(lr=LR, weight_decay=DECAY, warmup_steps=10, e_scale=0.5, p_scale=0.3, token_multiplier=2.0)


def train(held: bool, **fields):
    """static, hyper, the parameters after STEPS steps, and the path of training: x [t, d] that each step reads, and after it b_Q
    and Adam's two moments of b_Q [t, h, k]. `held`: E_cls and P_0 stay as they are.
    """
    model = tiny_model(**MODEL | fields)
    static, hyper = config.make_static([model]), config.make_hyper(model)
    splits, first = model_splits(static, hyper), init_clip(static, hyper).vision

    def one(state, step):
        vision = state.params.vision
        x = hyper.token_multiplier * vision.E[CLS] + vision.P[0]
        state, _ = training.train_step(static, hyper, splits, state, step)
        if held:
            vision = state.params.vision
            vision = vision.replace(E=vision.E.at[CLS].set(first.E[CLS]), P=vision.P.at[0].set(first.P[0]))
            state = state.replace(params=state.params.replace(vision=vision))
        adam, *_ = state.opt_state
        trees = state.params, adam.mu, adam.nu
        return state, (x, *(tree.vision.blocks[0].b_Q for tree in trees))

    state, path = jax.jit(lambda state: jax.lax.scan(one, state, jnp.arange(STEPS)))(init_state(static, hyper))
    return static, hyper, state.params, [np.asarray(array, np.float64) for array in path]


def answer(static, hyper, params):
    """`QueryLaw` of one model after STEPS steps."""
    question = partial(gauge.QueryLaw(STEPS), static)
    splits = model_splits(static, hyper)
    return jax.tree.map(np.asarray, jax.jit(question)(hyper, splits, as_read(hyper, params), unit_gates(static)))


def rates(lr=LR):
    """The learning rate [t] of each step, and Adam's corrections of bias [t] in its two moments."""
    t = np.arange(1, STEPS + 1)
    return lr * np.minimum(1, t / 10), 1 - 0.9**t, 1 - 0.98**t


def off_law(static, hyper, params, x, b_Q):
    """|W_Q - S W_Q(0) - sign(x) b_Q| [d, h, k], with S computed here."""
    left = np.prod(1 - rates(float(hyper.lr))[0] * DECAY)
    first, W_Q = (np.asarray(vision.blocks[0].W_Q, np.float64) for vision in (init_clip(static, hyper).vision, params.vision))
    return np.abs(W_Q - left * first - np.sign(x)[:, None, None] * b_Q[None])


@pytest.fixture(scope="module")
def fixed():
    """A model whose x is held fixed."""
    return train(held=True)


@pytest.fixture(scope="module")
def moving():
    """A model trained as models are."""
    return train(held=False)


@pytest.mark.slow
def test_while_x_is_constant_the_law_holds_but_for_eps(fixed):
    """Row d has eps / |x_d| where b_Q has eps: |m| / (sqrt(v) + eps / |x_d|) is off by |m| / v eps |1 / |x_d| - 1|, at most."""
    static, hyper, params, (x, b_Q, m, v) = fixed
    lr, unbiased_m, unbiased_v = (array[:, None, None] for array in rates())
    of_eps = static.eps * (lr * np.abs(m / unbiased_m) / (v / unbiased_v)).sum(0)
    off = off_law(static, hyper, params, x[-1], b_Q[-1])
    assert abs(b_Q[-1]).max() > 0.05, "something is learned"
    # beside eps, W_Q of order .25 is rounded 60 times in float32
    assert (off < of_eps[None] * abs(1 / abs(x[-1]) - 1)[:, None, None] + 1e-6).all()
    assert (params.vision.blocks[0].b_K == 0).all(), "what b_K adds is constant along a row"


def test_b_q_then_has_one_part_in_one_plus_the_norm_of_x(fixed):
    """In the learned query and in the learned position gradient, whatever the head."""
    static, hyper, params, (x, *_) = fixed
    found = answer(static, hyper, params)
    np.testing.assert_allclose(found["norm_x"], abs(x[-1]).sum(), rtol=1e-5)
    np.testing.assert_allclose(found["predicted"], 1 / (1 + abs(x[-1]).sum()), rtol=1e-5)
    assert found["deviation"] < 1e-3 and found["signs_kept"] == 1
    for share in ("share", "query_share"):
        np.testing.assert_allclose(found[share], found["predicted"], rtol=1e-3, err_msg=share)
    # what is learned and what is left of W_Q(0) are the whole
    np.testing.assert_allclose(found["share_of_all"], found["share"] * (1 - found["from_start"]), rtol=1e-3)
    assert (abs(found["from_start"]) > 0.1).all(), "so that it matters whether W_Q(0) is taken away"


@pytest.mark.slow
def test_w_q_is_what_adamw_makes_of_x_times_the_gradient_of_b_q(moving):
    """However x moves: the first step of the derivation, replayed in float64."""
    static, hyper, params, (x, _, m, _) = moving
    g = (m - 0.9 * np.concatenate([0 * m[:1], m[:-1]])) / 0.1
    W, first, second = np.asarray(init_clip(static, hyper).vision.blocks[0].W_Q, np.float64), 0, 0
    for lr, unbiased_m, unbiased_v, x_t, g_t in zip(*rates(), x, g, strict=True):
        gradient_of_W = x_t[:, None, None] * g_t[None]
        first, second = 0.9 * first + 0.1 * gradient_of_W, 0.98 * second + 0.02 * gradient_of_W**2
        W = W - lr * (first / unbiased_m / (np.sqrt(second / unbiased_v) + static.eps) + DECAY * W)
    np.testing.assert_allclose(params.vision.blocks[0].W_Q, W, atol=1e-6)


@pytest.mark.slow
def test_where_x_moves_little_the_law_is_off_by_little():
    """With x_d off its first value by a share r at most, Adam's step is off by 2 C r / (1 - r), where C bounds |m| / sqrt(v)."""
    static, hyper, params, (x, b_Q, *_) = train(held=False, lr=LR / 10, e_scale=1.0)
    lr, unbiased_m, unbiased_v = rates(LR / 10)
    ages = [np.arange(t) for t in range(1, STEPS + 1)]
    # Cauchy and Schwarz: sum w g <= sqrt(sum w^2 / w') sqrt(sum w' g^2), with w and w' the weights of steps in the two moments
    squares = [((0.1 * 0.9**a / m) ** 2 / (0.02 * 0.98**a / v)).sum() for a, m, v in zip(ages, unbiased_m, unbiased_v, strict=True)]
    C, moved = np.sqrt(max(squares)), abs(x / x[:1] - 1).max(0)
    allowed, little = lr.sum() * 2 * C * moved / (1 - moved), moved < 0.1
    assert little.sum() > 5 and (allowed[little] < abs(b_Q[-1]).max()).all(), "the bound says something"
    assert (off_law(static, hyper, params, x[-1], b_Q[-1]).max((1, 2)) < allowed)[little].all()
    found = answer(static, hyper, params)
    np.testing.assert_allclose(found["share"], found["predicted"], rtol=0.02)
    assert found["deviation"] < 0.05


def test_a_sign_that_changes_is_remembered(moving):
    """Rows whose x_d has changed its sign are off the law; the sum over steps of sign(x_d) times b_Q's update is nearer."""
    static, hyper, params, (x, b_Q, m, v) = moving
    lr, unbiased_m, unbiased_v = (array[:, None, None] for array in rates())
    left = np.array([np.prod(1 - lr[t + 1 :] * DECAY) for t in range(STEPS)])[:, None, None]
    updates = -lr * left * (m / unbiased_m) / (np.sqrt(v / unbiased_v) + static.eps)
    np.testing.assert_allclose(updates.sum(0), b_Q[-1], atol=1e-6)
    off = off_law(static, hyper, params, x[-1], b_Q[-1])
    changed = (np.sign(x) != np.sign(x[-1:])).any(0)
    W = params.vision.blocks[0].W_Q - np.prod(1 - lr * DECAY) * init_clip(static, hyper).vision.blocks[0].W_Q
    weighted = np.abs(W - np.einsum("td,thk->dhk", np.sign(x), updates))
    assert 1 <= changed.sum() < 8
    assert off[changed].mean() > 5 * off[~changed].mean() and weighted[changed].mean() < 0.5 * off[changed].mean()
    assert answer(static, hyper, params)["signs_kept"] < 1


@pytest.mark.slow
def test_an_optimiser_that_feels_the_size_of_a_gradient_has_another_law():
    """With eps far above every gradient AdamW is gradient descent: W_Q[d] learns x_d b_Q, and b_Q has 1 / (1 + |x|^2)."""
    static, hyper, params, (x, *_) = train(held=True, eps=1.0)
    found = answer(static, hyper, params)
    assert found["deviation"] > 0.3 and abs(found["share"] / found["predicted"] - 1).min() > 0.1
    np.testing.assert_allclose(found["share"], 1 / (1 + (x[-1] ** 2).sum()), rtol=0.02)


@pytest.mark.slow
def test_parameters_that_decay_in_another_way_have_no_law(monkeypatch):
    def without_b_Q(hyper, params):
        decay = weight_decay(hyper, params)
        (block,) = decay.vision.blocks
        return decay.replace(vision=decay.vision.replace(blocks=(block.replace(b_Q=0 * block.b_Q),)))

    weight_decay = training.weight_decay
    monkeypatch.setattr(training, "weight_decay", without_b_Q)
    found = answer(*train(held=True)[:3])
    assert found["deviation"] > 0.05 and (found["share"] > 1.02 * found["predicted"]).all()


def test_every_model_of_a_sweep_answers(trained):
    """From the checkpoint alone, whatever N: by head, as `gradient` has the terms and the best head."""
    run = trained[1]
    found, terms = gauge.query_law(run), gradient.gradient(run)
    assert found.share.dims == ("model", "head") and found.predicted.dims == ("model",)
    whole = sum(terms[f"gradient_{term}"] for term in POSITION_TERMS)
    np.testing.assert_allclose(found.share_of_all * whole, terms.gradient_BP, rtol=1e-4)
    np.testing.assert_array_equal(found.strongest.argmax("head"), gradient.best_head(terms))
    np.testing.assert_array_equal(found.strongest.sum("head"), 1)
    np.testing.assert_allclose(found.predicted, 1 / (1 + found.norm_x), rtol=1e-6)


@pytest.mark.parametrize(
    "fields, says",
    [
        (dict(n_layers_vision=2), "gauge: n_layers_vision=2; expected 1"),
        (dict(positions="rotary"), "gauge: positions='rotary'; expected 'learned'"),
        (dict(gates="EP=0"), "gauge: gates='EP=0'; expected 'none'"),
        (dict(dropout=0.1), "gauge: dropout=0.1; expected 0"),
        (dict(layer_norm=True), "gauge: layer_norm=True, norm='pre'; expected no LayerNorm before attention"),
        (dict(objective="autoregressive"), "gauge: objective='autoregressive'"),
    ],
)
def test_what_has_no_law_is_named(fields, says):
    with pytest.raises(InputError, match=re.escape(says)):
        gauge.query_law(loop.start(config.Sweep((tiny_model(**fields),), steps=1, eval_every=1)))
