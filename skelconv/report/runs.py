"""What a training run left in its folder, read without torch: its curves and its scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pandas as pd

from skelformats.errors import SkelconvError


class RunFolderError(SkelconvError):
    """A folder holds no training run, or a damaged one."""


@dataclass(frozen=True)
class Run:
    """A run: its name, its metrics (a row each time something was logged), and its probe if it had one."""

    name: str
    metrics: pd.DataFrame
    probe: dict[str, Any] | None

    def scores(self, encoder: str) -> list[float]:
        """Return the top-1 accuracy of each seed of an encoder, ``trained`` or ``untrained``."""
        arms = {} if self.probe is None else self.probe["encoders"]
        return [float(seed["top1"]) for seed in arms.get(encoder, {"seeds": []})["seeds"]]


def read_run(folder: str | Path) -> Run:
    """Read a run folder; raises `RunFolderError`."""
    folder = Path(folder)
    table = folder / "metrics.csv"
    if not table.is_file():
        raise RunFolderError(
            f"{folder}: found no metrics.csv, expected the folder of a run of skeltrain pretrain"
        )
    try:
        metrics = pd.read_csv(table)
        probe = folder / "probe.json"
        scores = orjson.loads(probe.read_bytes()) if probe.is_file() else None
    except ValueError as error:  # both parsers' errors are ValueErrors
        raise RunFolderError(f"{folder}: found a damaged table or probe ({error}). Run it again") from error
    return Run(folder.name, metrics, scores)
