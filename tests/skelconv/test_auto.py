"""``--workers auto``: workers are started where they save time, by the rate of the first batches."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from skelconv.cli.main import cli
from skelconv.ingest.auto import START_SECONDS, AutoExecutor, workers_for
from skelconv.ingest.ingest import ingest
from skelconv.ingest.plan import make_plan
from tests.skelconv.raw_ucla import write_raw
from tests.skelconv.test_ingest import tree


@pytest.mark.parametrize(
    ("seconds", "limit", "workers"),
    [
        (START_SECONDS, 16, 0),
        (1.9 * START_SECONDS, 2, 0),
        (3 * START_SECONDS, 2, 2),
        (3 * START_SECONDS, 16, 3),
        (1000, 16, 16),
        (1000, 1, 0),
    ],
)
def test_workers_are_started_where_they_save_more_than_their_start(
    seconds: float, limit: int, workers: int
) -> None:
    assert workers_for(seconds, limit) == workers
    if workers:
        assert START_SECONDS + seconds / workers < seconds


class Clock:
    """A clock that a batch advances."""

    def __init__(self, seconds: float) -> None:
        self.now, self.seconds = 0.0, seconds

    def __call__(self) -> float:
        self.now += self.seconds
        return self.now


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_raw(folder, 30)
    return folder


@pytest.mark.parametrize(("seconds", "workers"), [(10.0, 4), (0.01, 0)])
def test_it_is_decided_by_the_rate_of_the_first_batches_and_the_bytes_stay(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, workers: int
) -> None:
    monkeypatch.setattr("skelconv.ingest.ingest.BATCH_SOURCES", 2)
    plan = make_plan("ucla", raw, "test", shard_frames=256)
    ingest(plan, tmp_path / "alone.zarr")
    said: list[str] = []
    started: list[int] = []

    def start(count: int) -> Executor:
        started.append(count)
        return pool

    with ThreadPoolExecutor(4) as pool:
        executor = AutoExecutor(4, start, said.append, Clock(seconds))
        ingest(plan, tmp_path / "out.zarr", executor)
    assert started == [workers] * bool(workers)
    (line,) = said
    assert line.startswith(f"workers: {workers or 'none'}; one process reads")
    assert tree(tmp_path / "out.zarr") == tree(tmp_path / "alone.zarr")


def test_a_small_folder_is_read_by_one_process_and_a_number_is_taken(raw: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    for number, words in enumerate([(), ("-j", "auto"), ("-j", "0")]):
        done = runner.invoke(
            cli, ["ingest", "ucla", str(raw), str(tmp_path / f"{number}.zarr"), "-q", *words]
        )
        assert done.exit_code == 0, done.output
    assert tree(tmp_path / "0.zarr") == tree(tmp_path / "2.zarr")
    refused = runner.invoke(cli, ["ingest", "ucla", str(raw), str(tmp_path / "o.zarr"), "-j", "many"])
    assert "found 'many', expected `auto` or a number of processes" in refused.output
