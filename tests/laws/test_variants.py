"""Other encoders are the same encoder: LayerNorm and MLP are flax's, rotary scores know offsets only, no position no order."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compiled import attend, evaluate, init_clip, init_encoder, init_state, model_splits, run_encoder
from conftest import shake, tiny_model, untrained
from lrjax import config
from lrjax.analysis.ablate import ablate, existing
from lrjax.errors import InputError
from lrjax.kinds import POSITIONS
from lrjax.models import encoder, positions
from lrjax.models.attention import NORM_EPS
from lrjax.models.clip import encoder_configs
from lrjax.models.interventions import Interventions, ModelInterventions
from lrjax.storage import workdir
from lrjax.terms import GATES, TERMS
from lrjax.training.run import History
from lrjax.training.step import keep_positions, train_steps

FULL = {"layer_norm": True, "mlp_ratio": 4}


def make(**variant):
    """A perturbed vision encoder, its shape, a sequence."""
    shape = encoder.EncoderConfig(15, 11, n_heads=2, d_model=16, d_embed=12, causal=False, **{"n_layers": 1} | variant)
    return shake(init_encoder(jax.random.key(0), shape, 1.0, 0.8)), shape, jax.random.randint(jax.random.key(1), (11,), 0, 15)


def flax_encoder(encoder_params, shape, ids):
    """A pre-norm transformer of flax's own modules on the same parameters."""
    dense = lambda W, b, x: nn.Dense(W.shape[-1]).apply({"params": {"kernel": W, "bias": b}}, x)

    def norm(params, x):
        variables = {"params": {"scale": params.gamma, "bias": params.beta}} if params else None
        return nn.LayerNorm(epsilon=NORM_EPS).apply(variables, x) if params else x

    x = encoder_params.E[ids] + encoder_params.P[: len(ids)]
    for block in encoder_params.blocks:
        params = {long: {"kernel": getattr(block, f"W_{s}"), "bias": getattr(block, f"b_{s}")} for long, s in ROLES.items()}
        attention = nn.MultiHeadDotProductAttention(num_heads=shape.n_heads, qkv_features=shape.n_heads * shape.k)
        x = x + attention.apply({"params": params}, norm(block.norm, x))
        if block.mlp is not None:
            hidden = nn.gelu(dense(block.mlp.W_in, block.mlp.b_in, norm(block.mlp_norm, x)))
            x = x + dense(block.mlp.W_out, block.mlp.b_out, hidden)
    y = norm(encoder_params.norm, x)[0] @ encoder_params.W_proj
    return y / jnp.linalg.norm(y)


ROLES = {"query": "Q", "key": "K", "value": "V", "out": "O"}


@pytest.mark.slow
@pytest.mark.parametrize("variant", [{"layer_norm": True}, {"mlp_ratio": 4}, FULL, FULL | {"n_layers": 2}], ids=str)
@pytest.mark.parametrize("split", [True, False])
def test_the_full_block_is_flaxs_own_in_value_and_gradient(variant, split):
    encoder_params, shape, ids = make(**variant)
    d = jax.random.normal(jax.random.key(2), (12,))
    ours = lambda encoder_params: encoder.run(encoder_params, Interventions(), ids, shape, 0, split=split).embedding
    theirs = lambda encoder_params: flax_encoder(encoder_params, shape, ids)

    def value_and_gradient(f):
        def along_d(encoder_params):
            found = f(encoder_params)
            return found @ d, found

        return jax.jit(jax.grad(along_d, has_aux=True))(encoder_params)

    (one, found), (other, expected) = map(value_and_gradient, (ours, theirs))
    np.testing.assert_allclose(found, expected, atol=5e-6)
    without_b_K = lambda tree: tree.replace(blocks=tuple(b.replace(b_K=jnp.zeros_like(b.b_K)) for b in tree.blocks))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=5e-5), without_b_K(one), without_b_K(other))


NORMS = [{"layer_norm": True}, {"layer_norm": True, "norm": "post"}]
OF_A_ROW = [kind for kind in POSITIONS if positions.find(kind).layout((2, 2)) is None]  # a row of P, if any, for each position


@pytest.mark.slow
@pytest.mark.parametrize("variant", [{}, {"positions": "rotary"}, {"positions": "alibi"}, *NORMS], ids=str)
def test_terms_sum_to_the_scores_in_every_layer_and_origins_to_the_stream(variant):
    """What is added to the scores and what is not (row-constant terms) differ by one number a row. Depth 3."""
    encoder_params, shape, ids = make(n_layers=3, **variant)
    split, merged = (run_encoder(encoder_params, Interventions(), ids, shape, 0, split=s) for s in (True, False))
    np.testing.assert_allclose(
        split.residual_by_origin.sum(0), merged.residual_by_origin[0], rtol=1e-4, atol=2e-4
    )  # some 40 in size
    for cache in split.caches:
        rest = cache.terms.sum(0) - cache.attn_scores
        np.testing.assert_allclose(rest, rest[:, :, :1].repeat(11, 2), atol=1e-3)  # scores of some hundreds, float32


