"""The error that everything about stores raises; a module of its own, so that workers import little."""

from __future__ import annotations

from skelformats.errors import SkelconvError


class StoreError(SkelconvError):
    """A store is missing, damaged, or of a version this program does not read."""


class OutOfRangeError(StoreError, IndexError):
    """A sequence number or a range of frames that the store does not have."""
