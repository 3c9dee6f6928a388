"""The table of alignments under several seeds: means, spread, and what is missing is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skeltrain.align_report import LINES, ORACLE, ReportError, score_table


def write(folder: Path, value: float, leave_out: str = "") -> Path:
    """An evaluation in which every figure that the table has is ``value``."""
    keys = {key for line in LINES for key in (line.chance, line.untrained, line.trained) if key}
    found: dict[str, dict[str, float]] = {}
    for key in keys | {ORACLE, "retrieval/frames"}:
        name, rest = key.split("/", 1)
        if key != leave_out:
            found.setdefault(name, {})[rest] = value
    folder.mkdir()
    (folder / "evaluation.json").write_text(json.dumps(found))
    return folder


def test_means_and_spread_over_seeds(tmp_path: Path) -> None:
    table = score_table([write(tmp_path / "0", 0.25), write(tmp_path / "1", 0.75)])
    assert table.heading == "0 test frames, 2 seeds"
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["picture to 3D pose: the very frame comes first, %"] == ["50.0 ± 35.4"] * 3
    assert rows["3D pose decoded from the picture, MPJPE mm"] == ["0.5 ± 0.4", "", "0.5 ± 0.4"]
    alone = score_table([tmp_path / "0"])
    assert {cell for row in alone.rows for cell in row[1:]} == {"25.0", "0.2", ""}


def test_what_makes_no_table(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="found no evaluation"):
        score_table([tmp_path])
    key = "poses/image/mpjpe"
    with pytest.raises(
        ReportError, match="found no figure 'poses/image/mpjpe', expected the evaluation of a run of"
    ):
        score_table([write(tmp_path / "0", 1.0, key)])
