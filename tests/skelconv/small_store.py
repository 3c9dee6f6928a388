"""A small store for tests: every feature of the format in a few thousand frames, several shards, real gaps.

``RECORDINGS`` is the truth that a store made by `make_store` is compared with.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from skelconv.store.info import Provenance
from skelconv.store.writer import write_store
from skelformats.reader import AxisMap, Clip, Column, Confidence, Dataset, Extra, Protocol, Track

SHARD_FRAMES = 512
JOINTS = 13

DATASET = Dataset(
    name="small",
    title="A small set for tests",
    skeleton="toyota13",
    licence="free",
    citation="nobody, 2026",
    homepage="https://example.org",
    frame_rate=30.0,
    classes=("wave", "walk", "sit"),
    columns=(Column("subject", "i4", "number of the subject"), Column("view", "string", "name of the view")),
    protocols=(Protocol("xsub", "by subject"), Protocol("cv1", "by view")),
    missing="NaN",
    axis_map=AxisMap((0, 2, 1), (1, 1, -1), 0.001),
    confidence=Confidence("u1", "tracking state", {0: "not tracked", 1: "inferred", 2: "tracked"}),
    extras=(
        Extra(
            "pixel", ("joint", "image_axis"), {"image_axis": ("column", "row")}, "f4", "pixel", "in colour"
        ),
    ),
)


def track(body: str, frames: np.ndarray, seed: int, missing: slice = slice(0)) -> Track:
    """A body seen in ``frames``, with single joints missing here and there and all of them in ``missing``."""
    rng = np.random.default_rng(seed)
    time = frames[:, None, None] / 30 + np.arange(JOINTS)[:, None] + np.arange(3)
    position = (1000 * np.sin(time) + rng.normal(0, 3, (len(frames), JOINTS, 3))).astype(np.float32)
    confidence = rng.integers(1, 3, (len(frames), JOINTS)).astype(np.uint8)
    pixel = (position[..., :2] + 960).astype(np.float32)
    lost = rng.random((len(frames), JOINTS)) < 0.02
    lost[missing] = True
    position[lost] = np.nan
    pixel[lost] = np.nan
    confidence[lost] = 0
    return Track(body, frames.astype(np.int32), position, confidence, {"pixel": pixel})


def recording(number: int, tracks: tuple[Track, ...], label: int, xsub: str) -> Clip:
    length = int(max(t.frame_index[-1] for t in tracks)) + 1
    columns = {"subject": number % 3, "view": "left" if number % 2 else "right"}
    return Clip(f"take{number:02d}", length, tracks, label, columns, {"xsub": xsub, "cv1": ""})


def _gap(length: int, start: int, stop: int) -> np.ndarray:
    return np.delete(np.arange(length), slice(start, stop))


RECORDINGS: tuple[Clip, ...] = (
    recording(0, (track("7", np.arange(300), seed=0),), 0, "train"),
    recording(
        1, (track("72057594037944339", _gap(260, 40, 90), 1), track("8", _gap(260, 0, 100), 2)), 1, "test"
    ),
    # 1,300 frames without a joint: whole chunks, and a whole shard, hold nothing but the fill value
    recording(2, (track("9", np.arange(1600), 3, missing=slice(150, 1450)),), 2, "train"),
    # the motion of the first, seen again in the test set
    recording(3, (track("1", np.arange(300), seed=0),), 0, "test"),
    recording(4, (track("2", np.array([17]), 5),), -1, ""),
    recording(5, (track("3", np.arange(90), 6), track("4", np.arange(20, 90), 7)), 1, "val"),
)

SEQUENCES = [
    (f"{clip.recording}_b{number}", clip, track)
    for clip in RECORDINGS
    for number, track in enumerate(clip.tracks)
]


def make_store(path: Path, shard_frames: int = SHARD_FRAMES) -> Path:
    """Write `RECORDINGS` as a store and return its path."""
    clips = [(f"raw/{clip.recording}.txt", clip) for clip in RECORDINGS]
    made_by = Provenance(tool="skelconv test", command="make_store", sources=len(clips))
    write_store(path, DATASET, clips, made_by, extras=("pixel",), shard_frames=shard_frames)
    return path


def canonical(position: np.ndarray) -> np.ndarray:
    """Positions as the store should hold them."""
    return DATASET.axis_map.to_canonical(position)
