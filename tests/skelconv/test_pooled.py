"""Workers encode whole shards from spool files: the same bytes, and nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from skelconv.ingest.ingest import IngestError, ingest
from skelconv.ingest.plan import IngestPlan, make_plan
from skelconv.ingest.worker import encode_shard
from skelconv.store import schema
from skelconv.store.digest import file_digest
from skelconv.store.encode import FrameArray, ShardEncoder
from skelconv.store.info import StoreError
from tests.skelconv.raw_ucla import write_raw
from tests.skelconv.test_ingest import tree


def plan_of(raw: Path) -> IngestPlan:
    return make_plan("ucla", raw, "test", shard_frames=256)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_raw(folder, 40)
    return folder


@pytest.fixture(scope="module")
def reference(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("reference") / "out.zarr"
    ingest(plan_of(raw), out)
    return tree(out)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skelconv.ingest.ingest.BATCH_SOURCES", 3)


@pytest.mark.parametrize("dtype", ["f4", "i4", "u1", "f8", "i8"])
@pytest.mark.parametrize("frames", [1, 256, 700, 1024])
def test_a_shard_has_the_bytes_that_zarr_writes(tmp_path: Path, dtype: str, frames: int) -> None:
    array = FrameArray("values", (5, 3), dtype, ("joint", "axis"), shard=1024)
    values = (np.random.default_rng(frames).normal(size=(frames, 5, 3)) * 50).astype(dtype)
    if dtype == "f4":
        values[::7, 2] = np.nan
    group = zarr.open_group(tmp_path / "zarr", mode="w", zarr_format=3)
    schema.create_frame_array(group, array, frames)[:] = values
    encoder = ShardEncoder(array)
    for start in range(0, frames, 100):
        encoder.add(values[start : start + 100])
    digest = encoder.write(tmp_path / "ours")
    written = tmp_path / "zarr" / "values" / "c" / "0" / "0" / "0"
    assert (tmp_path / "ours").read_bytes() == written.read_bytes()
    assert digest == file_digest(written)


def test_the_bytes_are_those_of_one_process_and_nothing_else_is_left(
    raw: Path, reference: dict[str, str], tmp_path: Path
) -> None:
    with ThreadPoolExecutor(3) as executor:
        ingest(plan_of(raw), tmp_path / "out.zarr", executor, 3)
    assert tree(tmp_path / "out.zarr") == reference
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.zarr"]


@pytest.mark.parametrize("steps", [9, 20, 33])
def test_interrupted_and_run_again_it_gives_the_same_bytes(
    raw: Path, reference: dict[str, str], tmp_path: Path, steps: int
) -> None:
    done = 0

    def stop(count: int, size: int) -> None:
        nonlocal done
        done += 1
        if done == steps:
            raise KeyboardInterrupt

    out, partial = tmp_path / "out.zarr", tmp_path / "out.zarr.partial"
    with ThreadPoolExecutor(2) as executor:
        with pytest.raises(KeyboardInterrupt):
            ingest(plan_of(raw), out, executor, 2, advance=stop)
        assert not list(partial.glob("work-*"))
        # what a killed run would have left
        (partial / "work-0123456789abcdef" / "3").mkdir(parents=True)
        (partial / "work-0123456789abcdef" / "0.spool").write_bytes(b"of another run")
        summary = ingest(plan_of(raw), out, executor, 2)
    assert summary.resumed_at > 0 or steps < 33
    assert tree(out) == reference
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.zarr"]


class Failing(ThreadPoolExecutor):
    """Fails where a shard is encoded."""

    def __init__(self, error: Exception) -> None:
        super().__init__(2)
        self.error = error

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if fn is not encode_shard:
            return super().submit(fn, *args, **kwargs)
        failed = Future[Any]()
        failed.set_exception(self.error)
        return failed


def test_a_disk_that_is_full_for_a_worker_is_said_with_the_path(raw: Path, tmp_path: Path) -> None:
    with (
        Failing(OSError(28, "No space left on device", "/somewhere/position")) as executor,
        pytest.raises(StoreError, match=r"/somewhere/position: found no room left.*same command again"),
    ):
        ingest(plan_of(raw), tmp_path / "out.zarr", executor, 2)
    assert not (tmp_path / "out.zarr").exists()


def test_a_worker_that_dies_while_it_encodes_costs_a_sentence(raw: Path, tmp_path: Path) -> None:
    from concurrent.futures.process import BrokenProcessPool

    with (
        Failing(BrokenProcessPool("gone")) as executor,
        pytest.raises(IngestError, match="worker process died"),
    ):
        ingest(plan_of(raw), tmp_path / "out.zarr", executor, 2)


def test_frames_of_a_long_source_are_read_in_blocks(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan("ucla", raw, "test", shard_frames=1024)
    ingest(plan, tmp_path / "whole.zarr")
    monkeypatch.setattr("skelconv.store.frames.BLOCK_FRAMES", 100)
    with ThreadPoolExecutor(2) as executor:
        ingest(plan, tmp_path / "out.zarr", executor, 2)
    assert tree(tmp_path / "out.zarr") == tree(tmp_path / "whole.zarr")


def test_a_worker_imports_neither_zarr_nor_pandas() -> None:
    asked = (
        "import skelconv.ingest.worker, skelconv.cli.main, sys\n"
        "print({'zarr', 'pandas', 'pydantic'} & {*sys.modules})"
    )
    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"
