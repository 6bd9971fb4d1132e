"""The parts of the readout embedding add up to the decision, in any depth; and hand-built models whose deciding part is known."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import figures_read
from compiled import init_clip, model_splits
from conftest import shake, tiny_model
from lrjax import config
from lrjax.analysis.models import tidy
from lrjax.analysis.values import PARTS, ROLES, attribute, contributions, fixed_parts, part_names, ranked, samples, values
from lrjax.data.scenes import FIRST_LABEL
from lrjax.errors import InputError
from lrjax.gates import parse_gates
from lrjax.models import encoder as encoders
from lrjax.models.clip import encoder_configs
from lrjax.models.interventions import Interventions, ModelInterventions
from lrjax.plotting.style import PANEL
from lrjax.plotting.values import attribution
from lrjax.terms import GATES, VALUES
from lrjax.training import loop, retrieval
from lrjax.training.programs import init_program

ask = jax.jit(attribute, static_argnums=(0, 1))


def make(encoder, layers=1, relations="left", gates="none", **variant):
    """One shaken model: static, hyper, splits, params, gates."""
    model = tiny_model(e_scale=1.0, p_scale=0.7, relations=relations, **{f"n_layers_{encoder}": layers}, **variant)
    static, hyper = config.make_static([model]), config.make_hyper(model)
    depth = {"vision": static.n_layers_vision, "text": static.n_layers_text}
    return static, hyper, model_splits(static, hyper), shake(init_clip(static, hyper)), parse_gates(gates, depth, 2).at(0)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["vision", "text"])
@pytest.mark.parametrize("layers", [1, 2])
def test_contributions_sum_to_the_embedding_before_the_norm(encoder, layers):
    """Along every axis of the embedding at once, against a forward pass written out in NumPy at double precision; gates too."""
    gates = f"{encoder}:EP=0.4;{encoder}:VE=0.7;{encoder}.h1:VB=0.2"
    static, _, _, params, gates = make(encoder, layers, gates=gates)
    encoder_params, gate = getattr(params, encoder), getattr(gates, encoder)
    ids, _, _ = jax.jit(samples, static_argnums=(0, 1))(encoder, static, params, gates)
    readout, causal = (0, False) if encoder == "vision" else (3, True)
    one = lambda d: contributions(encoder_params, gate, ids[7], d, encoder_configs(static)[encoder], readout)
    fixed, heads, norm = jax.jit(jax.vmap(one))(jnp.eye(static.d_embed))
    y = forward(encoder_params, gate, np.asarray(ids[7]), causal)[readout] @ np.asarray(encoder_params.W_proj, float)
    # float32 against float64: y is a sum of a few hundred products, of order |y|
    np.testing.assert_allclose(fixed.sum(1) + heads.sum((1, 2, 3, 4)), y, rtol=1e-4, atol=1e-5 * np.linalg.norm(y))
    np.testing.assert_allclose(norm, np.linalg.norm(y), rtol=1e-5)
    assert heads.shape == (static.d_embed, layers, 2, 3, len(ids[7]))


@pytest.mark.slow
@pytest.mark.parametrize("variant", [{"layer_norm": True}, {"mlp_ratio": 2}, {"layer_norm": True, "mlp_ratio": 2}])
def test_contributions_sum_with_layer_norm_and_mlp(variant):
    """To the margin itself, for real directions: cosine with the caption less cosine with the swapped one."""
    static, _, _, params, gates = make("vision", **variant)
    ids, d, _ = jax.jit(samples, static_argnums=(0, 1))("vision", static, params, gates)
    ids, d, shape = ids[:20], d[:20], encoder_configs(static)["vision"]
    of = jax.jit(jax.vmap(lambda i, d: contributions(params.vision, gates.vision, i, d, shape, 0)))
    run = jax.jit(jax.vmap(lambda i: encoders.run(params.vision, Interventions(gates.vision), i, shape, 0).embedding))
    (fixed, heads, norm), y = of(ids, d), run(ids)
    np.testing.assert_allclose((fixed.sum(1) + heads.sum((1, 2, 3, 4))) / norm, (y * d).sum(1), atol=1e-5)
    assert fixed.shape[1] == len(fixed_parts("vision", static))


def forward(encoder_params, gates, ids, causal):
    """The stream after all blocks, origin by origin, in float64: written out on its own."""
    encoder_params, gates = jax.tree.map(lambda x: np.asarray(x, float), (encoder_params, gates))
    x = [encoder_params.E[ids], encoder_params.P[: len(ids)], np.zeros((len(ids), encoder_params.E.shape[1]))]
    for block, gate in zip(encoder_params.blocks, gates, strict=True):
        new = [s.copy() for s in x]
        for h in range(len(gate)):
            g = dict(zip(GATES, gate[h], strict=True))
            q = [s @ block.W_Q[:, h] for s in x]
            q[2] = q[2] + block.b_Q[h]
            k = [s @ block.W_K[:, h] for s in x]
            scores = sum(g["EPB"[o] + "EPB"[c]] * q[o] @ k[c].T for o in range(3) for c in range(2)) / np.sqrt(block.b_Q.shape[-1])
            if causal:
                scores = np.where(np.tril(np.ones_like(scores)) > 0, scores, -np.inf)
            p = np.exp(scores - scores.max(1, keepdims=True))
            p /= p.sum(1, keepdims=True)
            for o in range(3):
                v = x[o] @ block.W_V[:, h] + (block.b_V[h] if o == 2 else 0)
                new[o] += g["V" + "EPB"[o]] * p @ v @ block.W_O[h]
        new[2] = new[2] + block.b_O
        x = new
    return sum(x)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "layers", "relations"), [("vision", 1, "left+right"), ("vision", 2, "left"), ("text", 1, "left+right")]
)
def test_the_margin_is_what_order_compares(encoder, layers, relations):
    """Divided by the norm, the parts sum to the difference of cosines, so `order` of the whole is evaluate's own."""
    static, hyper, splits, params, gates = make(encoder, layers, relations)
    found = ask(encoder, static, hyper, splits, params, gates)
    metric = "unseen_pair_order" if encoder == "vision" else "unseen_pair_order_t2i"
    evaluate = jax.jit(partial(retrieval.evaluate, static, exhaustive=False, sets=("unseen_pair",)))
    order = evaluate(hyper, splits, params, ModelInterventions.of_gates(gates))[metric]
    parts = part_names(encoder, static)
    # a margin within rounding of 0 may fall on either side: one sample in 900
    np.testing.assert_allclose(found["order_alone"][parts.index("margin")], order, atol=2e-3)
    mean = dict(zip(parts, found["mean"], strict=True))
    additive = sum(v for name, v in mean.items() if name == "residual" or "b_O" in name or "head" in name)
    np.testing.assert_allclose(additive, mean["margin"], atol=1e-6)  # cosines, in float32
    heads = sum(v for name, v in mean.items() if "head" in name)
    for split in (ROLES[encoder], VALUES):
        np.testing.assert_allclose(sum(mean[name] for name in split), heads, atol=1e-6)
    np.testing.assert_allclose(found["position_mean"].sum(-1), found["source_mean"], atol=1e-6)
    np.testing.assert_allclose(found["source_mean"].sum(), heads, atol=1e-6)


