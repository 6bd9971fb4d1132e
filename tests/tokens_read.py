"""Images and captions of tasks, read back from raw tokens by code that shares nothing with lrjax.data.tasks."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.config import Hyper
from lrjax.data import tasks
from lrjax.data.captions import all_captions

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
            asked = task.eval_sets(keys[1], splits, HYPER, True)
            return splits, task.batch(keys[0], splits, HYPER, BATCH), asked, task.captions(HYPER)

        self.splits, self.batch, self.asked, self.captions = jax.device_get(draw(KEY))
        every = jax.device_get(all_captions(task, self.captions))
        self.sentences = [claims for template, edits in every for claims in self.read(template, edits)]  # by number

    def look(self, edits):
        """Pictures of edits [S, n]: what each shows, labels [height, width]; NOTHING, or another number below 0: a distractor."""
        return [self.picture(*image) for image in zip(edits.tokens.T.tolist(), edits.positions.T.tolist(), strict=True)]

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

    def seen(self, edits):
        """The boxes of edits [S, n]."""
        return [self.boxes(pixels) for pixels in self.look(edits)]

    def group(self, boxes):
        """Labels, and numbers of their places, both in reading order."""
        return tuple(boxes), tuple(int(top * (self.width - self.size + 1) + left) for top, _, left, _ in boxes.values())

    def read(self, template, edits):
        """What captions of a template say: [(label, relation, label), ...] for each of edits [S, n]."""
        said = []
        for tokens, positions in zip(edits.tokens.T.tolist(), edits.positions.T.tolist(), strict=True):
            words = list(template.tokens)
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
        return [claims for said in zip(self.task.caption_templates, captions, strict=True) for claims in self.read(*said)]

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
        pick = lambda edits: self.seen(jax.tree.map(lambda x: x[:, used], edits))
        numbers = (
            np.moveaxis(x[..., used], -1, 0)
            for x in (asked.true + asked.candidates[0], asked.hard_negatives + asked.candidates[0], asked.is_true)
        )
        return zip(pick(asked.images), pick(asked.swapped), *numbers, strict=True)


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


def sets_of_several(world):
    return [name for name in world.task.SETS if name != "single"]
