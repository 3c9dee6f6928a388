"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.fuzzing import examples

# the first example may compile with Numba, or run beside another job: time is no property of the code
settings.register_profile("skelconv", deadline=None, max_examples=examples(100))
settings.load_profile("skelconv")

SHARED = Path(os.environ.get("SKELCONV_SHARED", Path(__file__).resolve().parents[2] / "shared"))


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
    """Folder of figures made with official and peer code; skips where it is absent."""
    return _folder("golden")
