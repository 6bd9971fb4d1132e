"""What a task cannot do is named with its value and with what is possible."""

import pytest

from lrjax import config
from lrjax.data import tasks
from lrjax.errors import InputError
from tokens_read import WORLDS


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"task": "gird"},
            f"config.task: 'gird': 'gird' does not exist (did you mean 'grid'?); expected one of {', '.join(tasks.names())}",
        ),
        ({"task": "pairs"}, f"config.task: 'pairs': 'pairs' does not exist; expected one of {', '.join(tasks.names())}"),
        (
            {"task": "grid:hight=4"},
            "config.task: 'grid:hight=4': no option 'hight' (did you mean 'height'?); expected some of height, width, size, patch",
        ),
        ({"task": "three:L=4"}, "config.task: 'three:L=4': no option 'L'; three has no options"),
        ({"task": "grid:size=big"}, "config.task: 'grid:size=big': size='big' is not possible; expected a whole number, 0..9999"),
        ({"task": "grid:size=-1"}, "config.task: 'grid:size=-1': size='-1' is not possible; expected a whole number, 0..9999"),
        ({"task": "grid:"}, "config.task: 'grid:': no option ''; expected some of height, width, size, patch"),
        ({"task": "grid:size"}, "config.task: 'grid:size': size='' is not possible; expected a whole number, 0..9999"),
        (
            {"task": "grid:size=3"},
            "config.task: 'grid:size=3': size=3 is not possible; expected 1..8, at most half of height and of width",
        ),
        ({"task": "grid:patch=3"}, "config.task: 'grid:patch=3': height=4 is not possible; expected 2..32, a multiple of patch=3"),
        ({"task": "grid:patch=0"}, "config.task: 'grid:patch=0': patch=0 is not possible; expected 1..8"),
        (
            {"task": "grid:height=1"},
            "config.task: 'grid:height=1': height=1 is not possible; expected 2..32, a multiple of patch=1",
        ),
        (
            {"task": "grid:height=32,width=32"},
            "config.task: 'grid:height=32,width=32': height=32 is not possible; "
            "expected a smaller grid: it has 507904 layouts, of at most 4096",
        ),
        (
            {"task": "row:distractors=9"},
            "config.task: 'row:distractors=9': distractors=9 is not possible; "
            "expected 0..8, the pixels that two objects leave free",
        ),
        ({"task": "row:kinds=0"}, "config.task: 'row:kinds=0': kinds=0 is not possible; expected 1..100"),
        (
            {"relations": "left+above"},
            "config.relations: 'left+above' is not possible; expected 'left' or 'left+right' in task 'row'",
        ),
        (
            {"task": "three", "relations": "left+right"},
            "config.relations: 'left+right' is not possible; expected 'left' in task 'three'",
        ),
        (
            {"task": "grid:height=2,width=2", "n2": 4, "n1": 1},
            "config.n2: 4 is not possible; expected 1..3, so that some of the 4 layouts are held out",
        ),
        (
            {"task": "three", "n2": 120},
            "config.n2: 120 is not possible; expected 1..119, so that some of the 120 layouts are held out",
        ),
        (
            {"task": "grid", "n1": 16},
            "config.n1: 16 is not possible; expected 1..15, so that some of the 16 positions are held out",
        ),
        (
            {"task": "three", "n_labels": 2},
            "config.n_labels: 2 is not possible; expected 3 or more labels, which stand together in task 'three'",
        ),
        (
            {"task": "three", "n_heldout": 2},
            "config.n_heldout: 2 is not possible; expected 3 or more labels, which stand together in task 'three'",
        ),
        ({"pair_loss": "hinge"}, "config.pair_loss: 'hinge' is not possible; expected 'softmax' or 'sigmoid'"),
        ({"caption_noise": 1.5}, "config.caption_noise: 1.5 is not possible; expected a number in [0, 1]"),
        ({"contrastive": 0.0}, "config.contrastive: 0.0 is not possible; expected 1 where there is no supervision"),
    ],
    ids=lambda x: ",".join(f"{name}={value}" for name, value in x.items()) if isinstance(x, dict) else "",
)
def test_what_is_not_possible_is_named_with_its_value_and_what_is(changes, says):
    with pytest.raises(InputError) as error:
        config.validate_model(config.Model(**changes))
    assert str(error.value) == says


@pytest.mark.parametrize("text", ["grid", "grid:size=2", "grid:patch=2", "row:distractors=1"])
def test_supervision_is_of_rows_that_show_objects_of_one_token_each_and_nothing_else(text):
    expected = "0: the head finds objects of one token each, in a row, and no others"
    with pytest.raises(InputError) as error:
        config.validate_model(config.Model(task=text, supervision=1.0))
    assert str(error.value) == f"config.supervision: 1.0 is not possible; expected {expected}"


def test_every_kind_of_task_is_possible_as_it_stands():
    for text, relations, *_ in WORLDS.values():
        config.validate_model(config.Model(task=text, relations=relations))
