"""Tasks whose images hold one or two objects: what they share. A task of this kind says where objects may be, which tokens show
them, and which words are true of two of them (`row` is the smallest example).

Axes: K layouts, R relation words; others as in `base`.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.data.scenes import Scene, TokenEdits, pair_edits, single_scene, swapped
from lrjax.data.splits import Splits, at_draw, draw_different, draw_scenes, make_splits
from lrjax.data.tasks.base import Batch, Captions, EvalSet, Task, combinations

SAMPLE = 2048  # seen-pair images during training
# above so many (54 labels of a row of 10, 34 of a grid of 4 x 4 with four words) the final evaluation is of FINAL_SAMPLE images
EXHAUSTIVE_LIMIT, FINAL_SAMPLE = 2**17, 2**14


class Pairs(Task):
    """One or two objects at places 0..n_places-1; `layouts` are all ways to place two, the one that comes first named first."""

    def metric_breakdown(self, name: str) -> tuple[str, ...]:
        return self.words if len(self.words) > 1 else ()

    @property
    def layouts(self) -> np.ndarray:
        """The places of two objects, [K, 2]."""
        raise NotImplementedError

    @property
    def n_layouts(self) -> int:
        return len(self.layouts)

    def image_edits(self, scene: Scene) -> TokenEdits:
        """The edits [S, ...] of scenes [...]."""
        raise NotImplementedError

    def render(self, labels: Sequence[int], places: Sequence[int]) -> TokenEdits:
        return self.image_edits(self.scene_of(labels, places))

    def true_and_swapped(self, labels: Sequence[int], places: Sequence[int]) -> tuple[list[int], list[int]]:
        if len(labels) == 1:
            return [int(labels[0])], []
        scene = jax.tree.map(lambda x: jnp.asarray(x)[None], self.scene_of(labels, places))
        found = self.eval_set(scene, jnp.ones(1))
        is_true = np.asarray(found.is_true[:, 0])
        return np.asarray(found.true[:, 0])[is_true].tolist(), np.asarray(found.hard_negatives[0, :, 0])[is_true].tolist()

    def scene_of(self, labels: Sequence[int], places: Sequence[int]) -> Scene:
        """The scene of one or two objects, in reading order."""
        label, place = (jnp.asarray(x, jnp.int32) for x in (labels, places))
        return single_scene(label[0], place[0], self.n_places) if len(labels) == 1 else Scene(*label, *place)

    def relations_of(self, scene: Scene) -> tuple[jax.Array, jax.Array, jax.Array]:
        """For every word, [R, ...] each: of which two labels it may be said ("a left of b", "b right of a" and "a above b" are of a
        and b), and whether it is true of the scene.
        """
        raise NotImplementedError

    def with_distractors(self, key: jax.Array, edits: TokenEdits) -> TokenEdits:
        """Images [S, n] with the distractors that they show."""
        return edits

    def splits(self, key: jax.Array) -> Splits:
        return make_splits(key, self.n_labels_max, self.n_heldout, self.n_places, self.n_layouts, self.repeated)

    def scenes(self, splits: Splits, x: jax.Array, y: jax.Array, rank: jax.Array) -> Scene:
        """The scenes of trained labels (x, y) in the rank-th layout of their split; arrays of one shape [...]."""
        layout = jnp.asarray(self.layouts)[splits.pairs[x, y, rank]]
        return Scene(x + self.n_heldout, y + self.n_heldout, layout[..., 0], layout[..., 1])

    def draw(self, key: jax.Array, splits: Splits, hyper, batch_size: int) -> tuple[Scene, Scene, jax.Array]:
        """B/2 one-object scenes, B/2 two-object scenes, and the word of each of the latter, each [B/2].

        Over n_labels + n_heldout labels and their n1 trained positions; over ordered pairs and their n2 layouts; over the words
        that are true. All uniform, but for labels under `hyper.zipf`.
        """
        half = batch_size // 2
        *keys, word_key = jax.random.split(key, 5)
        label, place, (x, y), layout = draw_scenes(keys, 2, half, hyper, self.n_heldout, self.n_labels_max)
        place = splits.positions[label, place].astype(jnp.int32)
        pairs = self.scenes(splits, x, y, layout)
        is_true = self.relations_of(pairs)[2]
        if len(is_true) == 1:
            word = jnp.zeros_like(x)
        else:
            rank = jax.random.randint(word_key, (half,), 0, is_true.sum(0))
            word = jnp.argmax(is_true & (jnp.cumsum(is_true, 0) == rank[None] + 1), 0)
        return single_scene(label, place, self.n_places), pairs, word

    def batch(self, key: jax.Array, splits: Splits, hyper, batch_size: int) -> Batch:
        singles, pairs, word = self.draw(key, splits, hyper, batch_size)
        first, second, _ = self.relations_of(pairs)
        a, b = (jnp.take_along_axis(labels, word[None], 0)[0] for labels in (first, second))
        captions, hard_negatives = self.caption_edits(a, b, word), self.caption_edits(b, a, word)
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), singles, pairs)
        images = self.with_distractors(jax.random.fold_in(key, 5), self.image_edits(both))  # `draw` has split keys 0..4 from it
        return Batch(images, singles.left, (captions,), (hard_negatives,))

    def items(self, key: jax.Array, splits: Splits, hyper, number: jax.Array) -> Batch:
        """Item n1 l + t is the t-th image of label l. After all of these come the pairs (x, y), each with its n2 images, each with
        its captions.
        """
        n_single = (self.n_heldout + hyper.n_labels) * hyper.n1
        is_single = number < n_single
        label, t = jnp.divmod(jnp.where(is_single, number, 0), hyper.n1)
        place = at_draw(splits.positions, splits.position_draws, (label,), t)
        image, telling = jnp.divmod(jnp.maximum(number - n_single, 0), self.captions_per_image)
        pair, t = jnp.divmod(image, hyper.n2)
        x, y = jnp.divmod(pair, hyper.n_labels - 1)
        y += y >= x
        layout = jnp.asarray(self.layouts)[at_draw(splits.pairs, splits.pair_draws, (x, y), t)]
        pairs = Scene(x + self.n_heldout, y + self.n_heldout, layout[..., 0], layout[..., 1])
        singles = single_scene(label, place, self.n_places)
        scenes = jax.tree.map(lambda a, b: jnp.where(is_single, a, b), singles, pairs)
        first, second, is_true = self.relations_of(pairs)
        word = telling if self.captions_per_image > 1 else self.drawn_word(jax.random.fold_in(key, 0), is_true, number)
        a, b = (jnp.take_along_axis(labels, word[None], 0)[0] for labels in (first, second))
        images = self.image_edits(scenes)
        disturb = lambda item, edits: jax.tree.map(
            lambda x: x[:, 0],
            self.with_distractors(jax.random.fold_in(jax.random.fold_in(key, 1), item), jax.tree.map(lambda x: x[:, None], edits)),
        )
        images = jax.vmap(disturb, (0, 1), 1)(number, images)
        captions, hard_negatives = self.caption_edits(a, b, word), self.caption_edits(b, a, word)
        return Batch(images, label, (captions,), (hard_negatives,), 1 - is_single.astype(jnp.int32))

    def drawn_word(self, key: jax.Array, is_true: jax.Array, number: jax.Array) -> jax.Array:
        """A word that is true of each item's image, `is_true` [R, B]: drawn once an item, uniform over those that are true."""
        if len(is_true) == 1:
            return jnp.zeros_like(number)
        u = jax.vmap(lambda item: jax.random.uniform(jax.random.fold_in(key, item)))(number)
        rank = jnp.floor(u * is_true.sum(0)).astype(jnp.int32)
        return jnp.argmax(is_true & (jnp.cumsum(is_true, 0) == rank[None] + 1), 0)

    def caption_edits(self, first: jax.Array, second: jax.Array, word: jax.Array) -> TokenEdits:
        """The three edits of captions of two labels, with relation words (numbers of `words`)."""
        return pair_edits(first, second, word, self.words, self.n_first)

    def captions(self, hyper) -> Captions:
        A, R = self.n_labels_total, len(self.words)
        word, first, second = combinations(R, A, A)
        exists = jnp.arange(A) < self.n_heldout + hyper.n_labels
        every = jnp.arange(A)
        names = jnp.concatenate([jnp.stack([every, every]), jnp.stack([first, second])], 1)
        pairs = exists[first] & exists[second] & (first != second)
        return Captions((self.caption_edits(first, second, word),), jnp.append(exists, pairs), names)

    def caption_number(self, word: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
        """The number of a caption among `captions`; of one label if both are the same."""
        A = self.n_labels_total
        return jnp.where(first == second, first, A + (word * A + first) * A + second)

    def eval_sets(self, key: jax.Array, splits: Splits, hyper, exhaustive: bool | jax.Array) -> dict[str, EvalSet]:
        h = self.n_heldout
        label, rank = combinations(self.n_labels_total, self.n_places)
        single = single_scene(label, splits.positions[label, rank].astype(jnp.int32), self.n_places)
        single_weight = (rank >= splits.trained_positions(hyper.n1, label)) & (label < h + hyper.n_labels)

        *seen, seen_weight, looked_at = self.seen_pairs(key, splits, hyper, exhaustive)
        unseen = self.unseen()
        sets = {
            "single": (single, single_weight),
            "seen_pair": (self.scenes(splits, *seen), seen_weight),
            "unseen_pair": (unseen, jnp.ones(len(unseen.i))),
        }
        keys = dict(zip(sets, jax.random.split(jax.random.fold_in(key, 2), len(sets)), strict=True))
        found = {
            name: self.eval_set(scene, weight, partial(self.with_distractors, keys[name])) for name, (scene, weight) in sets.items()
        }
        return found | {"seen_pair": dataclasses.replace(found["seen_pair"], looked_at=looked_at)}

    def seen_pairs(self, key: jax.Array, splits: Splits, hyper, exhaustive: bool | jax.Array) -> tuple[jax.Array, ...]:
        """Images of trained pairs of labels (u, v) in held-out layouts: u, v, rank of the layout, weight, each [n], and how many of
        the n may count.
        """
        if not isinstance(exhaustive, bool):
            every, some = (self.seen_pairs(key, splits, hyper, way) for way in (True, False))
            n = max(len(every[0]), len(some[0]))
            longer = lambda x: jnp.pad(x, (0, n - len(x))) if x.ndim else x
            return tuple(jnp.where(exhaustive, longer(a), longer(b)) for a, b in zip(every, some, strict=True))
        N = self.n_labels_max
        if exhaustive and N * N * self.n_layouts <= EXHAUSTIVE_LIMIT:
            u, v, rank = combinations(N, N, self.n_layouts)
            weight = (rank >= splits.trained_layouts(hyper.n2, u, v)) & (u != v) & (u < hyper.n_labels) & (v < hyper.n_labels)
        else:
            n = FINAL_SAMPLE if exhaustive else SAMPLE
            keys = jax.random.split(key)
            u, v = draw_different(keys[0], 2, n, hyper.n_labels)
            rank = jax.random.randint(keys[1], (n,), splits.trained_layouts(hyper.n2, u, v), self.n_layouts)
            weight = jnp.ones(n, bool)
        return u, v, rank, weight, jnp.int32(len(u))

    def eval_set(self, scene: Scene, weight: jax.Array, with_distractors=lambda edits: edits) -> EvalSet:
        """The evaluation set of scenes [n], with the distractors that their images show."""
        second = jnp.where(scene.right < 0, scene.left, scene.right)
        first, second, is_true = self.relations_of(dataclasses.replace(scene, right=second))
        word = jnp.arange(len(first))[:, None]
        return EvalSet(
            images=with_distractors(self.image_edits(scene)),
            swapped=with_distractors(self.image_edits(swapped(scene))),
            weight=weight.astype(jnp.float32),
            labels=jnp.stack([first[0], second[0]]),
            true=self.caption_number(word, first, second),
            is_true=is_true & ((first != second) | (word == 0)),
            hard_negatives=self.caption_number(word, second, first)[None],
        )

    def unseen(self) -> Scene:
        """All ordered pairs of the held-out labels in all layouts, in this order."""
        x, y, layout = np.indices((self.n_heldout, self.n_heldout, self.n_layouts)).reshape(3, -1)
        x, y, layout = (values[x != y] for values in (x, y, layout))
        return jax.tree.map(jnp.asarray, Scene(x, y, *self.layouts[layout].T))
