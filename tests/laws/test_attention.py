"""The terms are the attention: laws of `attend` against flax's and jax's own attention, on random inputs."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax.models import attention
from lrjax.models.attention import Block, project
from lrjax.models.positions import LEARNED
from lrjax.terms import GATES, ROW_CONSTANT, TERMS

attend = jax.jit(attention.attend)
T, D, H, K = 7, 24, 3, 8
ONES = jnp.ones((H, len(GATES)))
PLACES = jnp.arange(T)
MASKS = {name: LEARNED.geometry(H, K, PLACES, PLACES, name == "causal") for name in ("bidirectional", "causal")}


@pytest.fixture(scope="module")
def block():
    encoder_configs = dict(W_Q=(D, H, K), W_K=(D, H, K), W_V=(D, H, K), W_O=(H, K, D), b_Q=(H, K), b_K=(H, K), b_V=(H, K), b_O=(D,))
    keys = jax.random.split(jax.random.key(0), len(encoder_configs))
    return Block(**{n: 0.5 * jax.random.normal(k, s) for k, (n, s) in zip(keys, encoder_configs.items(), strict=True)})


@pytest.fixture(scope="module")
def residual():
    """A stream with all three origins, as after a block: the bias stream is one vector at every token."""
    x = jax.random.normal(jax.random.key(1), (3, T, D))
    return x.at[2].set(x[2, :1])


def flax_attention(block, x, mask):
    """x + flax's own multi-head attention on the same parameters."""
    names = {"query": "Q", "key": "K", "value": "V"}
    params = {long: {"kernel": getattr(block, f"W_{short}"), "bias": getattr(block, f"b_{short}")} for long, short in names.items()}
    params["out"] = {"kernel": block.W_O, "bias": block.b_O}
    return x + nn.MultiHeadDotProductAttention(num_heads=H, qkv_features=H * K).apply({"params": params}, x, mask=mask[None])


def jax_attention(block, x, mask):
    """The same through jax.nn.dot_product_attention."""
    q, k, v = (jnp.einsum("td,dhk->thk", x, getattr(block, f"W_{n}")) + getattr(block, f"b_{n}")[None] for n in "QKV")
    z = jax.nn.dot_product_attention(q[None], k[None], v[None], mask=mask[None, None])[0]
    return x + jnp.einsum("thk,hkd->td", z, block.W_O) + block.b_O[None]


@pytest.mark.slow
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("reference", [flax_attention, jax_attention])
@pytest.mark.parametrize("split", [True, False])
def test_gates_at_one_equal_plain_attention_in_value_and_gradient(block, residual, mask, reference, split):
    weight = jax.random.normal(jax.random.key(2), (T, D))

    def ours(block, residual):
        residual = residual if split else residual.sum(0, keepdims=True)
        return attend(block, ONES, residual, MASKS[mask])[0].sum(0)

    def theirs(block, residual):
        return reference(block, residual.sum(0), MASKS[mask].allowed)

    def value_and_gradient(f):
        def weighed(*arguments):
            found = f(*arguments)
            return (found * weight).sum(), found

        return jax.jit(jax.grad(weighed, argnums=(0, 1), has_aux=True))(block, residual)

    ((ours_block, ours_x), found), ((theirs_block, theirs_x), expected) = map(value_and_gradient, (ours, theirs))
    # float32: sums of a few hundred products of order 1
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-5)
    chex.assert_trees_all_close(ours_block.replace(b_K=0), theirs_block.replace(b_K=0), rtol=1e-4, atol=2e-4)
    np.testing.assert_allclose(ours_x[:2], theirs_x[:2], rtol=1e-4, atol=5e-4)
    # The bias stream is the same at every token: only the sum over tokens is a gradient of anything.
    np.testing.assert_allclose(ours_x[2].sum(0), theirs_x[2].sum(0), rtol=1e-4, atol=2e-3)
    assert (ours_block.b_K == 0).all(), "b_K's gradient is 0 exactly"
    # In a plain attention it is 0 but for rounding of sums as large as the other gradients', so their tolerance holds.
    np.testing.assert_allclose(theirs_block.b_K, 0, atol=2e-4)


@pytest.mark.parametrize("mask", MASKS)
def test_nine_terms_sum_to_qk(block, residual, mask):
    _, cache = attend(block, ONES, residual, MASKS[mask])
    x = residual.sum(0)
    q = jnp.einsum("td,dhk->thk", x, block.W_Q) + block.b_Q[None]
    k = jnp.einsum("td,dhk->thk", x, block.W_K) + block.b_K[None]
    expected = jnp.einsum("qhk,thk->hqt", q, k) / np.sqrt(K)
    assert cache.terms.shape == (9, H, T, T)
    np.testing.assert_allclose(cache.terms.sum(0), expected, rtol=1e-5, atol=2e-5)


