"""Opening and reading a store: by skelconv, by plain zarr, xarray and pandas; in workers; and its errors."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr

from skelconv.report.summary import describe, folder_bytes, to_json
from skelconv.store.info import StoreError
from skelconv.store.schema import BASE_COLUMNS
from skelconv.store.store import OutOfRangeError, Store, open_store
from skelconv.verify import verify
from skelformats.errors import UnknownNameError
from tests.data import make_store_v1
from tests.skelconv.small_store import DATASET, RECORDINGS, SEQUENCES, canonical, make_store

LOCAL = ("auto", "direct", "resident", "zarr")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("store") / "small.zarr")


@pytest.fixture
def store(path: Path) -> Store:
    return open_store(path)


class TestSequences:
    @pytest.mark.parametrize("backend", LOCAL)
    def test_what_was_written_is_read(self, path: Path, backend: Any) -> None:
        store = open_store(path, backend)
        assert store.names == [name for name, _, _ in SEQUENCES]
        for sequence, (name, clip, track) in zip(store, SEQUENCES, strict=True):
            assert (sequence.name, sequence.body) == (name, track.body)
            np.testing.assert_array_equal(sequence.position, canonical(track.position))
            np.testing.assert_array_equal(sequence.frame_index, track.frame_index)
            np.testing.assert_array_equal(sequence.confidence, track.confidence)
            np.testing.assert_array_equal(sequence.extras["pixel"], track.extras["pixel"])
            assert sequence.row["label"] == clip.label
            assert sequence.row["subject"] == clip.columns["subject"]
            assert sequence.row["split_xsub"] == clip.splits["xsub"]

    def test_by_number_from_the_end_and_by_name(self, store: Store) -> None:
        assert store[1].name == store["take01_b0"].name == store[1 - len(store)].name == "take01_b0"
        assert store[np.int64(1)].name == "take01_b0"
        assert "take01_b0" in store
        assert "take01" not in store

    def test_an_unknown_name_gets_a_suggestion(self, store: Store) -> None:
        with pytest.raises(UnknownNameError, match=r"no sequence named 'take01_b7'. Did you mean 'take01_b"):
            store["take01_b7"]
        with pytest.raises(UnknownNameError, match=r"no recording named 'take1'. Did you mean 'take"):
            store.recording("take1")

    def test_among_many_names_the_suggestion_is_a_neighbour(self, store: Store) -> None:
        names = [f"S{i:05d}_b0" for i in range(100_000)]
        store.__dict__["_columns"] = {"sequence": names}
        with pytest.raises(UnknownNameError, match="Did you mean 'S04711_b0'") as caught:
            store["S04711"]
        assert len(str(caught.value)) < 1000

    @pytest.mark.parametrize("number", [8, -9, 10**12])
    def test_a_number_out_of_range(self, store: Store, number: int) -> None:
        with pytest.raises(IndexError, match=f"found sequence number {number}, expected below 8"):
            store[number]


class TestRecordings:
    def test_bodies_stand_in_table_order_with_their_gaps(self, store: Store) -> None:
        for found, clip in zip(store.recordings(), RECORDINGS, strict=True):
            assert (found.name, found.length) == (clip.recording, clip.length)
            assert [body.body for body in found.bodies] == [track.body for track in clip.tracks]
        both = store.recording("take01")
        np.testing.assert_array_equal(both.frames(), np.delete(np.arange(260), slice(40, 90)))

    def test_the_row_holds_what_all_bodies_share(self, store: Store) -> None:
        row = store.recording("take05").row
        assert row["label"] == 1
        assert row["view"] == "left"
        assert not {"start", "length", "body", "digest"} & set(row)

    def test_names_in_store_order(self, store: Store) -> None:
        assert store.recording_names() == [clip.recording for clip in RECORDINGS]


class TestArrays:
    def test_load_gives_whole_arrays(self, path: Path) -> None:
        plain = zarr.open_group(path, mode="r")
        for backend in LOCAL:
            loaded = open_store(path, backend).load(("position", "frame_index"))
            assert list(loaded) == ["position", "frame_index"]
            for name, values in loaded.items():
                assert values.tobytes() == np.asarray(plain[name][:]).tobytes()
                assert values.flags.writeable

    def test_read_checks_its_range(self, store: Store) -> None:
        assert store.read(5, 5).shape == (0, 13, 3)
        for start, stop in [(-1, 5), (6, 5), (0, store.frames + 1)]:
            with pytest.raises(OutOfRangeError, match=f"range {start} to {stop}"):
                store.read(start, stop)

    def test_an_unknown_array(self, store: Store) -> None:
        with pytest.raises(UnknownNameError, match="Did you mean 'position'"):
            store.load(("positions",))
        with pytest.raises(UnknownNameError, match="no array along frame named 'label'"):
            store.read(0, 1, "label")


class TestTable:
    def test_rows_and_columns(self, store: Store) -> None:
        frame = store.to_frame()
        assert frame.index.name == "sequence"
        assert list(frame.index) == store.names
        assert list(frame) == [
            *(column.name for column in BASE_COLUMNS),
            "subject",
            "view",
            "split_cv1",
            "split_xsub",
        ]
        assert frame["action"].tolist() == ["wave", "walk", "walk", "sit", "wave", "", "walk", "walk"]

    def test_text_columns_are_pandas_strings(self, store: Store) -> None:
        frame = store.to_frame()
        columns = (*BASE_COLUMNS, *DATASET.columns)
        for column in columns:
            assert pd.api.types.is_string_dtype(frame[column.name]) == (column.dtype == "string"), column
            assert frame["body"].iloc[1] == "72057594037944339"

    def test_changing_the_frame_changes_no_later_one(self, store: Store) -> None:
        frame = store.to_frame()
        frame["new"] = 1
        frame.loc["take00_b0", "label"] = 5
        assert "new" not in store.to_frame()
        assert store.to_frame()["label"].iloc[0] == 0

    def test_the_line_of_the_readme(self, path: Path) -> None:
        described = open_store(path).to_frame().groupby("label").length.describe()
        assert described.loc[1, "count"] == 4
        assert described.loc[2, "max"] == 1600

    def test_selecting_a_part_of_a_split(self, store: Store) -> None:
        assert store.select("xsub", "test").tolist() == [1, 2, 4]
        assert store.select("xsub", "val").dtype == np.intp
        assert store.select("cv1", "train").tolist() == []
        with pytest.raises(UnknownNameError, match=r"no protocol named 'xsubject'. Did you mean 'xsub'"):
            store.select("xsubject", "test")
        with pytest.raises(UnknownNameError, match=r"no part of a split named 'tset'. Did you mean 'test'"):
            store.select("xsub", "tset")

    def test_leakage_is_a_test_motion_that_is_also_in_train(self, store: Store) -> None:
        leaked = store.leaked("xsub")
        assert leaked[leaked].index.tolist() == ["take03_b0"]
        assert store.info.provenance.leakage == {"xsub": 1, "cv1": 0}

    def test_leakage_of_many_sequences_takes_no_time(self, store: Store) -> None:
        """One by one, the digests of 200,000 sequences were compared for minutes."""
        count = 200_000
        digest = [f"{number % (count - 500):016x}" for number in range(count)]
        store.__dict__["_columns"] = {
            "sequence": [str(number) for number in range(count)],
            "digest": digest,
            "split_xsub": ["train"] * (count // 2) + ["test"] * (count - count // 2),
        }
        began = time.process_time()
        assert int(store.leaked("xsub").sum()) == 500
        assert time.process_time() - began < 5


class TestOtherReaders:
    """The store needs no help from skelconv; warnings are errors here, so these open without any."""

    def test_xarray_and_pandas(self, path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            data = xr.open_zarr(path)
            frame = data[["label", "subject", "length"]].to_dataframe()
        assert list(frame.index) == open_store(path).names
        assert frame["label"].tolist() == open_store(path).to_frame()["label"].tolist()
        head = data.position.sel(joint="head").isel(frame=slice(0, 300))
        np.testing.assert_array_equal(
            head, open_store(path)[0].position[:, open_store(path).skeleton.index("head")]
        )

    def test_xarray_without_dask(self, path: Path) -> None:
        data = xr.open_zarr(path, chunks=None)
        assert dict(data.sizes)["frame"] == 2731
        assert data.position.attrs["units"] == "m"
        assert data.length.attrs["sample_dimension"] == "frame"

    def test_plain_zarr(self, path: Path) -> None:
        group = zarr.open_group(path, mode="r")
        assert group.attrs["skelconv"]["format_version"] == 1
        start, length = (int(group[name][4]) for name in ("start", "length"))
        np.testing.assert_array_equal(group["position"][start : start + length], open_store(path)[4].position)


def read_some(store: Store, numbers: list[int]) -> list[bytes]:
    return [store[number].position.tobytes() for number in numbers]


class TestWorkers:
    def test_a_pickle_holds_the_path_and_the_back_end_only(self, path: Path) -> None:
        store = open_store(path, "resident")
        store.load()
        store.to_frame()
        assert len(pickle.dumps(store)) < 200 + len(str(path))
        again = pickle.loads(pickle.dumps(store))
        assert again.backend == "resident"
        assert again[3].position.tobytes() == store[3].position.tobytes()

    def test_a_relative_path_survives_a_change_of_folder(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(path.parent)
        store = open_store(path.name)
        data = pickle.dumps(store)
        monkeypatch.chdir("/")
        assert store[0].position.tobytes() == pickle.loads(data)[0].position.tobytes()

    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
    @pytest.mark.parametrize("backend", LOCAL)
    def test_forked_workers_read_what_the_parent_reads(self, path: Path, backend: Any) -> None:
        self.check("fork", path, backend)

    @pytest.mark.parametrize("backend", ["auto", "zarr"])
    def test_spawned_workers_read_what_the_parent_reads(self, path: Path, backend: Any) -> None:
        self.check("spawn", path, backend)

    def check(self, method: str, path: Path, backend: Any) -> None:
        store = open_store(path, backend)
        numbers = list(range(len(store))) * 3
        expected = read_some(store, numbers)
        with multiprocessing.get_context(method).Pool(2) as pool:
            tasks = [pool.apply_async(read_some, (store, numbers)) for _ in range(4)]
            assert all(task.get(timeout=60) == expected for task in tasks)
        assert read_some(store, numbers) == expected

    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
    def test_a_store_inherited_through_a_fork_works_without_pickling(self, path: Path) -> None:
        context = multiprocessing.get_context("fork")
        for backend in ("auto", "zarr"):
            store = open_store(path, backend)
            expected = read_some(store, [0, 3, 7])
            queue = context.SimpleQueue()
            workers = [
                context.Process(target=lambda s=store, q=queue: q.put(read_some(s, [0, 3, 7])))
                for _ in range(4)
            ]
            for worker in workers:
                worker.start()
            assert [queue.get() for _ in workers] == [expected] * 4
            for worker in workers:
                worker.join(60)


class TestUrls:
    def test_a_file_url_is_a_folder(self, path: Path) -> None:
        assert open_store(path.as_uri())[3].position.tobytes() == open_store(path)[3].position.tobytes()

    def test_a_url_is_read_by_zarr(self, path: Path) -> None:
        fsspec = pytest.importorskip("fsspec")
        url = "memory://small.zarr"
        fsspec.filesystem("memory").put(str(path), "/small.zarr", recursive=True)
        store = open_store(url)
        assert store.folder is None
        for sequence, local in zip(store, open_store(path), strict=True):
            assert sequence.position.tobytes() == local.position.tobytes()
        assert store.to_frame().equals(open_store(path).to_frame())
        assert to_json(store)["bytes"] is None
        with pytest.raises(StoreError, match="found a URL"):
            open_store(url, "direct")
        with pytest.raises(StoreError, match="found no zarr store there"):
            open_store("memory://nothing.zarr")
        with pytest.raises(StoreError, match="expected"):
            open_store("gopher://nothing.zarr")


class TestOpeningErrors:
    @pytest.mark.parametrize(
        ("prepare", "message"),
        [
            (lambda p: None, "found nothing there, expected a store. Check the path"),
            (lambda p: p.write_text("x"), "found a file, expected the folder"),
            (lambda p: p.mkdir(), "found a folder without zarr.json"),
            (lambda p: p.with_name("s.zarr.partial").mkdir(), "interrupted; rerun the same command"),
            (lambda p: zarr.open_group(p, mode="w", zarr_format=2), "Zarr format 2"),
            (lambda p: zarr.open_group(p, mode="w"), "found no attribute 'skelconv'"),
            (lambda p: zarr.create_array(p, shape=(3,), dtype="i4"), "found a single zarr array"),
            (lambda p: (p.mkdir(), (p / "zarr.json").write_text("{")), "found damaged JSON"),
            (lambda p: (p.mkdir(), (p / "zarr.json").write_text("[]")), "found something else"),
        ],
    )
    def test_each_says_what_was_found(
        self, tmp_path: Path, prepare: Callable[[Path], Any], message: str
    ) -> None:
        path = tmp_path / "s.zarr"
        prepare(path)
        with pytest.raises(StoreError, match=message):
            open_store(path)

    def test_inside_a_partial_store(self, path: Path, tmp_path: Path) -> None:
        inside = Path(shutil.copytree(path, tmp_path / "out.zarr.partial" / "store"))
        for unfinished in (inside, inside.parent):
            with pytest.raises(StoreError, match="interrupted; rerun the same command"):
                open_store(unfinished)

    def change(self, path: Path, tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
        copy = Path(shutil.copytree(path, tmp_path / "copy.zarr"))
        root = json.loads((copy / "zarr.json").read_text())
        change(root)
        (copy / "zarr.json").write_text(json.dumps(root))
        return copy

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda r: r["attributes"]["skelconv"].update(format_version=2),
                "version 2, expected 1. Install",
            ),
            (lambda r: r["attributes"]["skelconv"].update(kind="s2i"), "found an S2I store"),
            (lambda r: r["attributes"]["skelconv"].pop("axes"), "damaged attribute 'skelconv' .axes"),
            (lambda r: r["consolidated_metadata"]["metadata"].pop("length"), "found no array length"),
        ],
    )
    def test_another_version_kind_or_damage(
        self, path: Path, tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
    ) -> None:
        with pytest.raises(StoreError, match=message):
            open_store(self.change(path, tmp_path, change))

    def test_a_store_that_was_not_consolidated_opens_too(self, path: Path, tmp_path: Path) -> None:
        copy = self.change(path, tmp_path, lambda root: root.pop("consolidated_metadata"))
        assert open_store(copy).to_frame().equals(open_store(path).to_frame())


class TestSummary:
    def test_the_counts(self, store: Store, path: Path) -> None:
        facts = to_json(store)
        assert json.loads(json.dumps(facts)) == facts
        assert (facts["sequences"], facts["recordings"], facts["frames"]) == (8, 6, 2731)
        assert facts["hours"] == pytest.approx(2731 / 30 / 3600)
        assert facts["raw_bytes"] == 2731 * 13 * 3 * 4
        assert (
            facts["bytes"]
            == folder_bytes(path)
            == sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
        )
        assert facts["splits"]["xsub"] == {"train": 2, "test": 3, "val": 2, "none": 1, "leaked": 1}
        assert facts["length"]["max"] == 1600

    def test_the_text_says_them(self, store: Store) -> None:
        text = describe(store)
        for words in (
            "A small set for tests",
            "toyota13, 13 joints",
            "2,731",
            "train 2, test 3, val 2, none 1",
        ):
            assert words in text
        assert "1 of the test sequences also stand in the training set" in text
        assert all(line == line.rstrip() for line in text.splitlines())

    def test_the_repr_is_one_line(self, store: Store) -> None:
        assert "small, 8 sequences in 6 recordings, 2,731 frames of toyota13" in repr(store)
        assert "\n" not in repr(store)

    def test_sources_set_aside_are_named(self) -> None:
        assert "raw/R005.txt, line 2: found text" in describe(open_store(make_store_v1.STORE))


@pytest.mark.parametrize("archive", [make_store_v1.STORE, make_store_v1.SEALED], ids=lambda path: path.name)
class TestArchive:
    """Version 1 as first released, and sealed; this must pass in every later release."""

    @pytest.mark.parametrize("backend", LOCAL)
    def test_everything_in_it_is_read(self, archive: Path, backend: Any) -> None:
        store = open_store(archive, backend)
        tracks = [(clip, track) for clip in make_store_v1.CLIPS for track in clip.tracks]
        for sequence, (clip, track) in zip(store, tracks, strict=True):
            position = make_store_v1.DATASET.axis_map.to_canonical(track.position)
            np.testing.assert_array_equal(sequence.position, position)
            np.testing.assert_array_equal(sequence.frame_index, track.frame_index)
            np.testing.assert_array_equal(sequence.confidence, track.confidence)
            np.testing.assert_array_equal(sequence.extras["depth"], track.extras["depth"])
            assert {name: sequence.row[name] for name in clip.columns} == clip.columns
            assert sequence.row["recording_length"] == clip.length
        assert store.info.dataset.title == "Archived store of format version 1"
        assert store.skeleton.name == "toyota13"

    def test_plain_zarr_reads_it_by_the_documented_way_alone(self, archive: Path) -> None:
        group = zarr.open_group(archive, mode="r")
        assert group.attrs["skelconv"]["format_version"] == 1
        tracks = [track for clip in make_store_v1.CLIPS for track in clip.tracks]
        for number, track in enumerate(tracks):
            start, length = int(group["start"][number]), int(group["length"][number])
            position = make_store_v1.DATASET.axis_map.to_canonical(track.position)
            np.testing.assert_array_equal(group["position"][start : start + length], position)
            np.testing.assert_array_equal(group["confidence"][start : start + length], track.confidence)
            np.testing.assert_array_equal(group["depth"][start : start + length], track.extras["depth"])

    def test_xarray_and_pandas_do_too(self, archive: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            data = xr.open_zarr(archive, chunks=None)
            table = data[["subject", "view", "height", "label", "length"]].to_dataframe()
        rows = [(clip, track) for clip in make_store_v1.CLIPS for track in clip.tracks]
        assert table["subject"].tolist() == [clip.columns["subject"] for clip, _ in rows]
        assert table["view"].tolist() == ["żółw"] * len(rows)
        assert table["height"].tolist() == [clip.columns["height"] for clip, _ in rows]
        assert table["length"].tolist() == [len(track.frame_index) for _, track in rows]
        start = int(data.start[1])
        frames = data.frame_index[start : start + int(data.length[1])].values
        np.testing.assert_array_equal(frames, rows[1][1].frame_index)

    def test_it_is_sound(self, archive: Path) -> None:
        assert verify(archive).problems == []

    def test_it_is_small(self, archive: Path) -> None:
        assert folder_bytes(archive) < 200_000
