"""docs/claims.md and docs/architecture.md name tests and benchmarks; they must exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CLAIMS = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
MAP = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`((?:tests|benchmarks)/[^`]+)`", CLAIMS + MAP)))
ROWS = [line for line in CLAIMS.splitlines() if line.startswith("| ") and not line.startswith("| ---")]


def defined(file: Path) -> set[str]:
    """Classes, functions, and methods as Class::method, of a module."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            found.add(node.name)
            found |= {f"{node.name}::{n.name}" for n in node.body if isinstance(n, ast.FunctionDef)}
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
    return found


@pytest.mark.parametrize("name", NAMED)
def test_what_holds_a_claim_exists(name: str) -> None:
    path, _, inside = name.partition("::")
    assert (ROOT / path).exists(), f"{path} does not exist"
    if inside:
        assert inside in defined(ROOT / path), f"{path} has no {inside}"


def test_every_claim_is_held_by_something() -> None:
    rows = [row for row in ROWS if row != "| claim | where | held by |"]
    assert len(rows) > 40
    for row in rows:
        assert re.search(r"`(tests|benchmarks)/", row.split(" | ")[-1]), f"nothing holds: {row}"


def test_every_benchmark_holds_a_claim() -> None:
    for script in (ROOT / "benchmarks").glob("*.py"):
        assert f"`benchmarks/{script.name}`" in CLAIMS, f"docs/claims.md does not name {script.name}"
