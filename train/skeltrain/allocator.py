"""Memory that the process keeps: what torch frees on a CPU is not handed back to the operating system.

By its defaults, glibc asks the system for every large block and returns it when it is freed. A training step
on a CPU frees and takes the same hundreds of megabytes again and again; each time, the system clears every
page of them before it hands them out. Kept blocks have neither cost (docs/performance.md).
"""

from __future__ import annotations

import ctypes
import os
import platform

# Parameters of mallopt(3), from malloc.h of the GNU C library.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4

#: Bytes by which the heap grows at once, when it has to.
TOP_PAD = 64 * 2**20

#: Settings of the user: where one is there, the allocator is left alone.
VARIABLES = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")


def keep_memory() -> bool:
    """Let the process keep what it frees, for as long as it runs; what it holds at most stays the same.

    For the commands of `skeltrain`, which call it at their start. It holds for the C library of GNU alone,
    and is left undone where the user has set the allocator (``MALLOC_..._``, ``glibc.malloc`` in
    ``GLIBC_TUNABLES``) or has put another one in its place (``LD_PRELOAD``).

    Returns
    -------
    Whether it was done.
    """
    chosen = any(name in os.environ for name in (*VARIABLES, "LD_PRELOAD"))
    chosen = chosen or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if chosen or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # -1: never give the end of the heap back; 0: no block from the system but by the heap
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, TOP_PAD))
    return all([mallopt(ctypes.c_int(name), ctypes.c_int(value)) == 1 for name, value in settings])
