"""The losses of pairs, by loops: sigmoid and softmax, equal captions, hard negatives."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax.models import encoder
from lrjax.models.losses import contrastive_loss, sigmoid_loss


@pytest.fixture
def embedded():
    """6 images and their captions, hard negatives of the last 4, and which captions are the same: 1 and 4."""
    images, captions, hard_negatives = (
        encoder.l2_normalize(jax.random.normal(jax.random.key(i), (n, 5))) for i, n in enumerate((6, 6, 4))
    )
    captions = captions.at[4].set(captions[1])
    return images, captions, hard_negatives, jnp.eye(6, dtype=bool).at[1, 4].set(True).at[4, 1].set(True)


def with_and_without(embedded):
    """(same, wrong), given and not."""
    *_, hard_negatives, same = embedded
    return [(None, None), (same, None), (None, hard_negatives), (same, hard_negatives)]


def test_sigmoid_loss_asks_of_every_image_and_caption_whether_they_belong_together(embedded):
    images, captions, _, _ = embedded
    scale, bias = 1.3, -0.7
    cost = lambda image, caption, together: np.log1p(np.exp((-1 if together else 1) * (np.exp(scale) * (image @ caption) + bias)))
    for same, hard_negatives in with_and_without(embedded):
        total = 0.0
        for i, j in itertools.product(range(6), range(6)):
            if same is None or i == j or not same[i, j]:
                total += cost(images[i], captions[j], i == j)
        for k in range(0 if hard_negatives is None else 4):
            total += cost(images[2 + k], hard_negatives[k], False)
        ours = sigmoid_loss(images, captions, jnp.float32(scale), jnp.float32(bias), same, hard_negatives)
        np.testing.assert_allclose(ours, total / 6, rtol=1e-5)  # a sum of 40 float32 terms


def test_a_hard_negative_is_one_more_candidate_of_its_image(embedded):
    images, captions, _, _ = embedded
    cost = lambda own, others: np.log(np.exp([own, *others]).sum()) - own  # - log softmax
    logits = np.exp(1.3) * np.asarray(images @ captions.T, np.float64)
    for same, hard_negatives in with_and_without(embedded):
        total = 0.0
        for i in range(6):
            others = [j for j in range(6) if j != i and (same is None or not same[i, j])]
            hard = [np.exp(1.3) * images[i] @ hard_negatives[i - 2]] if hard_negatives is not None and i >= 2 else []
            total += cost(logits[i, i], [*logits[i, others], *hard]) / 2 + cost(logits[i, i], logits[others, i]) / 2
        ours = contrastive_loss(images, captions, jnp.float32(1.3), same, hard_negatives)
        np.testing.assert_allclose(ours, total / 6, rtol=1e-5)  # as above


def test_hard_negatives_raise_both_losses(embedded):
    images, captions, hard_negatives, same = embedded
    for loss in (contrastive_loss, partial(sigmoid_loss, bias=jnp.float32(-1))):
        loss = partial(loss, images, captions, jnp.float32(1.0), same=same)
        assert loss(hard_negatives=hard_negatives) > loss() + 1e-3
