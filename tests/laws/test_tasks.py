"""Tasks: what is said is true of what is seen; what is trained on, and what is held out."""

import itertools
import re
from functools import partial

import chex
import jax
import numpy as np
import pytest

from conftest import tiny_model
from lrjax import config
from lrjax.data import tasks
from lrjax.data.tasks import nearer
from lrjax.errors import InputError
from lrjax.models import clip
from lrjax.models.interventions import ModelInterventions
from lrjax.registry import resolve
from lrjax.training import retrieval
from tokens_read import BATCH, HELD_OUT, HYPER, KEY, N1, N2, PADDED, STRICTLY, N, make, names, says

# ---- whatever the task ----


@pytest.mark.slow
@pytest.mark.parametrize("name", tasks.names())
def test_what_holds_of_every_task_in_the_folder(name):
    """Splits are orders; an image's captions are of its labels, and exist; the wrong ones are others, of the same labels; in the
    mirror image labels have changed places, and nothing else has. A new file of lrjax/data/tasks is asked this without a word here.
    """
    kind = resolve(tasks.TASKS[name])
    task = make(name, list(kind.RELATIONS)[-1])

    @jax.jit
    def draw(key):
        splits = task.splits(key)
        return splits, task.eval_sets(key, splits, HYPER, False), task.captions(HYPER), task.batch(key, splits, HYPER, BATCH)

    splits, asked, captions, batch = jax.device_get(draw(KEY))
    np.testing.assert_array_equal(np.sort(splits.positions, -1)[0], np.arange(task.n_places))
    assert set(asked) == set(task.SETS)
    for name, q in asked.items():
        named = lambda numbers, q=q: [set(labels) for labels in captions.names[:, numbers + q.candidates[0]].T.tolist()]
        for r, (true, is_true) in enumerate(zip(q.true, q.is_true, strict=True)):
            asks = is_true & (q.weight > 0)
            shown = [set(labels) for labels in q.labels[:, asks].T.tolist()]
            assert all(map(set.issubset, named(true[asks]), shown)) and captions.exists[true[asks] + q.candidates[0]].all()
            for hard_negatives in q.hard_negatives[:, r] if name != "single" else ():
                assert named(true[asks]) == named(hard_negatives[asks]) and (true != hard_negatives)[asks].all()
        for part in ("tokens", "positions"):
            here, there = (np.sort(getattr(images, part), 0) for images in (q.images, q.swapped))
            np.testing.assert_array_equal(here, there)
    for said, hard_negatives in zip(batch.captions, batch.hard_negatives, strict=True):
        np.testing.assert_array_equal(np.sort(said.tokens, 0), np.sort(hard_negatives.tokens, 0))
        assert (said.tokens != hard_negatives.tokens).any(0).all(), "with its labels exchanged a caption is another"


@pytest.mark.slow
@pytest.mark.parametrize("name", tasks.names())
def test_no_row_is_read_of_numbers_that_are_stacked_and_reshaped(name):
    """For an NVIDIA GPU, XLA (jaxlib 0.10.2) may put such a reading into a Triton kernel: a slice, of one row, of a reshape of a
    concatenate. The parts of that concatenate then get tiles of different shapes, and the evaluation program does not compile:
    'scf.if' op ... tensor<1x1x1x1xi32> should match ... tensor<1x1x1x2xi32>.
    """
    relations = list(resolve(tasks.TASKS[name]).RELATIONS)[-1]
    model = tiny_model(task=name, relations=relations)
    static, hyper = config.make_static([model]), config.make_hyper(model)
    splits, params = jax.eval_shape(lambda hyper: (clip.model_splits(static, hyper), clip.init_clip(static, hyper)), hyper)
    program = jax.jit(partial(retrieval.evaluate, static, exhaustive=True, split=False))
    text = program.lower(hyper, splits, params, ModelInterventions()).as_text()
    stacks = 0
    for function in text.split("func.func")[1:]:
        stacked = set(re.findall(r"(%\w+) = stablehlo\.concatenate .*i32>$", function, re.M))
        reshaped = {out for out, of in re.findall(r"(%\w+) = stablehlo\.reshape (%\w+) ", function) if of in stacked}
        assert [line for line, of in re.findall(r"(%\w+ = stablehlo\.slice (%\w+) .*)", function) if of in reshaped] == []
        stacks += len(stacked)
    assert stacks, "this jax writes programs in another way: how does a concatenate look in them?"


@pytest.mark.parametrize("word", ["clockwise", "above"])
def test_a_word_without_a_token_is_refused(monkeypatch, word):
    """On a row the token of "above" is the first label's."""
    monkeypatch.setattr(nearer.Nearer, "RELATIONS", {"mine": (word,)})
    with pytest.raises(
        InputError, match=f"config.relations: 'mine': task 'nearer' has no token for '{word}'; expected words of left, right"
    ):
        make("nearer", "mine")


# ---- captions ----


