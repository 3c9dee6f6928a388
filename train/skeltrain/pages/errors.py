"""The error of what cannot be shown."""

from __future__ import annotations

from skelformats.errors import SkelconvError


class PageError(SkelconvError, ValueError):
    """Something that cannot be drawn or written as asked."""
