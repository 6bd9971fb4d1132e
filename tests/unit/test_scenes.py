import jax.numpy as jnp
import numpy as np
import pytest

from lrjax.data import scenes, text
from lrjax.data.scenes import BACKGROUND, CLS, EOT, FIRST_LABEL, IN_IMAGE, LEFT_OF, PAIR_CAPTION, RIGHT_OF, SINGLE_CAPTION, Scene
from lrjax.data.tasks.row import Row

ROW = Row(n_heldout=5, n_labels_max=9, L=10, relations="left")


def test_layouts_are_all_pairs_of_places_in_order():
    assert len(scenes.layouts(10)) == 45
    assert all(i < j for i, j in scenes.layouts(10))
    assert len({tuple(x) for x in scenes.layouts(10)}) == 45


def test_image_has_cls_then_pixels():
    scene = Scene(*(jnp.array(x) for x in (7, 3, 2, 8)))
    ids = scenes.render(scenes.image_template(10), ROW.image_edits(scene))
    expected = [CLS] + [BACKGROUND] * 10
    expected[1 + 2], expected[1 + 8] = FIRST_LABEL + 7, FIRST_LABEL + 3
    assert ids.tolist() == expected


@pytest.mark.parametrize("place", range(10))
def test_single_scene_has_one_object_wherever_it_is(place):
    scene = scenes.single_scene(jnp.array(4), jnp.array(place), 10)
    ids = scenes.render(scenes.image_template(10), ROW.image_edits(scene)).tolist()
    assert ids[1 + place] == FIRST_LABEL + 4
    assert ids.count(BACKGROUND) == 9


def test_captions_of_both_forms():
    single = scenes.render(SINGLE_CAPTION, scenes.single_caption_edits(jnp.array(2)))
    assert single.tolist() == [FIRST_LABEL + 2, IN_IMAGE, EOT, BACKGROUND]
    left = scenes.render(PAIR_CAPTION, scenes.pair_caption_edits(jnp.array(5), jnp.array(6), jnp.array(0)))
    right = scenes.render(PAIR_CAPTION, scenes.pair_caption_edits(jnp.array(5), jnp.array(6), jnp.array(1)))
    assert left.tolist() == [FIRST_LABEL + 5, LEFT_OF, FIRST_LABEL + 6, EOT]
    assert right.tolist() == [FIRST_LABEL + 6, RIGHT_OF, FIRST_LABEL + 5, EOT]


def test_fill_batches():
    left, right = jnp.array([[5, 6], [7, 8]]), jnp.array([[6, 5], [5, 5]])
    ids = scenes.render(PAIR_CAPTION, scenes.pair_caption_edits(left, right, jnp.zeros_like(left)))
    assert ids.shape == (2, 2, 4)
    np.testing.assert_array_equal(ids[..., 0] - FIRST_LABEL, left)


def test_people_read_scenes_and_captions():
    scene = Scene(*(jnp.array(x) for x in (5 + 2, 5 + 6, 2, 6)))  # labels "3" and "7"
    assert text.write_scene(ROW, (scene.left, scene.right), (scene.i, scene.j)) == ". . 3 . . . 7 . . ."
    caption = scenes.render(PAIR_CAPTION, scenes.pair_caption_edits(scene.left, scene.right, jnp.array(0)))
    assert text.write_caption(ROW, caption) == "3 is on the left of 7"
    caption = scenes.render(PAIR_CAPTION, scenes.pair_caption_edits(scene.left, scene.right, jnp.array(1)))
    assert text.write_caption(ROW, caption) == "7 is on the right of 3"
    heldout = scenes.render(SINGLE_CAPTION, scenes.single_caption_edits(jnp.array(0)))
    assert text.write_caption(ROW, heldout) == "h1 is in the image"
    assert text.write_scene(ROW, (4,), (9,)) == ". . . . . . . . . h5"


def test_swapping_twice_is_the_same_scene():
    scene = Scene(*(jnp.array(x) for x in (7, 3, 2, 8)))
    assert scenes.swapped(scenes.swapped(scene)) == scene
    assert scenes.swapped(scene).left == 3 and scenes.swapped(scene).i == 2
