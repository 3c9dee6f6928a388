"""Pictures of a store's people, drawn as shaded figures through the camera that the store's pixels belong to.

A store that holds 3D poses in the axes of a camera and the same joints in the picture says where its camera
is: focal lengths and principal point follow by least squares. Through it `skelconv.view.figures` draws, so
picture, 2D and 3D pose agree, but for what a pinhole camera lacks of the lens (one or two pixels of a
thousand in Human3.6M; the summary says how much).

Legend: F frames, J joints.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skelconv.crops.frames import CropError, ImageFolder
from skelconv.crops.write import pixel_array
from skelconv.extras import need
from skelconv.store import schema
from skelconv.store.store import Store, open_store
from skelconv.view.figures import PinholeCamera, draw_figures

QUALITY = 92
"""Of the JPEG files."""

MOST_OFF = 8.0
"""Pixels that a joint may lie beside its projection; more is no lens but another camera."""

METRES = {"m": 1.0, "mm": 1e-3}

AHEAD_PER_WORKER = 3


class Seen(NamedTuple):
    """A camera, the signs that bring a store's x and y to its axes, and how far joints lie beside it."""

    camera: PinholeCamera
    signs: NDArray[np.float64]
    off: float


@dataclass(frozen=True)
class DrawSummary:
    """What `draw_store` did: pictures drawn, those that were there, and the largest distance of a joint from
    its projection in pixels.
    """

    folder: Path
    drawn: int
    kept: int
    off: float

    def describe(self) -> str:
        """Say it in a line or two."""
        lines = [
            f"{self.folder}: {self.drawn:,} pictures; joints lie within {self.off:.1f} px of the drawn ones"
        ]
        if self.kept:
            lines.append(f"{self.kept:,} pictures were there before, and stay as they are")
        return "\n".join(lines)


def draw_store(
    store: Store,
    images: ImageFolder,
    size: tuple[int, int],
    every: int = 1,
    executor: tuple[Executor | None, int] = (None, 1),
    advance: Callable[[int, int], None] | None = None,
) -> DrawSummary:
    """Draw everybody of each frame of ``store``, as files that `skelconv.crops` finds.

    Pictures that are there already stay, so an interrupted run goes on; each appears whole or not at all.

    Parameters
    ----------
    store
        3D poses in the axes of a camera, with an array of pixels.
    images
        Folder to fill, and how pictures are called below it.
    size
        Width and height of a picture in pixels.
    every
        Take every so many frames of a recording.
    executor
        What draws, None for this process, and how many tasks it runs at once.
    advance
        Called as (recordings, pictures) done since the last call.

    Raises
    ------
    CropError
        The store is remote, has no pixels or no third axis; its poses and pixels are of no one camera.
    MissingExtraError
        Pillow is not installed.
    """
    need("PIL", "view")
    if store.folder is None:
        raise CropError(f"{store.path}: found a remote store, expected one on this machine. Fetch it first")
    if store.metadata(schema.POSITION)["shape"][2] != 3:
        raise CropError(f"{store.path}: found poses of two axes, expected 3D poses in the axes of a camera")
    pixels = pixel_array(store)
    images.root.mkdir(parents=True, exist_ok=True)
    images.check(store.columns)
    names = list(dict.fromkeys(store.to_frame()["recording"].astype(str)))
    task = (store.folder.resolve(), images, size, every, pixels)
    drawn = kept = 0
    off = 0.0
    for new, old, beside in _in_order(names, task, *executor):
        drawn, kept, off = drawn + new, kept + old, max(off, beside)
        if advance is not None:
            advance(1, new + old)
    return DrawSummary(images.root, drawn, kept, off)


