"""What the verbs take for a path: one of this machine, or of a store, which may also be a URL."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import click


class LocalPath(click.Path):
    """A path of this machine, as `pathlib.Path`; a URL is refused, since it would become a folder ``s3:``."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; ``file://`` URLs are paths."""
        text = str(value)
        if "://" in text:
            parsed = urlparse(text)
            if parsed.scheme != "file":
                self.fail(
                    f"found the URL {text}, expected a path on this machine. What is finished can be copied "
                    "there (aws s3 cp --recursive, gsutil, rclone), and what lies there fetched; stores are "
                    "read from URLs as they are",
                    param,
                    ctx,
                )
            value = url2pathname(parsed.path)
        return super().convert(value, param, ctx)


class StorePath(LocalPath):
    """A store: a path, or a URL that stays text."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or the URL."""
        if "://" in str(value) and not str(value).startswith("file://"):
            return str(value)
        return super().convert(value, param, ctx)


PATH = LocalPath()
STORE = StorePath()
