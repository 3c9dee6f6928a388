"""One crop: the box around a pose, the picture within it, and its JPEG bytes.

Pixels are counted from the picture's upper left corner, so the middle of the first one is at (0.5, 0.5).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CROP_WIDTH, CROP_HEIGHT = 192, 256
"""Pixels of a crop (UniHPR, arXiv 2510.19078: 192 x 256)."""

WIDENED = 1.25
"""The joints' box is made so many times as large, so that head, hands and feet are in it."""

JPEG_QUALITY = 90

_SMALLEST = 8.0
"""Pixels that a box has at least in height, before it is widened: joints in one place still make a crop."""

_LEAST_INSIDE = 0.1
"""Part of the box that must lie within the picture."""


class CropRefusedError(Exception):
    """A crop that is set aside; the text says why."""


def crop_box(pixel: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return left, top, right, bottom of the box of a crop around joints (J, 2), with the crop's proportions.

    Raises
    ------
    CropRefusedError
        Every joint is missing (NaN).
    """
    seen = np.asarray(pixel, np.float64)[np.isfinite(pixel).all(axis=1)]
    if not len(seen):
        raise CropRefusedError("found every joint missing, expected at least one to cut around")
    return to_proportions(np.concatenate([seen.min(axis=0), seen.max(axis=0)]), WIDENED)


def to_proportions(box: NDArray[np.floating[Any]], widened: float = 1.0) -> NDArray[np.float64]:
    """Grow a box (left, top, right, bottom) about its middle to a crop's proportions, then by a factor."""
    low, high = np.asarray(box[:2], np.float64), np.asarray(box[2:], np.float64)
    aspect = CROP_WIDTH / CROP_HEIGHT
    height = max(high[1] - low[1], (high[0] - low[0]) / aspect, _SMALLEST) * widened
    half = np.array([height * aspect, height]) / 2
    centre = (low + high) / 2
    return np.concatenate([centre - half, centre + half])


def open_picture(file: Path) -> Any:
    """Open a picture with pillow, whose pixels are read when they are cut; raises `CropRefusedError`."""
    from PIL import Image

    try:
        with _readable(f"picture {file.name}"):
            return Image.open(file)
    except FileNotFoundError as error:
        raise CropRefusedError(f"found no picture {file.name}, expected one for this frame") from error


@contextmanager
def _readable(what: str) -> Iterator[None]:
    """Turn whatever pillow raises for a damaged file into `CropRefusedError`."""
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except FileNotFoundError:
        raise
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise CropRefusedError(f"found a {what} that cannot be read ({error})") from error


def to_crop(pixel: NDArray[np.floating[Any]], box: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Map pixels (..., 2) of the picture to pixels of the crop that ``box`` (..., 4) cuts out of it."""
    low, high = np.asarray(box, np.float64)[..., :2], np.asarray(box, np.float64)[..., 2:]
    return (pixel - low) * (CROP_WIDTH, CROP_HEIGHT) / (high - low)


def cut(picture: Any, box: NDArray[np.float64]) -> tuple[bytes, tuple[int, int]]:
    """Cut ``box`` out of a pillow image, black beyond its edges: JPEG bytes, and the image's width and
    height.

    Raises
    ------
    CropRefusedError
        The picture cannot be read, or the box lies outside of it.
    """
    from PIL import Image

    size: tuple[int, int] = picture.size
    _check_inside(box, size)
    whole = (int(np.floor(box[0])), int(np.floor(box[1])), int(np.ceil(box[2])), int(np.ceil(box[3])))
    with _readable("picture"):
        part = picture.convert("RGB").crop(whole)
    inner = (box[0] - whole[0], box[1] - whole[1], box[2] - whole[0], box[3] - whole[1])
    crop = part.resize((CROP_WIDTH, CROP_HEIGHT), Image.Resampling.BILINEAR, box=inner)
    buffer = io.BytesIO()
    crop.save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue(), size


def _check_inside(box: NDArray[np.float64], size: tuple[int, int]) -> None:
    overlap = np.minimum(box[2:], size) - np.maximum(box[:2], 0)
    share = float(np.prod(np.maximum(overlap, 0)) / np.prod(box[2:] - box[:2]))
    # a box far larger than its picture is no better, and would take memory
    if share < _LEAST_INSIDE:
        edges = ", ".join(f"{edge:.0f}" for edge in box)
        raise CropRefusedError(
            f"found the person's box ({edges}) with {share:.0%} of it in the picture of {size[0]} x "
            f"{size[1]} pixels, expected at least {_LEAST_INSIDE:.0%}"
        )
