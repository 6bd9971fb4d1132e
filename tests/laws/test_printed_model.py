"""The model as printed: layers run again with the same weights, dropout, LayerNorm after, a projection of text alone."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conftest import shake, tiny_model, untrained
from lrjax import config
from lrjax.analysis import align, decompose, depth, gauge, models, values
from lrjax.analysis.ablate import Ablate, ablate, each
from lrjax.data import scenes
from lrjax.errors import InputError
from lrjax.models import encoder, lookup_tables
from lrjax.models.attention import NORM_EPS
from lrjax.models.clip import embed_captions, embed_images, init_clip, model_splits, n_parameters, rng_stream, unit_gates
from lrjax.models.encoder import EncoderConfig
from lrjax.models.interventions import Interventions, ModelInterventions
from lrjax.terms import GATES
from lrjax.training import flops
from lrjax.training.step import batch_loss, init_state, train_step

FULL = {"layer_norm": True, "mlp_ratio": 4}
IDS = jax.random.randint(jax.random.key(1), (11,), 0, 15)


def make(**variant):
    """A perturbed vision encoder and its shape."""
    shape = EncoderConfig(15, 11, n_heads=2, d_model=16, causal=False, **{"n_layers": 1, "d_embed": 12} | variant)
    return shake(jax.jit(encoder.init, static_argnums=1)(jax.random.key(0), shape, 1.0, 0.8)), shape


def one(**fields):
    """Static, hyper, shaken parameters and a batch of one tiny model."""
    model = tiny_model(e_scale=1.0, p_scale=0.7, **fields)
    static, hyper = config.make_static([model]), config.make_hyper(model)

    @jax.jit
    def drawn(hyper):
        batch = static.task_object.batch(jax.random.key(2), model_splits(static, hyper), hyper, static.batch_size)
        return init_clip(static, hyper), batch

    params, batch = drawn(hyper)
    return static, hyper, shake(params), batch


# ---- repeats ----


@pytest.mark.slow
@pytest.mark.parametrize("variant", [{}, FULL, FULL | {"norm": "post"}], ids=str)
def test_tied_repeats_are_an_unrolled_model_with_shared_weights_in_value_and_gradient(variant):
    encoder_params, shape = make(n_layers=2, n_repeats=2, **variant)
    unrolled = EncoderConfig(**vars(shape) | {"n_layers": 4, "n_repeats": 1})
    gates = jax.random.uniform(jax.random.key(5), (4, 2, len(GATES))).at[1:].set(1 if variant else 0.5)
    d = jax.random.normal(jax.random.key(2), (12,))

    def found(encoder_params, shape):
        def of(encoder_params, gates):
            return encoder.run(encoder_params, Interventions(gates), IDS, shape, 0).embedding @ d

        return jax.jit(jax.value_and_grad(of, (0, 1)))(encoder_params, gates)

    (tied, (grad, of_gates)) = found(encoder_params, shape)
    (free, (copies, of_copies)) = found(encoder_params.replace(blocks=encoder_params.blocks * 2), unrolled)
    np.testing.assert_allclose(tied, free, atol=1e-6)
    np.testing.assert_allclose(of_gates, of_copies, rtol=1e-4, atol=1e-6)
    add = lambda a, b: jax.tree.map(jnp.add, a, b)
    summed = copies.replace(blocks=(add(copies.blocks[0], copies.blocks[2]), add(copies.blocks[1], copies.blocks[3])))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=2e-5), grad, summed)


def test_every_pass_has_gates_and_terms_of_its_own():
    encoder_params, shape = make(n_repeats=3)
    ones = shape.unit_gates()
    assert ones.shape == (3, 2, len(GATES))
    run = jax.jit(lambda gates: encoder.run(encoder_params, Interventions(gates), IDS, shape, 0))
    whole = run(ones)
    assert len(whole.caches) == 3
    changes = [run(ones.at[k, :, GATES.index("EP")].set(0)).embedding - whole.embedding for k in range(3)]
    assert all(np.abs(change).max() > 1e-4 for change in changes)
    assert np.abs(changes[1] - changes[2]).max() > 1e-4


def test_passes_are_named_as_layers_everywhere():
    model = tiny_model(n_layers_vision=2, n_repeats=2)
    static = config.make_static([model])
    assert [models.depth_of(static, name) for name in ("vision", "text")] == [4, 2]
    last = config.gate_schedule(tiny_model(n_layers_vision=2, n_repeats=2, gates="vision.L3:EP=0")).g0
    np.testing.assert_array_equal((last.vision == 0).any((1, 2)), [False, False, False, True])
    assert last.text.shape == (2, 2, len(GATES))
    with pytest.raises(InputError, match=r"layer 4 is out of range; expected 0..3 in vision"):
        config.validate_model(tiny_model(n_layers_vision=2, n_repeats=2, gates="vision.L4:EP=0"))
    with pytest.raises(InputError, match=r"gates of layer 0 alone"):
        config.validate_model(tiny_model(n_repeats=2, mlp_ratio=2, gates="vision.L1:EP=0"))
    config.validate_model(tiny_model(n_repeats=2, mlp_ratio=2, gates="vision.L0:EP=0"))
    assert {str(name).split(":")[0] for name in each(static)} == {"none", *(f"vision.L{k}.h{h}" for k in range(4) for h in (0, 1))}
    with pytest.raises(InputError, match="needs one block"):
        Ablate(("mean EE",)).factors_and_weights(config.make_static([tiny_model(n_repeats=2)]))


@pytest.mark.slow
def test_analyses_count_passes():
    """One layer that runs twice is no encoder of one block; two of one that run once are another model with the same answers."""
    twice, both = untrained(tiny_model(n_repeats=2)), untrained(tiny_model(n_layers_vision=2, n_layers_text=2))
    (state,), tied = twice.states, both.states[0].params
    double = lambda encoder_params, like: like.replace(
        **{name: getattr(encoder_params, name) for name in ("E", "P", "W_proj")}, blocks=encoder_params.blocks * 2
    )
    encoders = {name: double(getattr(state.params, name), getattr(tied, name)) for name in ("vision", "text")}
    both.states[0] = both.states[0].replace(params=state.params.replace(**encoders))
    same = partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
    for ask in (decompose.decompose, depth.paths, values.values):
        for found, expected in zip(*(ask(run).values() for run in (twice, both)), strict=True):
            same(found, expected, err_msg=ask.__name__)
    assert align.spaces(twice.programs[0].static) == ("E", "embedding")
    with pytest.raises(InputError, match=r"gauge: n_layers_vision=1, n_repeats=2; expected 1"):
        gauge.law(twice)


# ---- dropout ----

RATE = 0.25


def steady(rate, **variant):
    """An encoder whose attention and MLP write their biases alone: 1 and 10."""
    encoder_params, shape = make(dropout=rate, mlp_ratio=2, **variant)
    block = jax.tree.map(jnp.zeros_like, encoder_params.blocks[0])
    block = block.replace(b_O=jnp.ones(16), mlp=block.mlp.replace(b_out=jnp.full(16, 10.0)))
    return encoder_params.replace(blocks=(block,)), shape


@pytest.mark.slow
def test_dropout_of_rate_0_adds_no_operation():
    encoder_params, shape = make(n_layers=2)
    template, edits = scenes.image_template(10), scenes.TokenEdits(jnp.full((2, 3), 7), jnp.array([[1, 2, 3], [5, 6, 7]]))
    embed = lambda key, encoder_params: lookup_tables.encode(
        encoder_params, Interventions(dropout_key=key), ((template, edits),), shape
    )[0]
    with_key, without = (str(jax.make_jaxpr(partial(embed, key))(encoder_params)) for key in (jax.random.key(0), None))
    assert with_key == without
    hyper = config.make_hyper(tiny_model())

    def random_bits(rate):
        static = config.make_static([tiny_model(dropout=rate)])
        made = jax.eval_shape(lambda hyper: (model_splits(static, hyper), init_state(static, hyper)), hyper)
        return str(jax.make_jaxpr(partial(train_step, static))(hyper, *made, 0)).count("random_bits")

    assert random_bits(0.0) < random_bits(RATE)


@pytest.mark.slow
def test_dropout_is_inverted_and_its_mean_is_the_value():
    """Of E + P, of what attention writes and of what the MLP writes, each by itself; every entry at 0 in a quarter of all draws."""
    encoder_params, shape = steady(RATE)
    encoder_params = encoder_params.replace(E=100 + 0 * encoder_params.E, P=100 + 0 * encoder_params.P)
    rng_stream = lambda key: encoder.run(
        encoder_params, Interventions(dropout_key=key), IDS, shape, 0, split=False
    ).residual_by_origin[0]
    found = np.asarray(jax.jit(jax.vmap(rng_stream))(jax.random.split(jax.random.key(0), 4000)))
    parts = found * (1 - RATE)  # 200, 1 and 10, each there or not
    np.testing.assert_allclose(parts, np.round(parts), atol=1e-3)
    hundreds, ones, tens = np.round(parts) // 200, np.round(parts) % 10, np.round(parts) % 200 // 10
    for part in (hundreds, ones, tens):
        assert set(np.unique(part)) == {0, 1}
        # of 4,000 draws the standard error is .007; five of them, as 176 entries are looked at
        np.testing.assert_allclose(part.mean(0), 1 - RATE, atol=0.035)
    both = [(hundreds, ones), (hundreds, tens), (ones, tens)]
    np.testing.assert_allclose([(a * b).mean() for a, b in both], (1 - RATE) ** 2, atol=0.01)  # independent
    np.testing.assert_allclose(found.mean((0, 1, 2)), 211, rtol=0.01)


def test_origins_are_dropped_together_and_rows_are_the_same_when_computed_alone():
    encoder_params, shape = make(n_layers=2, dropout=RATE)
    dropped = Interventions(dropout_key=jax.random.key(3))
    run = lambda done=dropped, **more: jax.jit(lambda: encoder.run(encoder_params, done, IDS, shape, 0, **more))()
    split, merged, alone = (
        run(),
        run(split=False),
        run(query_slice=slice(0, 1)),
    )  # a dropped bias is not the same along a row of scores
    np.testing.assert_allclose(split.residual_by_origin.sum(0), merged.residual_by_origin[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(alone.embedding, merged.embedding, atol=1e-5)
    assert np.abs(run(Interventions()).embedding - merged.embedding).max() > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("layers", [1, 2])
def test_a_mask_is_of_seed_step_and_sequence(layers):
    """Whatever models are beside it; each image and caption has its own; there is none in evaluation."""
    static, _, params, batch = one(dropout=0.5, n_layers_vision=layers)
    plain = config.make_static([tiny_model(n_layers_vision=layers)])
    images = jax.tree.map(lambda x: jnp.repeat(x[:, :1], 3, 1), batch.images)
    key = lambda seed, step: jax.random.fold_in(rng_stream(seed, "dropout"), step)
    in_step = lambda seed, step: ModelInterventions.of_gates(unit_gates(static), dropout_key=key(seed, step))
    embed = jax.jit(lambda seed, step: embed_images(static, params, in_step(seed, step).vision, images, False))
    found = embed(0, 7)
    assert min(np.abs(found[i] - found[j]).max() for i, j in ((0, 1), (0, 2), (1, 2))) > 1e-2
    assert min(np.abs(found - other).max() for other in (embed(0, 8), embed(1, 7))) > 1e-2
    many = jax.jit(jax.vmap(lambda seed: embed_images(static, params, in_step(seed, 7).vision, images, False)))
    np.testing.assert_allclose(many(jnp.array([5, 0, 3]))[1], found, atol=1e-6)
    evaluated = (jax.jit(lambda of=of: embed_images(of, params, Interventions(), images))() for of in (static, plain))
    np.testing.assert_array_equal(*evaluated)
    draws = [jax.random.bernoulli(done.dropout_key, 0.5, (1000,)) for done in (in_step(0, 7).vision, in_step(0, 7).text)]
    assert 400 < (draws[0] == draws[1]).sum() < 600
    captions = (scenes.SINGLE_CAPTION, scenes.single_caption_edits(jnp.zeros(3, int)))
    (said,) = jax.jit(lambda: embed_captions(static, params, in_step(0, 7).text, (captions,), False))()
    assert np.abs(said[0] - said[1]).max() > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["contrastive", "autoregressive"])
def test_training_has_dropout(objective):
    """The same at the same step, another at another, and another than without; gates and their gradients too."""
    static, hyper, params, batch = one(dropout=RATE, objective=objective)
    loss = jax.jit(lambda key=None: batch_loss(static, hyper, params, unit_gates(static), batch, key))
    key = jax.random.key(4)
    assert loss(key) == loss(key)
    found = [float(x) for x in (loss(key), loss(jax.random.key(5)), loss())]
    assert np.isfinite(found).all() and len(set(found)) == 3


# ---- LayerNorm after ----


def by_hand(encoder_params, shape):
    """The embedding of IDS by the original Transformer's block, in NumPy and double precision."""
    encoder_params = jax.tree.map(lambda x: np.asarray(x, float), encoder_params)
    norm = lambda n, x: n.gamma * (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + NORM_EPS) + n.beta
    x = encoder_params.E[IDS] + encoder_params.P
    for b in encoder_params.blocks * shape.n_repeats:
        q, k, v = (np.einsum("td,dhk->htk", x, W) + bias[:, None] for W, bias in ((b.W_Q, b.b_Q), (b.W_K, b.b_K), (b.W_V, b.b_V)))
        weight = np.exp(q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1]))
        x = norm(b.after, x + np.einsum("hqt,htk,hkd->qd", weight / weight.sum(-1, keepdims=True), v, b.W_O) + b.b_O)
        if b.mlp is not None:
            y = x @ b.mlp.W_in + b.mlp.b_in
            y = 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
            x = norm(b.mlp_after, x + y @ b.mlp.W_out + b.mlp.b_out)
    y = x[0] @ encoder_params.W_proj
    return y / np.linalg.norm(y)


