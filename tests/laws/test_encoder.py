"""The tables of a one-block encoder are a contraction of its definition; the stream's origins add up in any depth."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conftest import shake
from lrjax.data import scenes
from lrjax.data.tasks.row import Row
from lrjax.models import encoder, lookup_tables
from lrjax.models.interventions import Interventions
from lrjax.terms import GATES

init = jax.jit(encoder.init, static_argnums=1)
ROW = Row(n_heldout=5, n_labels_max=9, L=10, relations="left")

FORMS = {
    "image": (scenes.image_template(10), False),
    "pair caption": (scenes.PAIR_CAPTION, True),
    "single caption": (scenes.SINGLE_CAPTION, True),
}


@partial(jax.jit, static_argnums=(0, 1))
def edits_of(name, n=12):
    keys = jax.random.split(jax.random.key(4), 5)
    left, right = (jax.random.randint(k, (n,), 0, 9) for k in keys[:2])
    if name == "image":
        layout = jnp.asarray(scenes.layouts(10))[jax.random.randint(keys[2], (n,), 0, 45)]
        pairs = scenes.Scene(left, right, layout[:, 0], layout[:, 1])
        singles = scenes.single_scene(left, jax.random.randint(keys[3], (n,), 0, 10), 10)
        return ROW.image_edits(jax.tree.map(lambda a, b: jnp.concatenate([a, b]), pairs, singles))
    if name == "pair caption":
        return scenes.pair_caption_edits(left, right, jax.random.randint(keys[4], (n,), 0, 2))
    return scenes.single_caption_edits(left)


def make(n_layers, template, causal, **variant):
    shape = encoder.EncoderConfig(15, len(template.tokens), n_layers, n_heads=2, d_model=16, d_embed=12, causal=causal, **variant)
    params = shake(init(jax.random.key(0), shape, 1.0, 0.8))
    gates = jax.random.uniform(jax.random.key(5), (n_layers, 2, len(GATES)))
    return shape, params, gates


def definition(params, gates, template, edits, shape, split=True):
    def one(ids):
        return encoder.run(params, Interventions(gates), ids, shape, template.readout, split=split).embedding

    return jax.vmap(one)(scenes.render(template, edits))


VARIANTS = {
    "baseline": {},
    "wide heads": {"d_head": 12},
    "rotary": {"positions": "rotary"},
    "alibi": {"positions": "alibi"},
    "LayerNorm": {"layer_norm": True},
    "MLP": {"mlp_ratio": 2},
    "LayerNorm after": {"layer_norm": True, "norm": "post"},
    "LayerNorm after, MLP": {"layer_norm": True, "norm": "post", "mlp_ratio": 2},
    "all": {"positions": "rotary", "layer_norm": True, "mlp_ratio": 4, "d_head": 6},
}
CASES = [(name, gated, "baseline") for name in FORMS for gated in (True, False)]
CASES += [(name, True, variant) for name in ("image", "pair caption") for variant in VARIANTS if variant != "baseline"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "gated", "variant"), CASES)
def test_tables_equal_the_definition_in_value_and_gradient(name, gated, variant):
    template, causal = FORMS[name]
    shape, params, gates = make(1, template, causal, **VARIANTS[variant])
    gates = gates if gated else shape.unit_gates()
    edits = edits_of(name)
    weight = jax.random.normal(jax.random.key(6), (edits.tokens.shape[1], 12))

    def by_tables(params, gates):
        return lookup_tables.encode(params, Interventions(gates), ((template, edits),), shape)[0]

    def by_definition(params, gates):
        return definition(params, gates, template, edits, shape)

    def value_and_gradient(f):
        def weighed(*arguments):
            found = f(*arguments)
            return (found * weight).sum(), found

        return jax.jit(jax.grad(weighed, argnums=(0, 1), has_aux=True))(params, gates)

    (grad_tables, tables), (grad_definition, expected) = map(value_and_gradient, (by_tables, by_definition))
    np.testing.assert_allclose(tables, expected, atol=2e-6)
    # gradients here are sums of some hundred float32 terms up to a few units
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=5e-5), grad_tables, grad_definition)


@pytest.mark.slow
@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_split_and_merged_streams_agree_at_unit_gates(n_layers):
    template, causal = FORMS["image"]
    shape, params, _ = make(n_layers, template, causal)
    edits = edits_of("image")
    split, merged = (
        jax.jit(lambda p, s=s: definition(p, shape.unit_gates(), template, edits, shape, split=s))(params) for s in (True, False)
    )
    np.testing.assert_allclose(split, merged, atol=5e-6)


def test_depth_uses_gates_in_every_layer():
    template, causal = FORMS["pair caption"]
    shape, params, _ = make(2, template, causal)
    edits, ones = edits_of("pair caption"), shape.unit_gates()
    encode = jax.jit(lambda gates: lookup_tables.encode(params, Interventions(gates), ((template, edits),), shape)[0])
    base = encode(ones)
    for layer in range(2):
        gated = encode(ones.at[layer, :, GATES.index("EP")].set(0))
        assert np.abs(gated - base).max() > 1e-3


def test_trace_has_every_block():
    template, causal = FORMS["image"]
    shape, params, gates = make(2, template, causal)
    ids = scenes.render(template, edits_of("image"))[0]
    caches = jax.jit(lambda: encoder.run(params, Interventions(gates), ids, shape, 0).caches)()
    assert [t.terms.shape for t in caches] == [(9, 2, 11, 11)] * 2
    for cache in caches:
        np.testing.assert_allclose(cache.pattern.sum(-1), 1, atol=1e-6)


def test_encode_keeps_batch_axes_and_unit_norm():
    template, causal = FORMS["image"]
    shape, params, gates = make(1, template, causal)
    flat = edits_of("image")
    shaped = jax.tree.map(lambda x: x.reshape(2, 4, 3, -1), flat)
    out = jax.jit(lambda: lookup_tables.encode(params, Interventions(gates), ((template, shaped),), shape)[0])()
    assert out.shape == (4, 3, 2, 12)
    np.testing.assert_allclose(np.linalg.norm(out, axis=-1), 1, atol=1e-6)


def test_initial_values_follow_the_contract():
    shape = encoder.EncoderConfig(2000, 11, 1, n_heads=4, d_model=128, d_embed=128, causal=False)
    params = jax.device_get(init(jax.random.key(0), shape, 0.3, 0.02))
    block = params.blocks[0]
    assert abs(params.E.std() - 0.3) < 0.005 and abs(params.P.std() - 0.02) < 0.002
    for W in (block.W_Q, block.W_K, block.W_V, block.W_O):
        assert abs(W).max() <= 128**-0.5 and abs(W.std() - (128 * 3) ** -0.5) < 1e-3
    assert abs(params.W_proj.std() - 128**-0.5) < 1e-3
    assert all((b == 0).all() for b in (block.b_Q, block.b_K, block.b_V, block.b_O))
    assert len({np.asarray(W).tobytes() for W in (block.W_Q, block.W_K, block.W_V)}) == 3


def test_initial_rows_are_drawn_per_id():
    small, large = (init(jax.random.key(0), encoder.EncoderConfig(n, 11, 1, 2, 16, 16, False), 0.3, 0.02) for n in (8, 20))
    np.testing.assert_array_equal(small.E, large.E[:8])
    np.testing.assert_array_equal(small.blocks[0].W_Q, large.blocks[0].W_Q)


def test_tokens_are_looked_up_by_number_as_by_one_hot():
    """Values and gradients, of tokens that repeat in an image, and of none (v); sums in another order."""
    v, h, S, b = 7, 2, 3, 5
    keys = jax.random.split(jax.random.key(0), 3)
    tokens = jax.random.randint(keys[0], (S, b), 0, v + 1).at[:, 0].set(2).at[0, 1].set(v)
    given = jax.random.normal(keys[1], (h, v, 4)), jax.random.normal(keys[2], (h, S, b))

    def both(way, table, masses):
        take, put = way(v)
        return take(table, tokens), put(masses, tokens)

    for ask in (both, lambda way, *given: jax.grad(lambda *x: sum((y**3).sum() for y in both(way, *x)), (0, 1))(*given)):
        chex.assert_trees_all_close(
            *(jax.jit(partial(ask, way))(*given) for way in (lookup_tables.by_number, lookup_tables.by_one_hot)),
            rtol=1e-5,
            atol=1e-5,
        )
