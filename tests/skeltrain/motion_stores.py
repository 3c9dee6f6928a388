"""Small stores of people who move, for the tasks on motion: in 3D, before Human3.6M's cameras, and in 2D."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelconv.store.info import Provenance
from skelconv.store.writer import write_store
from skelformats.h36m_cameras import CAMERA_TABLE, builtin_cameras, project
from skelformats.human36m import H36M
from skelformats.reader import Clip, Column, Confidence, Dataset, Protocol, Track, Value
from skelformats.skeleton import load_skeleton

H36M17 = load_skeleton("h36m17")

# x to the left, y up, z back, metres; the order of h36m17
BODY = np.array(
    [
        (0.0, 0.95, 0.0), (-0.13, 0.95, 0.0), (-0.14, 0.5, 0.02), (-0.14, 0.08, 0.0), (0.13, 0.95, 0.0),
        (0.14, 0.5, 0.02), (0.14, 0.08, 0.0), (0.0, 1.18, 0.02), (0.0, 1.45, 0.0), (0.0, 1.55, -0.06),
        (0.0, 1.68, 0.0), (0.17, 1.42, 0.0), (0.3, 1.15, 0.04), (0.33, 0.9, -0.03), (-0.17, 1.42, 0.0),
        (-0.3, 1.15, 0.04), (-0.33, 0.9, -0.03),
    ]
)  # fmt: skip


def person(number: int, frames: int) -> NDArray[np.float32]:
    """(T, 17, 3) metres, +y up: somebody who turns and swings arms and legs, another one for each number."""
    rng = np.random.default_rng(number)
    time = np.arange(frames)
    turn = rng.uniform(0, 6) + 0.05 * time
    swing = 0.25 * np.sin(0.3 * time + rng.uniform(0, 6))
    pose = np.repeat(BODY[None] * rng.uniform(0.9, 1.1), frames, axis=0)
    for joint, factor in (
        (2, 0.5),
        (3, 1.0),
        (5, -0.5),
        (6, -1.0),
        (12, 0.5),
        (13, 1.0),
        (15, -0.5),
        (16, -1.0),
    ):
        pose[:, joint, 2] += factor * swing
    cosine, sine = np.cos(turn)[:, None], np.sin(turn)[:, None]
    x, y, z = pose[..., 0], pose[..., 1], pose[..., 2]
    return np.stack([cosine * x + sine * z, y, cosine * z - sine * x], axis=-1).astype(np.float32)


def described(name: str, skeleton: str, flat: bool = False, dtype: str | None = None) -> Dataset:
    return Dataset(
        name=name,
        title="people who swing their arms",
        skeleton=skeleton,
        licence="none",
        citation="none",
        homepage="none",
        frame_rate=50.0,
        classes=("walk", "wave"),
        columns=(Column("flaw", "string", "what is wrong"),) if not flat else (),
        protocols=(Protocol("half", "every second is tested"),),
        missing="NaN",
        unit="px" if flat else "m",
        axes=("x", "y") if flat else ("x", "y", "z"),
        axis_convention="pixels, +y down" if flat else "right-handed, +y up",
        confidence=None if dtype is None else Confidence(dtype, "score"),  # type: ignore[arg-type]
    )


def write(path: Path, dataset: Dataset, clips: list[tuple[str, Clip]], extras: tuple[str, ...] = ()) -> Path:
    write_store(path, dataset, clips, Provenance(tool="tests", command="tests", digest=path.name), extras)
    return path


def clip(number: int, frames: int, *tracks: Track, flaw: str | None = None, label: int | None = None) -> Clip:
    part = "test" if number % 2 else "train"
    columns = {} if flaw is None else {"flaw": flaw}
    return Clip(f"r{number}", frames, tracks, number % 2 if label is None else label, columns, {"half": part})


def index(frames: int) -> NDArray[np.int32]:
    return np.arange(frames, dtype=np.int32)


def write_3d(path: Path, count: int = 6, frames: int = 40, skeleton: str = "h36m17") -> Path:
    """People without a camera; of other layouts than h36m17, with as many joints, at random places."""
    joints = len(load_skeleton(skeleton))
    clips = []
    for n in range(count):
        pose = person(n, frames)
        if skeleton != "h36m17":
            pose = np.random.default_rng(n).normal(0, 0.5, (frames, joints, 3)).astype(np.float32)
        clips.append((f"{n}.npz", clip(n, frames, Track("0", index(frames), pose), flaw="")))
    return write(path, described("people", skeleton), clips)


def write_h36m(path: Path, count: int = 4, frames: int = 40, drift: int = -1) -> Path:
    """S1 before a camera, with a detector's joints that are 3 pixels off; recording ``drift`` is bad."""
    camera = builtin_cameras()[1, 54138969]
    extra = replace(H36M.dataset.extra("detection"), labels={
        "detection_joint": H36M17.names, "pixel_axis": ("x", "y")
    })  # fmt: skip
    dataset = replace(
        described("h36m", "h36m17"),
        columns=H36M.dataset.columns,
        tables=(CAMERA_TABLE,),
        axis_map=H36M.dataset.axis_map,
        extras=(extra,),
    )
    clips = []
    for n in range(count):
        points = (person(n, frames) * (-1, -1, 1) + (0, 1, 5)) * 1000
        detection = (project(points, camera) + 3).astype(np.float32)
        track = Track("0", index(frames), points.astype(np.float32), extras={"detection": detection})
        made = clip(n, frames, track)
        flaw = "drift" if n == drift else ""
        columns: dict[str, Value | NDArray[Any]] = {
            "subject": 1,
            "camera": 54138969,
            "take": 1,
            "subaction": 1,
            "flaw": flaw,
        }
        clips.append((f"{n}.cdf", replace(made, columns=columns, tables={"calibration": [camera.row()]})))
    return write(path, dataset, clips, ("detection",))


def pixels(number: int, frames: int, skeleton: str) -> NDArray[np.float32]:
    """(T, J, 2) a person in a picture; joints that h36m17 does not have are near its others."""
    layout = load_skeleton(skeleton)
    pose = person(number, frames)[..., :2] * (300, -300) + (500, 800)
    near = {name: n for n, name in enumerate(H36M17.names)} | {"neck": 8, "head_bottom": 8}
    take = [near.get(name, 9) for name in layout.names]
    return (pose[:, take] + np.arange(len(take))[:, None] * 0.1).astype(np.float32)


def write_2d(path: Path, skeleton: str, dtype: str, count: int = 4, frames: int = 40) -> Path:
    """Tracks of a layout; of two persons in recording 1, with a gap of frames 10 to 14 in recording 0."""
    clips = []
    for n in range(count):
        tracks = []
        for body in range(2 if n == 1 else 1):
            where = np.delete(index(frames), slice(10, 15)) if n == 0 else index(frames)
            place = pixels(n + 10 * body, frames, skeleton)[where]
            score = np.full(place.shape[:2], 1 if dtype == "u1" else 0.8, dtype)
            tracks.append(Track(str(body), where, place, score))
        clips.append((f"{n}.json", clip(n, frames, *tracks)))
    return write(path, described("flat", skeleton, flat=True, dtype=dtype), clips)
