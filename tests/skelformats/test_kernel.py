"""What is compiled, when, and that it is said once."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from skelconv.ingest import warm
from skelconv.ingest.plan import make_plan
from skelformats.kernel import may_compile, told_of_compiling
from skelformats.reader import Source
from tests.skelconv.raw_ucla import write_raw

MODULE = """
from skelformats.kernel import kernel

@kernel
def double(x):
    return 2 * x
"""


def test_a_kernel_is_compiled_once_and_that_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skelformats.kernel._KERNELS", [])
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "doubles.py").write_text(MODULE)
    module = importlib.import_module("doubles")
    told: list[str] = []
    assert may_compile()
    with told_of_compiling(lambda: told.append("first")):
        assert module.double(2) == 4
        assert module.double(2.5) == 5.0
    assert told == ["first"]
    assert not may_compile()
    # another process finds the machine code on disk
    again = importlib.reload(module)
    with told_of_compiling(lambda: told.append("again")):
        assert again.double(2) == 4
    assert told == ["first"]


def test_the_smallest_source_is_read_before_workers_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_raw(tmp_path, 9)
    plan = make_plan("ucla", tmp_path, "test")
    read: list[list[Source]] = []
    monkeypatch.setattr(warm, "parse_batch", lambda dataset, root, sources, options: read.append(sources))
    for cold in (False, True):
        monkeypatch.setattr(warm, "may_compile", lambda cold=cold: cold)
        warm.compile_beforehand(plan)
    assert read == [[min(plan.sources, key=lambda source: source.size)]]
