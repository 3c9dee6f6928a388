"""Small stores of figures whose pictures, 2D and 3D poses agree: what alignment is trained on in tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from skelconv.crops import ImageFolder, write_crops
from skelconv.store.info import Provenance
from skelconv.store.store import open_store
from skelconv.store.writer import write_store
from skelconv.view.figures import PinholeCamera, draw_figures
from skelformats.reader import Clip, Dataset, Extra, Protocol, Track
from skelformats.skeleton import load_skeleton

SIZE = (96, 128)
CAMERA = PinholeCamera.looking_at((0, 0.9, 0), (0.4, 1.2, 3.2), 120.0, SIZE)
LAYOUT = load_skeleton("h36m17")
REST = {
    "pelvis": (0, 0.9), "right_hip": (-0.12, 0.9), "right_knee": (-0.14, 0.5), "right_ankle": (-0.14, 0.08),
    "left_hip": (0.12, 0.9), "left_knee": (0.14, 0.5), "left_ankle": (0.14, 0.08), "spine": (0, 1.15),
    "thorax": (0, 1.4), "nose": (0, 1.5), "head_top": (0, 1.65), "left_shoulder": (0.17, 1.37),
    "left_elbow": (0.3, 1.15), "left_wrist": (0.36, 0.9), "right_shoulder": (-0.17, 1.37),
    "right_elbow": (-0.3, 1.15), "right_wrist": (-0.36, 0.9),
}  # fmt: skip


def random_pose(rng: np.random.Generator, spread: float = 0.5) -> np.ndarray:
    """A body (J, 3) in the world, +y up, that is turned and bent at random; its bones keep their lengths."""
    rest = np.array([(*REST[name], 0.0) for name in LAYOUT.names])
    angle = rng.uniform(-1.2, 1.2)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    pose = np.zeros_like(rest)
    done: set[int] = set()
    while len(done) < len(rest):
        for joint, parent in enumerate(LAYOUT.parents):
            if joint in done or (parent >= 0 and parent not in done):
                continue
            if parent < 0:
                pose[joint] = rest[joint] + rng.normal(0, 0.05, 3)
            else:
                bone = rest[joint] - rest[parent]
                length = np.linalg.norm(bone)
                bent = bone @ turn.T / length + rng.normal(0, spread, 3)
                pose[joint] = pose[parent] + length * bent / np.linalg.norm(bent)
            done.add(joint)
    return pose


def dataset(name: str = "figures") -> Dataset:
    return Dataset(
        name=name,
        title="drawn figures",
        skeleton="h36m17",
        licence="none",
        citation="none",
        homepage="none",
        frame_rate=10.0,
        classes=("stand", "walk"),
        columns=(),
        protocols=(Protocol("half", "the first takes train"),),
        missing="NaN",
        extras=(
            Extra("pixel", ("joint", "pixel_axis"), {"pixel_axis": ("x", "y")}, "f4", "px", "in the picture"),
        ),
    )


def write_figures(
    root: Path, takes: int, frames: int, pictures: bool = True, world: bool = False, lose: slice | None = None
) -> Path:
    """Write takes of unrelated poses as a sequence store in camera axes, and, with ``pictures``, as crops.

    With ``world`` the 3D poses are in the axes of a room, turned by 90 degrees; with ``lose`` every eighth
    frame lacks a wrist, and those frames of each take every joint in 2D.
    """
    rng = np.random.default_rng(11)
    clips = []
    for take in range(takes):
        name = f"take{take}"
        folder = root / "images" / name
        folder.mkdir(parents=True)
        poses = np.stack([random_pose(rng) for _ in range(frames)])
        if pictures:
            for t, pose in enumerate(poses):
                Image.fromarray(draw_figures([pose], LAYOUT, CAMERA).image).save(folder / f"{t:06d}.png")
        pixel = CAMERA.project(poses).astype(np.float32)
        # of the camera, with +y up
        position = (CAMERA.to_camera(poses) * (1, -1, -1)).astype(np.float32)
        if world:
            position = poses[..., [2, 1, 0]].astype(np.float32)
        if lose is not None:
            wrist = LAYOUT.index("left_wrist")
            pixel[::8, wrist] = position[::8, wrist] = np.nan
            pixel[lose] = np.nan
        track = Track("0", np.arange(frames, dtype=np.int32), position, None, {"pixel": pixel})
        splits = {"half": "train" if take < max(takes // 2, 1) else "test"}
        clips.append((f"{name}.txt", Clip(name, frames, (track,), take % 2, {}, splits)))
    made = Provenance(tool="tests", command="tests", digest=f"sha256:{takes}x{frames}")
    path = root / "store.zarr"
    write_store(path, dataset(), clips, made, extras=("pixel",), shard_frames=256)
    if pictures:
        pattern = "{recording}/{frame:06d}.png"
        write_crops(open_store(path), ImageFolder(root / "images", pattern), root / "crops.zarr")
        return root / "crops.zarr"
    return path
