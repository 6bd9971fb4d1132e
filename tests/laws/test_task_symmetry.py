"""Mirror images and exchanged objects turn what is said; tokens of several pixels are what they show."""

import dataclasses
import itertools
from functools import partial

import jax
import numpy as np
import pytest

from compiled import init_encoder
from conftest import shake
from lrjax.data import scenes
from lrjax.data.scenes import Scene
from lrjax.models import encoder, lookup_tables
from lrjax.models.interventions import Interventions
from lrjax.terms import GATES
from tokens_read import BATCH, make, says, sets_of_several, world_of

# ---- symmetry ----


def test_exchanged_objects_make_what_was_true_false_and_one_wrong_caption_true(world):
    """Of pairs that is the only wrong one; of chains the reversed one."""
    for name in sets_of_several(world):
        reverse = world.task.HARD_NEGATIVES[name].index("zyx") if name in world.task.HARD_NEGATIVES else 0
        for boxes, swapped, true, hard_negatives, is_true in world.among(name):
            assert sorted(boxes.values()) == sorted(swapped.values()) and set(boxes) == set(swapped)
            for number, others, held in zip(true, hard_negatives.T, is_true, strict=True):
                assert not says(world.sentences[number], swapped)
                right = [says(world.sentences[other], swapped) for other in others]
                assert right == [held and way == reverse for way in range(len(others))]


@pytest.mark.slow
@pytest.mark.parametrize(("axis", "exchanged"), [(1, ("left", "right")), (0, ("above", "below"))])
def test_reflection_of_a_grid_exchanges_the_words_of_its_axis_and_keeps_the_others(axis, exchanged):
    """Pixels in reverse order along an axis, scene by scene; where a word holds, its labels are said in the other order, or not."""
    task = make("grid:height=6,width=5,size=2", "all")
    i, j = task.layouts.T
    corners = task.corners.copy()
    corners[:, axis] = (6, 5)[axis] - 2 - corners[:, axis]
    reflected = lambda place: (corners @ (4, 1))[place]  # 4 places in a row
    a, b = np.zeros_like(i), np.ones_like(i)
    turned = reflected(i) > reflected(j)  # what is read first now was read second
    here, there = (
        Scene(a, b, i, j),
        Scene(np.where(turned, b, a), np.where(turned, a, b), *np.sort([reflected(i), reflected(j)], 0)),
    )
    pixels = lambda scene: np.asarray(scenes.render(task.image, task.image_edits(scene)))[:, 1:].reshape(-1, 6, 5)
    np.testing.assert_array_equal(pixels(there), np.flip(pixels(here), 1 + axis))
    (first, second, is_true), (first_there, second_there, holds_there) = map(task.relations_of, (here, there))
    np.testing.assert_array_equal(is_true, holds_there)
    for word, name in enumerate(task.words):
        said, held = (second_there, first_there) if name in exchanged else (first_there, second_there), is_true[word]
        np.testing.assert_array_equal(first[word][held], said[0][word][held])
        np.testing.assert_array_equal(second[word][held], said[1][word][held])


@pytest.mark.parametrize("text", ["row", "nearer"])
def test_reflection_of_a_row_exchanges_who_is_left_and_not_who_is_nearer(text):
    """Pixels in reverse order, scene by scene; the words are said of the same labels then, in the other order or in the same."""
    task = make(text, "nearer" if text == "nearer" else "left+right")
    i, j = task.layouts.T
    a, b = np.zeros_like(i), np.ones_like(i)
    here, there = Scene(a, b, i, j), Scene(b, a, task.L - 1 - j, task.L - 1 - i)
    tokens = lambda scene: {(t, p) for t, p in zip(*map(np.ravel, dataclasses.astuple(task.image_edits(scene))), strict=True)}
    reverse = lambda shown: {(token, task.L + 1 - position) for token, position in shown}
    for n in range(len(i)):
        one = lambda scene, n=n: jax.tree.map(lambda x: x[n : n + 1], scene)
        assert tokens(one(there)) == reverse(tokens(one(here)))
    (first, second, is_true), (first_there, second_there, holds_there) = map(task.relations_of, (here, there))
    expected = (first, second) if text == "nearer" else (second, first)
    for found, known in zip((first_there, second_there, holds_there), (*expected, is_true), strict=True):
        np.testing.assert_array_equal(found, known)


