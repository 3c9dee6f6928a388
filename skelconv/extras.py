"""Packages that only some installations have."""

from __future__ import annotations

from importlib.util import find_spec

from skelformats.errors import SkelconvError


class MissingExtraError(SkelconvError, ImportError):
    """What was asked for needs an extra that is not installed."""


def need(package: str, extra: str) -> None:
    """Raise `MissingExtraError`, with the command that helps, unless ``package`` can be imported."""
    if find_spec(package) is None:
        name = {"PIL": "pillow", "faiss": "faiss-cpu"}.get(package, package)
        raise MissingExtraError(
            f"this needs {name}, which is not installed. Run: pip install 'skelconv[{extra}]'"
        )
