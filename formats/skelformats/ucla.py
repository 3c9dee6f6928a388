"""Northwestern-UCLA Multiview Action 3D, as the ``all_sqe`` folder of JSON files.

One file is one take of one person from one view: ``aAA_sSS_eEE_vVV.json`` with action, subject, take and
view, and ``{"file_name": ..., "skeletons": [T][20][3], "label": 1..10}`` inside. Raw values are metres in
the frame of a Kinect v1: right-handed, +y up, like the canonical axes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelformats.errors import FormatError
from skelformats.files import find_files
from skelformats.json_text import kind, load_json
from skelformats.protocols import load_facts
from skelformats.reader import Clip, Column, Dataset, Reader, ReadOptions, Source, Track

JOINTS = 20
NAME = re.compile(r"a(\d\d)_s(\d\d)_e(\d\d)_v(\d\d)")
BODY = "0"
"""The format has one person and no body ids."""

_FACTS = load_facts("ucla")
_CLASS_OF = {code: label for label, code in enumerate(_FACTS.others["action_codes"])}


def scan(root: Path, options: ReadOptions) -> list[Source]:
    """List every JSON file below ``root``, by name and size."""
    return [Source(path, size) for path, size in find_files(root, ".json")]


def read(root: Path, source: Source, options: ReadOptions) -> list[Clip]:
    """Parse one take.

    Raises
    ------
    FormatError
        The name or the content is not of this format.
    """
    path = root / source.path
    stem = Path(source.path).stem
    named = NAME.fullmatch(stem)
    if not named or int(named[1]) not in _CLASS_OF:
        raise FormatError(
            path,
            f"the file name {stem!r}",
            "aAA_sSS_eEE_vVV with an action among " + ", ".join(f"a{code:02d}" for code in _CLASS_OF),
        )
    action, subject, take, view = (int(number) for number in named.groups())
    label = _CLASS_OF[action]
    content = _parse(path)
    if content.get("label") != label + 1:
        raise FormatError(
            path,
            f"label {content.get('label')!r}",
            f"{label + 1}, the class of action a{action:02d}",
            action="The file was renamed or belongs to another distribution",
        )
    position = _positions(path, content.get("skeletons"))
    track = Track(BODY, np.arange(len(position), dtype=np.int32), position)
    columns = {"subject": subject, "camera": view, "take": take}
    splits = _FACTS.splits(stem, columns)
    return [Clip(stem, len(position), (track,), label, columns, splits)]


def _parse(path: Path) -> dict[str, Any]:
    content = load_json(path, "one JSON object")
    if not isinstance(content, dict):
        raise FormatError(path, f"a JSON {type(content).__name__}", "an object with 'skeletons' and 'label'")
    return content


def _positions(path: Path, skeletons: Any) -> NDArray[np.float32]:
    """Return (T, 20, 3) float32; a joint at exactly (0, 0, 0) was not seen and becomes NaN."""
    expected = f"a list of frames of {JOINTS} joints of 3 numbers"
    if not isinstance(skeletons, list) or not skeletons:
        raise FormatError(path, f"'skeletons' that is {kind(skeletons)}", expected)
    try:
        values = np.asarray(skeletons)
    except ValueError:  # frames of different shapes
        values = np.zeros(0)
    if values.dtype.kind not in "if" or values.shape[1:] != (JOINTS, 3):
        raise FormatError(path, _first_odd(skeletons), expected)
    position = values.astype(np.float32)
    position[(position == 0).all(axis=-1)] = np.nan
    return position


def _first_odd(skeletons: list[Any]) -> str:
    """Say which part of ``skeletons`` is not as it should be."""
    for t, frame in enumerate(skeletons):
        if not isinstance(frame, list) or len(frame) != JOINTS:
            return f"in frame {t} {kind(frame)}"
        for j, joint in enumerate(frame):
            if not isinstance(joint, list) or len(joint) != 3:
                return f"in frame {t}, joint {j} {kind(joint)}"
            for value in joint:
                if type(value) not in (int, float):
                    return f"in frame {t}, joint {j} the value {value!r:.40}"
    return "numbers beyond 64 bits"


UCLA = Reader(
    dataset=Dataset(
        name="ucla",
        title="Northwestern-UCLA Multiview Action 3D",
        skeleton="ucla20",
        licence="academic use; no licence text is distributed with the data",
        citation=(
            "J. Wang, X. Nie, Y. Xia, Y. Wu, S.-C. Zhu. Cross-view Action Modeling, Learning and "
            "Recognition. CVPR 2014"
        ),
        homepage="https://wangjiangb.github.io/my_data.html",
        # the distribution carries no time stamps
        frame_rate=None,
        classes=_FACTS.classes,
        columns=(
            Column("subject", "i4", "performer, 1 to 10"),
            Column("camera", "i4", "view, 1 to 3"),
            Column("take", "i4", "number of the take, from 0"),
        ),
        protocols=_FACTS.protocols,
        missing="a joint at exactly (0, 0, 0) in the raw file",
        cleaning="ucla",
    ),
    scan=scan,
    read=read,
)
