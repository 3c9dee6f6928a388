"""Action intervals of untrimmed videos: frame bases, intervals that make no sense, and cutting bodies out.

Label files give the first and the last frame of an action, and seldom say whether frames are counted from 0
or 1, or whether the last one belongs to the action. Hence a base is an option, and the numbers of the file
are kept as they stand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from skelformats.errors import FormatError
from skelformats.reader import Column, Refused, SideTable

ONE_INCLUSIVE, ZERO_INCLUSIVE, ZERO_EXCLUSIVE = "1-inclusive", "0-inclusive", "0-exclusive"
FRAME_BASES = (ONE_INCLUSIVE, ZERO_INCLUSIVE, ZERO_EXCLUSIVE)
"""From which number frames are counted, and whether the last frame belongs to the interval."""

_FRAME = re.compile(r"[0-9]{1,9}")

INTERVAL_TABLE = SideTable(
    name="interval",
    description="labelled action intervals of the videos; they may overlap and leave gaps",
    columns=(
        Column("name", "string", "the interval, as the recording is called that is cut from it"),
        Column("recording", "string", "the video"),
        Column("label", "i4", "class, counted from 0; -1 where it is none of them"),
        Column("action", "string", "name of the class, as the label file has it where it gives names"),
        Column("start", "i4", "first frame, as frame_index counts"),
        Column("stop", "i4", "frame after the last one, as frame_index counts"),
        Column("start_frame", "i4", "first frame as the label file has it"),
        Column("end_frame", "i4", "last frame as the label file has it"),
        Column("cut_frames", "i4", "frames of the interval that lie beyond the video, by its label"),
        Column("grade", "i4", "the annotators' grade of the performance; -1 where there is none"),
        Column("line", "i4", "line of the label file, from 1"),
    ),
)


@dataclass(frozen=True)
class Label:
    """One line of a label file: class, frames as they stand there, and where it stands.

    ``path`` is the label file relative to the raw root, ``line`` its 1-based line, ``name`` what the interval
    is called; ``grade`` is -1 where the file has none.
    """

    path: str
    line: int
    name: str
    label: int
    action: str
    start_frame: int
    end_frame: int
    grade: int = -1

    def error(self, found: str, expected: str) -> FormatError:
        """Return the error that says what is wrong with this line."""
        return FormatError(self.path, found, expected, self.line)


@dataclass(frozen=True)
class Interval:
    """Frames ``start`` to ``stop`` - 1 of a video, counted from 0, that a label belongs to.

    ``cut_frames`` is how many more frames the label claims, which the video does not have.
    """

    label: Label
    start: int
    stop: int
    cut_frames: int

    def columns(self) -> dict[str, Any]:
        """Return what the label file says beside the class, as columns of the sequence table."""
        label = self.label
        return {
            "start_frame": label.start_frame,
            "end_frame": label.end_frame,
            "cut_frames": self.cut_frames,
            "grade": label.grade,
            "line": label.line,
        }

    def row(self, recording: str) -> dict[str, Any]:
        """Return this interval of the video ``recording`` as a row of `INTERVAL_TABLE`."""
        return {
            "name": self.label.name,
            "recording": recording,
            "label": self.label.label,
            "action": self.label.action,
            "start": self.start,
            "stop": self.stop,
            **self.columns(),
        }


def refuse(name: str, error: FormatError) -> Refused:
    """Set the interval called ``name`` aside for an error whose path is relative to the raw root."""
    return Refused(name, str(error), error.line)


def frame_number(text: str) -> int:
    """Return the frame number that a field of a label file holds; raises ValueError if it holds none."""
    if not _FRAME.fullmatch(text):
        raise ValueError(text)
    return int(text)


def locate(label: Label, frames: int, base: str) -> Interval | Refused:
    """Find the frames of a label in a video of ``frames`` frames, by one of the `FRAME_BASES`.

    An interval that ends beyond the video, or begins before it, is cut to it. One that does not end after it
    begins is set aside, as is one that lies outside the video altogether.
    """
    claimed = f"the interval {label.start_frame} to {label.end_frame}"
    if label.end_frame <= label.start_frame:
        return refuse(label.name, label.error(claimed, "one that ends after it begins"))
    first = label.start_frame - (base == ONE_INCLUSIVE)
    end = label.end_frame + (base == ZERO_INCLUSIVE)
    start, stop = max(first, 0), min(end, frames)
    if stop <= start:
        found = f"{claimed} of a video of {frames} frames"
        return refuse(label.name, label.error(found, "one that begins before the video ends"))
    return Interval(label, start, stop, end - first - (stop - start))
