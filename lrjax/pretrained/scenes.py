"""Pictures drawn here: two coloured shapes or digits beside each other, with captions that are true of them.

They need no download. Things, columns, size and background are axes, so that a probe can hold all but one of them still.
"""

import dataclasses
import itertools
import string
from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lrjax.errors import InputError, suggest

COLOURS = {
    "red": (214, 39, 40),
    "green": (44, 160, 44),
    "blue": (31, 80, 220),
    "yellow": (245, 210, 30),
    "black": (20, 20, 20),
    "purple": (148, 60, 189),
}
# Corners of polygons in a square of side 2 around 0; a circle has none.
SHAPES: dict[str, tuple[tuple[float, float], ...]] = {
    "circle": (),
    "square": ((-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)),
    "triangle": ((0, -1), (1, 0.85), (-1, 0.85)),
    "diamond": ((0, -1), (0.8, 0), (0, 1), (-0.8, 0)),
}
DIGITS = tuple("0123456789")  # drawn in the typeface that Pillow brings along
KINDS: dict[str, tuple[str, ...]] = {"shapes": tuple(SHAPES), "digits": DIGITS}
BACKGROUNDS = {"white": (255, 255, 255), "grey": (128, 128, 128)}
PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")  # scikit-image's own pictures
TEMPLATES = (
    "{a} to the left of {b}",
    "{a} is on the left of {b}",
    "a photo of {a} left of {b}",
    "{a} to the right of {b}",
    "{a} is on the right of {b}",
    "a photo of {a} right of {b}",
)
SMALLEST = 2  # pixels of the width of a thing: with fewer nothing is left of its shape
FINER = 4  # a picture is drawn so many times larger, then made smaller: edges are smooth


@dataclasses.dataclass(frozen=True)
class Thing:
    """A coloured shape or digit. Raises InputError if there is no such shape, digit or colour."""

    colour: str
    shape: str

    def __post_init__(self):
        for name, known in (("colour", COLOURS), ("shape", (*SHAPES, *DIGITS))):
            if (value := getattr(self, name)) not in tuple(known):
                raise InputError(
                    f"{name}={value!r}: does not exist{suggest(str(value), known)}; expected one of {', '.join(known)}"
                )

    def __str__(self) -> str:
        return f"a {self.colour} {self.shape}"


@dataclasses.dataclass(frozen=True)
class Scene:
    """Two things in a row of columns.

    Attributes:
        left, right: The things.
        at: Their columns, the smaller first.
        columns: How many columns there are.
        scale: The width of a thing over the width of a column.
        height: Where the row is, 0 at the top and 1 at the bottom.
        background: A name of BACKGROUNDS, or of PHOTOS (scikit-image is needed).
    """

    left: Thing
    right: Thing
    at: tuple[int, int]
    columns: int = 5
    scale: float = 0.8
    height: float = 0.5
    background: str = "white"

    def __post_init__(self):
        if not 0 <= self.at[0] < self.at[1] < self.columns:
            raise InputError(f"at={self.at}: expected two columns of 0..{self.columns - 1}, the left one first")
        if not isinstance(self.scale, int | float) or not 0 < self.scale <= 1:
            raise InputError(f"scale={self.scale}: expected a share of a column's width, above 0 and at most 1")

    @property
    def distance(self) -> int:
        """Columns between the two."""
        return self.at[1] - self.at[0]

    def draw(self, size: int = 224) -> np.ndarray:
        """The picture, bytes [size, size, 3]."""
        placed = zip((self.left, self.right), self.at, strict=True)
        return draw(list(placed), self.columns, size, self.scale, self.height, self.background)

    def caption(self, template: str, swapped: bool = False) -> str:
        """The caption of a template that is true of the scene, or the one with the things swapped."""
        return caption_of(template, *((self.right, self.left) if swapped else (self.left, self.right)))


def relation_of(template: str) -> str:
    """What a template says of its {a} and {b}: "right" if it has this word, or "left"."""
    return "right" if "right" in template.split() else "left"


def caption_of(template: str, left: Thing, right: Thing) -> str:
    """The caption of a template that says that `left` is left of `right`."""
    a, b = (right, left) if relation_of(template) == "right" else (left, right)
    return template.format(a=a, b=b)


def check_templates(templates: Sequence[str]) -> None:
    """Raise InputError if templates are no list of texts that each name {a} and {b} and nothing else."""
    if isinstance(templates, str) or not isinstance(templates, Sequence) or not len(templates):
        raise InputError(f"templates={templates!r}: expected a list of captions with {{a}} and {{b}}, at least one")
    for template in templates:
        try:
            fields = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
        except (TypeError, ValueError):  # no text, or a brace that is not closed
            fields = None
        if fields != {"a", "b"}:
            raise InputError(f"templates: {template!r}: expected a caption with {{a}} and {{b}}, such as {TEMPLATES[0]!r}")


