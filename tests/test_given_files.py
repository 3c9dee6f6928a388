"""Tests of real files skip where none are given, and fail in continuous integration that is given them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import conftest

ROOT = Path(__file__).resolve().parents[1]
NUMBERS = ROOT / "tests" / "golden"
A_TEST_OF_REAL_FILES = "tests/skelformats/test_ntu.py::test_names_of_real_files"


@pytest.mark.parametrize(
    ("continuous", "code", "words"),
    [("", 0, "1 skipped"), ("1", 1, "was skipped although CI is set")],
)
def test_a_skip_is_an_error_in_ci_that_is_given_a_folder_without_the_files(
    tmp_path: Path, continuous: str, code: int, words: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", A_TEST_OF_REAL_FILES],
        cwd=ROOT,
        env={**os.environ, "CI": continuous, "SKELCONV_SHARED": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert words in done.stdout


@pytest.mark.parametrize(
    ("continuous", "named", "beside", "must"),
    [
        ("1", False, False, False),
        ("1", False, True, True),
        ("1", True, False, True),
        ("", True, True, False),
    ],
)
def test_ci_is_given_them_beside_the_checkout_or_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, continuous: str, named: bool, beside: bool, must: bool
) -> None:
    monkeypatch.setenv("CI", continuous)
    monkeypatch.delenv("SKELCONV_SHARED", raising=False)
    if named:
        monkeypatch.setenv("SKELCONV_SHARED", str(tmp_path / "absent"))
    monkeypatch.setattr(conftest, "SHARED", tmp_path if beside else tmp_path / "absent")
    assert conftest.must_find_real_files() == must


def test_golden_numbers_are_few_and_described() -> None:
    files = [file for file in NUMBERS.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 3_000_000
    described = (NUMBERS / "README.md").read_text(encoding="utf-8")
    for name in {file.relative_to(NUMBERS).parts[0] for file in files} - {"README.md"}:
        assert f"`{name}" in described, f"tests/golden/README.md says nothing of {name}"
