"""Where the numbers of a run go: a table, TensorBoard, and the person who waits."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

LINE_SECONDS = 10.0
"""Seconds between lines of progress where there is no terminal."""

Metrics = Mapping[str, float]


class Logger(Protocol):
    """Takes the metrics of a run as it goes."""

    def log(self, step: int, metrics: Metrics) -> None:
        """Take the metrics at an optimiser step, counted from the start of the run."""

    def close(self) -> None:
        """Finish."""


class CSVLogger:
    """A table ``metrics.csv``: a row for each time something was logged, ``step`` first.

    Parameters
    ----------
    path
        The table. When it exists, rows after ``step`` are dropped: the run goes on from there.
    step
        Step the run starts from.
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        self._path = path
        self._rows: list[dict[str, Any]] = []
        if path.exists() and step > 0:
            with path.open(newline="", encoding="utf-8") as file:
                self._rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
        self._columns = ["step"]
        for row in self._rows:
            self._add_columns(row)
        self._rewrite()

    def log(self, step: int, metrics: Metrics) -> None:
        """Append a row; a metric that is new becomes a column."""
        row = {"step": step, **{name: f"{value:.9g}" for name, value in metrics.items()}}
        self._rows.append(row)
        if self._add_columns(row):
            self._rewrite()
        else:
            with self._path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns).writerow(row)

    def close(self) -> None:
        """Nothing is left to do: every row is on disk."""

    def _add_columns(self, row: Mapping[str, Any]) -> bool:
        new = [name for name in row if name not in self._columns]
        self._columns += new
        return bool(new)

    def _rewrite(self) -> None:
        aside = self._path.with_name(self._path.name + ".partial")
        with aside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(self._rows)
        aside.replace(self._path)


class TensorBoardLogger:
    """Event files for TensorBoard; those after ``step`` of an earlier run are hidden."""

    def __init__(self, folder: Path, step: int = 0) -> None:
        # The import takes seconds, and not every run wants it.
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def log(self, step: int, metrics: Metrics) -> None:
        """Add each metric as a curve."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class ProgressLogger:
    """Tells how far a run is, on stderr: a bar on a terminal, a line every few seconds elsewhere."""

    def __init__(self, total: int, step: int, title: str) -> None:
        self._total = total
        self._title = title
        self._last = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=step, desc=title, unit="step", file=sys.stderr)

    def log(self, step: int, metrics: Metrics) -> None:
        """Show the newest metrics."""
        if self._bar is not None:
            self._bar.set_postfix_str(_short(metrics), refresh=False)
            self._bar.update(step - self._bar.n)
            return
        now = time.monotonic()
        if now - self._last >= LINE_SECONDS or step == self._total:
            self._last = now
            sys.stderr.write(f"{self._title}: step {step}/{self._total}, {_short(metrics)}\n")
            sys.stderr.flush()

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()


def _short(metrics: Metrics) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