@pytest.mark.slow
@pytest.mark.parametrize("variant", [{}, {"n_layers": 2}, {"mlp_ratio": 2, "n_layers": 2, "n_repeats": 2}], ids=str)
def test_layer_norm_after_is_the_original_transformers(variant):
    encoder_params, shape = make(layer_norm=True, norm="post", **variant)
    assert encoder_params.norm is None and all(block.norm is None and block.mlp_norm is None for block in encoder_params.blocks)
    for split in (True, False):
        found = jax.jit(lambda split=split: encoder.run(encoder_params, Interventions(), IDS, shape, 0, split=split))()
        np.testing.assert_allclose(found.embedding, by_hand(encoder_params, shape), atol=2e-5)


def test_layer_norm_after_by_frozen_scales():
    """At the gates in force nothing changes; under an ablation the scales stay, and the origins still add up."""
    encoder_params, shape = make(layer_norm=True, norm="post", n_layers=2)
    gates = shape.unit_gates().at[0, :, GATES.index("EP")].set(0)

    @jax.jit
    def run(gates, frozen=None):
        return encoder.run(encoder_params, Interventions(gates, frozen_norm_scale=frozen), IDS, shape, 0)

    own, whole = run(gates), run(shape.unit_gates())
    np.testing.assert_allclose(run(gates, own.scales).embedding, own.embedding, atol=1e-6)
    frozen = run(gates, whole.scales)
    assert np.abs(frozen.embedding - own.embedding).max() > 1e-4
    np.testing.assert_array_equal(frozen.scales.attention[1], whole.scales.attention[1])
    assert own.scales.readout is None


