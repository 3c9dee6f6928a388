"""Writes small stores for tests of what is made from one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from skelconv.store.info import Provenance
from skelconv.store.recording import Recording
from skelconv.store.store import Store, open_store
from skelconv.store.writer import write_store
from skelformats.reader import Clip, Column, Confidence, Dataset, Protocol, Track

CLASSES = ("drink", "eat", "walk")


def dataset(
    name: str = "ntu60", skeleton: str = "ntu25", confidence: bool = False, cleaning: str = "sgn"
) -> Dataset:
    return Dataset(
        name=name,
        title="made up",
        skeleton=skeleton,
        licence="none",
        citation="none",
        homepage="none",
        frame_rate=30.0,
        classes=CLASSES,
        columns=(
            Column("subject", "i4", "who"),
            Column("room", "string", "where"),
            Column("score", "f4", "differs between bodies in no test"),
        ),
        protocols=(Protocol("xsub", "cross-subject"),),
        missing="never",
        confidence=Confidence("u1", "tracking state", {0: "not tracked", 2: "tracked"})
        if confidence
        else None,
        cleaning=cleaning,
    )


def store_of(
    path: Path,
    recordings: Iterable[Recording],
    described: Dataset | None = None,
    labels: Mapping[str, int] | None = None,
) -> Store:
    """Write recordings as a store; a body's confidence is its frame number modulo 3 in every joint."""
    described = described or dataset()
    clips = []
    for number, take in enumerate(recordings):
        tracks = tuple(
            Track(
                one.body,
                one.frame_index,
                one.position,
                None
                if described.confidence is None
                else np.repeat(one.frame_index[:, None] % 3, one.position.shape[1], 1).astype(np.uint8),
            )
            for one in take.bodies
        )
        columns = {"subject": number, "room": f"room {number % 2}", "score": number / 2}
        splits = {"xsub": "train" if number % 2 == 0 else "test"}
        label = (labels or {}).get(take.name, number % len(CLASSES))
        clips.append((f"{take.name}.txt", Clip(take.name, take.length, tracks, label, columns, splits)))
    made = Provenance(tool="test 1", command="test", sources=len(clips), digest="sha256:0")
    write_store(path, described, clips, made, shard_frames=512)
    return open_store(path)
