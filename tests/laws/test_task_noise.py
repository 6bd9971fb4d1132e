"""Noisy captions are exchanged as often as is said; distractors come on top and know nothing."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax.data.captions import noisy
from lrjax.data.scenes import FIRST_LABEL
from tokens_read import HELD_OUT, HYPER, KEY, NOTHING, PADDED, ROWS, WORLDS, make, names, world_of

# ---- noisy captions ----


@pytest.fixture(scope="module")
def large_batch():
    """Three objects, so that there are two forms of captions: 3000 pairs and 1000 chains."""
    task = make("three", L=5)
    return jax.jit(lambda key: task.batch(key, task.splits(key), HYPER, 8000))(KEY)


@pytest.mark.slow
@pytest.mark.parametrize(("p", "exchanged"), [(0.0, False), (1.0, True)])
def test_noise_exchanges_no_caption_or_all(large_batch, p, exchanged):
    captions, hard_negatives = large_batch.captions, large_batch.hard_negatives
    expected = large_batch.replace(captions=hard_negatives, hard_negatives=captions) if exchanged else large_batch
    chex.assert_trees_all_equal(noisy(KEY, large_batch, jnp.float32(p)), expected)


def test_noise_exchanges_whole_captions_as_often_as_it_says(large_batch):
    """Each count is binomial, within 5 standard deviations. No image changes."""
    told = noisy(KEY, large_batch, jnp.float32(0.3))
    chex.assert_trees_all_equal((told.images, told.label), (large_batch.images, large_batch.label))
    for said, other, right, hard_negatives in zip(
        told.captions, told.hard_negatives, large_batch.captions, large_batch.hard_negatives, strict=True
    ):
        as_it_was, as_wrong = ((said.tokens == edits.tokens).all(0) for edits in (right, hard_negatives))
        assert (as_it_was ^ as_wrong).all() and (jnp.where(as_wrong, right.tokens, hard_negatives.tokens) == other.tokens).all()
        n = len(as_wrong)
        assert abs(int(as_wrong.sum()) - 0.3 * n) < 5 * np.sqrt(n * 0.3 * 0.7)


# ---- distractors ----


@pytest.mark.slow
def test_so_many_free_pixels_show_a_distractor(with_distractors):
    world = with_distractors
    shown = [world.batch.images, world.asked["unseen_pair"].images, world.asked["seen_pair"].swapped]
    for edits in shown:
        kinds = [pixels[(pixels < 0) & (pixels != NOTHING)] for pixels in world.look(jax.tree.map(lambda x: x[:, ::5], edits))]
        assert all(len(kind) == 3 for kind in kinds), "and none on an object: `look` finds one thing at a pixel"
        assert set(np.concatenate(kinds)) == set(range(-5, 0)), "five kinds, none of them a label"


def test_no_caption_speaks_of_distractors(with_distractors):
    pairs = with_distractors.sentences[HELD_OUT + PADDED :]
    assert all(0 <= label < HELD_OUT + PADDED for claims in pairs for label in names(claims))


def test_an_image_and_its_mirror_have_the_same_distractors(with_distractors):
    asked = with_distractors.asked["seen_pair"]
    np.testing.assert_array_equal(asked.images.tokens[2:], asked.swapped.tokens[2:])
    np.testing.assert_array_equal(asked.images.positions[2:], asked.swapped.positions[2:])


@pytest.mark.slow
def test_distractors_come_on_top_of_the_same_objects_and_captions():
    drawn = lambda task: jax.jit(lambda key: task.batch(key, task.splits(key), HYPER, 32))(KEY)
    alone, none, disturbed = (drawn(make(text)) for text in ("row", "row:distractors=0,kinds=7", "row:distractors=4,kinds=7"))
    chex.assert_trees_all_equal(alone, none)
    assert alone.images.tokens.shape == (2, 32) and disturbed.images.tokens.shape == (2 + 4, 32)
    shifted = lambda tokens: np.where(tokens >= FIRST_LABEL, tokens + 7, tokens)  # labels, after as many kinds
    np.testing.assert_array_equal(shifted(alone.images.tokens), disturbed.images.tokens[:2])
    np.testing.assert_array_equal(alone.images.positions, disturbed.images.positions[:2])
    np.testing.assert_array_equal(shifted(alone.captions[0].tokens), disturbed.captions[0].tokens)


@pytest.mark.slow
def test_distractors_of_one_object_stand_at_every_other_pixel():
    task = make("row:distractors=3")
    batch = jax.jit(lambda key: task.batch(key, task.splits(key), HYPER, 2000))(KEY)
    away = np.asarray(batch.images.positions[2:, :1000] - batch.images.positions[:1, :1000]) % 10
    counts = np.bincount(away.ravel(), minlength=10)
    assert counts[0] == 0 and (abs(counts[1:] - 1000 / 3) < 5 * np.sqrt(1000 * 1 / 3 * 2 / 3)).all(), "3 of 9 free pixels"


@pytest.mark.slow
def test_distractors_know_nothing_of_the_labels_in_their_batch():
    """Five kinds, and a second label that is one of five others: independent ones agree once in 5, within 5 standard deviations.

    A key that is drawn from twice would make them the same, in one image or between one half of a batch and the other.
    """
    task, n = make("row:distractors=1,kinds=5"), 2000
    batch = jax.jit(lambda key: task.batch(key, task.splits(key), HYPER.replace(n_labels=6), 2 * n))(KEY)
    first, _, second = batch.captions[0].tokens - task.n_first - HELD_OUT
    for half in (slice(n), slice(n, None)):
        agree = (batch.images.tokens[2, half] - FIRST_LABEL == second - (second > first)).sum()
        assert abs(int(agree) - n / 5) < 5 * np.sqrt(n * 0.2 * 0.8)


@pytest.mark.slow
@pytest.mark.parametrize("kind", WORLDS)
def test_every_token_has_its_name(kind):
    world, labels = world_of(kind), ["h1", "h2", "h3", "1", "2", "3", "4", "5", "6"]
    found, words = world.task.token_names(), ["above", "below"] if kind not in ROWS else []
    distractors = [f"distractor {i}" for i in range(1, 6)] if kind == "row, distractors" else []
    assert found[:FIRST_LABEL] == ["background", "CLS", "EOT", "in-image", "left-of", "right-of"]
    assert found[FIRST_LABEL : world.n_first] == words + distractors
    parts = [f" at {i + 1}" for i in range(world.patch**2)] if world.patch > 1 else [""]
    assert found[world.n_first :] == [label + part for label in labels for part in parts]
    assert len(found) == world.task.n_tokens and len(world.task.position_names()) == len(world.task.image.tokens)
