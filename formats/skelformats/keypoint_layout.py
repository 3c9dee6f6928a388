"""Which joint layout keypoint lists have, and which form their files: told from a folder's first file."""

from __future__ import annotations

import mmap
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from skelformats.errors import FormatError, UnknownNameError
from skelformats.files import find_files
from skelformats.reader import Option, ReadOptions
from skelformats.skeleton import load_skeleton

LAYOUT_OF_COUNT: Mapping[int, str] = MappingProxyType(
    {
        14: "crowdpose14",
        16: "mpii16",
        17: "coco17",
        25: "openpose25",
        26: "halpe26",
        133: "coco17",
        136: "halpe26",
    }
)
"""Joint layout of a list of so many keypoints; a whole-body list (133, 136) begins with the body."""

AUTO = "auto"

LAYOUT_OPTION = Option(
    "layout",
    str,
    AUTO,
    "Joint layout of the keypoint lists: its name or a TOML file; auto tells it from the number of keypoints "
    "in the first file.",
)

Form = Literal["annotations", "results", "mpii"]
"""An object with annotations, a list of results, or the list that MPII's annotations are distributed as."""

_KEYPOINTS = re.compile(
    # possessive, so that what does not match is given up at once
    rb'"(?P<key>(?:pose_)?keypoints(?:_2d)?|joints)"\s*:\s*\[(?P<values>(?:[^\[\]"]++|\[[^\[\]"]*+\])*+)\]'
)
_PEEKED_FILES = 64


@dataclass(frozen=True)
class Shape:
    """What a folder's first file shows: its form, and how many keypoints its lists have."""

    form: Form
    keypoints: int


def peek(root: Path) -> Shape | None:
    """Tell the shape of the first JSON file below ``root`` that has a keypoint list; None where none has.

    Every worker asks this again for every source, so the answer is kept as long as the folder is unchanged.
    """
    return _peek(root, root.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _peek(root: Path, changed: int) -> Shape | None:
    for name, _ in find_files(root, ".json")[:_PEEKED_FILES]:
        if shape := _shape(root / name):
            return shape
    return None


def _shape(path: Path) -> Shape | None:
    """Look into one file without parsing it: annotation files have hundreds of megabytes."""
    if not path.stat().st_size:
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        is_list = text[:256].lstrip()[:1] == b"["
        for match in _KEYPOINTS.finditer(text):
            values = match["values"]
            if not values.strip():
                continue
            if match["key"] == b"joints":
                # pairs, and visibilities in a list of their own
                return Shape("mpii", values.count(b"[")) if is_list and b"[" in values else None
            if b"[" not in values:
                return Shape("results" if is_list else "annotations", (values.count(b",") + 1) // 3)
    return None


def layout_name(options: ReadOptions, shape: Shape | None, default: str) -> str:
    """Return the layout that the option asks for, or that the number of keypoints means."""
    asked = str(options.values.get("layout", AUTO))
    if asked != AUTO:
        return asked
    return LAYOUT_OF_COUNT.get(shape.keypoints, default) if shape else default


def check_names(path: Path, names: Any, layout: str) -> None:
    """Check the joints' names that a file gives, if it does, against the layout that their number means.

    Names that the layout does not know are not an objection: files spell joints in many ways.

    Raises
    ------
    FormatError
        A name is that of another joint of the layout.
    """
    skeleton = load_skeleton(layout)
    if not isinstance(names, list) or len(names) != len(skeleton):
        return
    for at, name in enumerate(names):
        try:
            known = skeleton.index(name) if isinstance(name, str) else at
        except UnknownNameError:
            continue
        if known != at:
            raise FormatError(
                path,
                f"joints called {', '.join(map(str, names[:4]))}, ...",
                f"those of {layout} in its order: {', '.join(skeleton.names[:4])}, ...",
                action="Write their layout as a TOML file and name it with --layout",
            )
