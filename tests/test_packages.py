"""What setup.cfg puts into a wheel: every package, and nothing that is none."""

from __future__ import annotations

import configparser
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACES = {"skelformats": "formats/skelformats", "skelconv": "skelconv", "skeltrain": "train/skeltrain"}


def test_every_package_is_in_the_wheel() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = config["options"]["packages"].split()
    there = [
        ".".join((name, *file.parent.relative_to(ROOT / place).parts))
        for name, place in PLACES.items()
        for file in sorted((ROOT / place).rglob("__init__.py"))
    ]
    assert sorted(listed) == sorted(there)
