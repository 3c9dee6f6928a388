"""The tables of docs/results.md are those of the runs that were recorded beside it."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "docs" / "results_nw_ucla.json"


@pytest.fixture(scope="module")
def benchmark() -> dict[str, Any]:
    """Return what the script that wrote the record defines."""
    return runpy.run_path(str(ROOT / "benchmarks" / "nw_ucla.py"), run_name="nw_ucla")


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RECORD.read_bytes())
    return found


def test_every_table_of_the_record_stands_in_the_document(
    benchmark: dict[str, Any], record: dict[str, Any]
) -> None:
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for table in benchmark["tables"](record):
        assert table in text, f"docs/results.md lacks or changes:\n{table}"


def test_every_stage_was_recorded_with_the_settings_of_today(
    benchmark: dict[str, Any], record: dict[str, Any]
) -> None:
    needed = {"select", "few", "final", "pretrain"}
    assert needed <= set(record) <= {*needed, "planned"}
    assert set(record["few"]["few"]) == set(benchmark["FEW"])
    assert set(record["select"]["candidates"]) == set(benchmark["CANDIDATES"])
    assert record["select"]["holdouts"] == {name: list(own) for name, own in benchmark["HOLDOUTS"].items()}
    for stage in set(record) & set(benchmark["SUMS_TESTED"]):
        members = benchmark["SUMS_TESTED"][stage]
        assert set(record[stage]["scores"]) == {*members, " + ".join(members)}


def test_means_are_those_of_the_seeds(record: dict[str, Any]) -> None:
    for scores in [one for stage in record.values() for one in stage.get("scores", {}).values()]:
        each = [one["top1"] for one in scores["seeds"]]
        assert scores["mean"]["top1"] == pytest.approx(sum(each) / len(each))
