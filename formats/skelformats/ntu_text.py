"""The text of a Kinect v2 ``.skeleton`` file, as the NTU RGB+D datasets use it.

Records are lines of fields separated by blanks::

    file  := frames, then that many frame
    frame := bodies, then that many body                 bodies may be 0
    body  := id and 9 header fields; joints; then that many joint        joints is always 25
    joint := x y z, depth x y, color x y, orientation w x y z, tracking state

(the authors' Matlab/read_skeleton_file.m). Blank lines and blanks around fields are accepted.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skelformats.errors import FormatError
from skelformats.kernel import kernel
from skelformats.simd import Pointer, pointer
from skelformats.text import (
    SCANNER,
    Text,
    field_end,
    is_blank,
    is_line_end,
    parse_float,
    parse_int,
    quote,
    skip_blanks,
    skip_fields,
    skip_space,
)

JOINTS = 25
HEADER_FIELDS = (
    "clipped_edges",
    "hand_left_confidence",
    "hand_left_state",
    "hand_right_confidence",
    "hand_right_state",
    "is_restricted",
    "lean_x",
    "lean_y",
    "tracking_state",
)
"""What follows the id on a body's first line."""

COLUMNS = {"position": (0, 3), "depth": (3, 5), "color": (5, 7), "orientation": (7, 11)}
"""First and last (exclusive) column of a joint's line that each block of numbers has."""
HEADER = "body"

_STATE = 11
_HEADER_COLUMNS = 1 + len(HEADER_FIELDS)
_JOINT_COLUMNS = _STATE + 1
_FRAME_BYTES = len("0\n")
_BODY_BYTES = 2 * _HEADER_COLUMNS + len("25\n") + JOINTS * 2 * _JOINT_COLUMNS
"""The fewest bytes that a frame, or a body in it, can have."""

# why a scan stopped
_OK, _FRAMES, _BODIES, _IDENTITY, _JOINTS, _JOINT, _NUMBER, _TRACKED, _TRAILING = range(9)
_STATES = 3

_JOINT_GRAMMAR = "x y z, depth x y, color x y, orientation w x y z, tracking state"
_DAMAGED = "The file is damaged; fetch it again"
_CUT_OFF = "The file is cut off; fetch it again"


@dataclass(frozen=True, eq=False)
class Bodies:
    """Everything in one file: R rows, one a body and frame, in file order.

    Attributes
    ----------
    frames
        Frames in the file, those without a body included.
    frame
        (R,) int32: number of the frame that a row is of, counted from 0.
    identity
        R body ids; a whole number as int, anything else as the text that stands there.
    tracking
        (R, 25) uint8: 0 not tracked, 1 inferred, 2 tracked.
    blocks
        The blocks of numbers asked for, by the names in `COLUMNS` (R, 25, columns), or `HEADER` (R, 9);
        float32. In ``position`` a joint at exactly (0, 0, 0) is NaN.
    """

    frames: int
    frame: NDArray[np.int32]
    identity: list[int | str]
    tracking: NDArray[np.uint8]
    blocks: dict[str, NDArray[np.float32]]


