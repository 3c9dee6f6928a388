"""Errors a user can act on. Everything else that escapes is a bug in skelconv."""

from __future__ import annotations

from pathlib import Path


class SkelconvError(Exception):
    """Root of every error that skelconv raises on purpose; its text is written for the user."""


class FormatError(SkelconvError, ValueError):
    """A raw file is not what its dataset's format says.

    Parameters
    ----------
    path
        The file.
    found, expected
        What stands there, and what the format wants there.
    line
        1-based line number in a text file, where there is one.
    action
        What the user can do about it.
    """

    def __init__(
        self,
        path: str | Path,
        found: str,
        expected: str,
        line: int | None = None,
        action: str | None = None,
    ) -> None:
        # All of it goes to args, so that the error survives pickling on its way back from a worker.
        # A name or a piece of a file may not be text that can be printed or stored.
        path, found, expected = (printable(text) for text in (str(path), found, expected))
        super().__init__(path, found, expected, line, action)
        self.path = path
        self.found = found
        self.expected = expected
        self.line = line
        self.action = action

    def __str__(self) -> str:
        where = self.path if self.line is None else f"{self.path}, line {self.line}"
        text = f"{where}: found {self.found}, expected {self.expected}"
        return f"{text}. {self.action}" if self.action else text


def is_text(value: str) -> bool:
    """Whether text is valid Unicode: without lone surrogates, which stand for bytes that are not UTF-8."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def printable(value: str) -> str:
    r"""Return text with lone surrogates written as escapes, as ``\udcff``."""
    return value if is_text(value) else value.encode("utf-8", "backslashreplace").decode("utf-8")


class UnknownNameError(SkelconvError, KeyError):
    """A name (dataset, skeleton, sequence, protocol, ...) that does not exist, with the names that do."""

    def __init__(self, kind: str, name: str, known: tuple[str, ...]) -> None:
        super().__init__(kind, name, known)
        self.kind = kind
        self.name = name
        self.known = known

    def __str__(self) -> str:
        import difflib

        near = difflib.get_close_matches(self.name, self.known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        shown = ", ".join(self.known[:40]) + (", ..." if len(self.known) > 40 else "")
        return f"no {self.kind} named {self.name!r}.{hint} Known: {shown or 'none'}"