# ---- a projection of text alone ----


def test_without_its_projection_vision_is_the_same_encoder():
    hyper, init = config.make_hyper(tiny_model()), jax.jit(init_clip, static_argnums=0)
    both, text = (init(config.make_static([tiny_model(projection=ends)]), hyper) for ends in ("both", "text"))
    assert text.vision.W_proj is None
    jax.tree.map(np.testing.assert_array_equal, text, both.replace(vision=both.vision.replace(W_proj=None)))
    with pytest.raises(InputError, match=r"config.d_embed: 12 is not possible; expected d_model = 16"):
        config.validate_model(tiny_model(projection="text", d_embed=12))


@pytest.mark.slow
@pytest.mark.parametrize("variant", [{}, {"layer_norm": True}, {"layer_norm": True, "norm": "post", "mlp_ratio": 2}], ids=str)
def test_tables_and_definition_agree_without_a_projection(variant):
    encoder_params, shape = make(projects=False, d_embed=16, **variant)
    edits = scenes.TokenEdits(jnp.array([[7, 8], [9, 7]]), jnp.array([[1, 2], [5, 6]]))
    template, gates = scenes.image_template(10), jax.random.uniform(jax.random.key(5), (1, 2, len(GATES)))
    ids = scenes.render(template, edits)
    found = jax.jit(lambda: lookup_tables.encode(encoder_params, Interventions(gates), ((template, edits),), shape)[0])()
    runs = jax.jit(jax.vmap(lambda ids: encoder.run(encoder_params, Interventions(gates), ids, shape, 0)))(ids)
    np.testing.assert_allclose(found, runs.embedding, atol=2e-6)
    if not variant:
        np.testing.assert_allclose(found, encoder.l2_normalize(runs.residual_by_origin.sum(1)[:, 0]), atol=2e-6)