def fit_camera(
    position: NDArray[np.floating[Any]],
    pixel: NDArray[np.floating[Any]],
    size: tuple[int, int],
    where: str,
) -> Seen:
    """Find the camera through which points (N, 3), with z ahead, are seen at pixels (N, 2).

    Raises
    ------
    CropError
        Fewer than four joints in both, or they are not seen through one camera.
    """
    both = np.isfinite(position).all(axis=1) & np.isfinite(pixel).all(axis=1)
    points, seen = position[both].astype(np.float64), pixel[both].astype(np.float64)
    if len(points) < 4 or not (points[:, 2] > 0).all():
        raise CropError(
            f"{where}: found {len(points)} joints with a pixel, {int((points[:, 2] > 0).sum())} of them "
            "ahead of the camera, expected at least four, and all ahead (+z): poses in the axes of a camera"
        )
    focal, principal, off = [], [], np.zeros(len(points))
    for axis in (0, 1):
        line = np.stack([points[:, axis] / points[:, 2], np.ones(len(points))], axis=1)
        found = np.linalg.lstsq(line, seen[:, axis], rcond=None)[0]
        focal.append(float(found[0]))
        principal.append(float(found[1]))
        off = np.hypot(off, line @ found - seen[:, axis])
    if off.max() > MOST_OFF or min(map(abs, focal)) == 0:
        raise CropError(
            f"{where}: found joints up to {off.max():.0f} px beside their projection by the camera that fits "
            f"best, expected at most {MOST_OFF:.0f}: 3D poses in the axes of the camera of the pixels"
        )
    camera = PinholeCamera(
        (abs(focal[0]), abs(focal[1])), (principal[0], principal[1]), (int(size[0]), int(size[1]))
    )
    return Seen(camera, np.array([*np.sign(focal), 1.0]), float(off.max()))


def draw_recording(
    task: tuple[Path, ImageFolder, tuple[int, int], int, str], name: str
) -> tuple[int, int, float]:
    """Draw one recording; returns pictures drawn, pictures that were there, and `Seen.off`."""
    from PIL import Image

    folder, images, size, every, pixels = task
    store = _opened(folder)
    table = store.to_frame()
    rows = np.flatnonzero((table["recording"] == name).to_numpy())
    unit = METRES.get(store.info.unit)
    if unit is None:
        raise CropError(f"{folder}: found positions in {store.info.unit!r}, expected {' or '.join(METRES)}")
    bodies = []
    for number in rows.tolist():
        start, length = int(table["start"].iloc[number]), int(table["length"].iloc[number])
        stop = start + length
        bodies.append(
            (
                store.read(start, stop, schema.FRAME_INDEX),
                store.read(start, stop, schema.POSITION).astype(np.float64) * unit,
                store.read(start, stop, pixels),
            )
        )
    position = np.concatenate([body[1].reshape(-1, 3) for body in bodies])
    seen = fit_camera(position, np.concatenate([b[2].reshape(-1, 2) for b in bodies]), size, name)
    row = {**dict(table.iloc[rows[0]]), "sequence": store.names[rows[0]]}
    # as crops takes them: every so many rows of each body
    frames = sorted({int(frame) for index, _, _ in bodies for frame in index[::every]})
    drawn = kept = 0
    for frame in frames:
        file = images.file(row, frame)
        if file.exists():
            kept += 1
            continue
        poses = [pose[index == frame][0] * seen.signs for index, pose, _ in bodies if (index == frame).any()]
        figures = draw_figures(poses, store.skeleton, seen.camera)
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_name(file.name + ".partial")
        Image.fromarray(figures.image).save(aside, format="JPEG", quality=QUALITY)
        aside.replace(file)
        drawn += 1
    return drawn, kept, seen.off


@lru_cache(maxsize=2)
def _opened(folder: Path) -> Store:
    return open_store(folder)


def _in_order(names: list[str], task: Any, executor: Executor | None, workers: int) -> Any:
    if executor is None:
        yield from (draw_recording(task, name) for name in names)
        return
    left = iter(names)
    waiting = [
        executor.submit(draw_recording, task, name) for name in islice(left, workers * AHEAD_PER_WORKER)
    ]
    while waiting:
        yield waiting.pop(0).result()
        waiting += [executor.submit(draw_recording, task, name) for name in islice(left, 1)]