def test_what_no_image_changes_cannot_know_the_order():
    """Residual and b_O: before the norm their mean over all pairs is 0, with their spread it is not."""
    model = make("vision")
    found = ask("vision", *model)
    names = part_names("vision", model[0])
    for name in ("residual", "b_O"):
        at = names.index(name)
        assert abs(found["before_norm"][at]) < 1e-5 < 1e-2 < found["sd"][at]
        np.testing.assert_allclose(found["order_alone"][at], 0.5, atol=2e-3)


def copying(encoder_params, head, place_scores):
    """A one-block encoder by hand: label x is axis x; `head` scores position p place_scores[p], labels 1000, and copies."""
    encoder_params = jax.tree.map(jnp.zeros_like, encoder_params)
    (block,), labels, (d, last) = encoder_params.blocks, np.arange(5), (encoder_params.E.shape[1], encoder_params.E.shape[1] - 1)
    k = block.b_Q.shape[-1]
    block = block.replace(
        W_K=block.W_K.at[last, head, 0].set(1.0).at[labels, head, 0].set(1000.0),
        b_Q=block.b_Q.at[head, 0].set(np.sqrt(k)),
        W_V=block.W_V.at[:k, head].set(jnp.eye(k)),
        W_O=block.W_O.at[head, :, :k].set(jnp.eye(k)),
    )
    return encoder_params.replace(
        E=encoder_params.E.at[FIRST_LABEL + labels, labels].set(1.0),
        P=encoder_params.P.at[:, last].set(jnp.asarray(place_scores, float)),
        W_proj=jnp.eye(d, encoder_params.W_proj.shape[1]),
        blocks=(block,),
    )


