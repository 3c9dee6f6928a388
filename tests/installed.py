"""Packages of somebody else's, as far as entry points tell: installed for the length of a test."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest


def install(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    code: str,
    group: str,
    points: Mapping[str, str],
) -> None:
    """Put a package with one module where Python finds it; ``points`` are names and objects of the module."""
    site = folder / "site"
    site.mkdir(exist_ok=True)
    (site / f"{module}.py").write_text(dedent(code))
    about = site / f"{module}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    lines = [f"{name} = {module}:{target}" for name, target in points.items()]
    (about / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]) + "\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, module, raising=False)
