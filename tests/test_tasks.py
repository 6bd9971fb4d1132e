"""Tasks: what is said is true of what is seen. Images and captions are read back from raw tokens, by code that shares nothing with
lrjax.data.tasks; then what surrounds them: losses, noise, distractors, supervision, whole sweeps.
"""

import dataclasses
import functools
import importlib
import itertools
import re
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conftest import shake, tiny_model, tiny_sweep
from lrjax import config
from lrjax.config import Hyper
from lrjax.data import scenes, tasks
from lrjax.data.scenes import FIRST_LABEL, Scene
from lrjax.data.tasks import nearer, three
from lrjax.data.tasks import pairs as of_pairs
from lrjax.data.tasks.base import all_captions, noisy
from lrjax.errors import InputError
from lrjax.models import clip, encoder, localization_head, lookup_tables
from lrjax.models import retrieval as similarity
from lrjax.models.interventions import Interventions, ModelInterventions
from lrjax.models.losses import contrastive_loss, sigmoid_loss
from lrjax.storage import workdir
from lrjax.terms import GATES
from lrjax.training import loop, retrieval
from lrjax.training.programs import init_program
from lrjax.training.run import history_table, models_table
from lrjax.training.step import batch_loss

KEY = jax.random.key(3)
HELD_OUT, N, PADDED, N1, N2 = 3, 4, 6, 3, 7  # labels held out, trained, padded to; trained places and layouts
HYPER = Hyper(**dict.fromkeys(Hyper.__dataclass_fields__)).replace(n_labels=N, n1=N1, n2=N2, zipf=jnp.float32(0))
BATCH = 96


def make(text, relations="left", n_labels_max=PADDED, L=10):
    return tasks.make(text, n_heldout=HELD_OUT, n_labels_max=n_labels_max, L=L, relations=relations)


# ---- a second reading of the tokens ----

NOTHING = -1000
END, IN_IMAGE, RELATIONS = 2, 3, {4: "left", 5: "right", 6: "above", 7: "below"}
STRICTLY = {  # of boxes (top, bottom, left, right), all of which belong to the object
    "left": lambda a, b: a[3] < b[2],
    "right": lambda a, b: b[3] < a[2],
    "above": lambda a, b: a[1] < b[0],
    "below": lambda a, b: b[1] < a[0],
    "in": lambda a, b: True,
}


