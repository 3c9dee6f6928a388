"""A recording's people on the pictures they were seen in: frames of a video file, or files of a folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from skelconv.crops.cut import CropRefusedError, open_picture
from skelconv.crops.frames import Reader
from skelconv.crops.video import VideoFolder
from skelconv.crops.write import PIXEL_ARRAYS
from skelconv.extras import need
from skelconv.store.recording import Recording
from skelconv.store.store import Store
from skelconv.view.drawing import Scene, head, make_scene
from skelconv.view.stage import HEADER, Frame, Stroke, body_strokes, draw_strokes
from skelformats.errors import SkelconvError

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

COLOUR_PIXELS = (*PIXEL_ARRAYS, "color")
"""Arrays of a 3D store that may hold its joints in the picture."""

_OUTSIDE = 0.5
"""Part of the joints that may lie outside of the picture before it must be another one."""

MOST = 1280
"""Pixels of the longer side of a picture; larger ones are scaled down."""


class OverlayError(SkelconvError, ValueError):
    """Poses and pictures that do not go together."""


class OverlayStage:
    """Bodies drawn where they are on pictures; `Stage`."""

    def __init__(
        self, recording: Recording, store: Store, reader: Reader, where: Path, most: int = MOST
    ) -> None:
        self.scene = pixel_scene(recording, store)
        self._reader, self._where, self._name = reader, where, recording.name
        self._head = head(store.skeleton)
        frames = self.scene.frames()
        if not len(frames):
            raise OverlayError(
                f"{store.path}: found no joint in any frame of {recording.name}, expected one to draw"
            )
        # the last first: a video that is too short is known before anything is drawn
        self._read(int(frames[-1]))
        first = self._read(int(frames[0]))
        self._full = first.size
        self._check_size(recording)
        self._shrink = min(1.0, most / max(self._full))
        width, height = (max(2, round(side * self._shrink)) for side in self._full)
        self._frame = Frame(self.scene, width, height)
        self._box = (width, height)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a picture in pixels."""
        return self._frame.size

    def picture(self, frame: int, when: str) -> Any:
        """Draw one frame; returns an RGB image of pillow."""
        from PIL import Image, ImageDraw

        seen = self._read(frame)
        if seen.size != self._full:
            raise OverlayError(
                f"{self._where}: found frame {frame} of {_by(seen.size)} pixels, expected {_by(self._full)} "
                "as the first"
            )
        image = Image.new("RGB", self.size, "#ffffff")
        image.paste(seen.convert("RGB").resize(self._box), (0, HEADER))
        pen = ImageDraw.Draw(image)
        thick = max(2.0, max(self._box) / 200)
        strokes: list[Stroke] = []
        for body, pose in self.scene.poses(frame):
            spots = pose[:, :2] * (self._shrink, -self._shrink) + (0, HEADER)
            depth = np.where(np.isfinite(pose).all(axis=1), 0.0, np.nan)
            strokes += body_strokes(self.scene, None, body, spots.astype(np.float64), depth)
        # a dark rim: colours stand out from any picture
        draw_strokes(pen, [(k, where, "#10141a", weight) for k, where, _, weight in strokes], thick + 2)
        draw_strokes(pen, strokes, thick)
        self._frame.dress(pen, scale=1)
        self._frame.when(pen, when, scale=1)
        return image

    def _read(self, frame: int) -> Any:
        try:
            picture = self._reader(frame)
            picture.load()
        except (CropRefusedError, OSError) as error:
            raise OverlayError(
                f"{self._where}: {error}. {self._name} is drawn on one picture a frame, the first on frame 0"
            ) from error
        return picture

    def _check_size(self, recording: Recording) -> None:
        """Refuse pictures of another size than the poses were found in, as far as that can be told."""
        told = tuple(int(recording.row.get(side, -1)) for side in ("width", "height"))
        if min(told) > 0 and told != self._full:
            raise OverlayError(
                f"{self._where}: found pictures of {_by(self._full)} pixels, expected {_by(told)}, of which "
                f"the poses of {self._name} are. Scale the video to that size"
            )
        points = np.concatenate([position.reshape(-1, 3) for _, position in self.scene.bodies])
        points = points[np.isfinite(points).all(axis=1)][:, :2] * (1, -1)
        outside = ((points < 0) | (points > self._full)).any(axis=1).mean()
        if outside > _OUTSIDE:
            right, below = np.percentile(points, 99, axis=0)
            raise OverlayError(
                f"{self._where}: found pictures of {_by(self._full)} pixels, and {100 * outside:.0f} % of "
                f"the joints of {self._name} outside of them (up to {right:.0f}, {below:.0f}), expected the "
                "pictures that the poses were found in, at their size"
            )


def pixel_scene(recording: Recording, store: Store) -> Scene:
    """Return a recording as it is in the picture: 2D poses, or the pixels that a 3D store keeps.

    Raises
    ------
    OverlayError
        The store is of three axes and keeps no pixels.
    """
    if len(store.info.axes.names) == 2:
        return make_scene(recording, store.skeleton)
    shape = [len(store.skeleton), 2]
    name = next(
        (
            one
            for one in COLOUR_PIXELS
            if one in store.arrays and list(store.metadata(one)["shape"][1:]) == shape
        ),
        None,
    )
    if name is None:
        raise OverlayError(
            f"{store.path}: found 3D poses and no array of the joints in the picture (looked for "
            f"{', '.join(COLOUR_PIXELS)}), expected 2D poses or such an array. Ingest with --with "
            "pixel or color where the dataset has it"
        )
    bodies = tuple(replace(body, position=body.extras[name].astype(np.float32)) for body in recording.bodies)
    return make_scene(replace(recording, bodies=bodies), store.skeleton)


@contextmanager
def open_frames(where: Path) -> Iterator[Reader]:
    """Give the pictures of a video file, or of a folder sorted by the numbers in its names, by frame.

    Raises
    ------
    OverlayError
        There is neither, or the folder holds no picture.
    MissingExtraError
        PyAV is not installed, for a video.
    """
    need("PIL", "view")
    if where.is_dir():
        files = sorted(
            (file for file in where.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES), key=_natural
        )
        if not files:
            raise OverlayError(
                f"{where}: found no picture ({', '.join(PICTURE_SUFFIXES)}), expected one a frame"
            )

        def read(frame: int) -> Any:
            if frame >= len(files):
                raise CropRefusedError(
                    f"found {len(files)} picture{'s' * (len(files) != 1)}, expected one for frame {frame} too"
                )
            return open_picture(files[frame])

        yield read
        return
    if not where.is_file():
        raise OverlayError(f"{where}: found neither a video nor a folder, expected the pictures to draw on")
    need("av", "video")
    where = where.resolve()
    # a brace in a file's name is none of a pattern
    pattern = where.name.replace("{", "{{").replace("}", "}}")
    with VideoFolder(where.parent, pattern).open({}) as reader:
        yield reader


def _natural(file: Path) -> list[tuple[int, str]]:
    """2.jpg before 10.jpg."""
    return [(int(word or -1), text) for text, word in re.findall(r"(\D*)(\d*)", file.name)]


def _by(size: tuple[int, ...]) -> str:
    return f"{size[0]} x {size[1]}"