@pytest.mark.parametrize("head", [0, 1])
@pytest.mark.parametrize(("lean", "reads", "margin"), [(1, "right object", 1.0), (-1, "left object", -1.0)])
def test_a_hand_built_head_is_found(head, lean, reads, margin):
    """The caption is its second label's axis: true minus swapped along the image's right label is 1, along its left one -1."""
    static, hyper, splits, params, gates = make("vision")
    vision = copying(params.vision, head, 8 * lean * np.arange(static.L + 1))
    params = params.replace(vision=vision, text=copying(params.text, 0, [0, 0, 40, 0]))
    found = ask("vision", static, hyper, splits, params, gates)
    mean = dict(zip(part_names("vision", static), np.asarray(found["mean"]), strict=True))
    expected = dict.fromkeys(mean, 0.0) | {"margin": margin, f"head {head}": margin, reads: margin, "VE": margin}
    for name, value in expected.items():
        np.testing.assert_allclose(mean[name], value, atol=2e-3, err_msg=name)  # softmax leaves e^-8 to the other object
    order = dict(zip(mean, np.asarray(found["order_alone"]), strict=True))
    assert order["margin"] == order[f"head {head}"] == (margin > 0) and order["residual"] == 0.5
    without = dict(zip(mean, np.asarray(found["order_without"]), strict=True))
    assert without[f"head {head}"] == 0.5 and without["b_O"] == (margin > 0)


def test_all_models_at_once_named_axes_and_ranks(trained):
    _, run = trained
    answer = values(run, n_labels=[6])
    assert answer["mean"].dims == ("model", "part") and answer.model.values.tolist() == [2, 3]
    assert answer.source_mean.dims == ("model", "layer", "head", "value", "role")
    by_rank = ranked(answer)
    assert by_rank.part.values.tolist() == ["margin", "residual", "b_O", "head #1", "head #2", *ROLES["vision"], *VALUES]
    mine = np.sort(answer["mean"].sel(part=["head 0", "head 1"]).values, axis=1)[:, ::-1]
    np.testing.assert_array_equal(by_rank["mean"].sel(part=["head #1", "head #2"]).values, mine)
    table = tidy(answer[list(PARTS)])
    assert len(table["part"]) == 2 * len(answer.part) and set(table["n_labels"].tolist()) == {6}
    figure = attribution(tidy(by_rank), "title")
    mean, sd, order = figure.axes
    assert figure.get_figwidth() == 2 * PANEL, "a phone shows it"
    assert figures_read.tick_labels(order) == by_rank.part.values.tolist()
    for axis, measure in ((mean, "mean"), (sd, "sd")):
        shown = figures_read.series(axis)["N = 6 labels"]
        np.testing.assert_allclose(shown[:, 1], by_rank[measure].mean("model"), rtol=1e-5, atol=1e-7)
    assert [figures_read.level_lines(axis) for axis in (mean, sd, order)] == [[0], [0], [0.5]]


@pytest.mark.slow
def test_shapes_that_differ_are_asked_together():
    models = (tiny_model(), tiny_model(n_layers_vision=2))
    run = loop.start(config.Sweep(models, steps=1, eval_every=1))
    run.states = [jax.device_get(init_program(p.static, p.hyper)) for p in run.programs]
    by_rank = ranked(values(run))
    assert {"b_O", "L1 b_O", "head #4"} <= set(by_rank.part.values.tolist())
    known = by_rank["mean"].sel(part=["head #2", "head #3"]).notnull().values
    np.testing.assert_array_equal(known, [[True, False], [True, True]])


def test_what_does_not_exist_is_named(trained):
    with pytest.raises(InputError) as error:
        values(trained[1], "visoin")
    assert str(error.value) == "--encoder=visoin: does not exist (did you mean 'vision'?); expected vision or text"
