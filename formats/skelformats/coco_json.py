"""What annotation files in COCO's form share: lists of objects, image sizes, subsets by folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from skelformats.errors import FormatError
from skelformats.keypoints import whole


def list_in(path: Path, content: Mapping[str, Any], key: str, expected: str) -> list[Any]:
    """Return the list that stands under a key; raises `FormatError` where there is none."""
    found = content.get(key)
    if not isinstance(found, list):
        raise FormatError(path, f"{key!r} of type {type(found).__name__}", expected)
    return found


def image_size(path: Path, where: str, image: Mapping[str, Any]) -> dict[str, int]:
    """Return ``width`` and ``height`` of an image in pixels, -1 where the file does not tell."""
    return {key: whole(path, f"{where} {key}", image.get(key, -1), -1) for key in ("width", "height")}


def subset_of(path: str, subsets: Sequence[str]) -> str:
    """Return the name of the folder that a file lies in where it is one of ``subsets``, else nothing."""
    folder = PurePosixPath(path).parent.name
    return folder if folder in subsets else ""