@pytest.mark.parametrize(
    "fields", [{"projection": "text"}, {"projection": "text", "norm": "post", "n_repeats": 2, "dropout": 0.1, **FULL}]
)
def test_parameters_are_counted(fields):
    model = tiny_model(**fields)
    static = config.make_static([model])
    assert flops.n_parameters(static) == n_parameters(jax.eval_shape(partial(init_clip, static), config.make_hyper(model)))
    assert flops.total(flops.lrjax_counts(static)).flops > 0


@pytest.mark.slow
def test_analyses_work_without_a_projection_of_images():
    run = untrained(tiny_model(projection="text", n_layers_vision=2))
    order = ablate(run, ("none",), sets=("unseen_pair",))["unseen_pair_order"]
    np.testing.assert_allclose(values.values(run).order_alone.sel(part="margin"), order, atol=2e-3)
    np.testing.assert_allclose(depth.paths(run).order, order, atol=2e-3)
    shallow = untrained(tiny_model(projection="text"))
    assert "OV" in align.spaces(shallow.programs[0].static)
    assert np.isfinite(align.align(shallow).cosine).any()


@pytest.mark.slow
@pytest.mark.parametrize("variant", [{}, {"mlp_ratio": 2}])
def test_contributions_sum_with_layer_norm_after(variant):
    layers = 1 if variant else 2
    encoder_params, shape = make(layer_norm=True, norm="post", n_layers=layers, **variant)
    of = lambda d: values.contributions(encoder_params, shape.unit_gates(), IDS, d, shape, 0)
    fixed, of_heads, norm = jax.jit(jax.vmap(of))(jnp.eye(12))
    embedding = jax.jit(lambda: encoder.run(encoder_params, Interventions(), IDS, shape, 0).embedding)()
    np.testing.assert_allclose((fixed.sum(1) + of_heads.sum((1, 2, 3, 4))) / norm[0], embedding, atol=2e-5)
