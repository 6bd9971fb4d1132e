"""Scenes and captions as people write and read them.

A scene is a row of cells, `.` for background, a label's name for an object: `"h1 . . h2 . . . . . ."`. A grid has a line for each
row of pixels, or rows joined by `/`. Held-out labels are h1, h2, ...; trained labels are 1, 2, ... . A caption is an English
sentence: `"h1 is on the left of h2"`.
"""

import math
from collections.abc import Sequence

import jax
import numpy as np

from lrjax.data.captions import all_captions, words_of
from lrjax.data.scenes import BACKGROUND, EOT, IS, label_name
from lrjax.data.tasks.base import Task
from lrjax.errors import InputError, suggest

NOTHING = "."  # a cell of background


def read_scene(task: Task, text: str, n_labels: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Labels and places of the objects of a scene, in reading order.

    Args:
      task: the task that the scene is of.
      text: the scene as people write it.
      n_labels: N, how many labels the model trains on; other labels do not exist for the model.

    Returns:
      labels (numbers, held-out labels first) and places (numbers of the task's places), one for each object.

    Raises:
      InputError: the scene has another shape than the task's, a cell is no label, or the task has no such image.
    """
    rows, columns = task.pixel_grid_shape
    cells = text.replace("/", "\n").split("\n")
    cells = [line.split() for line in cells if line.strip()]
    if [len(line) for line in cells] != [columns] * rows:
        found = " / ".join(str(len(line)) for line in cells) or "0"
        wanted = f"{columns} cells" if rows == 1 else f"{rows} rows of {columns} cells, joined by /"
        raise InputError(f"scene={text!r}: has {found} cells; expected {wanted}, {NOTHING!r} where no object is")
    labels = [label_name(a, task.n_heldout) for a in range(task.n_heldout + n_labels)]
    shown: dict[str, set[int]] = {}
    for number, cell in enumerate(cell for line in cells for cell in line):
        if cell != NOTHING and cell not in labels:
            names = f"h1..h{task.n_heldout} (held out) or 1..{n_labels} (trained)"
            is_held_out = cell.lower().startswith("h")
            alike = [label for label in labels if label.startswith("h") == is_held_out]
            raise InputError(f"scene={text!r}: {cell!r} is no label{suggest(cell, alike)}; expected {names}, or {NOTHING!r}")
        if cell != NOTHING:
            shown.setdefault(cell, set()).add(number)
    if len(shown) not in (1, task.objects_per_scene):
        raise InputError(f"scene={text!r}: shows {len(shown)} labels; expected 1, or {task.objects_per_scene} different ones")
    objects = sorted((_place_of(task, text, cell, pixels), labels.index(cell)) for cell, pixels in shown.items())
    places, numbers = (tuple(values) for values in zip(*objects, strict=True))
    if len(objects) > 1 and not (task.layouts == np.array(places)).all(1).any():
        raise InputError(f"scene={text!r}: task={task.relations!r} says nothing of such a layout; expected another layout")
    return numbers, places


def _place_of(task: Task, text: str, name: str, pixels: set[int]) -> int:
    """The place of the object that shows exactly these pixels."""
    for place in range(task.n_places):
        if set(task.pixels_of(place)) == pixels:
            return place
    size = math.isqrt(len(task.pixels_of(0)))
    raise InputError(f"scene={text!r}: {name!r} fills {len(pixels)} cells; expected one object of {size} x {size} cells")


def write_scene(task: Task, labels: Sequence[int], places: Sequence[int]) -> str:
    """The scene of `labels` at `places` as people write it. The inverse of `read_scene`."""
    rows, columns = task.pixel_grid_shape
    cells = [NOTHING] * (rows * columns)
    for label, place in zip(labels, places, strict=True):
        for pixel in task.pixels_of(int(place)):
            cells[pixel] = label_name(int(label), task.n_heldout)
    lines = [" ".join(cells[row * columns : (row + 1) * columns]) for row in range(rows)]
    return " / ".join(lines)


def write_caption(task: Task, ids: Sequence[int]) -> str:
    """One caption for people.

    Args:
      task: the task that the caption is of.
      ids: [T] token ids of the caption.

    Returns:
      An English sentence, such as `3 is on the left of 7`, `3 is in the image`, `3 is on the left of 7, which is ...`.
    """
    names, parts, n_relations = task.token_names(), [], 0
    for token in (int(token) for token in ids):
        if token in (EOT, BACKGROUND):
            break
        if token == IS:  # "is" of a caption of four tokens, which the phrase has already
            continue
        phrase = task.PHRASES.get(names[token])
        if phrase is None:
            parts.append(names[token])
        else:
            parts.append(f", which {phrase} " if n_relations else f" {phrase} ")
            n_relations += 1
    return "".join(parts).strip()


def captions_of(task: Task, captions) -> list[str]:
    """All captions of a task, in the order of their numbers, as people read them; `captions`: what `Task.captions` returns."""
    ids = np.asarray(jax.device_get(words_of(task, all_captions(task, captions))))
    return [write_caption(task, row) for row in ids]
