"""Pictures as a model's own preprocessing makes them: resize, crop, scale, normalise; and position rows for another size of image.

Steps and their order are those of Hugging Face's image processors and of OpenCLIP, which both resize with Pillow.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from lrjax.errors import InputError, warn
from lrjax.pretrained.config import LARGEST_IMAGE, OPEN_CLIP_CONFIG, EncoderConfig, Fields, read_json

PREPROCESSOR = "preprocessor_config.json"
BICUBIC, BILINEAR = 3, 2  # Pillow's numbers
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
DINO_MEAN, DINO_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Values of OpenCLIP's preprocess_cfg that are known here; a filter by Pillow's number.
OPEN_CLIP_KNOWN: dict[str, dict[str, int]] = {
    "interpolation": {"bicubic": BICUBIC, "bilinear": BILINEAR},
    "resize_mode": {"shortest": 0, "squash": 0},
    "mode": {"RGB": 0},
}
Picture = np.ndarray | Image.Image | str | Path


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes pixels.

    Attributes:
        shortest: What the shorter side is resized to; 0 if the picture is resized to `size` at once.
        size: Height and width of the pixels; cut from the middle after the shorter side was resized.
        resample: Pillow's number of a filter.
        mean, std: Of each channel, after pixels were scaled to 0..1.
        rounded: Whether an odd border is rounded (OpenCLIP) or cut down (Hugging Face) when the middle is cut out.
    """

    shortest: int
    size: tuple[int, int]
    resample: int = BICUBIC
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    rounded: bool = False

    def __call__(self, picture: Picture) -> np.ndarray:
        """The pixels [3, H, W] of one picture."""
        image = opened(picture)
        height, width = self.size
        if self.shortest:
            short, long = sorted(image.size)
            longer = int(self.shortest * long / short)
            of_size = (self.shortest, longer) if image.width <= image.height else (longer, self.shortest)
            image = image.resize(of_size, self.resample)
            image = image.crop(self._middle(*image.size))
        else:
            image = image.resize((width, height), self.resample)
        scaled = np.asarray(image, np.float32) / np.float32(255)
        return ((scaled - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)).transpose(2, 0, 1)

    def _middle(self, width: int, height: int) -> tuple[int, int, int, int]:
        """left, upper, right, lower of the middle; what lies outside is black."""
        half = (lambda n: round(n / 2)) if self.rounded else (lambda n: n // 2)
        top, left = half(height - self.size[0]), half(width - self.size[1])
        return left, top, left + self.size[1], top + self.size[0]

    def resized(self, image_size: int) -> "Preprocessing":
        """The same for square images of this size. Raises InputError if it is no number of pixels."""
        if not isinstance(image_size, int) or isinstance(image_size, bool) or image_size < 1:
            raise InputError(f"image_size={image_size!r}: expected a whole number of pixels, 1 or more")
        scale = image_size / self.size[0]
        return dataclasses.replace(self, shortest=round(self.shortest * scale), size=(image_size, image_size))


def opened(picture: Picture) -> Image.Image:
    """A picture in RGB: a Pillow image, an array [H, W, 3] or [H, W] of bytes, or a path. Raises InputError if it is none."""
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[2] != 3):
            kind = f"{picture.dtype} {list(picture.shape)}"
            raise InputError(f"picture: is an array {kind}; expected bytes (uint8) [height, width, 3]")
        return Image.fromarray(picture).convert("RGB")
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    if not isinstance(picture, str | Path):
        raise InputError(f"picture={picture!r}: expected a path, a Pillow image or bytes [height, width, 3]")
    try:
        with Image.open(picture) as image:
            return image.convert("RGB")
    except FileNotFoundError as error:
        raise InputError(f"{picture}: no such picture") from error
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise InputError(f"{picture}: cannot be read as a picture ({error}); expected a PNG or JPEG file") from error


def read_preprocessing(folder: Path, kind: str, vision: EncoderConfig) -> Preprocessing:
    """The preprocessing of a folder of weights: its `preprocessor_config.json`, OpenCLIP's config, or the usual one of its kind.

    Raises:
        InputError: The config asks for what is not known here, or for images that the encoder cannot read.
    """
    image_size = vision.image_size
    square = (image_size, image_size)
    if kind == "open_clip" and (path := folder / OPEN_CLIP_CONFIG).is_file():
        return _of_open_clip(Fields(read_json(path), str(path)).part("preprocess_cfg"), image_size)
    if not (path := folder / PREPROCESSOR).is_file():
        if kind == "siglip":
            return Preprocessing(0, square, mean=(0.5,) * 3, std=(0.5,) * 3)
        of_dino = (DINO_MEAN, DINO_STD) if kind == "dinov2" else (CLIP_MEAN, CLIP_STD)
        return Preprocessing(image_size, square, BICUBIC, *of_dino)
    found = _of_hugging_face(Fields(read_json(path), str(path)), square)
    height, width = found.size
    if height != width or not vision.patch_size <= height <= LARGEST_IMAGE:
        sizes = f"square ones of {vision.patch_size} (a patch) to {LARGEST_IMAGE} pixels"
        raise InputError(f"{path}: images are {height} x {width} pixels; expected {sizes}")
    if found.size != square:
        warn(f"{path}: images are {height} pixels, and image_size of the config is {image_size}: position rows are interpolated")
    return found


