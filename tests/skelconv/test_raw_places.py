"""Several raw folders, files and archives: the same store as unpacked in one folder, nothing unseen."""

from __future__ import annotations

import gc
import gzip
import multiprocessing
import os
import pickle
import shutil
import signal
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from skelconv.ingest.discover import RepeatedError
from skelconv.ingest.executors import open_executor
from skelconv.ingest.ingest import Summary, ingest
from skelconv.ingest.plan import IngestPlan, PlanError, make_plan
from skelconv.store.info import StoreError
from skelconv.verify import verify
from skelformats.archives import ArchiveError
from skelformats.errors import SkelconvError
from skelformats.raw_open import open_raw
from tests.skelconv.raw_ucla import write_raw
from tests.skelconv.test_cli import skelconv
from tests.skelconv.test_ingest import tree
from tests.skelformats.raw_h36m import pose, write_h5
from tests.skelformats.test_ntu import body, document
from tests.skelformats.test_pyskl import annotation

Pack = Callable[[Path, Path], Path]


def names_of(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def as_zip(folder: Path, to: Path) -> Path:
    with zipfile.ZipFile(to / "raw.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for name in names_of(folder):
            file.write(folder / name, name)
    return to / "raw.zip"


def as_tar(folder: Path, to: Path, name: str = "raw.tar") -> Path:
    with tarfile.open(to / name, "w:gz" if name.endswith("gz") else "w") as file:
        # in another order than that of the plan
        for member in reversed(names_of(folder)):
            file.add(folder / member, member)
    return to / name


def as_tgz(folder: Path, to: Path) -> Path:
    return as_tar(folder, to, "raw.tar.gz")


def as_gz(folder: Path, to: Path) -> Path:
    for name in names_of(folder):
        target = to / "gz" / f"{name}.gz"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(gzip.compress((folder / name).read_bytes()))
    return to / "gz"


def within(folder: Path, to: Path) -> Path:
    """The half of the files, and the other half in an archive among them."""
    shutil.copytree(folder, to / "half")
    names = names_of(folder)[::2]
    with zipfile.ZipFile(to / "half" / "rest.zip", "w") as file:
        for name in names:
            file.write(folder / name, name)
            (to / "half" / name).unlink()
    return to / "half"


PACKS = [as_zip, as_tar, as_tgz, as_gz, within]


def plan_of(dataset: str, raw: Sequence[Path], out: Path, **settings: int) -> IngestPlan:
    return make_plan(dataset, open_raw(raw, out), "test", **{"shard_frames": 256, **settings})  # type: ignore[arg-type]


def store_of(dataset: str, raw: Sequence[Path], out: Path) -> Summary:
    return ingest(plan_of(dataset, raw, out), out)


def write_ntu(folder: Path, count: int = 6, first: int = 1) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"S001C001P001R001A{number:03d}.skeleton" for number in range(first, first + count)]
    for number, name in enumerate(names):
        frames = [[body(seed=number)], [body(seed=number), body("77", seed=9)]] * (number + 1)
        (folder / name).write_text(document(frames), newline="")
    return names


def write_h36m(folder: Path) -> None:
    for subject in (1, 5):
        values = pose(6, subject).reshape(6, -1).T
        write_h5(folder / f"S{subject}" / "MyPoses" / "3D_positions" / "Walking.h5", "3D_positions", values)


def write_pickle(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("x_hrnet", "y_hrnet"):
        content = {"split": {}, "annotations": [annotation(name)]}
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(content))


def write_npz(folder: Path) -> None:
    folder.mkdir(parents=True)
    takes = {"Walking 1": np.float32(pose(5) / 1000)}
    everything = np.array({"S1": takes, "S5": takes}, object)
    np.savez_compressed(folder / "data_3d_h36m.npz", positions_3d=everything)


DATASETS = {"ntu120": write_ntu, "h36m": write_h36m, "pyskl": write_pickle}


class TestTheSameBytes:
    @pytest.mark.parametrize(
        ("dataset", "pack"),
        [*(("ntu120", pack) for pack in PACKS), *(("h36m", p) for p in PACKS[:3]), ("pyskl", as_tgz)],
    )
    def test_packed_and_unpacked_give_the_same_store(self, tmp_path: Path, dataset: str, pack: Pack) -> None:
        DATASETS[dataset](tmp_path / "raw")
        store_of(dataset, [tmp_path / "raw"], tmp_path / "want.zarr")
        packed = pack(tmp_path / "raw", tmp_path)
        store_of(dataset, [packed], tmp_path / "out.zarr")
        assert tree(tmp_path / "out.zarr") == tree(tmp_path / "want.zarr")
        assert verify(tmp_path / "out.zarr", packed).ok

    @pytest.mark.parametrize("pack", [as_zip, as_tgz])
    def test_an_npz_with_everything_in_it(self, tmp_path: Path, pack: Pack) -> None:
        write_npz(tmp_path / "raw")
        store_of("h36m", [tmp_path / "raw"], tmp_path / "want.zarr")
        store_of("h36m", [pack(tmp_path / "raw", tmp_path)], tmp_path / "out.zarr")
        assert tree(tmp_path / "out.zarr") == tree(tmp_path / "want.zarr")

    def test_several_folders_are_read_as_one(self, tmp_path: Path) -> None:
        names = write_ntu(tmp_path / "raw")
        store_of("ntu120", [tmp_path / "raw"], tmp_path / "want.zarr")
        for number, name in enumerate(names):
            part = tmp_path / f"part{number % 2}"
            part.mkdir(exist_ok=True)
            (tmp_path / "raw" / name).rename(part / name)
        parts = [tmp_path / "part0", tmp_path / "part1"]
        store_of("ntu120", parts, tmp_path / "out.zarr")
        assert tree(tmp_path / "out.zarr") == tree(tmp_path / "want.zarr")
        assert verify(tmp_path / "out.zarr", parts).ok
        assert not verify(tmp_path / "out.zarr", parts[:1]).ok

    def test_a_plan_from_python_looks_into_archives_too(self, tmp_path: Path) -> None:
        write_ntu(tmp_path / "raw")
        assert len(make_plan("ntu120", as_zip(tmp_path / "raw", tmp_path), "test").sources) == 6
        assert len(make_plan("ntu120", str(within(tmp_path / "raw", tmp_path)), "test").sources) == 6

    def test_a_folder_within_another_one_that_is_named_is_read_once(self, tmp_path: Path) -> None:
        write_ntu(tmp_path / "raw" / "a")
        made = store_of("ntu120", [tmp_path / "raw", tmp_path / "raw" / "a"], tmp_path / "out.zarr")
        assert made.info.provenance.sources == 6
        assert made.info.provenance.not_taken == ()

    @pytest.mark.slow
    def test_worker_processes_read_archives_too(self, tmp_path: Path) -> None:
        write_ntu(tmp_path / "raw")
        store_of("ntu120", [tmp_path / "raw"], tmp_path / "want.zarr")
        half = within(tmp_path / "raw", tmp_path)
        plan = plan_of("ntu120", [as_tgz(half, tmp_path)], tmp_path / "x.zarr")
        (left,) = plan.not_taken
        assert left.describe() == "1 files that are not read: archive in an archive (raw.tar.gz): rest.zip"
        with open_executor(1) as (executor, width):
            ingest(plan_of("ntu120", [half], tmp_path / "out.zarr"), tmp_path / "out.zarr", executor, width)
        assert tree(tmp_path / "out.zarr") == tree(tmp_path / "want.zarr")

    @pytest.mark.parametrize("pack", [as_zip, as_tgz])
    def test_interrupted_it_goes_on_where_it_stopped(self, tmp_path: Path, pack: Pack) -> None:
        write_raw(tmp_path / "raw", 40)
        store_of("ucla", [tmp_path / "raw"], tmp_path / "want.zarr")
        packed, out = pack(tmp_path / "raw", tmp_path), tmp_path / "out.zarr"
        done = 0

        def stop(count: int, size: int) -> None:
            nonlocal done
            done += 1
            if done == 30:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            ingest(plan_of("ucla", [packed], out), out, advance=stop)
        made = ingest(plan_of("ucla", [packed], out), out)
        assert made.resumed_at > 0
        assert tree(out) == tree(tmp_path / "want.zarr")

    def test_killed_and_run_again_it_leaves_nothing_behind(self, tmp_path: Path) -> None:
        write_raw(tmp_path / "raw", 40)
        store_of("ucla", [tmp_path / "raw"], tmp_path / "want.zarr")
        packed, out = as_tgz(tmp_path / "raw", tmp_path), tmp_path / "out.zarr"
        context = multiprocessing.get_context("forkserver")
        process = context.Process(target=_ingest_and_die, args=(packed, out))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert len(list(tmp_path.glob("out.zarr.raw-*"))) == 1
        made = store_of("ucla", [packed], out)
        assert made.resumed_at > 0
        assert tree(out) == tree(tmp_path / "want.zarr")
        del made
        gc.collect()
        assert not list(tmp_path.glob("out.zarr.*"))

    def test_an_archive_that_changed_stops_the_resume(self, tmp_path: Path) -> None:
        write_raw(tmp_path / "raw", 40)
        packed, out = as_zip(tmp_path / "raw", tmp_path), tmp_path / "out.zarr"

        def stop(count: int, size: int) -> None:
            if (tmp_path / "out.zarr.partial" / "store" / "position" / "c" / "1").exists():
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            ingest(plan_of("ucla", [packed], out), out, advance=stop)
        os.utime(packed, ns=(1, 1))
        with pytest.raises(StoreError, match=r"raw\.zip: a.*\.json: found another time of modification"):
            ingest(plan_of("ucla", [packed], out), out)


def _ingest_and_die(packed: Path, out: Path) -> None:
    done = 0

    def die(count: int, size: int) -> None:
        nonlocal done
        done += 1
        if done == 30:
            os.kill(os.getpid(), signal.SIGKILL)

    ingest(plan_of("ucla", [packed], out), out, advance=die)


class TestTwice:
    def test_equal_bytes_count_once_and_are_named(self, tmp_path: Path) -> None:
        names = write_ntu(tmp_path / "one")
        shutil.copytree(tmp_path / "one", tmp_path / "two")
        made = store_of("ntu120", [tmp_path / "one", tmp_path / "two"], tmp_path / "out.zarr")
        assert made.info.provenance.sources == len(names)
        (left,) = made.info.provenance.not_taken
        assert left.count == len(names)
        assert left.names[0] == f"{names[0]} (in one and two)"
        assert "there twice with the same bytes, read once" in made.describe(tmp_path / "out.zarr")

    @pytest.mark.parametrize("pack", [as_zip, as_tgz])
    def test_an_archive_beside_what_was_unpacked_counts_once(self, tmp_path: Path, pack: Pack) -> None:
        names = write_ntu(tmp_path / "raw")
        shutil.move(pack(tmp_path / "raw", tmp_path), tmp_path / "raw")
        made = store_of("ntu120", [tmp_path / "raw"], tmp_path / "out.zarr")
        assert made.info.provenance.sources == len(names)
        assert made.info.provenance.not_taken[0].count == len(names)

    def test_in_another_folder_they_count_once_too(self, tmp_path: Path) -> None:
        (name,) = write_ntu(tmp_path / "raw" / "a", 1)
        write_ntu(tmp_path / "raw" / "b", 2)
        made = store_of("ntu120", [tmp_path / "raw"], tmp_path / "out.zarr")
        assert made.info.provenance.sources == 2
        assert made.info.provenance.not_taken[0].names == (f"b/{name} (as a/{name})",)

    @pytest.mark.parametrize("below", ["", "deeper"])
    def test_different_bytes_are_an_error_that_names_both(self, tmp_path: Path, below: str) -> None:
        (name,) = write_ntu(tmp_path / "one", 1)
        write_ntu(tmp_path / "two" / below, 1)
        (tmp_path / "two" / below / name).write_text(document([[body(seed=5)]]))
        with pytest.raises(RepeatedError, match=r"twice, with different bytes: .*one.* and .*two.*Keep the"):
            store_of("ntu120", [tmp_path / "one", tmp_path / "two"], tmp_path / "out.zarr")
        assert not list(tmp_path.glob("out*"))

    def test_files_that_are_no_sources_may_differ(self, tmp_path: Path) -> None:
        for number, part in enumerate(("one", "two")):
            write_ntu(tmp_path / part, 1, 1 + number)
            (tmp_path / part / "README").write_text(part)
        made = store_of("ntu120", [tmp_path / "one", tmp_path / "two"], tmp_path / "out.zarr")
        assert made.info.provenance.sources == 2


class TestNotTaken:
    def test_what_looks_like_the_dataset_is_counted_and_named(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        raw = tmp_path / "raw"
        write_ntu(raw)
        for name in ("S018C001P001R001A061.skeleton", "S001C001P001R001A001.SKELETON", "notes.txt"):
            (raw / name).write_text("")
        (raw / "more").symlink_to(tmp_path)
        (raw / "videos.7z").write_bytes(b"")
        (raw / "broken.zip").write_bytes(b"PK")
        code, out, _ = skelconv(capsys, "ingest", "ntu60", raw, tmp_path / "out.zarr", "-j", 0, "-q")
        assert code == 0
        for line in (
            "2 files like *.skeleton that ntu60 does not take: S001C001P001R001A001.SKELETON, S018C001",
            "1 links out of the raw folder, which are not followed: more",
            "1 archives of a kind that is not read in place; unpack them: videos.7z",
            "1 archive that cannot be read, with no whole zip",
        ):
            assert line in out
        code, out, _ = skelconv(capsys, "ingest", "ntu60", raw, tmp_path / "x.zarr", "--dry-run")
        assert "that ntu60 does not take" in out

    def test_where_there_is_nothing_the_store_is_as_before(self, tmp_path: Path) -> None:
        write_ntu(tmp_path / "raw")
        made = store_of("ntu120", [tmp_path / "raw"], tmp_path / "out.zarr")
        assert "not_taken" not in made.info.to_attributes()["provenance"]

    def test_without_any_source_it_says_what_there_is(self, tmp_path: Path) -> None:
        (tmp_path / "raw").mkdir()
        (tmp_path / "raw" / "S001C001P001R001A001.SKELETON").write_text("")
        with pytest.raises(PlanError, match=r"found no source of ntu120.*\n.*1 files like \*\.skeleton"):
            plan_of("ntu120", [tmp_path / "raw"], tmp_path / "out.zarr")


class TestRefused:
    def test_a_bad_archive_that_is_named_is_an_error(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "bad.zip").write_bytes(b"PK nothing")
        with pytest.raises(ArchiveError):
            open_raw([tmp_path / "bad.zip"])
        code, _, err = skelconv(capsys, "ingest", "ntu120", tmp_path / "bad.zip", tmp_path / "out.zarr")
        assert code == 2
        assert err.count("\n") == 1
        assert "bad.zip: found no whole zip" in err

    def test_a_place_where_nothing_is_is_an_error(self, tmp_path: Path) -> None:
        write_ntu(tmp_path / "raw")
        with pytest.raises(SkelconvError, match=r"absent: found nothing there"):
            open_raw([tmp_path / "raw", tmp_path / "absent"])

    def test_a_damaged_member_is_set_aside_alone(self, tmp_path: Path) -> None:
        names = write_ntu(tmp_path / "raw")
        packed = as_zip(tmp_path / "raw", tmp_path)
        data = bytearray(packed.read_bytes())
        data[data.index(names[2].encode()) + len(names[2]) + 60] ^= 0xFF
        packed.write_bytes(data)
        made = store_of("ntu120", [packed], tmp_path / "out.zarr")
        (aside,) = made.set_aside
        assert aside.source == names[2]
        assert "Fetch the archive again" in aside.reason
