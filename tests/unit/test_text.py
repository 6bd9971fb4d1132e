"""Scenes and captions as people write them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrjax import config
from lrjax.data import text
from lrjax.data.scenes import render
from lrjax.errors import InputError

WORLDS = {
    ("row", "left"): "left",
    ("row:distractors=2", "left+right"): "left+right",
    ("grid", "left+above"): "left+above",
    ("grid:height=6,width=4,size=2", "all"): "all",
    ("three", "left"): "left",
    ("nearer", "nearer"): "nearer",
}


def world(name="row", relations="left", **more):
    return config.make_static([config.Model(task=name, relations=relations, n_labels=6, n1=2, n2=3, **more)]).task_object


@pytest.mark.parametrize(("name", "relations"), WORLDS)
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_a_scene_that_is_written_is_read_again(name, relations, data):
    task = world(name, relations)
    together = data.draw(st.sampled_from((1, task.objects_per_scene)))
    labels = data.draw(st.permutations(range(task.n_heldout + 6)))[:together]
    places = (
        task.layouts[data.draw(st.integers(0, len(task.layouts) - 1))]
        if together > 1
        else [data.draw(st.integers(0, task.n_places - 1))]
    )
    assert text.read_scene(task, text.write_scene(task, labels, places), 6) == (tuple(labels), tuple(int(p) for p in places))


def test_a_scene_is_what_the_encoder_reads():
    task = world()
    labels, places = text.read_scene(task, "h1 . . 2 . . . . . .", 6)
    ids = np.asarray(render(task.image, task.render(labels, places)))
    names = task.token_names()
    assert [names[token] for token in ids] == ["CLS", "h1", "background", "background", "2"] + ["background"] * 6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "relations", "scene", "true", "swapped"),
    [
        ("row", "left", "h1 . . 2 . . . . . .", ["h1 is on the left of 2"], ["2 is on the left of h1"]),
        ("row", "left", ". . 2 . . . . . . .", ["2 is in the image"], []),
        ("grid", "left+above", "3 . . . / . . . . / . . h2 . / . . . .", ["3 is on the left of h2", "3 is above h2"], None),
        ("nearer", "nearer", "1 . . . 2 . . . . .", ["2 is nearer to the middle than 1"], ["1 is nearer to the middle than 2"]),
        (
            "three",
            "left",
            "1 . 2 . 3 . . . . .",
            [
                "1 is on the left of 2",
                "2 is on the left of 3",
                "1 is on the left of 3",
                "1 is on the left of 2, which is on the left of 3",
            ],
            None,
        ),
    ],
)
def test_what_is_true_of_a_scene_in_words(name, relations, scene, true, swapped):
    task = world(name, relations)
    model = config.Model(task=name, relations=relations, n_labels=6, n1=2, n2=3)
    captions = text.captions_of(task, task.captions(config.make_hyper(model)))
    numbers = task.true_and_swapped(*text.read_scene(task, scene, 6))
    assert [captions[i] for i in numbers[0]] == true
    if swapped is not None:
        assert [captions[i] for i in numbers[1]] == swapped


def test_a_caption_of_four_tokens_reads_as_one_of_three():
    task = world(single_caption_length=4)
    captions = text.captions_of(task, task.captions(config.make_hyper(config.Model(n_labels=6))))
    assert captions[:2] == ["h1 is in the image", "h2 is in the image"]


@pytest.mark.parametrize(
    ("scene", "told"),
    [
        ("h1 . h2", ["3 cells", "10 cells"]),
        ("h1 . . h9 . . . . . .", ["'h9' is no label; expected h1..h5 (held out)"]),
        ("h1 . . 7 . . . . . .", ["'7'", "1..6"]),
        (". . . . . . . . . .", ["0 labels"]),
        ("1 2 3 . . . . . . .", ["3 labels"]),
        ("1 1 . . . . . . . .", ["'1' fills 2 cells"]),
    ],
)
def test_a_scene_that_does_not_exist_is_refused(scene, told):
    with pytest.raises(InputError) as error:
        text.read_scene(world(), scene, 6)
    assert all(part in str(error.value) for part in [f"scene={scene!r}", *told])
