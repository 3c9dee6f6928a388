"""MediaPipe's landmarks as csv, a row a frame or a row a landmark: `read_csv`.

In a row of a frame a landmark's columns are told by number or name and what they are: ``x0``, ``0_x``,
``landmark_0_x``, ``LEFT_WRIST_x``, ``left_wrist.visibility``; of the world ``wx0``, ``world_x0``,
``LEFT_WRIST_world_x``. Numbers from 1 to 33 are those from 0 to 32. Rows of landmarks have them as ``x``,
``y``, ``z``, ``visibility``, ``presence``, ``wx`` or ``world_x``, and a column that numbers or names the
landmark.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skelformats import csv_text
from skelformats.errors import FormatError
from skelformats.mediapipe_landmarks import FIELDS, JOINTS, LAYOUT, OTHER_MODELS, Landmarks
from skelformats.skeleton import load_skeleton

EXPECTED = "columns of MediaPipe's landmarks: x0, y0, ... or LEFT_WRIST_x, ... or frame, landmark, x, y"

_ROLES: Mapping[str, tuple[str, ...]] = {
    "recording": ("recording", "video", "videoname", "clip", "file", "filename", "sequence"),
    "frame": ("frame", "frameindex", "frameidx", "framenumber", "framenum", "frameno", "frameid", "image"),
    "body": ("person", "personid", "body", "individual", "track", "trackid", "pose", "poseid", "poseindex"),
    "landmark": (
        "landmark",
        "landmarkid",
        "landmarkindex",
        "landmarkidx",
        "landmarkname",
        "joint",
        "keypoint",
    ),
    "width": ("width", "imagewidth", "framewidth", "videowidth"),
    "height": ("height", "imageheight", "frameheight", "videoheight"),
    "rate": ("fps", "framerate"),
}
"""Names of the columns beside the landmarks, without case and separators; the first that is there is
taken.
"""
_LATE_ROLES = {"landmark": ("name", "index", "id")}
_TIME = re.compile(r"time(?:stamp)?_?(?P<unit>us|ms|s|sec|seconds)", re.IGNORECASE)
_SECONDS = {"us": 1e-6, "ms": 1e-3}
_WORDS = {
    **{name: name for name in FIELDS},
    "v": "visibility",
    "vis": "visibility",
    "visib": "visibility",
    "score": "visibility",
    "confidence": "visibility",
    "p": "presence",
    "pres": "presence",
    "worldx": "wx",
    "worldy": "wy",
    "worldz": "wz",
}
_FIELD = re.compile(rf"(?P<what>{'|'.join(sorted(_WORDS, key=len, reverse=True))})(?P<number>\d{{1,3}})?")
_NOISE = {
    "pose",
    "landmarks",
    "landmark",
    "lm",
    "kp",
    "keypoint",
    "joint",
    "image",
    "norm",
    "normalized",
    "point",
}
_COUNTED = re.compile(r"^(lm|landmark|kp|keypoint|joint|point)(?=\d+$)")
_MOST_FRAMES = 2**31 - 2
_LARGEST = 1e7


def read_csv(path: Path) -> Landmarks:
    """Read one file.

    Raises
    ------
    FormatError
        It is not text, has no landmarks of MediaPipe Pose, or a cell that is not a number.
    """
    rows = _rows(path)
    columns = [str(column) for column in rows.columns]
    plain = {_plain(column): column for column in reversed(columns)}
    roles = {
        role: next((plain[name] for name in names if name in plain), "") for role, names in _ROLES.items()
    }
    long = {field: plain[word] for word, field in reversed(_WORDS.items()) if word in plain}
    if {"x", "y"} <= set(long) or {"wx", "wy"} <= set(long):
        landmark = roles["landmark"] or next((plain[n] for n in _LATE_ROLES["landmark"] if n in plain), "")
        if not landmark or not roles["frame"]:
            lacks = "landmark" if roles["frame"] else "frame"
            raise FormatError(path, f"no column {lacks!r} beside x and y", EXPECTED)
        return _long(path, rows, roles, landmark, long)
    return _wide(path, rows, roles, [column for column in columns if column not in roles.values()])


def _rows(path: Path) -> pd.DataFrame:
    try:
        rows = csv_text.read_csv(path, low_memory=False)
    except UnicodeDecodeError as error:
        raise FormatError(path, f"bytes that are not text ({error})", "a table as UTF-8 text") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError, OverflowError) as error:
        raise FormatError(path, f"no table ({str(error).strip()})", EXPECTED) from error
    if not isinstance(rows.index, pd.RangeIndex):
        raise FormatError(path, "rows with more cells than the header", "as many in each")
    return rows


def _wide(path: Path, rows: pd.DataFrame, roles: Mapping[str, str], columns: Sequence[str]) -> Landmarks:
    found: dict[tuple[str, str], str] = {}
    for column in columns:
        key = _told(column)
        if key is not None:
            found.setdefault(key, column)
    numbered = {joint for joint, _ in found if joint.isdigit()}
    if not {"x", "wx"} & {what for _, what in found}:
        shown = ", ".join(columns[:8]) + (", ..." if len(columns) > 8 else "")
        raise FormatError(path, f"the columns {shown}", EXPECTED)
    at = _joints(path, sorted({joint for joint, what in found if what in ("x", "wx")}), bool(numbered))
    values = np.full((len(rows), JOINTS, len(FIELDS)), np.nan)
    for (joint, what), column in found.items():
        if joint in at:
            values[:, at[joint], FIELDS.index(what)] = _numbers(path, rows, column)
    frame = _frames(path, rows, roles["frame"]) if roles["frame"] else np.arange(len(rows))
    body = _texts(rows, roles["body"])
    return _landmarks(path, rows, roles, frame, body, values)


def _long(
    path: Path, rows: pd.DataFrame, roles: Mapping[str, str], landmark: str, fields: Mapping[str, str]
) -> Landmarks:
    # a number that stands beside a gap is read as 7.0
    names = rows[landmark].map(
        lambda cell: str(int(cell)) if isinstance(cell, float) and cell == cell // 1 else str(cell)
    )
    told = sorted(set(names))
    at = _joints(path, told, all(name.isdigit() for name in told))
    frame = _frames(path, rows, roles["frame"])
    keys = pd.DataFrame(
        {
            "recording": _texts(rows, roles["recording"]) or "",
            "frame": frame,
            "body": _texts(rows, roles["body"]) or "",
        }
    )
    pose = keys.groupby(list(keys), sort=False).ngroup().to_numpy()
    joint = names.map(at).to_numpy(np.int64)
    twice = np.unique(pose * JOINTS + joint, return_counts=True)[1] > 1
    if twice.any():
        raise FormatError(
            path,
            f"{int(twice.sum())} landmarks twice in a frame",
            "each once a person",
            action="Where a frame has several people, a column must tell them apart: person",
        )
    first = np.unique(pose, return_index=True)[1]
    values = np.full((len(first), JOINTS, len(FIELDS)), np.nan)
    for what, column in fields.items():
        values[pose, joint, FIELDS.index(what)] = _numbers(path, rows, column)
    body = _texts(rows, roles["body"])
    kept = rows.iloc[first]
    return _landmarks(path, kept, roles, frame[first], [body[at] for at in first] if body else [], values)


def _landmarks(
    path: Path,
    rows: pd.DataFrame,
    roles: Mapping[str, str],
    frame: NDArray[np.int64],
    body: Sequence[str],
    values: NDArray[np.float64],
) -> Landmarks:
    time = np.full(len(rows), np.nan)
    for column in rows.columns:
        match = _TIME.fullmatch(str(column))
        if match:
            time = _numbers(path, rows, str(column)) * _SECONDS.get(match["unit"].lower(), 1.0)
    sides = [_sole(path, rows, roles[side]) for side in ("width", "height")]
    size = None
    if None not in sides:
        width, height = (int(side) for side in sides if side is not None)
        if not (1 <= width <= 100_000 and 1 <= height <= 100_000):
            raise FormatError(path, f"a picture of {width} x {height}", "its sides in pixels")
        size = width, height
    rate = _sole(path, rows, roles["rate"])
    seen = np.isfinite(values).any(axis=(1, 2))
    recording = _texts(rows, roles["recording"]) or [""] * len(rows)
    at = np.flatnonzero(seen).tolist()
    return Landmarks(
        tuple(recording[k] for k in at),
        frame[at],
        tuple(body[k] or None for k in at) if body else (None,) * len(at),
        values[at],
        time[at],
        int(frame.max(initial=-1)) + 1,
        size,
        rate if rate and rate > 0 else None,
    )


def _told(column: str) -> tuple[str, str] | None:
    """Return the landmark and field that a column's name tells, or None."""
    tokens = [
        _COUNTED.sub("", token) for token in re.split(r"[._\s\-\[\]()]+", column.strip().lower()) if token
    ]
    world = "world" in tokens
    tokens = [token for token in tokens if token != "world" and token not in _NOISE]
    for place in (-1, 0):
        match = _FIELD.fullmatch(tokens[place]) if tokens else None
        if match is None:
            continue
        rest = tokens[:-1] if place else tokens[1:]
        # x0 has the landmark in it
        joint = "_".join([*rest, *([match["number"]] if match["number"] else [])])
        what = _WORDS[match["what"]]
        if joint and (len(rest) == 0 or not match["number"]):
            return joint, f"w{what}" if world and what in ("x", "y", "z") else what
    return None


