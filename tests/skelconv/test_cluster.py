"""Ingest in parts by job scripts: parts killed and relaunched, then merged, give the bytes of one run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from skelconv.cli.main import cli
from skelconv.ingest.ingest import ingest
from skelconv.ingest.plan import make_plan
from skelconv.ingest.slurm import marker, part_store, parts_folder
from skelconv.ingest.status import status_of
from skelconv.store.publish import lock_partial
from tests.skelconv.raw_ucla import write_raw
from tests.skelconv.test_ingest import tree
from tests.skelconv.test_resume import interrupt

SHARD = ("--shard-frames", "256", "--workers", "0")


def skelconv(*words: object) -> Result:
    """Run a verb; what it returns is its exit code."""
    return CliRunner().invoke(cli, [str(word) for word in words], standalone_mode=False)


def write_job(raw: Path, out: Path, parts: int, *more: object) -> None:
    done = skelconv("cluster", "slurm", "ingest", "ucla", raw, out, "--parts", parts, *SHARD, *more)
    assert done.exception is None, done.exception
    assert f"next: bash {parts_folder(out)}/submit.sh" in done.output


def start(out: Path, number: int) -> subprocess.Popen[bytes]:
    """Run a part as Slurm would."""
    return subprocess.Popen(
        ["bash", str(parts_folder(out) / "part.sh")],
        env={**os.environ, "SLURM_ARRAY_TASK_ID": str(number)},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill(child: subprocess.Popen[bytes]) -> None:
    """End a part with all of its processes, as where a machine fails."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def merge(out: Path) -> None:
    subprocess.run(["bash", str(parts_folder(out) / "merge.sh")], check=True, capture_output=True)


def reference(raw: Path, folder: Path) -> dict[str, str]:
    """The files of one run in one process, made by the same program as the parts."""
    done = skelconv("ingest", "ucla", raw, folder / "whole.zarr", *SHARD, "-q")
    assert done.exception is None, done.exception
    return tree(folder / "whole.zarr")


def test_a_part_is_killed_and_relaunched_and_the_merge_is_one_run(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out.zarr"
    write_raw(raw, 60, frames=(50, 60))
    write_job(raw, out, 2)
    child = start(out, 1)
    journal = part_store(out, 1).with_name("part-1.zarr.partial") / "journal.jsonl"
    while child.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") > 2):
        time.sleep(0.002)
    kill(child)
    # what is left of the killed group may end a moment after its first process
    while status_of(out).parts[1].state == "running":
        time.sleep(0.01)
    states = {number: status.state for number, status in status_of(out).parts.items()}
    assert states == {1: "finished" if marker(out, 1, "done").exists() else "interrupted", 2: "missing"}
    assert [start(out, number).wait() for number in (1, 2)] == [0, 0]
    assert [marker(out, number, "done").read_text() for number in (1, 2)] == ["exit code 0\n"] * 2
    merge(out)
    assert tree(out) == reference(raw, tmp_path)
    assert skelconv("status", out).return_value == 0


@pytest.mark.slow
def test_eight_parts_killed_at_random_and_relaunched_merge_to_one_run(tmp_path: Path) -> None:
    raw, out, rng = tmp_path / "raw", tmp_path / "out.zarr", random.Random(0)
    write_raw(raw, 300, frames=(40, 90))
    write_job(raw, out, 8)
    kills = 0
    for _ in range(3):
        children = [start(out, number) for number in range(1, 9) if not marker(out, number, "done").exists()]
        for child in rng.sample(children, len(children)):
            time.sleep(rng.uniform(0, 1.5))
            kills += child.poll() is None
            kill(child)
        assert status_of(out).describe().count("\npart ") == 8
    assert kills > 4
    for number in range(1, 9):
        assert start(out, number).wait() == 0
    merge(out)
    assert tree(out) == reference(raw, tmp_path)


def test_a_part_that_fails_is_named_with_its_log_and_goes_on_when_it_can(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out.zarr"
    write_raw(raw, 4)
    write_job(raw, out, 2)
    in_the_way = part_store(out, 2)
    in_the_way.write_text("a file")
    assert start(out, 2).wait() == 2
    said = skelconv("status", out)
    assert said.return_value == 1
    assert "part 2/2: failed: exit code 2 on" in said.output
    assert "0 of 2 parts finished; missing: 1; failed: 2" in said.output
    in_the_way.unlink()
    assert start(out, 2).wait() == 0
    assert not marker(out, 2, "failed").exists()


def test_what_the_scripts_say(tmp_path: Path) -> None:
    raw, out = tmp_path / "the raw", tmp_path / "out.zarr"
    write_raw(raw, 9)
    asked = (
        "--time",
        "4:00:00",
        "--mem",
        "4G",
        "--account",
        "me",
        "--partition",
        "cpu",
        "--sbatch",
        "--qos=long",
    )
    write_job(raw, out, 9, *asked, "--precision", "0.001", "--strict")
    part = (parts_folder(out) / "part.sh").read_text()
    for line in (
        "--array=1-9",
        "--time=4:00:00",
        "--mem=4G",
        "--account=me",
        "--partition=cpu",
        "--qos=long",
    ):
        assert f"#SBATCH {line}\n" in part
    assert f'ingest ucla \'{raw}\' "$at.zarr" --part "$part/9" --quiet' in part
    assert json.loads((parts_folder(out) / "job.json").read_text())["options"] == [
        "--workers", "0", "--strict", "--precision", "0.001", "--shard-frames", "256",
    ]  # fmt: skip
    for script in parts_folder(out).glob("*.sh"):
        subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--parts", 10), "found 10 parts asked for, expected at most 9"),
        (("--parts", 2, "--overwrite"), "leave out --overwrite"),
        (("--parts", 2, "--no-such"), "No such option"),
        (("--parts", 2, "--time", "1\n#SBATCH -A you"), "without a line break"),
    ],
)
def test_what_is_asked_wrongly_is_one_message(
    tmp_path: Path, words: tuple[object, ...], message: str
) -> None:
    write_raw(tmp_path / "raw", 9)
    done = skelconv("cluster", "slurm", "ingest", "ucla", tmp_path / "raw", tmp_path / "out.zarr", *words)
    assert message in f"{done.output} {done.exception}"
    assert not parts_folder(tmp_path / "out.zarr").exists()


def test_scripts_of_another_command_are_kept(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw", 9)
    write_job(tmp_path / "raw", tmp_path / "out.zarr", 3)
    write_job(tmp_path / "raw", tmp_path / "out.zarr", 3, "--time", "9:00:00")
    again = skelconv(
        "cluster", "slurm", "ingest", "ucla", tmp_path / "raw", tmp_path / "out.zarr", "--parts", 2
    )
    assert "found the parts of another command" in str(again.exception)


class TestStatusOfOneIngest:
    def test_from_nothing_to_finished(self, tmp_path: Path) -> None:
        raw, out = tmp_path / "raw", tmp_path / "out.zarr"
        write_raw(raw, 45)
        assert "found neither a store" in str(skelconv("status", out).exception)
        interrupt(raw, out)
        said = skelconv("status", out)
        assert said.return_value == 1
        assert "interrupted: " in said.output
        assert "of 45 sources read, " in said.output
        assert "run the same command again" in said.output
        with lock_partial(out):
            assert f"running: process {os.getpid()} on " in skelconv("status", out).output
        ingest(make_plan("ucla", raw, "test", shard_frames=256), out)
        done = skelconv("status", out)
        assert (done.return_value, done.output) == (0, f"{out}: finished\n")
