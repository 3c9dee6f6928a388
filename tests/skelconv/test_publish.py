"""Publishing: one writer an output, nothing left behind, nothing lost."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from skelconv.store import publish
from skelconv.store.info import Provenance, StoreError
from skelconv.store.publish import (
    StoreLockedError,
    lock_partial,
    prepare_partial,
    refuse_existing,
    remove,
)
from skelconv.store.store import open_store
from skelconv.store.writer import write_store
from tests.skelconv.small_store import DATASET, RECORDINGS, make_store

CLIPS = [(f"{clip.recording}.txt", clip) for clip in RECORDINGS]
MADE = Provenance(tool="test", command="test")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.zarr"


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def _hold(out: Path, ready: str) -> None:
    with lock_partial(out):
        Path(ready).touch()
        time.sleep(60)


class TestLock:
    def test_a_second_writer_is_refused_and_told_who_the_first_is(self, out: Path) -> None:
        with (
            prepare_partial(out),
            pytest.raises(StoreLockedError, match=f"locked by process {os.getpid()} on "),
            prepare_partial(out),
        ):
            pass
        with prepare_partial(out):
            pass
        assert names(out.parent) == []

    def test_the_system_releases_the_lock_of_a_killed_process(self, out: Path, tmp_path: Path) -> None:
        ready = tmp_path / "ready"
        process = multiprocessing.get_context("spawn").Process(target=_hold, args=(out, str(ready)))
        process.start()
        while not ready.exists():
            time.sleep(0.01)
        with pytest.raises(StoreLockedError), lock_partial(out):
            pass
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        with lock_partial(out) as partial:
            assert names(partial.folder) == ["lock"]

    def test_it_is_no_part_of_the_published_store(self, out: Path) -> None:
        make_store(out)
        assert not list(out.rglob("lock"))
        assert names(out.parent) == ["out.zarr"]

    def test_a_file_system_without_locks_is_named(self, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*args: object) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr("fcntl.flock", fail)
        with pytest.raises(StoreError, match="file system without locks"), lock_partial(out):
            pass

    def test_a_system_without_locks_says_so(self, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(publish, "fcntl", None)
        with pytest.warns(RuntimeWarning, match="no file locks"):
            make_store(out)
        assert len(open_store(out)) == 8


class TestLinks:
    def test_a_link_as_partial_folder_is_refused_and_its_target_never_touched(
        self, out: Path, tmp_path: Path
    ) -> None:
        target = tmp_path / "target"
        target.mkdir()
        (target / "mine").write_text("mine")
        link = tmp_path / "out.zarr.partial"
        link.symlink_to(target)
        with pytest.raises(StoreError, match=r"partial: found a symbolic link.*--overwrite"):
            make_store(out)
        write_store(out, DATASET, CLIPS, MADE, overwrite=True)
        assert (target / "mine").read_text() == "mine"
        assert names(target) == ["mine"]
        assert not os.path.lexists(link)

    def test_a_link_that_leads_nowhere_too(self, out: Path, tmp_path: Path) -> None:
        (tmp_path / "out.zarr.partial").symlink_to(tmp_path / "absent")
        with pytest.raises(StoreError, match="found a symbolic link"):
            make_store(out)
        assert not (tmp_path / "absent").exists()

    def test_a_linked_output_is_replaced_but_not_what_it_names(self, out: Path, tmp_path: Path) -> None:
        kept = make_store(tmp_path / "kept.zarr")
        out.symlink_to(kept)
        with pytest.raises(StoreError, match="existing"):
            make_store(out)
        write_store(out, DATASET, CLIPS[:1], MADE, overwrite=True)
        assert not out.is_symlink()
        assert (len(open_store(out)), len(open_store(kept))) == (1, 8)


class TestLeftovers:
    def test_a_leftover_of_a_reused_process_number_is_not_in_the_way(self, out: Path, tmp_path: Path) -> None:
        make_store(out)
        for name in (f"out.zarr.{os.getpid()}.deleting", f"out.zarr.partial.{os.getpid()}.deleting"):
            (tmp_path / name / "full").mkdir(parents=True)
        write_store(out, DATASET, CLIPS, MADE, overwrite=True)
        assert names(tmp_path) == ["out.zarr"]

    def test_what_killed_removals_left_is_swept_and_nothing_else(self, tmp_path: Path) -> None:
        for name in ("x.12.deleting", "x.00ff00ff00ff.deleting", "xy.12.deleting", "x.mine.deleting", "x"):
            (tmp_path / name / "full").mkdir(parents=True)
        remove(tmp_path / "x")
        assert names(tmp_path) == ["x.mine.deleting", "xy.12.deleting"]

    def test_a_run_that_is_refused_sweeps_too(self, out: Path, tmp_path: Path) -> None:
        """Killed while tidying up: the store is published, and the next run is told so."""
        make_store(out)
        (tmp_path / "out.zarr.partial").mkdir()
        (tmp_path / "out.zarr.partial" / "replaced").mkdir()
        with pytest.raises(StoreError, match="existing"):
            make_store(out)
        assert names(tmp_path) == ["out.zarr"]

    def test_a_store_that_was_on_its_way_out_comes_back(self, out: Path, tmp_path: Path) -> None:
        """Killed between the two renames of --overwrite."""
        make_store(out)
        (tmp_path / "out.zarr.partial").mkdir()
        out.rename(tmp_path / "out.zarr.partial" / "replaced")
        with pytest.raises(StoreError, match="existing"):
            make_store(out)
        assert len(open_store(out)) == 8

    def test_a_failed_write_leaves_nothing_behind(self, out: Path, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="again"):
            write_store(out, DATASET, [*CLIPS, CLIPS[0]], MADE)
        assert names(tmp_path) == []

    def test_an_unfinished_ingest_is_not_thrown_away_by_another_verb(self, out: Path, tmp_path: Path) -> None:
        partial = tmp_path / "out.zarr.partial"
        partial.mkdir()
        (partial / "journal.jsonl").write_text("")
        with pytest.raises(StoreError, match="unfinished ingest"):
            make_store(out)
        write_store(out, DATASET, CLIPS, MADE, overwrite=True)
        assert names(tmp_path) == ["out.zarr"]


def test_what_is_not_a_store_is_never_replaced(out: Path) -> None:
    out.mkdir()
    (out / "thesis.tex").write_text("")
    with pytest.raises(StoreError, match="something that is not a store"):
        refuse_existing(out, overwrite=True)


def test_everything_is_on_disk_before_the_name_is_given(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file and folder is synced in the place from which it is renamed, and then the folder above."""
    synced: list[Path] = []
    renamed: list[int] = []

    def rename(self: Path, target: Path) -> Path:
        if target == out:
            renamed.append(len(synced))
        return original(self, target)

    original = Path.rename
    monkeypatch.setattr(publish, "sync", synced.append)
    monkeypatch.setattr(Path, "rename", rename)
    make_store(out)
    (at,) = renamed
    store = out.with_name("out.zarr.partial") / "store"
    wanted = {store, *(store / path.relative_to(out) for path in out.rglob("*"))}
    assert wanted <= set(synced[:at])
    assert synced[at:] == [out.parent]


def test_a_full_disk_is_one_sentence_that_names_the_path(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("skelconv.store.placing.sync", full)
    with pytest.raises(StoreError, match=r"out\.zarr\.partial: found no room left on the device.*Make room"):
        make_store(out)