def draw(
    placed: Sequence[tuple[Thing, int]], columns: int, size: int, scale: float = 0.8, height: float = 0.5, behind: str = "white"
) -> np.ndarray:
    """A picture of things in columns, bytes [size, size, 3]; the arguments are those of Scene, `behind` its background."""
    if (wide := scale * size / columns) < SMALLEST:
        least = f"{SMALLEST} or more: a larger scale, fewer columns or a larger picture"
        raise InputError(
            f"scale={scale}: a thing is {wide:.2g} pixels wide in a picture of {size} with {columns} columns; expected {least}"
        )
    picture = background(behind, size * FINER)
    canvas, width = ImageDraw.Draw(picture), size * FINER / columns
    radius = scale * width / 2
    for thing, column in placed:
        x, y = (column + 0.5) * width, radius + height * (size * FINER - 2 * radius)
        _draw_thing(canvas, thing, x, y, radius)
    return np.asarray(picture.resize((size, size), Image.Resampling.BOX))


def _draw_thing(canvas: ImageDraw.ImageDraw, thing: Thing, x: float, y: float, radius: float) -> None:
    """One thing around a place x, y, in pixels. A digit is as high as a circle."""
    colour = COLOURS[thing.colour]
    if thing.shape in DIGITS:
        font = ImageFont.load_default(size=2 * radius)
        left, top, right, bottom = font.getbbox(thing.shape)
        font = ImageFont.load_default(size=4 * radius * radius / (bottom - top))
        left, top, right, bottom = font.getbbox(thing.shape)
        canvas.text((x - (left + right) / 2, y - (top + bottom) / 2), thing.shape, fill=colour, font=font)
    elif corners := SHAPES[thing.shape]:
        canvas.polygon([(x + radius * u, y + radius * v) for u, v in corners], fill=colour)
    else:
        canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def background(name: str, size: int) -> Image.Image:
    """A background, size x size: one colour, or the middle of a photo."""
    if name in BACKGROUNDS:
        return Image.new("RGB", (size, size), BACKGROUNDS[name])
    if name not in PHOTOS:
        known = (*BACKGROUNDS, *PHOTOS)
        raise InputError(f"background={name!r}: does not exist{suggest(str(name), known)}; expected one of {', '.join(known)}")
    return _photo(name).resize((size, size))


@cache
def _photo(name: str) -> Image.Image:
    try:
        from skimage import data  # pyright: ignore[reportMissingImports]  # an extra
    except ImportError as error:
        raise InputError(
            f"background={name!r}: is a picture of scikit-image, which is not installed; expected white or grey"
        ) from error
    photo = Image.fromarray(getattr(data, name)())
    side = min(photo.size)
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    return photo.crop((left, top, left + side, top + side))


def things(kind: str = "shapes") -> list[Thing]:
    """All coloured shapes, or all coloured digits. Raises InputError if the kind is neither."""
    if kind not in tuple(KINDS):
        raise InputError(f"things={kind!r}: does not exist{suggest(str(kind), KINDS)}; expected one of {', '.join(KINDS)}")
    return [Thing(colour, shape) for colour in COLOURS for shape in KINDS[kind]]


def scenes(
    n_pairs: int = 4,
    columns: int = 5,
    backgrounds: Sequence[str] = ("white",),
    scales: Sequence[float] = (0.8,),
    kind: str = "shapes",
    seed: int = 0,
) -> list[Scene]:
    """Scenes of so many pairs of things that differ in colour and in shape, at all pairs of columns, each pair both ways round.

    Args:
        n_pairs: Unordered pairs of things, drawn from a seed.
        columns: Columns of a picture.
        backgrounds, scales: Each scene is drawn on each background in each size, as of Scene.
        kind: "shapes" or "digits".
        seed: Of the pairs.
    """
    if n_pairs < 1 or columns < 2:
        raise InputError(f"n_pairs={n_pairs}, columns={columns}: expected at least one pair and two columns")
    for name, given, known in (("backgrounds", backgrounds, "white or grey"), ("scales", scales, "widths such as 0.8")):
        if isinstance(given, str) or not len(given):
            raise InputError(f"{name}={given!r}: expected a list of {known}, at least one")
    pairs = [(a, b) for a, b in itertools.combinations(things(kind), 2) if a.colour != b.colour and a.shape != b.shape]
    if n_pairs > len(pairs):
        raise InputError(f"n_pairs={n_pairs}: there are {len(pairs)} pairs of things that differ in both")
    chosen = [pairs[i] for i in np.random.default_rng(seed).permutation(len(pairs))[:n_pairs]]
    ordered = [order for a, b in chosen for order in ((a, b), (b, a))]
    layouts = list(itertools.combinations(range(columns), 2))
    drawn = itertools.product(backgrounds, scales, ordered, layouts)
    return [Scene(a, b, at, columns, scale, background=name) for name, scale, (a, b), at in drawn]