@dataclasses.dataclass
class World:
    """What a task's tokens mean, and what it drew: everything on the host."""

    text: str
    relations: str
    height: int
    width: int
    size: int
    patch: int
    n_first: int  # token of the first label
    objects: int = 2

    def __post_init__(self):
        self.task = task = make(self.text, self.relations)

        @jax.jit
        def draw(key):
            splits = task.splits(key)
            keys = [jax.random.fold_in(key, i) for i in range(8, 10)]
            asked = task.questions(keys[1], splits, HYPER, True)
            return splits, task.batch(keys[0], splits, HYPER, BATCH), asked, task.captions(HYPER)

        self.splits, self.batch, self.asked, self.captions = jax.device_get(draw(KEY))
        every = jax.device_get(all_captions(task, self.captions))
        self.sentences = [claims for form, slots in every for claims in self.read(form, slots)]  # by number

    def look(self, slots):
        """Pictures of slots [S, n]: what each shows, labels [height, width]; NOTHING, or another number below 0: a nuisance."""
        return [self.picture(*image) for image in zip(slots.tokens.T.tolist(), slots.positions.T.tolist(), strict=True)]

    def picture(self, tokens, positions):
        pixels, columns = np.full((self.height, self.width), NOTHING), self.width // self.patch
        for token, position in zip(tokens, positions, strict=True):
            if token >= 0:
                label, within = divmod(token - self.n_first, self.patch**2)
                row, column = divmod(position - 1, columns)
                at = row * self.patch + within // self.patch, column * self.patch + within % self.patch
                assert position >= 1 and pixels[at] == NOTHING, "one thing at a pixel"
                pixels[at] = label
        return pixels

    def boxes(self, pixels):
        """Where each label's object is, in reading order of their first pixels; each is one square, of the right size."""
        found = {}
        for label in dict.fromkeys(pixels[pixels >= 0].tolist()):
            y, x = np.nonzero(pixels == label)
            found[label] = box = (y.min(), y.max(), x.min(), x.max())
            assert len(y) == self.size**2 and box[1] - box[0] == box[3] - box[2] == self.size - 1
        return found

    def seen(self, slots):
        """The boxes of slots [S, n]."""
        return [self.boxes(pixels) for pixels in self.look(slots)]

    def group(self, boxes):
        """Labels, and numbers of their places, both in reading order."""
        return tuple(boxes), tuple(int(top * (self.width - self.size + 1) + left) for top, _, left, _ in boxes.values())

    def read(self, form, slots):
        """What captions of a form say: [(label, relation, label), ...] for each of slots [S, n]."""
        said = []
        for tokens, positions in zip(slots.tokens.T.tolist(), slots.positions.T.tolist(), strict=True):
            words = list(form.template)
            for token, position in zip(tokens, positions, strict=True):
                words[position] = token
            words = words[: words.index(END)]
            labels = [word - self.n_first for word in words[::2]]
            if words[1] == IN_IMAGE:
                said.append([(labels[0], "in", labels[0])])
            else:
                said.append([(labels[i], RELATIONS[word], labels[i + 1]) for i, word in enumerate(words[1::2])])
        return said

    def told(self, captions):
        """What a batch's captions of several objects say, in the order of its images."""
        return [claims for said in zip(self.task.said, captions, strict=True) for claims in self.read(*said)]

    @functools.cached_property
    def orders(self):
        """Of every group of trained labels all its layouts, places [K, objects], trained ones first."""
        groups = list(itertools.permutations(range(N), self.objects))
        if self.objects == 2:
            tables = [self.task.layouts[self.splits.pairs[group]] for group in groups]
        else:
            labels, ranks = np.array(groups).T, np.arange(self.task.n_layouts)
            of_all = jax.jit(jax.vmap(lambda x: self.task.layout(self.splits, jnp.tile(x[:, None], len(ranks)), ranks).T))
            tables = np.asarray(of_all(labels.T))
        key = lambda group: tuple(HELD_OUT + label for label in group)
        return {key(group): [tuple(row) for row in table.tolist()] for group, table in zip(groups, tables, strict=True)}

    def among(self, name):
        """(boxes, boxes of the mirrored image, captions (numbers) true, wrong, whether they hold) of a set's questions."""
        asked = self.asked[name]
        used = np.nonzero(asked.weight > 0)[0]
        used = used[:: max(1, len(used) // 200)]
        pick = lambda slots: self.seen(jax.tree.map(lambda x: x[:, used], slots))
        numbers = (
            np.moveaxis(x[..., used], -1, 0) for x in (asked.true + asked.among[0], asked.wrong + asked.among[0], asked.holds)
        )
        return zip(pick(asked.images), pick(asked.mirrored), *numbers, strict=True)


def says(claims, boxes):
    """Whether all that a caption says is true."""
    return all(a in boxes and b in boxes and STRICTLY[word](boxes[a], boxes[b]) for a, word, b in claims)


def names(claims):
    """The labels that a caption names."""
    return {label for a, _, b in claims for label in (a, b)}


WORLDS = {
    "row": ("row", "left", 1, 10, 1, 1, 6),
    "row, two words": ("row", "left+right", 1, 10, 1, 1, 6),
    "row, distractors": ("row:distractors=3,kinds=5", "left+right", 1, 10, 1, 1, 11),
    "grid": ("grid", "left+above", 4, 4, 1, 1, 8),
    "grid, one word": ("grid", "left", 4, 4, 1, 1, 8),
    "grid, all words": ("grid", "all", 4, 4, 1, 1, 8),
    "large objects": ("grid:height=6,width=6,size=2", "all", 6, 6, 2, 1, 8),
    "patches": ("grid:height=6,width=6,size=2,patch=2", "all", 6, 6, 2, 2, 8),
    "patches of 3": ("grid:height=6,width=6,size=2,patch=3", "left+above", 6, 6, 2, 3, 8),
    "three": ("three", "left", 1, 10, 1, 1, 6, 3),
}
ROWS = ("row", "row, two words", "row, distractors", "three")


@functools.cache
def world_of(kind):
    return World(*WORLDS[kind])


@pytest.fixture(params=WORLDS)
def world(request):
    return world_of(request.param)


@pytest.fixture
def with_distractors():
    return world_of("row, distractors")


# ---- whatever the task ----


@pytest.mark.parametrize("name", tasks.names())
def test_what_holds_of_every_task_in_the_folder(name):
    """Splits are orders; an image's captions are of its labels, and exist; the wrong ones are others, of the same labels; in the
    mirror image labels have changed places, and nothing else has. A new file of lrjax/data/tasks is asked this without a word here.
    """
    kind = importlib.import_module(f"lrjax.data.tasks.{name}").TASK
    task = make(name, list(kind.RELATIONS)[-1])

    @jax.jit
    def draw(key):
        splits = task.splits(key)
        return splits, task.questions(key, splits, HYPER, False), task.captions(HYPER), task.batch(key, splits, HYPER, BATCH)

    splits, asked, captions, batch = jax.device_get(draw(KEY))
    np.testing.assert_array_equal(np.sort(splits.positions, -1)[0], np.arange(task.n_places))
    assert set(asked) == set(task.SETS)
    for name, q in asked.items():
        named = lambda numbers, q=q: [set(labels) for labels in captions.names[:, numbers + q.among[0]].T.tolist()]
        for r, (true, holds) in enumerate(zip(q.true, q.holds, strict=True)):
            asks = holds & (q.weight > 0)
            shown = [set(labels) for labels in q.labels[:, asks].T.tolist()]
            assert all(map(set.issubset, named(true[asks]), shown)) and captions.exists[true[asks] + q.among[0]].all()
            for wrong in q.wrong[:, r] if name != "single" else ():
                assert named(true[asks]) == named(wrong[asks]) and (true != wrong)[asks].all()
        for part in ("tokens", "positions"):
            here, there = (np.sort(getattr(images, part), 0) for images in (q.images, q.mirrored))
            np.testing.assert_array_equal(here, there)
    for said, wrong in zip(batch.said, batch.wrong, strict=True):
        np.testing.assert_array_equal(np.sort(said.tokens, 0), np.sort(wrong.tokens, 0))
        assert (said.tokens != wrong.tokens).any(0).all(), "with its labels exchanged a caption is another"


@pytest.mark.parametrize("name", tasks.names())
def test_no_row_is_read_of_numbers_that_are_stacked_and_reshaped(name):
    """For an NVIDIA GPU, XLA (jaxlib 0.10.2) may put such a reading into a Triton kernel: a slice, of one row, of a reshape of a
    concatenate. The parts of that concatenate then get tiles of different shapes, and the evaluation program does not compile:
    'scf.if' op ... tensor<1x1x1x1xi32> should match ... tensor<1x1x1x2xi32>.
    """
    relations = list(importlib.import_module(f"lrjax.data.tasks.{name}").TASK.RELATIONS)[-1]
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
    said, wrong = world.told(world.batch.said), world.told(world.batch.wrong)
    assert len(images) == len(said) == len(wrong)
    for boxes, right, other in zip(images, said, wrong, strict=True):
        assert says(right, boxes) and not says(other, boxes) and names(right) == names(other) <= set(boxes)


def test_every_word_is_said(world):
    words = {word for claims in world.told(world.batch.said) for _, word, _ in claims}
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
    layouts = (world.task.asked if world.objects == 3 else world.task.layouts).tolist()
    assert len(shown) == len(set(shown)) and set(shown) == {(g, tuple(places)) for g in groups for places in layouts}


@pytest.mark.parametrize(("text", "relations"), [("row:distractors=2", "left"), ("grid:size=2,patch=2", "all"), ("three", "left")])
def test_padding_is_inert(text, relations):
    """A model of 4 labels padded to 4 or to 9: the same batch, the same images, mirrored and not, with the same weights."""

    def draw(padded):
        task = make(text, relations, padded)

        @jax.jit
        def drawn(key):
            splits = task.splits(key)
            asked = task.questions(key, splits, HYPER, False)
            single = jax.tree.map(lambda x: x[..., : (HELD_OUT + 4) * task.n_places], asked["single"])
            shown = {name: (q.images, q.mirrored, q.weight, q.labels, q.holds) for name, q in (asked | {"single": single}).items()}
            return task.batch(key, splits, HYPER, 32), shown

        return drawn(KEY)

    (batch, asked), (padded, padded_asked) = draw(4), draw(9)
    if text.startswith("row"):  # what else is seen in `single` is drawn for all its images at once
        asked["single"], padded_asked["single"] = asked["single"][2:], padded_asked["single"][2:]
    chex.assert_trees_all_equal(batch, padded)
    chex.assert_trees_all_equal(asked, padded_asked)


# ---- questions ----


def test_captions_are_numbered_and_exist_where_all_their_labels_do(world):
    assert len(world.sentences) == len(world.captions.exists) == world.captions.names.shape[1]
    for claims, exists, named in zip(world.sentences, world.captions.exists, world.captions.names.T.tolist(), strict=True):
        mentions = [claims[0][0], *(b for _, word, b in claims if word != "in")]
        assert set(named) == set(mentions)
        assert exists == (max(mentions) < HELD_OUT + N and len(set(mentions)) == len(mentions))
    existing = [str(claims) for claims, exists in zip(world.sentences, world.captions.exists, strict=True) if exists]
    assert len(set(existing)) == len(existing)


def sets_of_several(world):
    return [name for name in world.task.SETS if name != "single"]


def test_captions_of_a_question_are_true_exactly_where_they_hold(world):
    for name in sets_of_several(world):
        for boxes, _, true, _, holds in world.among(name):
            assert [says(world.sentences[number], boxes) for number in true] == holds.tolist() and holds.any()


def test_wrong_captions_of_a_question_are_false_and_of_the_same_labels(world):
    for name in sets_of_several(world):
        for boxes, _, true, wrong, _ in world.among(name):
            for number, others in zip(true, wrong.T, strict=True):
                assert len(set(others.tolist())) == len(others)
                for other in others:
                    assert not says(world.sentences[other], boxes)
                    assert names(world.sentences[other]) == names(world.sentences[number]) <= set(boxes)


def test_one_object_is_asked_for_by_its_number(world):
    for boxes, _, true, wrong, holds in world.among("single"):
        assert [*boxes] == [*set(true.tolist())] == [*set(wrong.ravel().tolist())] and holds.tolist() == [True] + [False] * (
            len(holds) - 1
        )


def test_all_captions_of_questions_exist_among_the_candidates(world):
    for asked in world.asked.values():
        exists, used = world.captions.exists[slice(*asked.among)], asked.weight > 0
        for numbers in (asked.true, asked.wrong):
            assert numbers.min() >= 0 and numbers.max() < len(exists)
            assert exists[numbers[..., used]].all()


def test_candidates_of_a_set_are_the_captions_that_are_true_of_some_image(world):
    """Of unseen pairs and chains exactly those of the images that are asked; a sample of seen ones has the same as all."""
    for name, asked in world.asked.items():
        among = slice(*asked.among)
        named = world.captions.names[:, among]
        in_set = np.asarray(world.captions.exists[among] & world.task.of_set(name, named))
        true = np.zeros(len(in_set), bool)
        true[np.asarray(asked.true)[np.asarray(asked.holds & (asked.weight > 0)[None])]] = True
        assert not (true & ~in_set).any(), "the caption of an image is a candidate"
        if not name.startswith("seen"):
            np.testing.assert_array_equal(in_set, true)
        else:
            labels = {frozenset(range(HELD_OUT, HELD_OUT + N))}
            several = [len(names(claims)) > 1 and names(claims) <= set(*labels) for claims in world.sentences[among]]
            np.testing.assert_array_equal(in_set, several & np.asarray(world.captions.exists[among]))


def test_questions_name_the_labels_that_are_seen(world):
    for asked in world.asked.values():
        used = np.nonzero(asked.weight > 0)[0][::11]
        seen = world.seen(jax.tree.map(lambda x: x[:, used], asked.images))
        assert [set(labels) for labels in asked.labels[:, used].T.tolist()] == [set(boxes) for boxes in seen]


# ---- symmetry ----


def test_exchanged_objects_make_what_was_true_false_and_one_wrong_caption_true(world):
    """Of pairs that is the only wrong one; of chains the reversed one."""
    for name in sets_of_several(world):
        reverse = world.task.WRONG[name].index("zyx") if name in world.task.WRONG else 0
        for boxes, mirrored, true, wrong, holds in world.among(name):
            assert sorted(boxes.values()) == sorted(mirrored.values()) and set(boxes) == set(mirrored)
            for number, others, held in zip(true, wrong.T, holds, strict=True):
                assert not says(world.sentences[number], mirrored)
                right = [says(world.sentences[other], mirrored) for other in others]
                assert right == [held and way == reverse for way in range(len(others))]


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
    (first, second, holds), (first_there, second_there, holds_there) = map(task.facts, (here, there))
    np.testing.assert_array_equal(holds, holds_there)
    for word, name in enumerate(task.words):
        said, held = (second_there, first_there) if name in exchanged else (first_there, second_there), holds[word]
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
    (first, second, holds), (first_there, second_there, holds_there) = map(task.facts, (here, there))
    expected = (first, second) if text == "nearer" else (second, first)
    for found, known in zip((first_there, second_there, holds_there), (*expected, holds), strict=True):
        np.testing.assert_array_equal(found, known)


def test_triples_are_asked_of_in_layouts_and_their_mirror_images():
    task = make("three")
    layouts = {tuple(layout) for layout in task.asked.tolist()}
    assert layouts == {tuple(task.L - 1 - place for place in layout[::-1]) for layout in layouts} and len(layouts) == 20


def test_reflection_of_three_objects_turns_every_chain_and_pair():
    """Pixels in reverse order are the image of the labels in reverse order, of which the reversed captions are true."""
    world = world_of("three")
    image = {}  # of each unseen triple, by what is seen at every pixel -> its captions
    asked = world.asked["unseen_chain"]
    pixels = np.asarray(scenes.render(world.task.image, asked.images))[:, 1:]
    for seen, number in zip(pixels, asked.true[0] + asked.among[0], strict=True):
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


# ---- retrieval ----


def retrieve_near(world, name, target):
    """Random caption embeddings, and images of a set that stand near one of them, numbers `target(asked)` [n]: the questions, the
    similarities of images and captions that exist [n, c], the labels that captions name, and what `evaluate` makes of it.
    """
    asked = world.asked[name]
    used = np.nonzero(asked.weight > 0)[0][:150]
    asked = jax.tree.map(lambda x: x[..., used], asked).replace(images=np.arange(len(used)), mirrored=np.arange(len(used)))
    among = slice(*asked.among)
    captions = encoder.l2_normalize(jax.random.normal(KEY, (len(world.sentences[among]), 8)))
    images = encoder.l2_normalize(captions[target(asked)] + 0.4 * jax.random.normal(jax.random.key(4), (len(used), 8)))
    exists, named = world.captions.exists[among], world.captions.names[:, among]
    of_words, ways = world.task.apart(name), world.task.WRONG.get(name, ())
    in_set, embed = exists & world.task.of_set(name, named), lambda image: images[image]
    found = jax.jit(lambda: similarity.retrieve(captions, exists, in_set, named, asked, embed, of_words, ways))()
    return asked, np.where(exists, images @ captions.T, -np.inf), [names(claims) for claims in world.sentences[among]], found


@pytest.mark.parametrize(("kind", "name"), [("grid, all words", "unseen_pair"), ("three", "unseen_pair"), ("three", "seen_chain")])
def test_retrieval_equals_its_definition(kind, name):
    """By loops; images stand near any caption of their labels, true or not, so that nothing is always right."""
    world, chance = world_of(kind), np.random.default_rng(0)

    def target(asked):
        any_of = np.concatenate([asked.true, asked.true, asked.wrong.reshape(-1, asked.true.shape[1])])
        return any_of[chance.integers(0, len(any_of), any_of.shape[1]), np.arange(any_of.shape[1])]

    asked, similarity, named, found = retrieve_near(world, name, target)
    best, label_set, won = [], [], []  # won: (word, way, whether the true caption stands above the wrong one)
    for n, row in enumerate(similarity):
        held = np.nonzero(asked.holds[:, n])[0]
        best.append(row.argmax() in asked.true[held, n])
        of_labels = named[row.argmax()] <= set(asked.labels[:, n].tolist())
        label_set.append(of_labels and len(named[row.argmax()]) == len(named[asked.true[0, n]]))
        won += [(r, f, row[asked.true[r, n]] > row[wrong]) for r in held for f, wrong in enumerate(asked.wrong[:, r, n])]
    word, way, won = np.array(won).T
    expected = {"": np.mean(best), "_label_set": np.mean(label_set), "_order": won.mean()}
    expected |= {f"_order_{name}": won[word == r].mean() for r, name in enumerate(world.task.apart(name))}
    expected |= {f"_order_{name}": won[way == f].mean() for f, name in enumerate(world.task.WRONG.get(name, ()))}
    for suffix, value in expected.items():
        np.testing.assert_allclose(found[suffix], value, atol=1e-6, err_msg=suffix)
        assert 0 < value < 1, "a reference that cannot fail proves nothing"


CHANCE = [
    ("grid:height=3,width=3", "left+above", {}),
    ("grid:height=4,width=4,size=2,patch=2", "all", {"positions": "row_column"}),
    ("three", "left", {"L": 5}),
    ("row:distractors=2", "left", {"L": 5}),
    ("nearer", "nearer", {"L": 6}),
    ("row", "left", {"L": 5, "objective": "autoregressive"}),
    ("row", "left", {"L": 5, "supervision": 1.0}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("text", "relations", "fields"), CHANCE, ids=[" ".join([text, *fields]) for text, _, fields in CHANCE])
def test_an_untrained_model_is_at_chance(monkeypatch, text, relations, fields):
    """24 untrained models: every order 1/2 within 5 standard errors, and text -> image the share of images of which a caption is
    true. Image -> text, top-1 and label set are at most those of one who chooses among the captions of several objects, since it
    may be those of one that stand nearest. Random embeddings know labels of nothing.
    """
    monkeypatch.setattr(three, "SAMPLE", 32)
    monkeypatch.setattr(of_pairs, "SAMPLE", 32)
    model = tiny_model(n_labels=3, n_heldout=3, task=text, relations=relations, n1=2, n2=4, **fields)
    static = config.make_static([model])

    def one(seed):
        hyper = jax.tree.map(jnp.asarray, config.make_hyper(model)).replace(seed=seed)
        params, splits = clip.init_clip(static, hyper), clip.model_splits(static, hyper)
        return retrieval.evaluate(static, hyper, splits, params, ModelInterventions(), False)

    metrics = jax.jit(jax.vmap(one))(jnp.arange(24, dtype=jnp.uint32))
    told, ways = ("xy", "yz", "xz"), ("xzy", "yxz", "yzx", "zxy", "zyx")
    words = {"left": (), "nearer": (), "left+above": ("left", "above"), "all": ("left", "right", "above", "below")}[relations]
    sets = dict.fromkeys(("seen_pair", "unseen_pair"), words)
    sets = sets if text != "three" else {"seen_pair": told, "unseen_pair": told, "seen_chain": ways, "unseen_chain": ways}
    suffixes = ("",) if "objective" in fields else ("", "_t2i")
    suffixes += ("_told",) if "supervision" in fields else ()
    orders = {f"{name}_order{suffix}" for name, apart in sets.items() for suffix in (*suffixes, *(f"_{one}" for one in apart))}
    assert {name for name in metrics if "order" in name} == orders
    if "objective" in fields:
        assert not any(name.endswith(("_t2i", "_in_set")) for name in metrics), "a reader has no candidates"
    else:
        assert set(retrieval.METRICS) <= set(metrics)
    for name, values in metrics.items():
        assert ((values >= 0) & (values <= 1)).all(), name
        if "order" in name:
            error = values.std() / 24**0.5 + 1e-3
            assert abs(values.mean() - 0.5) < 5 * error, name
    hyper = config.make_hyper(model)
    asked = static.world.questions(jax.random.key(0), clip.model_splits(static, hyper), hyper, False)["unseen_pair"]
    true, counts = np.asarray(asked.true), np.asarray(asked.holds & (asked.weight > 0)[None])
    of_images, n = np.bincount(true[counts]), int((asked.weight > 0).sum())
    n_captions = len(static.world.words) * 6 * 5  # of 3 + 3 labels
    error = lambda name: 5 * metrics[name].std() / 24**0.5 + 1e-3
    top1 = counts.sum() / n / n_captions
    assert metrics["unseen_pair"].mean() < top1 + error("unseen_pair")
    if text != "three":  # where a pair names but two of an image's labels
        set_of = 2 * len(static.world.words) / n_captions
        assert metrics["unseen_pair_label_set"].mean() < set_of + error("unseen_pair_label_set")
    if "objective" not in fields:  # among the captions of 3 x 2 ordered pairs; of three objects all are of an image's labels
        of_set = {"unseen_pair_label_set_in_set": 1 if text == "three" else 1 / 3}
        of_set |= {"unseen_chain_in_set": 1 / 6} if text == "three" else {}
        of_set |= {"unseen_pair_in_set": 1 / 2 if text == "three" else 1 / 6} if len(static.world.words) == 1 else {}
        for name, chance in of_set.items():
            assert abs(metrics[name].mean() - chance) < error(name), name
    if "unseen_pair_t2i" in metrics:
        assert abs(metrics["unseen_pair_t2i"].mean() - of_images[true[counts]].mean() / n) < error("unseen_pair_t2i")


# ---- tokens of several pixels, objects of several tokens ----


@pytest.mark.parametrize("kind", ["large objects", "patches of 3"])
def test_tables_equal_the_definition_in_value_and_gradient(kind):
    world = world_of(kind)
    form, n_tokens = world.task.image, world.task.n_tokens
    shape = encoder.EncoderConfig(n_tokens, len(form.template), 1, n_heads=2, d_model=16, d_embed=12, causal=False)
    params = shake(encoder.init(jax.random.key(0), shape, 1.0, 0.8))
    gates = jax.random.uniform(jax.random.key(5), (1, 2, len(GATES)))
    images = jax.tree.map(lambda x: x[:, ::4], world.batch.images)  # of one object and of two
    weight = jax.random.normal(jax.random.key(6), (BATCH // 4, 12))

    def by_tables(params, gates):
        return lookup_tables.encode(params, Interventions(gates), ((form, images),), shape)[0]

    def by_definition(params, gates):
        one = lambda ids: encoder.run(params, Interventions(gates), ids, shape, form.readout).embedding
        return jax.vmap(one)(scenes.render(form, images))

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


# ---- losses ----


@pytest.fixture
def embedded():
    """6 images and their captions, hard negatives of the last 4, and which captions are the same: 1 and 4."""
    images, captions, wrong = (encoder.l2_normalize(jax.random.normal(jax.random.key(i), (n, 5))) for i, n in enumerate((6, 6, 4)))
    captions = captions.at[4].set(captions[1])
    return images, captions, wrong, jnp.eye(6, dtype=bool).at[1, 4].set(True).at[4, 1].set(True)


def with_and_without(embedded):
    """(same, wrong), given and not."""
    *_, wrong, same = embedded
    return [(None, None), (same, None), (None, wrong), (same, wrong)]


def test_sigmoid_loss_asks_of_every_image_and_caption_whether_they_belong_together(embedded):
    images, captions, _, _ = embedded
    scale, bias = 1.3, -0.7
    cost = lambda image, caption, together: np.log1p(np.exp((-1 if together else 1) * (np.exp(scale) * (image @ caption) + bias)))
    for same, wrong in with_and_without(embedded):
        total = 0.0
        for i, j in itertools.product(range(6), range(6)):
            if same is None or i == j or not same[i, j]:
                total += cost(images[i], captions[j], i == j)
        for k in range(0 if wrong is None else 4):
            total += cost(images[2 + k], wrong[k], False)
        ours = sigmoid_loss(images, captions, jnp.float32(scale), jnp.float32(bias), same, wrong)
        np.testing.assert_allclose(ours, total / 6, rtol=1e-5)  # a sum of 40 float32 terms


def test_a_hard_negative_is_one_more_candidate_of_its_image(embedded):
    images, captions, _, _ = embedded
    cost = lambda own, others: np.log(np.exp([own, *others]).sum()) - own  # - log softmax
    logits = np.exp(1.3) * np.asarray(images @ captions.T, np.float64)
    for same, wrong in with_and_without(embedded):
        total = 0.0
        for i in range(6):
            others = [j for j in range(6) if j != i and (same is None or not same[i, j])]
            hard = [np.exp(1.3) * images[i] @ wrong[i - 2]] if wrong is not None and i >= 2 else []
            total += cost(logits[i, i], [*logits[i, others], *hard]) / 2 + cost(logits[i, i], logits[others, i]) / 2
        ours = contrastive_loss(images, captions, jnp.float32(1.3), same, wrong)
        np.testing.assert_allclose(ours, total / 6, rtol=1e-5)  # as above


def test_hard_negatives_raise_both_losses(embedded):
    images, captions, wrong, same = embedded
    for loss in (contrastive_loss, partial(sigmoid_loss, bias=jnp.float32(-1))):
        loss = partial(loss, images, captions, jnp.float32(1.0), same=same)
        assert loss(wrong=wrong) > loss() + 1e-3


# ---- noisy captions ----


@pytest.fixture(scope="module")
def large_batch():
    """Three objects, so that there are two forms of captions: 3000 pairs and 1000 chains."""
    task = make("three", L=5)
    return jax.jit(lambda key: task.batch(key, task.splits(key), HYPER, 8000))(KEY)


@pytest.mark.parametrize(("p", "exchanged"), [(0.0, False), (1.0, True)])
def test_noise_exchanges_no_caption_or_all(large_batch, p, exchanged):
    said, wrong = large_batch.said, large_batch.wrong
    expected = large_batch.replace(said=wrong, wrong=said) if exchanged else large_batch
    chex.assert_trees_all_equal(noisy(KEY, large_batch, jnp.float32(p)), expected)


def test_noise_exchanges_whole_captions_as_often_as_it_says(large_batch):
    """Each count is binomial, within 5 standard deviations. No image changes."""
    told = noisy(KEY, large_batch, jnp.float32(0.3))
    chex.assert_trees_all_equal((told.images, told.label), (large_batch.images, large_batch.label))
    for said, other, right, wrong in zip(told.said, told.wrong, large_batch.said, large_batch.wrong, strict=True):
        as_it_was, as_wrong = ((said.tokens == slots.tokens).all(0) for slots in (right, wrong))
        assert (as_it_was ^ as_wrong).all() and (jnp.where(as_wrong, right.tokens, wrong.tokens) == other.tokens).all()
        n = len(as_wrong)
        assert abs(int(as_wrong.sum()) - 0.3 * n) < 5 * np.sqrt(n * 0.3 * 0.7)


# ---- distractors ----


def test_so_many_free_pixels_show_a_nuisance(with_distractors):
    world = with_distractors
    shown = [world.batch.images, world.asked["unseen_pair"].images, world.asked["seen_pair"].mirrored]
    for slots in shown:
        kinds = [pixels[(pixels < 0) & (pixels != NOTHING)] for pixels in world.look(jax.tree.map(lambda x: x[:, ::5], slots))]
        assert all(len(kind) == 3 for kind in kinds), "and none on an object: `look` finds one thing at a pixel"
        assert set(np.concatenate(kinds)) == set(range(-5, 0)), "five kinds, none of them a label"


def test_no_caption_speaks_of_nuisances(with_distractors):
    pairs = with_distractors.sentences[HELD_OUT + PADDED :]
    assert all(0 <= label < HELD_OUT + PADDED for claims in pairs for label in names(claims))


def test_an_image_and_its_mirror_have_the_same_distractors(with_distractors):
    asked = with_distractors.asked["seen_pair"]
    np.testing.assert_array_equal(asked.images.tokens[2:], asked.mirrored.tokens[2:])
    np.testing.assert_array_equal(asked.images.positions[2:], asked.mirrored.positions[2:])


def test_distractors_come_on_top_of_the_same_objects_and_captions():
    drawn = lambda task: jax.jit(lambda key: task.batch(key, task.splits(key), HYPER, 32))(KEY)
    alone, none, disturbed = (drawn(make(text)) for text in ("row", "row:distractors=0,kinds=7", "row:distractors=4,kinds=7"))
    chex.assert_trees_all_equal(alone, none)
    assert alone.images.tokens.shape == (2, 32) and disturbed.images.tokens.shape == (2 + 4, 32)
    shifted = lambda tokens: np.where(tokens >= FIRST_LABEL, tokens + 7, tokens)  # labels, after as many kinds
    np.testing.assert_array_equal(shifted(alone.images.tokens), disturbed.images.tokens[:2])
    np.testing.assert_array_equal(alone.images.positions, disturbed.images.positions[:2])
    np.testing.assert_array_equal(shifted(alone.said[0].tokens), disturbed.said[0].tokens)


def test_distractors_of_one_object_stand_at_every_other_pixel():
    task = make("row:distractors=3")
    batch = jax.jit(lambda key: task.batch(key, task.splits(key), HYPER, 2000))(KEY)
    away = np.asarray(batch.images.positions[2:, :1000] - batch.images.positions[:1, :1000]) % 10
    counts = np.bincount(away.ravel(), minlength=10)
    assert counts[0] == 0 and (abs(counts[1:] - 1000 / 3) < 5 * np.sqrt(1000 * 1 / 3 * 2 / 3)).all(), "3 of 9 free pixels"


def test_distractors_know_nothing_of_the_labels_in_their_batch():
    """Five kinds, and a second label that is one of five others: independent ones agree once in 5, within 5 standard deviations.

    A key that is drawn from twice would make them the same, in one image or between one half of a batch and the other.
    """
    task, n = make("row:distractors=1,kinds=5"), 2000
    batch = jax.jit(lambda key: task.batch(key, task.splits(key), HYPER.replace(n_labels=6), 2 * n))(KEY)
    first, _, second = batch.said[0].tokens - task.n_first - HELD_OUT
    for half in (slice(n), slice(n, None)):
        agree = (batch.images.tokens[2, half] - FIRST_LABEL == second - (second > first)).sum()
        assert abs(int(agree) - n / 5) < 5 * np.sqrt(n * 0.2 * 0.8)


@pytest.mark.parametrize("kind", WORLDS)
def test_every_token_has_its_name(kind):
    world, labels = world_of(kind), ["h1", "h2", "h3", "1", "2", "3", "4", "5", "6"]
    found, words = world.task.token_names(), ["above", "below"] if kind not in ROWS else []
    nuisances = [f"nuisance {i}" for i in range(1, 6)] if kind == "row, distractors" else []
    assert found[:FIRST_LABEL] == ["background", "CLS", "EOT", "in-image", "left-of", "right-of"]
    assert found[FIRST_LABEL : world.n_first] == words + nuisances
    parts = [f" at {i + 1}" for i in range(world.patch**2)] if world.patch > 1 else [""]
    assert found[world.n_first :] == [label + part for label in labels for part in parts]
    assert len(found) == world.task.n_tokens and len(world.task.position_names()) == len(world.task.image.template)


# ---- supervision ----


@pytest.fixture(scope="module")
def small():
    """A row of 4 pixels with all its unseen pairs, and one-object images."""
    task = make("row", L=4)
    pairs = task.unseen()
    label, place = jnp.indices((HELD_OUT, 4)).reshape(2, -1)
    return task, task.image_edits(pairs), task.image_edits(scenes.single_scene(label, place, 4))


def test_supervision_is_the_mean_cross_entropy_of_the_objects_places(small):
    task, pairs, singles = small
    images = jax.tree.map(lambda a, b: jnp.concatenate([a, b], 1), pairs, singles)
    head = localization_head.Head(
        *(jax.random.normal(key, (n, 5)) for key, n in zip(jax.random.split(KEY, 3), (5, task.n_labels_total, 4), strict=True))
    )
    embeddings = encoder.l2_normalize(jax.random.normal(jax.random.key(1), (images.tokens.shape[1], 5)))
    costs = []
    for x, tokens, positions in zip(np.asarray(embeddings), images.tokens.T, images.positions.T, strict=True):
        for token, position in zip(tokens, positions, strict=True):
            if token >= 0:
                scores = np.asarray(head.V) @ (x @ np.asarray(head.M) * np.asarray(head.U[token - FIRST_LABEL]))
                costs.append(np.log(np.exp(scores).sum()) - scores[position - 1])
    assert len(costs) == 2 * 6 * 6 + 12
    np.testing.assert_allclose(localization_head.loss(task, head, embeddings, images), np.mean(costs), rtol=1e-5)


def test_a_head_that_knows_or_reverses_all_places_or_none(small):
    """An embedding that spells out label and place of each object, and a head that reads it."""
    task, images, _ = small
    label, place = images.tokens - FIRST_LABEL, images.positions - 1
    A = task.n_labels_total
    head = localization_head.Head(jnp.eye(A * 4), jnp.repeat(jnp.eye(A), 4, 1), jnp.tile(jnp.eye(4), (1, A)))
    spelled = lambda place: jax.nn.one_hot(label * 4 + place, task.n_labels_total * 4).sum(0)
    asked = lambda embeddings: {
        name: float(x) for name, x in localization_head.told(task, head, embeddings, images, jnp.ones(len(embeddings))).items()
    }
    assert asked(spelled(place)) == {"_place": 1, "_order_told": 1}
    assert asked(spelled(place[::-1])) == {"_place": 0, "_order_told": 0}
    assert asked(jnp.zeros_like(spelled(place))) == {"_place": float((place == 0).mean()), "_order_told": 0.5}
    assert all(np.isnan(x) for x in asked(spelled(place).at[0, 0].set(jnp.nan)).values())


def test_a_head_learns_in_full_and_the_encoder_by_the_weight(trained_heads):
    """So at weight 0 the head probes an encoder that never feels it."""
    (program,), (state,) = trained_heads.programs, trained_heads.states
    static, task = program.static, program.static.world
    hyper, params = jax.tree.map(lambda x: x[0], (program.hyper, state.params))
    batch = task.batch(KEY, clip.model_splits(static, hyper), hyper, 32)

    @jax.jit
    def learned(weight):
        of = hyper.replace(supervision=weight, contrastive=jnp.float32(0))
        return jax.value_and_grad(lambda params: batch_loss(static, of, params, clip.unit_gates(static), batch))(params)

    (none, probe), (some, weighed), (whole, full) = (learned(jnp.float32(weight)) for weight in (0, 0.3, 1))
    np.testing.assert_allclose([none, some], [0, 0.3 * whole], atol=1e-6)
    chex.assert_trees_all_close(probe.places, full.places, rtol=1e-5, atol=1e-8)
    assert not any(np.any(x) for x in jax.tree.leaves(probe.vision)) and abs(full.vision.E).max() > 1e-4
    chex.assert_trees_all_close(weighed.vision, jax.tree.map(lambda x: 0.3 * x, full.vision), rtol=1e-4, atol=1e-7)


def test_a_model_with_a_head_is_asked_what_it_knows(trained_heads):
    history = history_table(trained_heads)
    for name in ("seen_pair", "unseen_pair"):
        for column in (f"{name}_place", f"{name}_order_told"):
            assert ((history[column] >= 0) & (history[column] <= 1)).all(), column
    assert not {"single_place", "single_order_told"} & set(history)


def test_without_the_contrastive_loss_captions_only_decay(trained_heads):
    """Their gradient is exactly 0: every parameter of the text encoder is what it was, times prod(1 - lr_t wd)."""
    (program,), (state,) = trained_heads.programs, trained_heads.states
    start = jax.device_get(init_program(program.static, program.hyper)).params
    decay = np.prod([1 - 0.01 * min(1, (step + 1) / 10) * 0.1 for step in range(20)])
    assert set(program.hyper.contrastive.tolist()) == {0, 1}
    for model, weight in enumerate(program.hyper.contrastive):
        of_model = lambda tree: jax.tree.map(lambda x: x[model], tree)
        decayed = jax.tree.map(lambda x: x * decay, of_model(start.text))
        if weight == 0:
            chex.assert_trees_all_close(of_model(state.params.text), decayed, rtol=1e-5)  # 20 roundings of 6e-8
            assert abs(of_model(state.params.vision).E - of_model(start.vision).E).max() > 0.01
        else:
            assert abs(of_model(state.params.text).E - decayed.E).max() > 0.01


def test_a_head_is_asked_about_images_that_count(trained_heads):
    """The exhaustive set of seen pairs also holds trained layouts and labels that a model does not have, with weight 0."""
    (program,), (state,) = trained_heads.programs, trained_heads.states
    static, task, history = program.static, program.static.world, history_table(trained_heads)
    hyper, params = jax.tree.map(lambda x: x[0], (program.hyper, state.params))
    assert hyper.n_labels < static.n_labels_max

    @jax.jit
    def embedded(hyper, params):
        splits = clip.model_splits(static, hyper)
        asked = task.questions(clip.rng_stream(hyper.seed, "evaluation"), splits, hyper, True)["seen_pair"]
        return asked, clip.embed_images(static, params, Interventions(), asked.images)

    asked, embeddings = embedded(hyper, params)
    images, counts = jax.tree.map(lambda x: x[:, asked.weight > 0], asked.images), int((asked.weight > 0).sum())
    found = localization_head.told(task, params.places, embeddings[asked.weight > 0], images, jnp.ones(counts))
    for suffix, value in found.items():
        last = history[f"seen_pair{suffix}"][(history["step"] == 20) & (history["model"] == 0)]
        np.testing.assert_allclose(last, value, atol=1e-6)


# ---- bad inputs ----


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


# ---- whole sweeps ----


def saved_and_trained(folder, **fields):
    """A tiny sweep of 3 and 4 labels, trained into a folder."""
    run = workdir.open_run(folder, tiny_sweep(n_labels=(3, 4), seeds=1, lr=(0.01,), n_heldout=3, **fields))
    return loop.advance(run, on_evaluation=partial(workdir.save, folder))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return tmp_path_factory.mktemp("tasks")


@pytest.fixture(scope="module")
def trained_heads(folders):
    """With a head that is asked where objects are, beside the contrastive loss and without it."""
    return saved_and_trained(folders / "head", L=6, supervision=(1.0,), contrastive=(1.0, 0.0))


@pytest.fixture(scope="module")
def trained_threes(folders):
    """With the sigmoid loss and hard negatives."""
    return saved_and_trained(folders / "three", task="three", L=6, pair_loss="sigmoid", hard_negatives=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["head", "three"])
def test_a_sweep_learns_and_comes_back_from_its_folder(name, folders, request):
    run = request.getfixturevalue(f"trained_{name}s")
    history, again = history_table(run), workdir.restore(folders / name)
    assert run.diverged_at.mask.all() and (history["loss"][history["step"] == 20] < history["loss"][history["step"] == 10]).all()
    assert ("unseen_chain_order_zyx" in history) == (name == "three")
    assert again.sweep == run.sweep and again.finished
    chex.assert_trees_all_equal(again.states, run.states)
    for table in (models_table, history_table):
        jax.tree.map(np.testing.assert_array_equal, table(again), table(run))


@pytest.mark.slow
def test_a_batch_is_told_with_hard_negatives_of_its_own_images(trained_threes):
    """The loss of training is that of images, of their captions in the same order, and of wrong ones of the last half."""
    (program,), (state,) = trained_threes.programs, trained_threes.states
    static, task = program.static, program.static.world
    hyper, params = jax.tree.map(lambda x: x[0], (program.hyper, state.params))
    gates = clip.unit_gates(static)

    @jax.jit
    def losses(hyper, params):
        batch = task.batch(KEY, clip.model_splits(static, hyper), hyper, static.batch_size)
        every = tuple(zip(task.said * 2, batch.said + batch.wrong, strict=True))
        pairs, chains, wrong_pairs, wrong_chains = clip.embed_captions(static, params, Interventions(gates.text), every)
        single, *_ = clip.embed_captions(static, params, Interventions(gates.text), all_captions(task, task.captions(hyper)))
        captions = jnp.concatenate([single[batch.label], pairs, chains])
        wrong = jnp.concatenate([wrong_pairs, wrong_chains])
        images = clip.embed_images(static, params, Interventions(gates.vision), batch.images)
        expected = sigmoid_loss(images, captions, params.log_scale, params.bias, wrong=wrong)
        return batch_loss(static, hyper, params, gates, batch), expected

    np.testing.assert_allclose(*losses(hyper, params), rtol=1e-5)
