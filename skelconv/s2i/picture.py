"""Encoded images as pictures to look at: x, y, z as red, green, blue."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skelconv.extras import need
from skelconv.s2i.read import S2IStore

Stretch = Literal["image", "store"]
"""What becomes black and white in each channel: the smallest and largest value of the image, or of all."""

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def image_to_rgb(
    image: NDArray[np.floating[Any]],
    low: NDArray[np.floating[Any]] | None = None,
    high: NDArray[np.floating[Any]] | None = None,
) -> NDArray[np.uint8]:
    """Stretch an image to what a screen shows.

    Parameters
    ----------
    image
        (3, H, W); NaN becomes black.
    low, high
        (3,) values that become 0 and 255 in each channel, the image's own extremes by default; values beyond
        are cut off. A channel without any spread becomes mid-grey.

    Returns
    -------
    (H, W, 3) uint8: red, green, blue.
    """
    values = np.asarray(image, np.float64)
    finite = np.isfinite(values)
    if low is None:
        low = np.where(finite, values, np.inf).min(axis=(1, 2))
    if high is None:
        high = np.where(finite, values, -np.inf).max(axis=(1, 2))
    base, span = (np.asarray(bound, np.float64)[:, None, None] for bound in (low, high - low))
    flat = ~(np.isfinite(span) & (span > 0))
    share = np.where(
        flat, 0.5, (np.where(finite, values, 0) - np.where(flat, 0, base)) / np.where(flat, 1, span)
    )
    rgb = np.where(finite, np.clip(share, 0, 1) * 255, 0)
    return np.round(rgb).astype(np.uint8).transpose(1, 2, 0)


def png_bytes(rgb: NDArray[np.uint8], zoom: int = 1) -> bytes:
    """Encode an (H, W, 3) uint8 picture as PNG; each pixel becomes ``zoom`` by ``zoom``.

    Raises
    ------
    MissingExtraError
        Pillow is not installed.
    """
    need("PIL", "view")
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(rgb.repeat(zoom, axis=0).repeat(zoom, axis=1)).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def save_images(
    store: S2IStore, folder: str | Path, limit: int | None = None, stretch: Stretch = "image", zoom: int = 1
) -> list[Path]:
    """Write the first ``limit`` images of a store as ``<folder>/<sample id>.png``.

    Parameters
    ----------
    stretch
        ``image``: each image from its own extremes, to see what is in it. ``store``: all written images from
        their common ones, to compare them.

    Returns
    -------
    The files, in the order of the samples.

    Raises
    ------
    MissingExtraError
        Pillow is not installed.
    """
    count = len(store) if limit is None else min(limit, len(store))
    low = high = None
    if stretch == "store" and count:
        bounds = [_bounds(store.images(n, n + 1)[0]) for n in range(count)]
        low = np.min([bound[0] for bound in bounds], axis=0)
        high = np.max([bound[1] for bound in bounds], axis=0)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for n, name in enumerate(store.to_frame().index[:count]):
        file = folder / f"{file_name(str(name))}.png"
        if file in written:  # two ids that differ only in what a file name cannot hold
            file = file.with_stem(f"{file.stem}_{n}")
        file.write_bytes(png_bytes(image_to_rgb(store.images(n, n + 1)[0], low, high), zoom))
        written.append(file)
    return written


def file_name(sample: str) -> str:
    """Make a file name of a sample id, which comes from raw data: no folders, nothing hidden."""
    return _UNSAFE.sub("_", sample).lstrip(".") or "_"


def _bounds(image: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values = image.astype(np.float64)
    return values.min(axis=(1, 2)), values.max(axis=(1, 2))
