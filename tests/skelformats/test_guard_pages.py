"""The text scanners between pages that nobody may touch: a byte too far ends the process.

The scanners check no bounds, for speed: they rely on the zeros behind the text. Here the buffer ends where a
page without access begins, or begins where one ends, so that whatever reads beyond it crashes.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import multiprocessing
import signal
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from skelconv.synth import SYNTHESIZERS, Settings
from skelconv.testing import damage
from skelformats import ntu_text, pku_text
from skelformats import text as scanner
from skelformats.errors import FormatError
from skelformats.simd import PADDING
from skelformats.text import Text, skip_space
from tests.fuzzing import examples

PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)


class Guarded:
    """Memory of whole pages with a page without access before and after it."""

    def __init__(self, size: int) -> None:
        self.pages = -(-size // PAGE)
        self.map = mmap.mmap(-1, (self.pages + 2) * PAGE)
        whole = np.frombuffer(self.map, np.uint8)
        start = whole.ctypes.data
        self.bytes = whole[PAGE:-PAGE]
        for place in (start, start + (self.pages + 1) * PAGE):
            if _libc.mprotect(ctypes.c_void_p(place), ctypes.c_size_t(PAGE), 0):
                raise OSError(ctypes.get_errno(), "mprotect")

    def text(self, content: bytes, at_end: bool) -> Text:
        """Return the content as a `Text` that ends, or begins, at the border; raises `FormatError`."""
        size = len(content) + PADDING
        buffer = self.bytes[-size:] if at_end else self.bytes[:size]
        buffer[: len(content)] = np.frombuffer(content, np.uint8)
        return scanner._checked("guarded.txt", buffer, len(content))


def genuine(dataset: str) -> bytes:
    """Return the text of a generated recording of two frames."""
    settings = Settings(frames=(2, 2))
    synthesizer = SYNTHESIZERS[dataset]
    files = synthesizer.files(*synthesizer.make(0, 0, settings))
    return min((content for name, content in files.items() if "abel" not in name), key=len)


def ntu(text: Text) -> None:
    ntu_text.parse_bodies(text, ntu_text.COLUMNS)
    ntu_text.parse_bodies(text)


def pku(text: Text) -> None:
    pku_text.parse_frames(text)


PARSERS: dict[str, Callable[[Text], None]] = {"ntu120": ntu, "pku1": pku}


def variants(content: bytes, count: int) -> Iterator[bytes]:
    """Yield the text as it is, cut off in many places, with odd ends, and damaged."""
    yield content
    lines = content.splitlines(keepends=True)
    for stop in range(1, min(len(lines), 12)):
        yield b"".join(lines[:stop])
        for cut in (1, 2, 7, 8, 9, 15, 16, 17, 33):
            yield b"".join(lines[:stop])[:-cut] or b"1"
    for end in (b"1", b"-", b"+", b".", b"1e", b"1e-", b"nan", b"inf", b"-infinit", b"12345678", b" " * 63):
        yield content + end
        yield content[: len(content) // 2] + end
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield damage(content, rng)[1] or b"0"


def scan_all(dataset: str, count: int) -> None:
    content = genuine(dataset)
    guarded = Guarded(2 * len(content) + PAGE)
    parse = PARSERS[dataset]
    parse(guarded.text(content, at_end=True))
    for text in variants(content, count):
        for at_end in (True, False):
            with contextlib.suppress(FormatError):
                parse(guarded.text(text, at_end))


def read_one_byte_too_far(dataset: str, count: int) -> None:
    """Walk over blanks that have no zeros behind them: what the scanners must never do."""
    guarded = Guarded(PAGE)
    guarded.bytes[:] = ord(" ")
    skip_space(guarded.bytes, 0)


def run(target: Callable[[str, int], None], dataset: str, count: int) -> int | None:
    process = multiprocessing.get_context("spawn").Process(target=target, args=(dataset, count))
    process.start()
    process.join(timeout=300)
    return process.exitcode


@pytest.mark.parametrize("dataset", PARSERS)
def test_a_scanner_reads_no_byte_beyond_its_buffer(dataset: str) -> None:
    assert run(scan_all, dataset, examples(300)) == 0


def test_the_guard_page_ends_a_walk_that_goes_too_far() -> None:
    assert run(read_one_byte_too_far, "", 0) == -signal.SIGSEGV
