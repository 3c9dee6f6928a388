"""Writes small raw folders in the NW-UCLA format, for tests of what happens after reading."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

CODES = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)


def write_raw(folder: Path, takes: int, seed: int = 0, frames: tuple[int, int] = (5, 60)) -> list[str]:
    """Write ``takes`` JSON files of random motion; returns the recordings' names in order."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for i in range(takes):
        rng = np.random.default_rng((seed, i))
        code = CODES[i % 10]
        name = f"a{code:02d}_s{i // 10 % 10 + 1:02d}_e{i // 300:02d}_v{i // 100 % 3 + 1:02d}"
        values = rng.normal(size=(int(rng.integers(*frames)), 20, 3)).cumsum(axis=0).round(6)
        content = {"file_name": name, "skeletons": values.tolist(), "label": CODES.index(code) + 1}
        (folder / f"{name}.json").write_text(json.dumps(content))
        names.append(name)
    return sorted(names)
