"""Tables of text read exactly: `read_csv`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from packaging.version import Version

EXACT: dict[str, Any] = {} if Version(pd.__version__) >= Version("3.1") else {"float_precision": "round_trip"}
"""What makes pandas read each number as the nearest float64; from 3.1 on it always does."""


def read_csv(path: Path, **how: Any) -> pd.DataFrame:
    """Read a csv file as UTF-8; ``how`` goes to `pandas.read_csv`, and its errors come through."""
    return pd.read_csv(path, encoding="utf-8-sig", **EXACT, **how)
