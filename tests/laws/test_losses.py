import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrjax.models.encoder import l2_normalize
from lrjax.models.losses import contrastive_loss


@pytest.fixture
def embeddings():
    return [l2_normalize(jax.random.normal(jax.random.key(i), (6, 4))) for i in range(2)]


def test_it_is_the_mean_of_two_cross_entropies(embeddings):
    images, captions = embeddings
    logits = np.exp(2.0) * images @ captions.T
    expected = [optax.softmax_cross_entropy_with_integer_labels(x, jnp.arange(6)).mean() for x in (logits, logits.T)]
    np.testing.assert_allclose(contrastive_loss(images, captions, jnp.float32(2.0)), np.mean(expected), rtol=1e-6)


def test_indistinguishable_embeddings_cost_log_b():
    same = l2_normalize(jnp.ones((6, 4)))
    np.testing.assert_allclose(contrastive_loss(same, same, jnp.float32(3.0)), np.log(6), rtol=1e-6)


def test_masked_repeats_are_no_negatives(embeddings):
    """Two rows with one caption: with the mask the loss is as if each saw a batch without the other."""
    images, captions = embeddings
    captions = captions.at[1].set(captions[0])
    same = jnp.eye(6, dtype=bool).at[0, 1].set(True).at[1, 0].set(True)
    logits = np.array(np.exp(2.0) * images @ captions.T, np.float64)
    losses = []
    for axis in (0, 1):
        for b in range(6):
            others = [c for c in range(6) if c == b or not same[b, c]]
            row = logits[b, others] if axis else logits[others, b]
            losses.append(np.log(np.exp(row).sum()) - logits[b, b])
    np.testing.assert_allclose(contrastive_loss(images, captions, jnp.float32(2.0), same), np.mean(losses), rtol=1e-5)
