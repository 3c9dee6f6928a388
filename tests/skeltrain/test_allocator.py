"""Freed memory stays in the process: blocks that are taken again need no new pages."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
from skeltrain.allocator import keep_memory
print(keep_memory())
size = 48 * 2**20
for _ in range(8):
    block = bytearray(size)
    del block
    if _ == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(**environment: str) -> tuple[str, int]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=kept | environment, capture_output=True, text=True, check=True
    )
    told, faults = done.stdout.split()
    return told, int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is the GNU C library's")
def test_large_blocks_are_taken_again_without_new_pages_unless_the_user_has_set_the_allocator() -> None:
    pages = 48 * 2**20 // os.sysconf("SC_PAGE_SIZE")
    told, faults = run()
    assert told == "True"
    assert faults < pages / 10
    for setting in ({"MALLOC_TOP_PAD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.top_pad=131072"}):
        assert run(**setting)[0] == "False"