def _joints(path: Path, told: Sequence[str], numbered: bool) -> dict[str, int]:
    """Return the number of each landmark by how it is told: a name, or a number from 0 or 1 on."""
    if numbered:
        numbers = {joint: int(joint) for joint in told if joint.isdecimal() and len(joint) < 4}
        least = min(numbers.values(), default=0)
        if (
            len(numbers) != len(told)
            or sorted(numbers.values()) != list(range(least, least + JOINTS))
            or least > 1
        ):
            model = OTHER_MODELS.get(len(told))
            raise FormatError(
                path,
                f"{len(told)} landmarks{f', those of {model}' if model else ''}",
                f"the {JOINTS} of a pose, numbered from 0 or 1",
            )
        return {joint: number - least for joint, number in numbers.items()}
    skeleton = load_skeleton(LAYOUT)
    known = {
        _plain(name): number
        for number, joint in enumerate(skeleton.joints)
        for name in (*joint.same_as, joint.name, joint.official)
    }
    found = {joint: known[_plain(joint)] for joint in told if _plain(joint) in known}
    lacking = [joint.official for number, joint in enumerate(skeleton.joints) if number not in found.values()]
    if len(found) != len(told) or lacking or len(set(found.values())) != len(found):
        odd = next((joint for joint in told if joint not in found), None)
        what = (
            f"the landmark {odd!r}"
            if odd
            else f"no landmark {', '.join(lacking[:4])}"
            if lacking
            else "landmarks twice"
        )
        raise FormatError(path, what, f"the {JOINTS} of a pose, each once: NOSE, LEFT_WRIST, ...")
    return found


