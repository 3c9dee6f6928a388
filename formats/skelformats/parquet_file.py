"""Parquet files as tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from skelformats.errors import FormatError


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a Parquet file whole.

    Raises
    ------
    FormatError
        It is damaged, or pyarrow is not installed.
    """
    try:
        return pd.read_parquet(path)
    except ImportError as error:
        raise FormatError(
            path, "a Parquet file", "pyarrow to read it with", action="pip install pyarrow"
        ) from error
    except (OSError, ValueError) as error:
        raise FormatError(path, f"a damaged file {path.name} ({error})", "a Parquet table") from error
