"""Captions of a task as sequences of words, and the captions of a batch: what objectives and analyses of every task share.

Axes: B images of a batch, c captions, S edits of a caption.
"""

import dataclasses

import jax
import jax.numpy as jnp

from lrjax.data.scenes import BACKGROUND, SequenceTemplate, TokenEdits, render, single_caption_edits
from lrjax.data.tasks.base import Batch, Captions, Task


def noisy(key: jax.Array, batch: Batch, p: jax.Array, number: jax.Array | None = None) -> Batch:
    """The batch with noisy captions: each caption is replaced by its hard negative with probability p.

    Args:
        key: The random key.
        batch: The batch.
        p: [], the probability.
        number: [B], the number of each item of a finite set. Then the same items are always replaced. None: drawn anew.
    """
    captions, hard_negatives = [], []
    for i, (right, other) in enumerate(zip(batch.captions, batch.hard_negatives, strict=True)):
        template_key = jax.random.fold_in(key, i)
        if number is None:
            flip = jax.random.uniform(template_key, right.tokens.shape[1:]) < p
        else:
            flip = (
                jax.vmap(lambda item, template_key=template_key: jax.random.uniform(jax.random.fold_in(template_key, item)))(number)
                < p
            )
        choose = lambda a, b, flip=flip: jax.tree.map(lambda a, b: jnp.where(flip, a, b), a, b)
        captions.append(choose(other, right))
        hard_negatives.append(choose(right, other))
    return dataclasses.replace(batch, captions=tuple(captions), hard_negatives=tuple(hard_negatives))


def of_one(task: Task, label: jax.Array | None = None) -> tuple[SequenceTemplate, TokenEdits]:
    """Captions of one object of `label` [c]; of every label if none is given."""
    return task.single_caption, single_caption_edits(jnp.arange(task.n_labels_total) if label is None else label, task.n_first)


def all_captions(task: Task, captions: Captions) -> tuple[tuple[SequenceTemplate, TokenEdits], ...]:
    """Templates and edits of all captions of a task, in the order of their numbers."""
    return (of_one(task), *zip(task.caption_templates, captions.edits, strict=True))


def batch_words(task: Task, batch: Batch) -> jax.Array:
    """The words [B, caption_length] of a batch's captions."""
    captions = (of_one(task, batch.label), *zip(task.caption_templates, batch.captions, strict=True))
    return of_kind(batch.kind, [words_of(task, (caption,)) for caption in captions])


def of_kind(kind: jax.Array | None, parts: list[jax.Array]) -> jax.Array:
    """Arrays [B, ...] of every kind as one array: each row is that of its `kind` [B]. Without kinds they stand side by side."""
    if kind is None:
        return jnp.concatenate(parts)
    chosen = parts[0]
    for i, part in enumerate(parts[1:], 1):
        chosen = jnp.where((kind == i).reshape(-1, *[1] * (part.ndim - 1)), part, chosen)
    return chosen


def words_of(task: Task, captions: tuple[tuple[SequenceTemplate, TokenEdits], ...]) -> jax.Array:
    """The words [c, caption_length] of captions, each a template and its edits [S, c']; the shorter ones end in background."""
    pad = lambda ids: jnp.pad(ids, [(0, 0), (0, task.caption_length - ids.shape[1])], constant_values=BACKGROUND)
    return jnp.concatenate([pad(render(*caption)) for caption in captions])
