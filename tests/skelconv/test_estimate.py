"""The estimate of an ingest: near what comes out, and in time where the disk is too small."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from skelconv.ingest.estimate import SAMPLED, estimate, refuse_what_does_not_fit
from skelconv.ingest.ingest import ingest
from skelconv.ingest.plan import make_plan
from skelconv.report.summary import folder_bytes
from skelconv.synth import Settings, synthesize
from skelformats.raw_open import open_raw
from tests.skelconv.raw_ucla import write_raw
from tests.skelconv.test_cli import skelconv
from tests.skelconv.test_raw_places import write_ntu

CLOSE = 0.25


@pytest.mark.parametrize(("dataset", "archive"), [("ucla", False), ("toyota", True)])
def test_size_and_frames_are_close_to_what_comes_out(tmp_path: Path, dataset: str, archive: bool) -> None:
    synthesize(dataset, tmp_path / "raw", 50, settings=Settings(frames=(10, 200)))
    raw = tmp_path / "raw"
    if archive:
        raw = Path(shutil.make_archive(str(tmp_path / "packed"), "gztar", raw))
    plan = make_plan(dataset, open_raw([raw], tmp_path / "out.zarr"), "test")
    expected = estimate(plan, tmp_path / "out.zarr")
    made = ingest(plan, tmp_path / "out.zarr").info.provenance
    assert expected is not None
    assert expected.sampled == SAMPLED
    assert abs(expected.frames / made.frames - 1) < CLOSE
    assert abs(expected.store_bytes / folder_bytes(tmp_path / "out.zarr") - 1) < CLOSE
    assert (expected.unpacked_bytes > 0) == archive


def test_a_few_sources_are_known_exactly(tmp_path: Path) -> None:
    write_ntu(tmp_path / "raw")
    plan = make_plan("ntu120", tmp_path / "raw", "test")
    expected = estimate(plan, tmp_path / "out.zarr")
    made = ingest(plan, tmp_path / "out.zarr").info.provenance
    assert expected is not None
    assert expected.frames == made.frames
    assert abs(expected.store_bytes / folder_bytes(tmp_path / "out.zarr") - 1) < 0.02


def test_what_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_raw(tmp_path / "raw", 20)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=20_000))
    for more in ((), ("--dry-run",)):
        code, _, err = skelconv(
            capsys, "ingest", "ucla", tmp_path / "raw", tmp_path / "out.zarr", "-q", *more
        )
        assert code == 2
        assert "found 0.0 MB free in" in err
        assert "MB for the store. Make room" in err
    assert [entry.name for entry in tmp_path.iterdir()] == ["raw"]


def test_where_there_is_plenty_of_room_nothing_is_sampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_raw(tmp_path / "raw", 3)
    monkeypatch.delattr("skelconv.ingest.estimate.estimate")
    plan = make_plan("ucla", tmp_path / "raw", "test")
    refuse_what_does_not_fit(plan, tmp_path / "out.zarr")
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=plan.size))
    with pytest.raises(NameError):
        refuse_what_does_not_fit(plan, tmp_path / "out.zarr")


def test_the_dry_run_says_it_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_raw(tmp_path / "raw", 20)
    code, out, _ = skelconv(capsys, "ingest", "ucla", tmp_path / "raw", tmp_path / "out.zarr", "--dry-run")
    assert code == 0
    assert "estimated from 16 sources" in out
    assert "of memory a process" in out
    assert [entry.name for entry in tmp_path.iterdir()] == ["raw"]


def test_sources_of_which_none_can_be_read_have_no_estimate(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.json").write_text("{}")
    plan = make_plan("ucla", tmp_path / "raw", "test")
    assert estimate(plan, tmp_path / "out.zarr") is None
