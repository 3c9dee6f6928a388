"""`kernel`: how this package compiles its Numba functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile ``function`` with Numba on its first call, and keep the machine code on disk.

    It is kept beside the module, or in the user's cache folder where the installation cannot be written,
    or nowhere where that cannot be written either: then every process compiles for itself. Divisions and
    overflow follow IEEE 754 and raise nothing; the interpreter's lock is released.
    """
    compiler: Any = numba.njit
    try:
        return compiler(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # Numba's answer to having nowhere to write
        return compiler(nogil=True, error_model="numpy")(function)