def parse_bodies(text: Text, wanted: Collection[str] = ("position",)) -> Bodies:
    """Parse a file's text; columns of blocks that are not ``wanted`` are stepped over.

    Raises
    ------
    FormatError
        The text does not follow the grammar. No count in it is trusted: what is allocated follows from the
        number of bytes, about one for each.
    """
    names = [name for name in COLUMNS if name == "position" or name in wanted]
    slots = np.full(_STATE, -1)
    ends = {}
    used = 0
    for name in names:
        first, last = COLUMNS[name]
        slots[first:last] = np.arange(used, used + last - first)
        used += last - first
        ends[name] = used
    capacity = text.size // _BODY_BYTES + 1
    frame = np.empty(capacity, np.int32)
    numbers = np.empty(capacity, np.int64)
    spelt = np.empty(capacity, np.int64)
    header = np.empty((capacity, len(HEADER_FIELDS) if HEADER in wanted else 0), np.float32)
    values = np.empty((capacity, JOINTS, used), np.float32)
    tracking = np.empty((capacity, JOINTS), np.uint8)
    frames, rows, status, at, reached = _scan(
        text.buffer, text.size, slots, frame, numbers, spelt, header, values, tracking
    )
    if status != _OK:
        raise _error(text, status, at, reached, frames)
    identity: list[int | str] = numbers[:rows].tolist()
    for row in np.flatnonzero(spelt[:rows] >= 0):
        identity[row] = text.field(spelt[row])
    blocks = {
        name: values[:rows, :, ends[name] - (COLUMNS[name][1] - COLUMNS[name][0]) : ends[name]]
        for name in names
        if name in wanted
    }
    if HEADER in wanted:
        blocks[HEADER] = header[:rows]
    return Bodies(frames, frame[:rows], identity, tracking[:rows], blocks)


@kernel
def _scan(
    buffer: NDArray[np.uint8],
    size: int,
    slots: NDArray[np.int64],
    frame: NDArray[np.int32],
    numbers: NDArray[np.int64],
    spelt: NDArray[np.int64],
    header: NDArray[np.float32],
    values: NDArray[np.float32],
    tracking: NDArray[np.uint8],
    scanner: int = SCANNER,
) -> tuple[int, int, int, int, int]:
    """Fill the arrays; return frames, rows, why it stopped, the position and the frame where it did.

    ``slots`` says for each column of a joint where its number goes in the last axis of ``values``, or -1.
    """
    text, columns = pointer(buffer), pointer(slots)
    fields, states = header.shape[1], tracking.shape[1]
    width = states * values.shape[2]
    rows = 0
    frames, at = _count(text, skip_space(text, 0), size, _FRAME_BYTES)
    if frames < 0:
        return frames, rows, _FRAMES, at, 0
    for number in range(frames):
        bodies, at = _count(text, at, size, _BODY_BYTES)
        if bodies < 0:
            return frames, rows, _BODIES, at, number
        for _ in range(bodies):
            frame[rows] = number
            numbers[rows], spelt[rows] = _identity(text, at)
            status, at = _scan_header(text, size, at, pointer(header), rows * fields, fields)
            joint = 0
            while status == _OK and joint < states:
                value = rows * width + joint * values.shape[2]
                state = rows * states + joint
                status, at = _scan_joint(
                    text, size, at, columns, pointer(values), value, pointer(tracking), state
                )
                joint += 1
            if status != _OK:
                return frames, rows, status, at, number
            rows += 1
    return frames, rows, (_OK if at >= size else _TRAILING), at, frames


@kernel
def _next_line(text: Pointer, at: int) -> int:
    """Return where the next line's text begins, or -1 if this line has more fields."""
    at = skip_blanks(text, at)
    return skip_space(text, at) if is_line_end(text, at) else -1


@kernel
def _count(text: Pointer, at: int, size: int, least: int) -> tuple[int, int]:
    """Return the count that stands alone on a line, and where the next line begins.

    Returns -1 and ``at`` for anything else, and for more things than could follow at ``least`` bytes each.
    The last line may lack its end, which is one byte.
    """
    value, end = parse_int(text, at)
    after = _next_line(text, end)
    if end == at or after < 0 or value < 0 or value > (size - after + 1) // least:
        return -1, at
    return value, after


@kernel
def _identity(text: Pointer, at: int) -> tuple[int, int]:
    """Return a body's id and -1, or 0 and where the id stands if it is not an int64."""
    number, end = parse_int(text, at)
    return (number, -1) if end > at and is_blank(text, end) else (0, at)


