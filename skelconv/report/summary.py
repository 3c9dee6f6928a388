"""What ``skelconv info`` tells of a store: as plain data and as text."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from skelconv.store.schema import split_column
from skelconv.store.store import PARTS, Store

SHOWN_SET_ASIDE = 10
"""Sources that `describe` lists; `to_json` has them all."""


def to_json(store: Store) -> dict[str, Any]:
    """Return everything `describe` says, as data for JSON.

    ``hours`` is of all sequences together, None where the dataset has no single frame rate. ``bytes`` is what
    the store takes on disk (None for a URL), ``raw_bytes`` its positions as plain float32.
    """
    info, table = store.info, store.to_frame()
    raw_bytes = 4 * math.prod((store.frames, len(store.skeleton), len(info.axes.names)))
    size = None if store.folder is None else folder_bytes(store.folder)
    lengths = table["length"].to_numpy()
    return {
        "path": str(store.path),
        "format_version": info.format_version,
        "dataset": info.dataset.model_dump(mode="json"),
        "skeleton": {"name": store.skeleton.name, "joints": len(store.skeleton)},
        "unit": info.unit,
        "axes": f"{','.join(info.axes.names)}: {info.axes.convention}",
        "frame_rate": info.frame_rate,
        "recordings": len(store.recording_names()),
        "sequences": len(store),
        "frames": store.frames,
        "hours": store.frames / info.frame_rate / 3600 if info.frame_rate else None,
        "length": _spread(lengths),
        "bytes": size,
        "raw_bytes": raw_bytes,
        "ratio": size / raw_bytes if size is not None and raw_bytes else None,
        "precision": info.precision,
        "arrays": list(store.arrays),
        "classes": len(info.classes),
        "labels": int(table["label"][table["label"] >= 0].nunique()),
        "splits": {name: _split(store, name) for name in info.protocols},
        "set_aside": [source.model_dump(mode="json") for source in info.provenance.set_aside],
        "empty": list(info.provenance.empty),
        "provenance": info.provenance.model_dump(mode="json", exclude={"set_aside", "empty"}),
    }


def describe(store: Store) -> str:
    """Return aligned plain text: what a store holds, where it comes from, and what is wrong with it."""
    facts = to_json(store)
    dataset, made = facts["dataset"], facts["provenance"]
    rows = [
        ("dataset", f"{dataset['title']} ({dataset['name']})"),
        *((("generated", dataset["generated"]),) if "generated" in dataset else ()),
        ("licence", dataset["licence"]),
        *((("cite", dataset["citation"]),) if dataset["citation"] else ()),
        ("skeleton", f"{facts['skeleton']['name']}, {facts['skeleton']['joints']} joints"),
        ("axes", f"{facts['axes']}; {facts['unit']}"),
        ("recordings", f"{facts['recordings']:,}" + _also_empty(facts["empty"])),
        ("sequences", f"{facts['sequences']:,}, {_lengths(facts['length'])}"),
        ("frames", _frames(facts)),
        ("on disk", _sizes(facts)),
        ("arrays", ", ".join(facts["arrays"])),
        ("labels", f"{facts['labels']:,} of {facts['classes']:,} classes"),
        *((f"split {name}", _counts(split)) for name, split in facts["splits"].items()),
        ("made by", f"{made['tool']}: {made['command']}"),
        ("set aside", store.info.provenance.count_set_aside()),
    ]
    if facts["precision"] is not None:
        rows.insert(5, ("precision", f"rounded by at most {facts['precision']:g} {facts['unit']}"))
    width = max(len(name) for name, _ in rows)
    lines = [facts["path"], *(f"  {name.ljust(width)}  {text}".rstrip() for name, text in rows)]
    shown = facts["set_aside"][:SHOWN_SET_ASIDE]
    lines += [f"    {source['reason']}" for source in shown]
    if hidden := len(facts["set_aside"]) - len(shown):
        lines.append(f"    and {hidden:,} more")
    return "\n".join(lines)


def folder_bytes(folder: Path) -> int:
    """Sum of the sizes of all files below ``folder``."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _split(store: Store, protocol: str) -> dict[str, int]:
    """Sequences a part, those in none, and the leaked ones; leaves out what does not occur."""
    values = store.to_frame()[split_column(protocol)]
    counts = {part: int((values == part).sum()) for part in PARTS}
    counts["none"] = len(values) - sum(counts.values())
    counts["leaked"] = int(store.leaked(protocol).sum())
    return {name: count for name, count in counts.items() if count or name in ("train", "test")}


def _spread(lengths: np.ndarray) -> dict[str, float] | None:
    if not len(lengths):
        return None
    return {
        "min": int(lengths.min()),
        "median": float(np.median(lengths)),
        "mean": float(lengths.mean()),
        "max": int(lengths.max()),
    }


def _also_empty(empty: list[str]) -> str:
    return f", and {len(empty):,} without any body" if empty else ""


def _lengths(spread: dict[str, float] | None) -> str:
    if spread is None:
        return "none"
    return f"{spread['min']:,} to {spread['max']:,} frames long, half of them up to {spread['median']:,.0f}"


def _frames(facts: dict[str, Any]) -> str:
    if facts["hours"] is None:
        return f"{facts['frames']:,}"
    return f"{facts['frames']:,}, {facts['hours']:,.2f} hours at {facts['frame_rate']:g} a second"


def _sizes(facts: dict[str, Any]) -> str:
    raw = f"{_bytes(facts['raw_bytes'])} of positions as plain float32"
    if facts["ratio"] is None:
        return f"unknown; {raw}"
    return f"{_bytes(facts['bytes'])}, {facts['ratio']:.2f} of the {raw}"


def _bytes(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:,.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"


def _counts(split: dict[str, int]) -> str:
    parts = [f"{name} {count:,}" for name, count in split.items() if name != "leaked"]
    if leaked := split.get("leaked"):
        parts.append(f"{leaked:,} of the test sequences also stand in the training set")
    return ", ".join(parts)
