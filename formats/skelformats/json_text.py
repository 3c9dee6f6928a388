"""JSON sources: loading one, with the line that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from skelformats.errors import FormatError


def load_json(path: Path, expected: str) -> Any:
    """Return the content of a JSON file; raises `FormatError` where it is cut off or nested too deep."""
    try:
        return orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise FormatError(
            path,
            f"text that is not JSON ({error.msg} at column {error.colno})",
            expected,
            line=error.lineno,
            action="The file may be cut off; fetch it again",
        ) from error


def kind(value: Any) -> str:
    """Say what a value is, for an error: a list and its length, or the name of its type."""
    return f"a list of {len(value)}" if isinstance(value, list) else f"of type {type(value).__name__}"