def test_every_caption_of_a_batch_is_true_and_with_its_labels_exchanged_false(world):
    images = world.seen(world.batch.images)[BATCH // 2 :]
    said, hard_negatives = world.told(world.batch.captions), world.told(world.batch.hard_negatives)
    assert len(images) == len(said) == len(hard_negatives)
    for boxes, right, other in zip(images, said, hard_negatives, strict=True):
        assert says(right, boxes) and not says(other, boxes) and names(right) == names(other) <= set(boxes)


def test_every_word_is_said(world):
    words = {word for claims in world.told(world.batch.captions) for _, word, _ in claims}
    assert words == ({"left", "right", "above", "below"} if world.relations == "all" else set(world.relations.split("+")))


def test_half_a_batch_shows_one_object_the_rest_all_of_them(world):
    images = world.seen(world.batch.images)
    assert [list(boxes) for boxes in images[: BATCH // 2]] == [[label] for label in world.batch.label]
    assert all(len(boxes) == world.objects for boxes in images[BATCH // 2 :])


def test_a_one_object_caption_names_the_object(world):
    """And with the same token as captions of several."""
    assert world.sentences[: HELD_OUT + PADDED] == [[(label, "in", label)] for label in range(HELD_OUT + PADDED)]


def test_one_object_is_of_any_label_and_several_are_never_held_out(world):
    images = world.seen(world.batch.images)
    shown = [{label for boxes in half for label in boxes} for half in (images[: BATCH // 2], images[BATCH // 2 :])]
    assert shown == [set(range(HELD_OUT + N)), set(range(HELD_OUT, HELD_OUT + N))], "and never one that this model does not have"


def test_layouts_are_all_in_which_something_can_be_said(world):
    """Against all ways to place so many squares, in reading order, one strictly beside another in a relation that is told."""
    rows, columns = (side - world.size + 1 for side in (world.height, world.width))
    words = world.task.words
    box = lambda place: (place // columns, place // columns + world.size - 1, place % columns, place % columns + world.size - 1)
    told = lambda a, b: any(STRICTLY[word](box(a), box(b)) or STRICTLY[word](box(b), box(a)) for word in words)
    every = itertools.combinations(range(rows * columns), world.objects)
    expected = [places for places in every if all(told(a, b) for a, b in itertools.combinations(places, 2))]
    assert [tuple(places) for places in world.task.layouts.tolist()] == expected
    assert world.task.n_layouts == len(expected) and world.task.n_places == rows * columns


# ---- splits ----


def test_every_group_of_labels_orders_all_layouts_in_its_own_way(world):
    orders = world.orders
    assert all(sorted(order) == sorted(map(tuple, world.task.layouts.tolist())) for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) == len(orders)


def test_a_batch_shows_trained_places_and_layouts_only(world):
    images, orders = world.seen(world.batch.images), world.orders
    for boxes in images[: BATCH // 2]:
        (label,), (place,) = world.group(boxes)
        assert place in world.splits.positions[label, :N1].tolist()
    for boxes in images[BATCH // 2 :]:
        labels, places = world.group(boxes)
        assert places in orders[labels][:N2]


def test_questions_show_held_out_places_and_layouts_only(world):
    orders = world.orders
    shown = lambda name: jax.tree.map(lambda x: x[:, world.asked[name].weight > 0], world.asked[name].images)
    single = [world.group(boxes) for boxes in world.seen(shown("single"))]
    for (label,), (place,) in single:
        assert label < HELD_OUT + N and place in world.splits.positions[label, N1:].tolist()
    assert len(set(single)) == len(single) == (HELD_OUT + N) * (world.task.n_places - N1), "each once, and all of them"
    seen = [world.group(boxes) for boxes in world.seen(shown("seen_pair"))]
    for labels, places in seen:
        assert places in orders[labels][N2:]
    if world.objects == 2:
        assert len(set(seen)) == len(seen) == N * (N - 1) * (world.task.n_layouts - N2)
    else:
        assert [world.group(boxes) for boxes in world.seen(shown("seen_chain"))] == seen


def test_unseen_pairs_are_of_all_held_out_labels(world):
    shown = [world.group(boxes) for boxes in world.seen(world.asked["unseen_pair"].images)]
    groups = set(itertools.permutations(range(HELD_OUT), world.objects))
    layouts = (world.task.eval_layouts if world.objects == 3 else world.task.layouts).tolist()
    assert len(shown) == len(set(shown)) and set(shown) == {(g, tuple(places)) for g in groups for places in layouts}


@pytest.mark.slow
@pytest.mark.parametrize(("text", "relations"), [("row:distractors=2", "left"), ("grid:size=2,patch=2", "all"), ("three", "left")])
def test_padding_is_inert(text, relations):
    """A model of 4 labels padded to 4 or to 9: the same batch, the same images, mirrored and not, with the same weights."""

    def draw(padded):
        task = make(text, relations, padded)

        @jax.jit
        def drawn(key):
            splits = task.splits(key)
            asked = task.eval_sets(key, splits, HYPER, False)
            single = jax.tree.map(lambda x: x[..., : (HELD_OUT + 4) * task.n_places], asked["single"])
            shown = {name: (q.images, q.swapped, q.weight, q.labels, q.is_true) for name, q in (asked | {"single": single}).items()}
            return task.batch(key, splits, HYPER, 32), shown

        return drawn(KEY)

    (batch, asked), (padded, padded_asked) = draw(4), draw(9)
    if text.startswith("row"):  # what else is seen in `single` is drawn for all its images at once
        asked["single"], padded_asked["single"] = asked["single"][2:], padded_asked["single"][2:]
    chex.assert_trees_all_equal(batch, padded)
    chex.assert_trees_all_equal(asked, padded_asked)
