"""Stores that are exported and ingested again, and what must then be equal."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path
from typing import Any

import numpy as np

from skelconv.export import export_store
from skelconv.ingest.ingest import ingest
from skelconv.ingest.plan import make_plan
from skelconv.store.store import Store, open_store
from skelconv.synth import Settings, synthesize

FAULTY = Settings(frames=(8, 12), faults=3.0)


READER = {"csv": "table", "parquet": "table"}


def generated(folder: Path, dataset: str, settings: Settings = FAULTY, extras: tuple[str, ...] = ()) -> Store:
    synthesize(dataset, folder / "raw", 3, settings=settings)
    ingest(make_plan(dataset, folder / "raw", "test", extras), folder / "in.zarr")
    return open_store(folder / "in.zarr")


def again(store: Store, folder: Path, form: str) -> Store:
    """Export a store and ingest the export."""
    export_store(store, folder / form, form)
    assert not ingest(
        make_plan(READER.get(form, form), folder / form, "test"), folder / f"{form}.zarr"
    ).set_aside
    return open_store(folder / f"{form}.zarr")


def check_equal(one: Store, other: Store, without: Set[str] = frozenset()) -> None:
    """Every array bit for bit, and all that is said of them; only the source is another file.

    ``without`` are optional arrays that have no value a joint, and so no place in an export.
    """
    assert set(other.all_arrays) - {"raw_source"} == set(one.all_arrays) - {"raw_source"} - without
    for name in set(one.all_arrays) - {"source"} - without:
        mine, theirs = one.array(name), other.array(name)
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape), name
        same = (
            mine.tolist() == theirs.tolist() if mine.dtype == object else mine.tobytes() == theirs.tobytes()
        )
        assert same, name
        assert one.metadata(name)["attributes"] == other.metadata(name)["attributes"], name
    told: Any = {"provenance": True, "axes": {"order", "sign", "scale"}, "dataset": {"name"}, "extras": True}
    said, repeated = (store.info.model_dump(exclude=told) for store in (one, other))
    assert said == repeated


ABOUT: dict[str, Any] = {"classes": ["sit", "stand up"], "frame_rate": 25.0, "licence": "CC0-1.0"}


def takes() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    names = ("=1+1", "'quoted", "NA")
    made = [rng.normal(size=(5, 13, 3)).astype(np.float32) * 10.0 ** rng.integers(-9, 9) for _ in names]
    made[1][2, 4] = np.nan
    return [
        {
            "recording": name,
            "position": position,
            "frame_index": [0, 1, 5, 6, 9],
            "confidence": rng.random((5, 13)),
            "label": number % 2,
            "splits": {"mine": "train" if number else ""},
            "columns": {"age": 30 + number, "weight": 0.1 * number, "who": "-x"},
        }
        for number, (name, position) in enumerate(zip(names, made, strict=True))
    ]
