"""Does a pretrained model tell left from right? A probe of pictures drawn here, and of a folder of pictures with captions.

`drawn` asks pictures of `pretrained.scenes`; `of_folder` asks the layout of What's Up (a JSON list of `image_path` and
`caption_options`, the true caption first) or a CSV with the columns `image`, `caption` and one or more columns of wrong captions.
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lrjax.errors import InputError
from lrjax.pretrained.effects import TIE, EvalSet, order_of
from lrjax.pretrained.model import BATCH, Model
from lrjax.pretrained.pixels import opened
from lrjax.pretrained.result import Result, table
from lrjax.pretrained.scenes import TEMPLATES, Scene, caption_of, check_templates, relation_of
from lrjax.stats import Table


def drawn(model: Model, scenes: Sequence[Scene], templates: Sequence[str] = TEMPLATES, **columns) -> Result:
    """Ask drawn scenes.

    Args:
        model: A model with a text encoder.
        scenes: What is drawn.
        templates: Captions with {a} and {b}; those with the word "right" name the right thing first.
        **columns: Further columns of the table, one value each, such as positions="exchanged".

    Returns:
        A row a scene and template: `relation` (left or right), `distance` in columns, `background`, `scale`, the things `left` and
        `right`; `order`, whether the true
        caption is above the swapped one (a tie counts half); `margin`, the difference of their logits; `label_set`, whether the
        best of the template's captions of all pairs of things here names the right things.

    Raises:
        InputError: There are no scenes or no templates, or a template does not name {a} and {b}.
    """
    check_templates(templates)
    images = embed(model, scenes)
    ordered = list(dict.fromkeys(order for s in scenes for order in ((s.left, s.right), (s.right, s.left))))
    tables = []
    for template in templates:
        captions = [caption_of(template, left, right) for left, right in ordered]
        logits = model.similarities(images, model.embed_texts(captions))
        true = np.array([ordered.index((s.left, s.right)) for s in scenes])
        swapped = np.array([ordered.index((s.right, s.left)) for s in scenes])
        rows = np.arange(len(scenes))
        margin = logits[rows, true] - logits[rows, swapped]
        best = logits.argmax(1)
        tables.append(
            table(
                model.name,
                template=template,
                relation=relation_of(template),
                scene=rows,
                **_axes(scenes),
                order=order_of(margin),
                margin=margin,
                label_set=((best == true) | (best == swapped)).astype(float),
                **columns,
            )
        )
    whole: Table = {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}
    by = ("model", *columns, "relation", "distance")
    return Result("drawn", whole, ("order", "margin", "label_set"), (*columns, "template", "scene"), by=by)


def _axes(scenes: Sequence[Scene]) -> dict[str, list]:
    """What a table says of each scene."""
    names = ("distance", "background", "scale")
    of_things = {side: [str(getattr(scene, side)) for scene in scenes] for side in ("left", "right")}
    return {name: [getattr(scene, name) for scene in scenes] for name in names} | of_things


def embed(model: Model, scenes: Sequence[Scene]) -> np.ndarray:
    """Unit embeddings of drawn scenes [n, e], a few pictures at a time."""
    if not len(scenes):
        raise InputError("scenes: are empty; expected at least one")
    size = model.config.vision.image_size
    parts = [scenes[i : i + BATCH] for i in range(0, len(scenes), BATCH)]
    return np.concatenate([model.embed_images(model.pixels([s.draw(size) for s in part])) for part in parts])


def eval_set(model: Model, scenes: Sequence[Scene], template: str = TEMPLATES[0]) -> EvalSet:
    """Scenes with their true and swapped captions, for `effects`."""
    check_templates([template])
    size = model.config.vision.image_size
    pixels = model.pixels([scene.draw(size) for scene in scenes])
    return EvalSet(pixels, [s.caption(template) for s in scenes], [s.caption(template, swapped=True) for s in scenes])


class Item(NamedTuple):
    """A picture with its captions, the true one first."""

    picture: Path
    captions: tuple[str, ...]


def of_folder(model: Model, folder: str | Path) -> Result:
    """Ask a folder of pictures with captions.

    Returns:
        A row a picture: `correct`, whether the true caption is the most similar (a tie counts its share); `margin`, its logit minus
        that of the best wrong one; `chance`, one over the number of captions.

    Raises:
        InputError: The folder has no list of pictures, or a line of it cannot be used; one line names it.
    """
    if not isinstance(folder, str | Path):
        raise InputError(f"folder={folder!r}: is no path; expected a folder of pictures with captions")
    folder = Path(folder).expanduser()
    items, found = read_items(folder), []
    for i in range(0, len(items), BATCH):
        part = items[i : i + BATCH]
        images = model.embed_images(model.pixels([item.picture for item in part]))
        texts = model.embed_texts([caption for item in part for caption in item.captions])
        ends = np.cumsum([len(item.captions) for item in part])[:-1]
        for image, captions in zip(images, np.split(texts, ends), strict=True):
            logits = model.similarities(image[None], captions)[0]
            equal = (abs(logits - logits.max()) < TIE).sum()
            correct = float(logits[0] > logits.max() - TIE) / equal
            found.append((correct, logits[0] - logits[1:].max(), 1 / len(logits)))
    correct, margin, chance = np.array(found).T
    names = [str(item.picture.relative_to(folder)) if item.picture.is_relative_to(folder) else str(item.picture) for item in items]
    of_items = dict(image=names, caption=[item.captions[0] for item in items])
    rows = table(model.name, **of_items, correct=correct, margin=margin, chance=chance)
    return Result("folder", rows, ("correct", "margin", "chance"), ("image", "caption"))


def read_items(folder: Path) -> list[Item]:
    """The pictures and captions of a folder: of every JSON file in What's Up's layout and every CSV in it."""
    if not folder.is_dir():
        raise InputError(f"folder={str(folder)!r}: no such folder; expected one with a JSON or CSV list of pictures")
    items = []
    for path in sorted(folder.glob("*.json")):
        items += _of_json(path)
    for path in sorted(folder.glob("*.csv")):
        items += _of_csv(path)
    if not items:
        raise InputError(
            f"folder={str(folder)!r}: has no JSON with image_path and caption_options, and no CSV with image and caption"
        )
    return items


def check_pictures(items: Sequence[Item]) -> None:
    """Raise InputError that names the first picture that cannot be read."""
    for item in items:
        opened(item.picture)


def _of_json(path: Path) -> list[Item]:
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: is no JSON ({error})") from error
    if not isinstance(found, list):
        return []
    items = []
    for i, row in enumerate(found):
        if not isinstance(row, dict) or not {"image_path", "caption_options"} <= set(row):
            raise InputError(f"{path}: entry {i} has no image_path and caption_options")
        items.append(_item(path, f"entry {i}", row["image_path"], row["caption_options"]))
    return items


def _of_csv(path: Path) -> list[Item]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:  # as spreadsheets write it too
            rows = list(csv.DictReader(file))
    except (ValueError, OSError, csv.Error) as error:
        raise InputError(f"{path}: is no CSV in UTF-8 ({error})") from error
    if rows and not {"image", "caption"} <= set(rows[0]):
        raise InputError(f"{path}: has the columns {', '.join(map(str, rows[0]))}; expected image, caption and wrong captions")
    wrong = [name for name in (rows[0] if rows else ()) if name not in ("image", "caption")]
    captions = lambda row: [row["caption"], *filter(None, map(row.get, wrong))]
    return [_item(path, f"line {i + 2}", row["image"], captions(row)) for i, row in enumerate(rows)]


def _item(path: Path, place: str, picture: Any, captions: Any) -> Item:
    """One entry, checked. A path that is not there is looked for by its last parts, as What's Up's paths begin elsewhere."""
    if not isinstance(captions, list) or len(captions) < 2 or not all(isinstance(c, str) and c.strip() for c in captions):
        raise InputError(f"{path}: {place}: captions={captions!r}: expected two captions or more, the true one first")
    if captions[0] in captions[1:]:
        raise InputError(f"{path}: {place}: the caption {captions[0]!r} stands among the wrong ones too; expected others there")
    parts = Path(str(picture)).parts
    for i in range(len(parts)):
        if (found := path.parent.joinpath(*parts[i:])).is_file():
            return Item(found, tuple(captions))
    raise InputError(f"{path}: {place}: {str(picture)!r}: no such picture in {path.parent}")