def _of_open_clip(fields: Fields, image_size: int) -> Preprocessing:
    """OpenCLIP's `preprocess_cfg`. The filter is bicubic unless the config says bilinear."""
    given = {
        name: fields(name, usual, str)
        for name, usual in (("interpolation", "bicubic"), ("resize_mode", "shortest"), ("mode", "RGB"))
    }
    for name, value in given.items():
        if value not in OPEN_CLIP_KNOWN[name]:
            raise InputError(f"{fields.where}: {name}={value!r}: is not known here; expected {' or '.join(OPEN_CLIP_KNOWN[name])}")
    size = fields.values.get("size")
    if size not in (None, image_size, [image_size] * 2):
        raise InputError(f"{fields.where}: size={size!r}: is not the image_size of vision_cfg; expected {image_size}")
    mean, std = _normalisation(fields, "mean", "std")
    squash = given["resize_mode"] == "squash"
    resample = OPEN_CLIP_KNOWN["interpolation"][given["interpolation"]]
    return Preprocessing(0 if squash else image_size, (image_size, image_size), resample, mean, std, rounded=True)


def _of_hugging_face(fields: Fields, square: tuple[int, int]) -> Preprocessing:
    for name in ("do_resize", "do_rescale", "do_normalize"):
        if not fields(name, True, bool):
            raise InputError(f"{fields.where}: {name}=False: is not known here; expected true")
    if abs(fields("rescale_factor", 1 / 255, float) * 255 - 1) > 1e-6:
        raise InputError(f"{fields.where}: rescale_factor={fields.values['rescale_factor']}: expected 1/255")
    mean, std = _normalisation(fields, "image_mean", "image_std")
    resample, size = fields("resample", BICUBIC), _size(fields, "size")
    if resample not in list(Image.Resampling):
        known = ", ".join(f"{filter.value} ({filter.name.lower()})" for filter in sorted(Image.Resampling))
        raise InputError(f"{fields.where}: resample={resample}: is no filter of Pillow; expected one of {known}")
    if isinstance(size, tuple):
        return Preprocessing(0, size, resample, mean, std)
    crop = _size(fields, "crop_size") if fields("do_center_crop", True, bool) else size
    crop = (crop, crop) if isinstance(crop, int) else crop
    return Preprocessing(size or square[0], crop if crop[0] else square, resample, mean, std)


def _size(fields: Fields, name: str) -> int | tuple[int, int]:
    """A size of a config: the shorter side (0 if it is not there), or height and width."""
    value = fields.values.get(name) or 0
    if isinstance(value, dict):
        found = value.get("shortest_edge") or (value.get("height", 0), value.get("width", 0))
    else:
        found = value
    numbers = found if isinstance(found, tuple) else (found,)
    if not all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**14 for n in numbers):
        raise InputError(f"{fields.where}: {name}={value!r}: expected shortest_edge, or height and width, in pixels")
    return found


def _normalisation(fields: Fields, *names: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean and the deviation of channels, by their names in a config."""
    mean, std = (_triple(fields, name, usual) for name, usual in zip(names, (CLIP_MEAN, CLIP_STD), strict=True))
    if min(std) <= 0:
        raise InputError(f"{fields.where}: {names[1]}={list(std)}: expected three numbers above 0, which pixels are divided by")
    return mean, std


def _triple(fields: Fields, name: str, usual: Sequence[float]) -> tuple[float, ...]:
    value: Any = fields(name, list(usual), list)
    if len(value) != 3 or not all(isinstance(v, int | float) and math.isfinite(v) for v in value):
        raise InputError(f"{fields.where}: {name}={value!r}: expected three finite numbers")
    return tuple(map(float, value))


def interpolation(n_in: int, n_out: int) -> np.ndarray:
    """Torch's bicubic interpolation (a = -0.75, edges repeated, not aligned at corners) as a matrix [n_out, n_in]."""
    a, at = -0.75, (np.arange(n_out) + 0.5) * n_in / n_out - 0.5
    left, matrix = np.floor(at).astype(int), np.zeros((n_out, n_in))
    for offset in (-1, 0, 1, 2):
        x = abs(at - (left + offset))
        near, far = ((a + 2) * x - (a + 3)) * x * x + 1, ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        np.add.at(matrix, (np.arange(n_out), np.clip(left + offset, 0, n_in - 1)), np.where(x <= 1, near, far))
    return matrix


def interpolate_positions(P: np.ndarray, grid: int, has_cls: bool) -> np.ndarray:
    """Position rows [p, d] for a grid of another size, as DINOv2 interpolates its own; the class token's row stays."""
    own, patches = (P[:1], P[1:]) if has_cls else (P[:0], P)
    side = int(np.sqrt(len(patches)))
    if side == grid:
        return P
    matrix = interpolation(side, grid)
    found = np.einsum("ai,bj,ijd->abd", matrix, matrix, patches.reshape(side, side, -1))
    return np.concatenate([own, found.reshape(grid * grid, -1)]).astype(np.float32)
