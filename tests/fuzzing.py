"""How long the fuzz targets run: short in the tests, ``SKELCONV_FUZZ`` times as long under ``make fuzz``."""

from __future__ import annotations

import os

FACTOR = int(os.environ.get("SKELCONV_FUZZ", "1"))


def examples(count: int) -> int:
    """Return the number of examples of a target that takes ``count`` in the tests."""
    return count * FACTOR