def test_rotary_scores_depend_on_the_offset_alone():
    """The same tokens, all four places further on: the same terms; and EB, BB turn with the offset: they are Pi_bias."""
    encoder_params, shape, _ = make(positions="rotary")
    x = jax.random.normal(jax.random.key(3), (3, 5, 16))
    at = lambda first: shape.geometry(first + jnp.arange(5), first + jnp.arange(5))
    here, there = (attend(encoder_params.blocks[0], shape.unit_gates()[0], x, at(first))[1] for first in (0, 4))
    np.testing.assert_allclose(here.terms, there.terms, atol=2e-5)
    for term in ("EB", "BB"):
        row = here.terms[TERMS.index(term), 0, 0]
        assert row.std() > 1e-2


def test_rotary_angles_are_those_of_the_paper():
    """Su et al. 2021, eq. 15: pair i of d turns by place x 10000^(-2i/d); a pair as a complex number turns by exp(i angle)."""
    x, at = jax.random.normal(jax.random.key(0), (5, 2, 8)), jnp.arange(5)
    turned = positions.rotate(x, positions.ROTARY.geometry(2, 8, at, at, False).angles_q)
    angles = np.arange(5)[:, None, None] * 10_000.0 ** (-2 * np.arange(4) / 8)
    pairs = (np.asarray(x[..., :4]) + 1j * np.asarray(x[..., 4:])) * np.exp(1j * angles)
    np.testing.assert_allclose(turned, np.concatenate([pairs.real, pairs.imag], -1), atol=1e-6)


def test_alibi_stands_in_pp_and_its_gate_takes_it_away():
    encoder_params, shape, ids = make(positions="alibi")
    encoder_params = encoder_params.replace(P=jnp.zeros_like(encoder_params.P))
    (cache,) = run_encoder(encoder_params, Interventions(), ids, shape, 0).caches
    distance = np.abs(np.subtract.outer(np.arange(11), np.arange(11)))
    np.testing.assert_allclose(cache.terms[TERMS.index("PP")], -np.array([2**-4, 2**-8])[:, None, None] * distance, atol=1e-6)
    gates = shape.unit_gates().at[:, :, GATES.index("PP")].set(0)
    without = run_encoder(encoder_params, Interventions(gates), ids, shape, 0).embedding
    plain = run_encoder(
        encoder_params, Interventions(), ids, encoder.EncoderConfig(**vars(shape) | {"positions": "none"}), 0
    ).embedding
    np.testing.assert_allclose(without, plain, atol=1e-6)


@pytest.mark.slow
def test_without_positions_an_image_is_its_mirror_and_order_is_a_tie():
    model = tiny_model(positions="none", e_scale=1.0)
    static, hyper = config.make_static([model]), config.make_hyper(model)
    params = init_clip(static, hyper)
    found = evaluate(static, hyper, model_splits(static, hyper), params, ModelInterventions(), True)
    for metric in ("seen_pair_order", "unseen_pair_order", "seen_pair_order_t2i", "unseen_pair_order_t2i"):
        assert found[metric] == 0.5, metric


@pytest.mark.slow
@pytest.mark.parametrize("kind", OF_A_ROW)
def test_only_the_rows_of_p_that_a_kind_of_position_has_are_trained(kind):
    """Of an update of 1 of every parameter, what is left; and what there is before training."""
    model = tiny_model(positions=kind)
    static = config.make_static([model])
    params = init_clip(static, config.make_hyper(model))
    kept = keep_positions(static, jax.tree.map(jnp.ones_like, params))
    for name, shape in encoder_configs(static).items():
        moves = getattr(kept, name).P.all(-1)
        expected = {"learned": [True] * shape.n_positions, "learned_no_cls": [name == "text"] + [True] * (shape.n_positions - 1)}
        np.testing.assert_array_equal(moves, expected.get(kind, [False] * shape.n_positions))
        assert getattr(params, name).P.any() == positions.find(kind).has_P
        assert getattr(kept, name).E.all() and kept.log_scale == 1
    if kind == "learned_no_cls":
        assert not params.vision.P[0].any()


@pytest.mark.slow
def test_fixed_rows_stay_through_steps_with_decay():
    model = tiny_model(positions="learned_no_cls", weight_decay=0.3)
    static, hyper = config.make_static([model]), config.make_hyper(model)
    state = init_state(static, hyper)
    after = train_steps(static, hyper, model_splits(static, hyper), state, 0, 3)[0].params
    np.testing.assert_array_equal((after.vision.P != state.params.vision.P).any(-1), [False] + [True] * 10)


def test_sinusoids_are_as_large_as_tokens():
    encoder_params = init_encoder(
        jax.random.key(0), encoder.EncoderConfig(15, 11, 1, 2, 128, 16, False, positions="sinusoidal"), 0.5, 0.3
    )
    np.testing.assert_allclose(np.sqrt((encoder_params.P**2).mean(-1)), 0.5, rtol=1e-6)  # sin^2 + cos^2 in every pair


