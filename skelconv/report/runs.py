"""What a training run left in its folder, read without torch: its curves and its scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import orjson
import pandas as pd
from pydantic import BaseModel, ConfigDict

from skelformats.errors import SkelconvError


class RunFolderError(SkelconvError):
    """A folder holds no training run, or a damaged one."""


class _Part(BaseModel):
    # a later version may say more
    model_config = ConfigDict(frozen=True, extra="allow")


class Seed(_Part):
    """The scores of a probe under one seed."""

    top1: float


class Encoder(_Part):
    """The probes of one encoder."""

    seeds: tuple[Seed, ...]


class ProbeData(_Part):
    """What the accuracies of a probe are to be compared with."""

    protocol: str
    train_samples: int
    test_samples: int
    classes: int
    chance: float
    majority: float


class Probe(_Part):
    """What ``probe.json`` holds, as far as it is shown (docs/recipes/probe.md)."""

    data: ProbeData
    encoders: dict[str, Encoder]


@dataclass(frozen=True, eq=False)
class Run:
    """A run: its name, its metrics (a row each time something was logged), and its probe if it had one."""

    name: str
    metrics: pd.DataFrame
    probe: Probe | None

    def scores(self, encoder: str) -> list[float]:
        """Return the top-1 accuracy of each seed of an encoder, ``trained`` or ``untrained``."""
        if self.probe is None or encoder not in self.probe.encoders:
            return []
        return [seed.top1 for seed in self.probe.encoders[encoder].seeds]


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
        scores = Probe.model_validate(orjson.loads(probe.read_bytes())) if probe.is_file() else None
    except ValueError as error:  # so are the errors of all three parsers
        reason = str(error).strip().splitlines()[0]
        raise RunFolderError(f"{folder}: found a damaged table or probe ({reason}). Run it again") from error
    return Run(folder.name, metrics, scores)