def _frames(path: Path, rows: pd.DataFrame, column: str) -> NDArray[np.int64]:
    values = _numbers(path, rows, column, _MOST_FRAMES)
    odd = ~np.isfinite(values) | (values != np.floor(values)) | (values < 0)
    if odd.any():
        at = int(odd.argmax())
        raise FormatError(
            path, f"the frame {rows[column].iloc[at]} in row {at + 1}", "whole numbers from 0 on"
        )
    return values.astype(np.int64)


def _texts(rows: pd.DataFrame, column: str) -> list[str]:
    """Return a column's cells as text, empty for none; nothing where there is no such column."""
    if not column:
        return []
    values = rows[column]
    if pd.api.types.is_float_dtype(values) and (values.dropna() % 1 == 0).all():
        values = values.astype("Int64")
    return ["" if pd.isna(cell) else str(cell) for cell in values]


def _numbers(path: Path, rows: pd.DataFrame, column: str, most: float = _LARGEST) -> NDArray[np.float64]:
    cells = rows[column]
    values = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    odd = np.abs(values) > most
    if cells.dtype.kind not in "iuf":
        odd |= np.isnan(values) & cells.notna().to_numpy()
    if odd.any():
        at = int(odd.argmax())
        raise FormatError(
            path, f"{cells.iloc[at]!r:.40} in column {column}, row {at + 1}", "a number or nothing"
        )
    return values


def _sole(path: Path, rows: pd.DataFrame, column: str) -> float | None:
    """Return the one value of a column, None where there is none."""
    if not column:
        return None
    values = np.unique(_numbers(path, rows, column))
    values = values[np.isfinite(values)]
    if len(values) > 1:
        raise FormatError(
            path, f"{values[0]:g} and {values[1]:g} in column {column}", "one value in the file"
        )
    return float(values[0]) if len(values) else None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