@kernel
def _scan_header(
    text: Pointer, size: int, at: int, header: Pointer, first: int, fields: int
) -> tuple[int, int]:
    """Scan a body's first two lines; return why it stopped, and where the next line begins.

    The numbers after the id go to ``header[first:]``; with 0 ``fields`` they are stepped over.
    """
    start = at
    if fields:
        end = field_end(text, at)
        for i in range(fields):
            at = skip_blanks(text, end)
            if is_line_end(text, at):
                return _IDENTITY, start
            header[first + i], end = parse_float(text, at)
            if end == at or not is_blank(text, end):
                return _NUMBER, at
    else:
        at = skip_fields(text, size, at, _HEADER_COLUMNS - 1)
        if at < 0:
            return _IDENTITY, start
        end = field_end(text, at)
    at = _next_line(text, end)
    if at < 0:
        return _IDENTITY, start
    joints, end = parse_int(text, at)
    after = _next_line(text, end)
    if end == at or joints != JOINTS or after < 0:
        return _JOINTS, at
    return _OK, after


@kernel
def _scan_joint(
    text: Pointer,
    size: int,
    at: int,
    slots: Pointer,
    values: Pointer,
    first: int,
    tracking: Pointer,
    joint: int,
) -> tuple[int, int]:
    """Scan a joint's line into ``values[first:]`` and ``tracking[joint]``; return as `_scan_header`."""
    start = at
    column = 0
    while column < _STATE:
        if slots[column] < 0:
            run = 1
            while column + run < _STATE and slots[column + run] < 0:
                run += 1
            at = skip_fields(text, size, at, run)
            if at < 0:
                return _JOINT, start
            column += run
        else:
            value, end = parse_float(text, at)
            if end == at or not is_blank(text, end):
                return (_JOINT if is_line_end(text, at) else _NUMBER), at
            values[first + slots[column]] = value
            at = skip_blanks(text, end)
            column += 1
    if values[first] == 0 and values[first + 1] == 0 and values[first + 2] == 0:
        values[first] = values[first + 1] = values[first + 2] = np.nan
    state, end = parse_int(text, at)
    if end == at or not is_blank(text, end) or state < 0 or state >= _STATES:
        return (_JOINT if is_line_end(text, at) else _TRACKED), at
    tracking[joint] = state
    at = _next_line(text, end)
    return (_OK, at) if at >= 0 else (_JOINT, start)


def _error(text: Text, status: int, at: int, reached: int, frames: int) -> FormatError:
    """Say why a scan stopped."""
    line = text.fields(at)
    frame = f"frame {reached + 1} of {frames}"
    rest = f"{quote(' '.join(line))} with {text.size - at:,} bytes left"
    columns = f"{len(line)} columns in {frame}"
    if status == _FRAMES:
        return text.error(
            at, rest, f"the number of frames, and at least {_FRAME_BYTES} bytes for each", _DAMAGED
        )
    if status == _TRAILING:
        return text.error(
            at, f"{quote(' '.join(line))}", f"the end of the file after {frames} frames", _DAMAGED
        )
    if at >= text.size or (status in (_IDENTITY, _JOINTS, _JOINT) and text.cut_off(at)):
        return text.error(at, f"the end of the file in {frame}", "further lines", _CUT_OFF)
    if status == _BODIES:
        expected = f"the number of bodies in {frame}, and at least {_BODY_BYTES} bytes for each"
        return text.error(at, rest, expected, _DAMAGED)
    if status == _IDENTITY:
        return text.error(at, columns, f"{_HEADER_COLUMNS}: the body's id and {', '.join(HEADER_FIELDS)}")
    if status == _JOINTS:
        return text.error(at, f"{quote(' '.join(line))} joints in {frame}", f"{JOINTS} joints")
    if status == _JOINT:
        return text.error(at, columns, f"{_JOINT_COLUMNS}: {_JOINT_GRAMMAR}")
    found = f"{quote(text.field(at))} in {frame}"
    if status == _TRACKED:
        return text.error(at, found, "the joint's tracking state, 0, 1 or 2")
    return text.error(at, found, "a number", _DAMAGED)
