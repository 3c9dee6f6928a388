"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.fuzzing import examples

# the first example may compile with Numba, or run beside another job: time is no property of the code
settings.register_profile("skelconv", deadline=None, max_examples=examples(100))
settings.load_profile("skelconv")

SHARED = Path(os.environ.get("SKELCONV_SHARED", Path(__file__).resolve().parents[2] / "shared"))
NUMBERS = Path(__file__).with_name("golden")


def must_find_real_files() -> bool:
    """Whether a skipped test of real files is an error: in continuous integration that is given them."""
    return bool(os.environ.get("CI")) and ("SKELCONV_SHARED" in os.environ or SHARED.is_dir())


def _folder(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs {folder} (set SKELCONV_SHARED to the folder that holds data/ and golden/)")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real raw samples; skips where it is absent."""
    return _folder("data")


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of figures made of real recordings with official and peer code; skips where it is absent."""
    return _folder("golden")


@pytest.fixture(scope="session")
def golden_numbers() -> Path:
    """Folder of figures made with official and peer code on made-up inputs: always there."""
    return NUMBERS


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Turn the skip of a test of real files into a failure where continuous integration is given them."""
    report = yield
    if report.skipped and item.get_closest_marker("real") is not None and must_find_real_files():
        report.outcome = "failed"
        report.longrepr = f"was skipped although CI is set and {SHARED} is given: {report.longrepr}"
    return report
