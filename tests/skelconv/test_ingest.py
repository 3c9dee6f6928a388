"""Ingest: the same bytes for any number of workers and any interruption; bad sources set aside."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from skelconv.ingest.executors import SchedulerError, open_executor
from skelconv.ingest.ingest import IngestError, ingest
from skelconv.ingest.plan import IngestPlan, PlanError, make_plan
from skelconv.store.info import StoreError, StoreInfo
from tests.skelconv.raw_ucla import write_raw

TAKES = 90
SHARD = 512


def plan_of(raw: Path, **settings: object) -> IngestPlan:
    return make_plan("ucla", raw, "test", **{"shard_frames": SHARD, **settings})  # type: ignore[arg-type]


def tree(store: Path) -> dict[str, str]:
    """Digest of every file of a store, by its path."""
    return {
        file.relative_to(store).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(store.rglob("*"))
        if file.is_file()
    }


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_raw(folder, TAKES)
    return folder


@pytest.fixture(scope="module")
def reference(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("reference") / "out.zarr"
    ingest(plan_of(raw), out)
    files = tree(out)
    assert sum(name.startswith("position/c/") for name in files) >= 4, "several shards, or kills test nothing"
    return files


def test_a_store_holds_what_the_files_say(raw: Path, tmp_path: Path) -> None:
    ingest(plan_of(raw), tmp_path / "out.zarr")
    group = zarr.open_group(tmp_path / "out.zarr", mode="r")
    names = group["sequence"][:]
    starts, lengths = group["start"][:], group["length"][:]
    assert len(names) == TAKES
    for name, start, length in zip(names, starts, lengths, strict=True):
        content = json.loads((raw / f"{name.removesuffix('_b0')}.json").read_text())
        want = np.array(content["skeletons"], np.float32)
        np.testing.assert_array_equal(group["position"][start : start + length], want)
        np.testing.assert_array_equal(group["frame_index"][start : start + length], np.arange(len(want)))


@pytest.mark.parametrize("workers", [1, 4])
def test_the_bytes_do_not_depend_on_the_number_of_workers(
    raw: Path, reference: dict[str, str], tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # many small batches, so that they finish out of order
    monkeypatch.setattr("skelconv.ingest.ingest.BATCH_SOURCES", 4)
    with open_executor(workers) as (executor, width):
        ingest(plan_of(raw), tmp_path / "out.zarr", executor, width)
    assert tree(tmp_path / "out.zarr") == reference


def test_a_dask_cluster_gives_the_same_bytes(raw: Path, reference: dict[str, str], tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=tmp_path
        ) as cluster,
        open_executor(0, cluster.scheduler_address) as (executor, width),
    ):
        assert width == 2
        ingest(plan_of(raw), tmp_path / "out.zarr", executor, width)
    assert tree(tmp_path / "out.zarr") == reference


def test_a_scheduler_that_is_not_there_is_named() -> None:
    pytest.importorskip("distributed")
    with (
        pytest.raises(SchedulerError, match="no-scheme"),
        open_executor(0, "no-scheme://127.0.0.1:1"),
    ):
        pass


def _count_file_events(on_event: Callable[[int], None]) -> None:
    """Call ``on_event(n)`` before the n-th event that changes a file: a write opened, a rename, a removal."""
    count = 0

    def hook(event: str, args: tuple[object, ...]) -> None:
        nonlocal count
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir"):
            count += 1
            on_event(count)

    sys.addaudithook(hook)


def _ingest_and_die(raw: Path, out: Path, at: int) -> None:
    def die(n: int) -> None:
        if n == at:
            os.kill(os.getpid(), signal.SIGKILL)

    _count_file_events(die)
    ingest(plan_of(raw), out)


def _ingest_and_count(raw: Path, out: Path, answer: Path) -> None:
    last = 0

    def note(n: int) -> None:
        nonlocal last
        last = n

    _count_file_events(note)
    ingest(plan_of(raw), out)
    answer.write_text(str(last))


def test_killed_at_any_file_event_and_run_again_it_gives_the_same_bytes(
    raw: Path, reference: dict[str, str], tmp_path: Path
) -> None:
    """SIGKILL before every k-th change of a file, over the whole run, each time followed by a rerun."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.skelconv.test_ingest"])

    def child(target: Callable[..., None], *args: object) -> int | None:
        process = context.Process(target=target, args=args)
        process.start()
        process.join()
        return process.exitcode

    assert child(_ingest_and_count, raw, tmp_path / "whole.zarr", tmp_path / "count") == 0
    events = int((tmp_path / "count").read_text())
    assert events > 60
    for at in range(1, events + 1, max(1, events // 30)):
        out = tmp_path / f"{at}.zarr"
        assert child(_ingest_and_die, raw, out, at) == -signal.SIGKILL
        if out.exists():
            assert tree(out) == reference, f"published, yet not whole, when killed at event {at}"
        else:
            ingest(plan_of(raw), out)
            assert tree(out) == reference, f"another store after a kill at event {at}"
            assert not out.with_name(out.name + ".partial").exists()


def test_killed_again_and_again_it_still_gets_there(
    raw: Path, reference: dict[str, str], tmp_path: Path
) -> None:
    context = multiprocessing.get_context("forkserver")
    out = tmp_path / "out.zarr"
    for at in (30, 45, 25, 60):
        process = context.Process(target=_ingest_and_die, args=(raw, out, at))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    summary = ingest(plan_of(raw), out)
    assert tree(out) == reference
    assert summary.resumed_at > 0, "nothing was kept from four runs"


def test_a_finished_store_is_not_touched(raw: Path, reference: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    ingest(plan_of(raw), out)
    with pytest.raises(StoreError, match="--overwrite"):
        ingest(plan_of(raw, limit=3), out)
    assert tree(out) == reference
    ingest(plan_of(raw, limit=3), out, overwrite=True)
    assert zarr.open_group(out, mode="r")["sequence"].shape == (3,)


def test_another_plan_does_not_resume_an_unfinished_one(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=_ingest_and_die, args=(raw, out, 40))
    process.start()
    process.join()
    with pytest.raises(StoreError, match=r"precision was None, is 0\.001"):
        ingest(plan_of(raw, precision=1e-3), out)
    ingest(plan_of(raw, precision=1e-3), out, overwrite=True)
    assert out.exists()


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    folder = tmp_path / "damaged"
    names = write_raw(folder, 12)
    (folder / f"{names[3]}.json").write_text('{"skeletons": [[')
    (folder / f"{names[7]}.json").write_bytes(b"\x00" * 500)
    return folder


def test_bad_sources_are_set_aside_with_the_reason(damaged: Path, tmp_path: Path) -> None:
    summary = ingest(plan_of(damaged), tmp_path / "out.zarr")
    assert len(summary.set_aside) == 2
    assert summary.info.provenance.sequences == 10
    stored = StoreInfo.from_attributes(
        zarr.open_group(tmp_path / "out.zarr", mode="r").attrs["skelconv"], "out.zarr"
    )
    for item in stored.provenance.set_aside:
        assert item.source in item.reason
        assert "expected" in item.reason
        assert str(damaged) not in item.reason, "the store must not depend on where the raw files lay"
    assert "set aside: 2 of 12 sources" in summary.describe(tmp_path / "out.zarr")


def test_strict_stops_at_the_first_bad_source(damaged: Path, tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="not JSON"):
        ingest(plan_of(damaged), tmp_path / "out.zarr", strict=True)
    assert not (tmp_path / "out.zarr").exists()


def test_a_file_that_cannot_be_read_is_set_aside(raw: Path, tmp_path: Path) -> None:
    plan = plan_of(raw, limit=5)
    gone = IngestPlan(
        plan.dataset, tmp_path / "moved", plan.sources, plan.options, SHARD, None, "test", limit=5
    )
    with pytest.raises(IngestError, match="No such file"):
        ingest(gone, tmp_path / "out.zarr")


def test_a_folder_without_sources_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="found no source of ucla"):
        plan_of(tmp_path)
    with pytest.raises(PlanError, match="found no folder"):
        plan_of(tmp_path / "absent")


def test_a_recording_that_comes_twice_is_set_aside(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    names = write_raw(folder, 3)
    (folder / "copy").mkdir()
    (folder / "copy" / f"{names[0]}.json").write_bytes((folder / f"{names[0]}.json").read_bytes())
    summary = ingest(plan_of(folder), tmp_path / "out.zarr")
    assert summary.info.provenance.recordings == 3
    assert len(summary.set_aside) == 1
    assert "again" in summary.set_aside[0].reason


def test_precision_rounds_by_no_more_than_asked_and_says_so(raw: Path, tmp_path: Path) -> None:
    ingest(plan_of(raw), tmp_path / "exact.zarr")
    ingest(plan_of(raw, precision=1e-4), tmp_path / "rounded.zarr")
    exact = zarr.open_group(tmp_path / "exact.zarr", mode="r")["position"][:].astype(np.float64)
    rounded = zarr.open_group(tmp_path / "rounded.zarr", mode="r")
    error = np.abs(rounded["position"][:].astype(np.float64) - exact).max()
    assert 1e-5 < error <= 1e-4
    assert rounded.attrs["skelconv"]["precision"] == 1e-4


def test_equal_motions_on_both_sides_of_a_split_are_counted_as_leakage(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    write_raw(folder, 30)
    original = json.loads((folder / "a01_s01_e00_v01.json").read_text())
    (folder / "a01_s01_e00_v03.json").write_text(json.dumps({**original, "file_name": "a01_s01_e00_v03"}))
    summary = ingest(plan_of(folder), tmp_path / "out.zarr")
    assert summary.info.provenance.leakage == {"xview": 1}