def test_triples_are_asked_of_in_layouts_and_their_mirror_images():
    task = make("three")
    layouts = {tuple(layout) for layout in task.eval_layouts.tolist()}
    assert layouts == {tuple(task.L - 1 - place for place in layout[::-1]) for layout in layouts} and len(layouts) == 20


def test_reflection_of_three_objects_turns_every_chain_and_pair():
    """Pixels in reverse order are the image of the labels in reverse order, of which the reversed captions are true."""
    world = world_of("three")
    image = {}  # of each unseen triple, by what is seen at every pixel -> its captions
    asked = world.asked["unseen_chain"]
    pixels = np.asarray(scenes.render(world.task.image, asked.images))[:, 1:]
    for seen, number in zip(pixels, asked.true[0] + asked.candidates[0], strict=True):
        image[tuple(seen.tolist())] = world.sentences[number]
    for seen, chain in image.items():
        assert image[seen[::-1]] == [(b, word, a) for a, word, b in reversed(chain)]


def test_an_object_fills_so_many_pixels_of_the_patches_that_show_it():
    """By counting, over all its places: in patches of 2 a square of 2 fills 1.96 of 4 on average, one that is aligned all 4."""
    for size, patch in ((1, 1), (3, 1), (1, 2), (2, 2), (3, 3), (2, 3)):
        task = make(f"grid:height=6,width=12,size={size},patch={patch}")
        counts = []
        for y, x in itertools.product(range(6 - size + 1), range(12 - size + 1)):
            grid = np.zeros((6, 12))
            grid[y : y + size, x : x + size] = 1
            in_patch = grid.reshape(6 // patch, patch, 12 // patch, patch).sum((1, 3))
            counts += in_patch[in_patch > 0].tolist()
        np.testing.assert_allclose(task.filled, np.mean(counts))


# ---- tokens of several pixels, objects of several tokens ----


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["large objects", "patches of 3"])
def test_tables_equal_the_definition_in_value_and_gradient(kind):
    world = world_of(kind)
    template, n_tokens = world.task.image, world.task.n_tokens
    shape = encoder.EncoderConfig(n_tokens, len(template.tokens), 1, n_heads=2, d_model=16, d_embed=12, causal=False)
    params = shake(init_encoder(jax.random.key(0), shape, 1.0, 0.8))
    gates = jax.random.uniform(jax.random.key(5), (1, 2, len(GATES)))
    images = jax.tree.map(lambda x: x[:, ::4], world.batch.images)  # of one object and of two
    weight = jax.random.normal(jax.random.key(6), (BATCH // 4, 12))

    def by_tables(params, gates):
        return lookup_tables.encode(params, Interventions(gates), ((template, images),), shape)[0]

    def by_definition(params, gates):
        one = lambda ids: encoder.run(params, Interventions(gates), ids, shape, template.readout).embedding
        return jax.vmap(one)(scenes.render(template, images))

    def value_and_gradient(f):
        return jax.jit(jax.grad(lambda *a: (((y := f(*a)) * weight).sum(), y), argnums=(0, 1), has_aux=True))(params, gates)

    (grad_tables, tables), (grad_definition, expected) = map(value_and_gradient, (by_tables, by_definition))
    np.testing.assert_allclose(tables, expected, atol=2e-6)
    # gradients here are sums of some hundred float32 terms up to a few units
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=5e-5), grad_tables, grad_definition)


@pytest.mark.parametrize("kind", ["row, distractors", "large objects", "patches", "patches of 3"])
def test_filled_ids_hold_every_slot_where_it_is_and_nothing_else(kind):
    world, (CLS, BACKGROUND) = world_of(kind), (1, 0)
    filled = np.asarray(jax.jit(partial(scenes.render, world.task.image))(world.batch.images))
    for sequence, tokens, positions in zip(filled, world.batch.images.tokens.T, world.batch.images.positions.T, strict=True):
        expected = [[CLS], *([BACKGROUND] for _ in sequence[1:])]
        for token, position in zip(tokens.tolist(), positions.tolist(), strict=True):
            if token >= 0:
                expected[position] = [*expected[position], token] if world.patch > 1 else [token]
        assert [sorted(ids[ids >= 0].tolist()) for ids in map(np.atleast_1d, sequence)] == [sorted(ids) for ids in expected]