def test_each_term_is_the_product_it_names(block, residual):
    """From the first block, where the streams are E, P and nothing: written out for EP, PE and BP."""
    residual = residual.at[2].set(0)
    terms = dict(zip(TERMS, attend(block, ONES, residual, MASKS["causal"])[1].terms, strict=True))
    E, P = residual[0], residual[1]
    for h in range(H):
        W = block.W_Q[:, h] @ block.W_K[:, h].T / np.sqrt(K)
        np.testing.assert_allclose(terms["EP"][h], E @ W @ P.T, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(terms["PE"][h], P @ W @ E.T, rtol=1e-4, atol=1e-4)
        bias = block.b_Q[h] @ block.W_K[:, h].T @ P.T / np.sqrt(K)
        np.testing.assert_allclose(terms["BP"][h], jnp.broadcast_to(bias, (T, T)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mask", MASKS)
def test_row_constant_terms_change_nothing(block, residual, mask):
    """EB, PB, BB are one number along a row: softmax of scores with them all is the pattern without; their gates are inert."""
    _, cache = attend(block, ONES, residual, MASKS[mask])
    for term in ROW_CONSTANT:
        values = cache.terms[TERMS.index(term)]
        np.testing.assert_allclose(values, values[:, :, :1].repeat(T, 2), atol=1e-5)
    full = jax.nn.softmax(jnp.where(MASKS[mask].allowed, cache.terms.sum(0), -jnp.inf), -1)
    np.testing.assert_allclose(full, cache.pattern, atol=1e-5)
    zeroed = ONES.at[:, [GATES.index(t) for t in ROW_CONSTANT]].set(0)
    out = attend(block, zeroed, residual, MASKS[mask])[0]
    np.testing.assert_array_equal(out, attend(block, ONES, residual, MASKS[mask])[0])


@pytest.mark.parametrize("term", [t for t in TERMS if t not in ROW_CONSTANT])
def test_a_gate_multiplies_its_term_in_its_head(block, residual, term):
    gates = ONES.at[1, GATES.index(term)].set(0.3)
    _, base = attend(block, ONES, residual, MASKS["bidirectional"])
    _, gated = attend(block, gates, residual, MASKS["bidirectional"])
    change = gated.attn_scores - base.attn_scores
    np.testing.assert_allclose(change[1], -0.7 * base.terms[TERMS.index(term)][1], atol=2e-5)
    np.testing.assert_array_equal(change[jnp.array([0, 2])], 0)


def test_a_pruned_head_writes_nothing_and_b_o_stays(block, residual):
    values = [GATES.index(v) for v in ("VE", "VP", "VB")]
    out, _ = attend(block, ONES.at[:, values].set(0), residual, MASKS["causal"])
    np.testing.assert_allclose(out.sum(0), residual.sum(0) + block.b_O[None], atol=1e-5)


def test_values_are_split_by_origin(block, residual):
    """What VE, VP, VB write adds up to what the block writes; each into the stream of its origin."""
    full, cache = attend(block, ONES, residual, MASKS["causal"])
    v = project(residual, block.W_V, block.b_V)
    for o in range(3):
        z = jnp.einsum("hqt,thk->qhk", cache.pattern, v[o])
        written = jnp.einsum("qhk,hkd->qd", z, block.W_O) + (block.b_O[None] if o == 2 else 0)
        np.testing.assert_allclose(full[o] - residual[o], written, atol=2e-5)


def test_causal_mask_hides_the_future(block, residual):
    later = residual.at[:, -1].add(1.0)
    a, b = (attend(block, ONES, x, MASKS["causal"])[0] for x in (residual, later))
    np.testing.assert_array_equal(a[:, :-1], b[:, :-1])
    assert not np.allclose(a[:, -1], b[:, -1])


@pytest.mark.parametrize("n_queries", [1, 4])
def test_sums_equal_products_in_value_and_gradient(monkeypatch, n_queries):
    """A platform takes one or the other for a few tokens (q, k of two origins, as scores have them; v of three)."""
    keys = jax.random.split(jax.random.key(3), 4)
    q, k = jax.random.normal(keys[0], (2, n_queries, H, K)), jax.random.normal(keys[1], (2, 4, H, K))
    pattern, v = jax.random.uniform(keys[2], (H, n_queries, 4)), jax.random.normal(keys[3], (3, 4, H, K))

    def found(way):
        monkeypatch.setattr(attention, "_product_or_sums", lambda product, sums, *_: {"product": product, "sums": sums}[way])
        computed = [jax.vjp(attention.scores_by_head, q, k), jax.vjp(attention.read_by_head, pattern, v)]
        return [(value, gradient(jnp.cos(value))) for value, gradient in computed]

    # float32: sums of at most 2 x 8 products of order 1
    chex.assert_trees_all_close(found("sums"), found("product"), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("n_queries", "n_keys", "products"), [(1, 4, ()), (4, 4, ("cpu",)), (9, 9, ("cpu", "tpu"))])
def test_a_platform_takes_sums_for_a_few_tokens(n_queries, n_keys, products):
    """In the forward pass of many sequences and in its gradient. One query is summed everywhere; a CPU multiplies several."""
    q, k = jnp.zeros((5, 1, n_queries, H, K)), jnp.zeros((5, 1, n_keys, H, K))
    gradient = jax.jit(jax.grad(lambda q, k: (jax.vmap(attention.scores_by_head)(q, k) ** 2).sum(), (0, 1)))
    for platform in ("cpu", "tpu"):
        lowered = gradient.trace(q, k).lower(lowering_platforms=(platform,)).as_text()
        assert ("dot_general" in lowered) == (platform in products), platform
