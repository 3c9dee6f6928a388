"""Recordings that are set aside one by one, while the others of their source are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from skelconv.ingest.executors import open_executor
from skelconv.ingest.ingest import IngestError, ingest
from skelconv.ingest.plan import IngestPlan, make_plan
from skelconv.report.summary import describe
from skelconv.store.store import open_store
from skelconv.synth import Settings, synthesize
from skelconv.verify import verify

BAD = "7,30,20,1"


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six videos of four intervals, of which one interval each is degenerate in two of them."""
    folder = tmp_path_factory.mktemp("raw") / "pku1"
    synthesize("pku1", folder, 6, settings=Settings(frames=(60, 90), faults=0.0))
    labels = sorted((folder / "Train_Label_PKU_final").iterdir())
    for path in labels[1:3]:
        first, _, *others = path.read_text().splitlines()
        path.write_text("\n".join([first, BAD, *others]) + "\n")
    return folder


def plan_of(raw: Path) -> IngestPlan:
    return make_plan("pku1", raw, "test", shard_frames=256)


def test_the_others_of_the_source_are_kept(raw: Path, tmp_path: Path) -> None:
    summary = ingest(plan_of(raw), tmp_path / "out.zarr")
    assert summary.info.provenance.recordings == 6 * 4 - 2
    assert len(summary.set_aside) == 2
    for item in summary.set_aside:
        assert item.recording is not None
        assert item.recording.endswith("_i002")
        assert item.line == 2
        assert item.source.startswith("PKU_Skeleton_Renew/")
        assert item.reason.startswith("Train_Label_PKU_final/")
        assert "the interval 30 to 20, expected one that ends after it begins" in item.reason
    counted = "0 of 6 sources, and 2 single recordings of others"
    assert f"set aside: {counted}" in summary.describe(tmp_path / "out.zarr")
    assert counted in describe(open_store(tmp_path / "out.zarr"))


def test_they_are_noted_once_whoever_parses_and_however_often_it_is_interrupted(
    raw: Path, tmp_path: Path
) -> None:
    whole = ingest(plan_of(raw), tmp_path / "whole.zarr")

    steps = 0

    def stop_after_four(count: int, size: int) -> None:
        nonlocal steps
        steps += 1
        if steps == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(plan_of(raw), tmp_path / "out.zarr", advance=stop_after_four)
    with open_executor(1) as (executor, width):
        resumed = ingest(plan_of(raw), tmp_path / "out.zarr", executor, width)
    assert resumed.resumed_at > 0
    assert resumed.set_aside == whole.set_aside
    assert resumed.info == whole.info


def test_verify_finds_a_store_sound_that_lacks_them_and_one_unsound_that_should(
    raw: Path, tmp_path: Path
) -> None:
    ingest(plan_of(raw), tmp_path / "out.zarr")
    assert verify(tmp_path / "out.zarr", raw=raw).ok
    changed = tmp_path / "changed"
    for path in raw.rglob("*.txt"):
        copy = changed / path.relative_to(raw)
        copy.parent.mkdir(parents=True, exist_ok=True)
        # of the same size, so that the plan is the same
        copy.write_bytes(path.read_bytes().replace(BAD.encode(), b"7,20,30,1"))
    report = verify(tmp_path / "out.zarr", raw=changed)
    assert not report.ok
    assert any("_i002_b0" in problem and "expected it to fail" in problem for problem in report.problems)


def test_strict_stops_at_the_first(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(IngestError, match=r"line 2.*the recording is set aside"):
        ingest(plan_of(raw), tmp_path / "out.zarr", strict=True)