@pytest.mark.slow
def test_frozen_scales_are_those_of_other_gates():
    """Frozen at the gates in force nothing changes; at gates 1 the readout's scale is that of the whole stream."""
    encoder_params, shape, ids = make(layer_norm=True, n_layers=2)
    gates = shape.unit_gates().at[0, :, GATES.index("EP")].set(0)
    run = lambda gates, frozen=None: run_encoder(encoder_params, Interventions(gates, frozen_norm_scale=frozen), ids, shape, 0)
    own = run(gates)
    np.testing.assert_allclose(run(gates, own.scales).embedding, own.embedding, atol=1e-6)
    frozen = run(gates, run(shape.unit_gates()).scales)
    assert np.abs(frozen.embedding - own.embedding).max() > 1e-4
    by_gates = run_encoder(encoder_params, Interventions(gates, norm_gates=shape.unit_gates()), ids, shape, 0)
    np.testing.assert_array_equal(by_gates.embedding, frozen.embedding)
    np.testing.assert_array_equal(frozen.scales.readout, run(shape.unit_gates()).scales.readout)


@pytest.mark.slow
def test_ablations_with_frozen_scales_are_others_where_layernorm_reads_what_was_ablated():
    """The first of two layers without its values: what the second reads is smaller, and its scale, frozen, is not."""
    asked = ("none", "vision.L0:VE+VP+VB=0")
    for layer_norm in (True, False):
        run = untrained(*(tiny_model(n_layers_vision=2, layer_norm=layer_norm, seed=seed) for seed in range(4)))
        free, frozen = (ablate(run, asked, sets=("unseen_pair",), frozen=frozen)["unseen_pair_order"] for frozen in (False, True))
        np.testing.assert_array_equal(free[::2], frozen[::2], err_msg="without an ablation")
        assert (free != frozen).any() == layer_norm


@pytest.mark.slow
def test_terms_that_exist_are_those_that_change_something():
    """Every term that `each` asks of changes the embedding in some layer, and no other term does."""
    for variant in ({}, *NORMS, {"n_repeats": 2}, *({"positions": kind} for kind in OF_A_ROW)):
        for layers in (1, 2):
            static = config.make_static([tiny_model(n_layers_vision=layers, **variant)])
            encoder_params, shape, ids = make(n_layers=layers, **variant)
            kind = variant.get("positions", "learned")
            encoder_params = encoder_params.replace(P=encoder_params.P * positions.find(kind).has_P)  # which `shake` moves too
            encoder_params = encoder_params.replace(P=encoder_params.P.at[0].multiply(kind != "learned_no_cls"))
            embed = lambda gates, encoder_params=encoder_params, shape=shape, ids=ids: run_encoder(
                encoder_params, Interventions(gates), ids, shape, 0
            ).embedding
            whole, gates = embed(shape.unit_gates()), shape.unit_gates()
            asked = [*TERMS, "VE", "VP"]
            there = [t for t in asked if abs(embed(gates.at[:, :, GATES.index(t)].set(0)) - whole).max() > 1e-5]
            assert tuple(there) == existing(static, "vision"), f"{variant}, {layers} layers"


@pytest.mark.slow
def test_a_variant_is_saved_and_restored(tmp_path):
    """Parts that an encoder does not have are no part of its checkpoint."""
    printed = tiny_model(**FULL, norm="post", n_repeats=2, dropout=0.1, projection="text")
    wanted = config.Sweep(
        (tiny_model(**FULL), printed, tiny_model(positions="rotary", d_head=4, logit_scale=5.0)), steps=1, eval_every=1
    )
    run = untrained(*wanted.models)
    run.history = History(("loss",), [np.zeros(3, np.int64)], [np.zeros((3, 1), np.float32)])
    run.evaluated = [1] * len(run.programs)
    workdir.save(tmp_path, run)
    again = workdir.restore(tmp_path)
    assert again.sweep == wanted
    jax.tree.map(np.testing.assert_array_equal, again.states, run.states)


def test_gates_that_no_term_answers_to_are_refused():
    with pytest.raises(InputError, match=r"config.gates: 'EP=0' is not possible; expected gates of layer 0 alone"):
        config.validate_model(tiny_model(n_layers_vision=2, mlp_ratio=2, gates="EP=0"))
    config.validate_model(tiny_model(n_layers_vision=2, mlp_ratio=2, gates="vision.L0:EP=0"))
    with pytest.raises(InputError, match=r"config.positions: 'rope' is not possible"):
        config.validate_model(tiny_model(positions="rope"))
    with pytest.raises(InputError, match=r"config.d_head: 5 is not possible; expected an even number"):
        config.validate_model(tiny_model(positions="rotary", d_head=5))


@pytest.mark.slow
def test_analyses_say_where_terms_do_not_exist():
    from lrjax.analysis import decompose, values

    run = untrained(tiny_model(n_layers_vision=2, mlp_ratio=2))
    for ask in (decompose.decompose, values.values):
        with pytest.raises(InputError, match="what an MLP writes has no origin"):
            ask(run)
    with pytest.raises(InputError, match="its terms depend on the offset"):
        decompose.tables(untrained(tiny_model(positions="rotary")))
