"""Three objects on a row of L pixels: x left of y left of z. A caption is of a pair of them ("x is left of y", "x is left of z", "y
is left of z"), or the chain "x left of y left of z". Of the images of three objects in a batch a quarter have the chain.

Pairs are retrieved among all captions of one or two labels (three of them are true), chains among all chains of three labels.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.data.finite_set import first_appearance_ranks
from lrjax.data.scenes import EMPTY, EOT, LEFT_OF, PAIR_CAPTION, SequenceTemplate, TokenEdits, image_template, pair_edits
from lrjax.data.splits import Splits, at_draw, draw_different, draw_scenes, make_splits, order, ranks_seen
from lrjax.data.tasks.base import Batch, Captions, EvalSet, Task, combinations, token_of
from lrjax.surroundings import PRNG

CHAIN_CAPTION = SequenceTemplate((EMPTY, LEFT_OF, EMPTY, LEFT_OF, EMPTY, EOT), EMPTY, readout=5)
OBJECT_PAIRS = ((0, 1), (1, 2), (0, 2))  # the pairs of the three objects, from left to right
ORDERS = tuple(itertools.permutations(range(3)))[1:]  # the five wrong ones
SAMPLE = 1024  # images of trained triples; of unseen ones every SPACED-th layout, and its mirror image
SPACED = 6
MOST_CHAINS = 64**3


@dataclasses.dataclass(frozen=True)
class Three(Task):
    """`three`."""

    RELATIONS: ClassVar = {"left": ("left",)}
    SETS: ClassVar = ("single", "seen_pair", "unseen_pair", "seen_chain", "unseen_chain")
    objects_per_scene: ClassVar = 3
    HARD_NEGATIVES: ClassVar = dict.fromkeys(
        ("seen_chain", "unseen_chain"), tuple("".join("xyz"[i] for i in order) for order in ORDERS)
    )

    def check(self) -> tuple[str, Any, str] | None:
        if not 4 <= self.L <= 12:
            return "L", self.L, "4..12 pixels, whose layouts are drawn in every step"
        if self.n_labels_total**3 > MOST_CHAINS:
            most = round(MOST_CHAINS ** (1 / 3)) - self.n_heldout
            return "n_labels", self.n_labels_max, f"at most {most}: there is a chain for any three labels"
        return None

    def metric_breakdown(self, name: str) -> tuple[str, ...]:
        return ("xy", "yz", "xz") if name.endswith("pair") else ()

    @property
    def image(self) -> SequenceTemplate:
        return image_template(self.L)

    @property
    def caption_templates(self) -> tuple[SequenceTemplate, ...]:
        return PAIR_CAPTION, CHAIN_CAPTION

    @property
    def n_edits(self) -> int:
        return 3

    @property
    def n_places(self) -> int:
        return self.L

    @property
    def layouts(self) -> np.ndarray:
        """The places of three objects, [K, 3]."""
        return np.array(list(itertools.combinations(range(self.L), 3)))

    @property
    def n_layouts(self) -> int:
        return len(self.layouts)

    @property
    def eval_layouts(self) -> np.ndarray:
        """The layouts of unseen triples, [k, 3]: a sample of all layouts that has as many layouts as mirror images of them, so that
        neither side is harder.
        """
        mirror = lambda layout: tuple(self.L - 1 - place for place in layout[::-1])
        every = [tuple(layout) for layout in self.layouts.tolist()]
        some = [layout for layout in every if layout <= mirror(layout)][::SPACED]
        return np.array(list(dict.fromkeys(turned for layout in some for turned in (layout, mirror(layout)))))

    def splits(self, key: jax.Array) -> Splits:
        """There are too many triples to store their layouts: `pairs` is the key from which the order of a triple's layouts is drawn
        when it is needed.
        """
        of_labels = make_splits(key, self.n_labels_max, self.n_heldout, self.L, 1, self.repeated)
        return dataclasses.replace(of_labels, pairs=jax.random.key_data(jax.random.fold_in(key, 3)), pair_draws=None)

    def drawn(self, splits: Splits, labels: jax.Array) -> jax.Array | None:
        """The draws of layouts [n, K] of trained labels [3, n], as ranks of first appearance; None where none is drawn twice."""
        if not self.repeated:
            return None

        def one(x, y, z):
            key = jax.random.fold_in(
                jax.random.wrap_key_data(splits.pairs, impl=PRNG), self.n_labels_total
            )  # no label has this number
            for label in (x, y, z):
                key = jax.random.fold_in(key, label)
            return first_appearance_ranks(key, self.n_layouts)

        return jax.vmap(one)(*labels)

    def layout(self, splits: Splits, labels: jax.Array, rank: jax.Array) -> jax.Array:
        """The places [3, n] of trained labels [3, n] in the rank-th layout of their split."""

        def one(x, y, z, rank):
            key = jax.random.wrap_key_data(splits.pairs, impl=PRNG)
            for label in (x, y, z):
                key = jax.random.fold_in(key, label)
            return order(key, self.n_layouts, self.n_layouts)[rank]

        return jnp.asarray(self.layouts)[jax.vmap(one)(labels[0], labels[1], labels[2], rank)].T

    def image_edits(self, labels: jax.Array, places: jax.Array) -> TokenEdits:
        """Edits of images of labels [3, n] (absent ones below 0) at places [3, n]."""
        return TokenEdits(token_of(self, labels), places + 1)

    def render(self, labels: Sequence[int], places: Sequence[int]) -> TokenEdits:
        label, place = (jnp.asarray(x, jnp.int32) for x in (labels, places))
        return self.single(label[0], place[0]) if len(labels) == 1 else self.image_edits(label, place)

    def true_and_swapped(self, labels: Sequence[int], places: Sequence[int]) -> tuple[list[int], list[int]]:
        if len(labels) == 1:
            return [int(labels[0])], []
        A = self.n_labels_total
        chain = lambda x, y, z: A + A * A + (x * A + y) * A + z
        of_pair = lambda pair: A + labels[pair[0]] * A + labels[pair[1]]
        true, swapped = ([of_pair(pair[::step]) for pair in OBJECT_PAIRS] for step in (1, -1))
        return [*true, chain(*labels)], [*swapped, chain(*labels[::-1])]

    def single(self, label: jax.Array, place: jax.Array) -> TokenEdits:
        """Edits of images of one object."""
        absent = jnp.full_like(label, -1)
        return self.image_edits(jnp.stack([label, absent, absent]), jnp.stack([place, (place + 1) % self.L, (place + 2) % self.L]))

    def pair(self, first: jax.Array, second: jax.Array) -> TokenEdits:
        """Edits of "first left of second"."""
        return pair_edits(first, second, jnp.zeros_like(first), self.words)

    def chain(self, labels: jax.Array) -> TokenEdits:
        """Edits of the chain of labels [3, n]."""
        return TokenEdits(labels + self.n_first, jnp.broadcast_to(jnp.array([0, 2, 4])[:, None], labels.shape))

    def batch(self, key: jax.Array, splits: Splits, hyper, batch_size: int) -> Batch:
        half = batch_size // 2
        *keys, pair_key = jax.random.split(key, 5)
        label, place, trained, layout = draw_scenes(keys, 3, half, hyper, self.n_heldout, self.n_labels_max)
        place = splits.positions[label, place].astype(jnp.int32)
        places = self.layout(splits, trained, layout)
        labels, pairs = trained + self.n_heldout, half - half // 4  # the first so many are told by a pair, the others by the chain
        chosen = jnp.array(OBJECT_PAIRS)[jax.random.randint(pair_key, (pairs,), 0, len(OBJECT_PAIRS))].T  # [2, pairs]
        first, second = jnp.take_along_axis(labels[:, :pairs], chosen, 0)
        images = jax.tree.map(lambda a, b: jnp.concatenate([a, b], 1), self.single(label, place), self.image_edits(labels, places))
        captions = self.pair(first, second), self.chain(labels[:, pairs:])
        hard_negatives = self.pair(second, first), self.chain(labels[::-1, pairs:])
        return Batch(images, label, captions, hard_negatives)

    def items(self, key: jax.Array, splits: Splits, hyper, number: jax.Array) -> Batch:
        """Item n1 l + t is the t-th image of label l. After all of these come the triples (x, y, z), each with its n2 images. A
        quarter of these, drawn once an item, are told by the chain, the others by one of the three pairs.
        """
        N, n_single = hyper.n_labels, (self.n_heldout + hyper.n_labels) * hyper.n1
        is_single = number < n_single
        label, t = jnp.divmod(jnp.where(is_single, number, 0), hyper.n1)
        place = at_draw(splits.positions, splits.position_draws, (label,), t)
        triple, t = jnp.divmod(jnp.maximum(number - n_single, 0), hyper.n2)
        pair, z = jnp.divmod(triple, N - 2)
        x, y = jnp.divmod(pair, N - 1)
        y += y >= x
        z += z >= jnp.minimum(x, y)
        z += z >= jnp.maximum(x, y)
        trained = jnp.stack([x, y, z])
        draws = self.drawn(splits, trained)
        rank = t if draws is None else jnp.take_along_axis(draws, t[:, None], 1)[:, 0]
        labels = trained + self.n_heldout
        many = self.image_edits(labels, self.layout(splits, trained, rank))
        images = jax.tree.map(lambda a, b: jnp.where(is_single, a, b), self.single(label, place), many)
        drawn = jax.vmap(lambda item: jax.random.randint(jax.random.fold_in(key, item), (), 0, 12))(number)  # 0..2 a chain
        first, second = jnp.take_along_axis(labels, jnp.array(OBJECT_PAIRS)[drawn % 3].T, 0)
        captions, hard_negatives = (
            (self.pair(first, second), self.chain(labels)),
            (self.pair(second, first), self.chain(labels[::-1])),
        )
        return Batch(images, label, captions, hard_negatives, jnp.where(is_single, 0, jnp.where(drawn < 3, 2, 1)))

    def captions(self, hyper) -> Captions:
        A = self.n_labels_total
        exists = jnp.arange(A) < self.n_heldout + hyper.n_labels
        every, (first, second), (x, y, z) = jnp.arange(A), combinations(A, A), combinations(A, A, A)
        is_pair = exists[first] & exists[second] & (first != second)
        is_triple = exists[x] & exists[y] & exists[z] & (x != y) & (y != z) & (x != z)
        triples = jnp.stack([x, y, z])
        names = [jnp.stack([every] * 3), jnp.stack([first, second, first]), triples]
        captions = self.pair(first, second), self.chain(triples)
        return Captions(captions, jnp.concatenate([exists, is_pair, is_triple]), jnp.concatenate(names, 1))

    def eval_sets(self, key: jax.Array, splits: Splits, hyper, exhaustive: bool | jax.Array) -> dict[str, EvalSet]:
        A, h = self.n_labels_total, self.n_heldout
        of_pairs, of_chains = (0, A + A * A), (A + A * A, None)
        label, rank = combinations(A, self.L)
        place = splits.positions[label, rank].astype(jnp.int32)
        weight = (rank >= splits.trained_positions(hyper.n1, label)) & (label < h + hyper.n_labels)
        images = self.single(label, place)
        number, always = label[None], jnp.ones((1, len(label)), bool)
        single = EvalSet(images, images, 1.0 * weight, label[None], number, always, number[None], of_pairs)

        keys = jax.random.split(key)
        trained = draw_different(keys[0], 3, SAMPLE, hyper.n_labels)
        draws = self.drawn(splits, trained)
        first = hyper.n2 if draws is None else ranks_seen(draws, hyper.n2)
        ranks = jax.random.randint(keys[1], (SAMPLE,), first, self.n_layouts)
        seen = trained + h, self.layout(splits, trained, ranks)
        triples = np.array(list(itertools.permutations(range(h), 3))).T
        layouts = self.eval_layouts.T
        unseen = jnp.repeat(triples, layouts.shape[1], 1), jnp.tile(layouts, (1, triples.shape[1]))
        sets = {"single": single}
        for name, (labels, places) in (("seen", seen), ("unseen", unseen)):
            common = self.image_edits(labels, places), self.image_edits(labels[::-1], places), jnp.ones(labels.shape[1]), labels
            of_pair = lambda pair, labels=labels: A + labels[pair[0]] * A + labels[pair[1]]
            true, hard_negatives = (jnp.stack([of_pair(pair[::step]) for pair in OBJECT_PAIRS]) for step in (1, -1))
            sets[f"{name}_pair"] = EvalSet(*common, true, jnp.ones_like(true, bool), hard_negatives[None], of_pairs)
            chain = lambda order, labels=labels: (labels[order[0]] * A + labels[order[1]]) * A + labels[order[2]]
            true, hard_negatives = chain((0, 1, 2))[None], jnp.stack([chain(order)[None] for order in ORDERS])
            sets[f"{name}_chain"] = EvalSet(*common, true, jnp.ones_like(true, bool), hard_negatives, of_chains)
        return sets


TASK = Three
