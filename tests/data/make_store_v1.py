"""Makes the archives in ``tests/data``: stores as releases wrote them, kept to be read by every later one.

``store-v1`` is of the first release: what is nothing but fill value has no chunk, and there is no digest of
the metadata. ``store-v1-sealed`` has both. Each was made once, by ``python -m tests.data.make_store_v1``,
which makes the second; the first is never made again. `CLIPS` is what they hold, for the tests of them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from skelconv.store.info import Provenance, SetAside
from skelconv.store.writer import write_store
from skelformats.reader import AxisMap, Clip, Column, Confidence, Dataset, Extra, Protocol, Track

STORE = Path(__file__).with_name("store-v1")
SEALED = Path(__file__).with_name("store-v1-sealed")

DATASET = Dataset(
    name="archive",
    title="Archived store of format version 1",
    skeleton="toyota13",
    licence="CC0-1.0",
    citation="skelconv developers, 2026",
    homepage="https://example.org/archive",
    frame_rate=30.0,
    classes=("swing", "sway"),
    columns=(
        Column("subject", "i4", "number of the subject"),
        Column("view", "string", "name of the view"),
        Column("height", "f4", "height of the subject in metres"),
    ),
    protocols=(Protocol("xsub", "subjects 1 and 2 train, 3 tests"),),
    missing="all axes 0",
    axis_map=AxisMap((0, 2, 1), (1, 1, -1), 0.001),
    confidence=Confidence("u1", "tracking state", {0: "not tracked", 1: "inferred", 2: "tracked"}),
    extras=(Extra("depth", ("joint",), {}, "f4", "pixel", "column in the depth image"),),
)


def swing(body: str, frames: np.ndarray, phase: float, blind_from: int = 10**6) -> Track:
    """Thirteen pendulums on a millimetre grid; joint 3 is missing at times, all from ``blind_from`` on."""
    angle = frames[:, None, None] / 15 + phase + np.arange(13)[:, None] + np.arange(3)
    position = np.round(500 * np.sin(angle)).astype(np.float32)
    confidence = np.full((len(frames), 13), 2, np.uint8)
    lost = frames % 10 == 0
    position[lost, 3] = np.nan
    confidence[lost, 3] = 0
    position[frames >= blind_from] = np.nan
    confidence[frames >= blind_from] = 0
    return Track(body, frames.astype(np.int32), position, confidence, {"depth": position[..., 0] + 512})


def clip(number: int, tracks: tuple[Track, ...], length: int) -> Clip:
    columns = {"subject": number, "view": "żółw", "height": 1.5 + number / 8}
    return Clip(
        f"R{number:03d}", length, tracks, number % 2, columns, {"xsub": "test" if number == 3 else "train"}
    )


CLIPS = (
    clip(1, (swing("72057594037944339", np.arange(280), 0.0),), 280),
    clip(2, (swing("1", np.arange(0, 200, 2), 1.0), swing("2", np.arange(50, 120), 2.0)), 200),
    clip(3, (swing("1", np.arange(280), 0.0),), 300),
    # a chunk, and a shard, of nothing but fill value
    clip(4, (swing("1", np.arange(600), 3.0, blind_from=20),), 600),
)

if __name__ == "__main__":
    write_store(
        SEALED,
        DATASET,
        [(f"raw/{c.recording}.txt", c) for c in CLIPS],
        Provenance(
            tool="skelconv 0.2.0",
            command="python -m tests.data.make_store_v1",
            sources=5,
            set_aside=(SetAside(source="raw/R005.txt", reason="raw/R005.txt, line 2: found text", line=2),),
        ),
        extras=("depth",),
        shard_frames=512,
        overwrite=True,
    )
