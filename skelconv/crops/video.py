"""The pictures of recordings as frames of video files, decoded by PyAV on the way to the crops."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from skelconv.crops.cut import CropRefusedError
from skelconv.crops.frames import ImageFolder, Pictures, Reader, check_pattern, place
from skelconv.extras import need

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")

SEEK_BEYOND = 100
"""Frames ahead from which on a jump to the key frame before is tried, instead of decoding all on the way."""


def pictures_of(root: Path, pattern: str) -> Pictures:
    """Return where pictures are: in videos where the pattern ends as one, else a file a frame."""
    if PurePosixPath(pattern).suffix.lower() in VIDEO_SUFFIXES:
        return VideoFolder(root, pattern)
    return ImageFolder(root, pattern)


@dataclass(frozen=True)
class VideoFolder:
    """Videos below a folder, named after columns of the store's table.

    Frame n of a recording is the video's picture at n periods of its frame rate after its first one: the
    video has a constant rate, that of the store.

    Attributes
    ----------
    root
        Folder of all videos.
    pattern
        Path of a video below it, with columns of the store's table in braces: ``{recording}.mp4``.
    """

    root: Path
    pattern: str = "{recording}.mp4"

    def check(self, columns: Iterable[str]) -> None:
        """Make sure that the folder is there and that these columns fill the pattern.

        Raises
        ------
        CropError, UnknownNameError
            As `ImageFolder.check`.
        MissingExtraError
            PyAV is not installed.
        """
        need("av", "video")
        check_pattern(self.root, self.pattern, tuple(sorted(columns)))

    @contextmanager
    def open(self, row: Mapping[str, Any]) -> Iterator[Reader]:
        """Give the frames of a sequence's video by number; those that rise are decoded once."""
        import av

        name = self.pattern
        try:
            file = place(self.root, self.pattern, row)
            name = file.name
            if not file.is_file():
                raise CropRefusedError(f"found no video {file.name}, expected one for this recording")
            container = av.open(str(file))
        except (CropRefusedError, av.FFmpegError, OSError) as error:
            problem = str(error) if isinstance(error, CropRefusedError) else _unreadable(name, error)
            yield _refuse(problem)
            return
        with container:
            if not container.streams.video:
                yield _refuse(f"found no pictures in the video {file.name}, expected a video")
                return
            yield _Frames(container, file.name).picture


class _Frames:
    """The pictures of an open video by number."""

    def __init__(self, container: Any, name: str) -> None:
        self._container = container
        self._stream = container.streams.video[0]
        # of several threads the order of frames is the same, and blocks are decoded in parallel already
        self._stream.thread_type = "NONE"
        self._name = name
        self._first = self._stream.start_time or 0
        self._rate = self._stream.average_rate
        self._decoded: Iterator[Any] = iter(())
        self._seek(0)

    def picture(self, number: int) -> Any:
        """Return a frame as a pillow image; raises `CropRefusedError` where the video lacks it."""
        import av

        try:
            if not 0 < number - self._at <= SEEK_BEYOND:
                self._seek(number)
            frame = self._next(number)
            if frame is None:
                # an index of key frames may be wrong, the beginning never is
                self._seek(0)
                frame = self._next(number)
        except (av.FFmpegError, ValueError) as error:
            raise CropRefusedError(_unreadable(self._name, error)) from error
        if frame is None:
            raise CropRefusedError(
                f"found no frame {number} in the video {self._name} (nearest: {self._at}), expected one for "
                "each frame of the recording"
            )
        return frame.to_image()

    def _next(self, number: int) -> Any:
        """Decode up to a frame; None where it does not come."""
        for frame in self._decoded:
            self._at = self._number(frame)
            if self._at >= number:
                return frame if self._at == number else None
        return None

    def _seek(self, number: int) -> None:
        """Go to the key frame before a frame."""
        ticks = self._first
        if number and self._rate:
            ticks += int(number / self._rate / self._stream.time_base)
        self._container.seek(max(ticks, self._first), stream=self._stream, backward=True)
        self._decoded = self._container.decode(self._stream)
        self._at = -1

    def _number(self, frame: Any) -> int:
        if frame.pts is None or not self._rate:
            return self._at + 1
        return round((frame.pts - self._first) * self._stream.time_base * self._rate)


def _refuse(problem: str) -> Reader:
    def picture(number: int) -> Any:
        raise CropRefusedError(problem)

    return picture


def _unreadable(name: str, error: Exception) -> str:
    reason = str(error).split(":")[0]
    return f"found a video {name} that cannot be read ({reason}), expected one that FFmpeg decodes"
