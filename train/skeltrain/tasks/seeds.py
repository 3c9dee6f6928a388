"""One experiment under several seeds: mean and spread of its scores, and what to compare them with."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from skeltrain.distributed import World, describe_device


def summarise(seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and sample standard deviation over seeds (null for a single one)."""
    names = [name for name in seeds[0] if name != "seed"]
    values = {name: np.array([scores[name] for scores in seeds]) for name in names}
    return {
        "seeds": list(seeds),
        "mean": {name: float(v.mean()) for name, v in values.items()},
        "std": {name: float(v.std(ddof=1)) if len(v) > 1 else None for name, v in values.items()},
    }


def describe_test(label: NDArray[np.integer[Any]], leaked: NDArray[np.bool_]) -> dict[str, Any]:
    """Return what accuracies on test recordings of these classes (G,) are to be compared with."""
    counts = np.bincount(label)
    # of those that occur in the test part: a store may hold few of its dataset's classes
    classes = int((counts > 0).sum())
    return {
        "classes": classes,
        "test_samples": len(label),
        "leaked": int(leaked.sum()),
        "chance": 1 / classes,
        "majority": float(counts.max() / counts.sum()),
    }


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write a report as JSON, whole or not at all."""
    aside = path.with_name(path.name + ".partial")
    aside.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    aside.replace(path)


def machine(world: World) -> dict[str, Any]:
    """Say what an experiment ran on."""
    return {
        **describe_device(world.device),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
    }
