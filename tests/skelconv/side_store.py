"""Small stores with everything that only some datasets have: side tables, columns of arrays, extras."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from skelconv.store.info import Provenance
from skelconv.store.store import Store, open_store
from skelconv.store.writer import write_store
from skelformats.reader import AxisMap, Clip, Column, Confidence, Dataset, Extra, Protocol, SideTable, Track

DATASET = Dataset(
    name="alpha",
    title="Alpha",
    skeleton="toyota13",
    licence="free",
    citation="nobody, 2026",
    homepage="https://example.org",
    frame_rate=30.0,
    classes=("Wave", "walk", "sit"),
    columns=(
        Column("subject", "i4", "who"),
        Column("weight", "f4", "of the body", unit="kg"),
        Column("betas", "f8", "body shape", (3,), ("beta",)),
        Column("names", "string", "two names a row", (2,), ("name_part",)),
    ),
    protocols=(Protocol("xsub", "by subject"),),
    missing="NaN",
    axis_map=AxisMap((0, 2, 1), (1, 1, -1), 0.001),
    confidence=Confidence("u1", "tracking state", {0: "lost", 1: "seen"}),
    extras=(
        Extra("pixel", ("joint", "image_axis"), {"image_axis": ("column", "row")}, "f4", "px", "in colour"),
        Extra("root", ("root_axis",), {"root_axis": ("a", "b", "c")}, "f4", "m", "of the body"),
    ),
    tables=(
        SideTable(
            "interval",
            "labelled stretches",
            (
                Column("recording", "string", "in which"),
                Column("label", "i4", "class"),
                Column("start", "i4", "first frame"),
            ),
        ),
        SideTable(
            "calibration",
            "cameras",
            (
                Column("camera", "i4", "number"),
                Column("rotation", "f8", "R", (3, 3), ("camera_axis", "world_axis")),
            ),
            key=("camera",),
        ),
    ),
)  # fmt: skip


def clip(name: str, seed: int, bodies: int = 1, label: int = 0, part: str = "train") -> Clip:
    """Make a recording of ``bodies`` random bodies over 40 frames with a gap, some joints missing."""
    rng = np.random.default_rng(seed)
    tracks = []
    for body in range(bodies):
        frames = np.delete(np.arange(40), slice(5 + body, 9)).astype(np.int32)
        position = rng.normal(0, 1000, (len(frames), 13, 3)).astype(np.float32)
        position[3, 4] = np.nan
        own: dict[str, Any] = {"weight": 50.5 + body, "betas": rng.normal(size=3)}
        tracks.append(
            Track(
                str(body),
                frames,
                position,
                np.isfinite(position[..., 0]).astype(np.uint8),
                {
                    "pixel": rng.normal(size=(len(frames), 13, 2)).astype(np.float32),
                    "root": rng.normal(size=(len(frames), 3)).astype(np.float32),
                },
                own,
            )
        )
    tables: dict[str, list[dict[str, Any]]] = {
        "interval": [{"recording": name, "label": label, "start": start} for start in (0, 0, 7)],
        "calibration": [{"camera": camera, "rotation": np.eye(3) * (camera + 1)} for camera in (1, 2)],
    }
    names = np.array([name, "second"], object)
    return Clip(name, 40, tuple(tracks), label, {"subject": seed % 7, "names": names}, {"xsub": part}, tables)


def clips(first: int = 0, count: int = 3) -> list[Clip]:
    return [
        clip(f"take{n:02d}", n, bodies=1 + n % 2, label=n % 3, part="train" if n % 2 else "test")
        for n in range(first, first + count)
    ]


def write(path: Path, takes: list[Clip], dataset: Dataset = DATASET, extras: tuple[str, ...] = ()) -> Store:
    made = Provenance(tool="test 1", command="test", sources=len(takes), digest=f"sha256:{path.name}")
    sources = [(f"raw/{take.recording}.txt", take) for take in takes]
    write_store(path, dataset, sources, made, extras=extras, shard_frames=256)
    return open_store(path)


def side_store(path: Path, first: int = 0, count: int = 3, **changes: Any) -> Store:
    """Write takes ``first`` and on, with both extras, as a store of `DATASET` with ``changes``."""
    return write(path, clips(first, count), replace(DATASET, **changes), ("pixel", "root"))
