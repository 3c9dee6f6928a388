"""`kernel`: how this package compiles its Numba functions; and whether that is still to be done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import event

Function = TypeVar("Function", bound=Callable[..., Any])

_KERNELS: list[Any] = []
"""Every function of the modules imported so far that Numba compiles."""


def kernel(function: Function) -> Function:
    """Compile ``function`` with Numba on its first call, and keep the machine code on disk.

    It is kept beside the module, or in the user's cache folder where the installation cannot be written,
    or nowhere where that cannot be written either: then every process compiles for itself. Divisions and
    overflow follow IEEE 754 and raise nothing; the interpreter's lock is released.
    """
    compiler: Any = numba.njit
    try:
        compiled = compiler(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # Numba's answer to having nowhere to write
        return compiler(nogil=True, error_model="numpy")(function)
    _KERNELS.append(compiled)
    return compiled


def may_compile() -> bool:
    """Whether machine code of an imported module is not on disk: never compiled, or older than the module.

    Some of it may never be needed.
    """
    return any(not _is_kept(compiled) for compiled in _KERNELS)


def _is_kept(compiled: Any) -> bool:
    function = compiled.py_func
    source = Path(function.__code__.co_filename)
    name = f"{source.stem}.{function.__qualname__}-{function.__code__.co_firstlineno}.*.nbi"
    made = source.stat().st_mtime
    return any(index.stat().st_mtime >= made for index in Path(compiled.stats.cache_path).glob(name))


@contextmanager
def told_of_compiling(tell: Callable[[], None]) -> Iterator[None]:
    """Call ``tell`` once, when the first function begins to be compiled in this block."""
    listener = _Once(tell)
    with event.install_listener("numba:compile", listener):
        yield


class _Once(event.Listener):
    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell: Callable[[], None] | None = tell

    def on_start(self, event: Any) -> None:
        """Tell, the first time."""
        if self._tell is not None:
            tell, self._tell = self._tell, None
            tell()

    def on_end(self, event: Any) -> None:
        """Do nothing."""
