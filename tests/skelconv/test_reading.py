"""Reading a store from Python: what is looked at is read, selections, windows, xarray, and short forms."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from skelconv.store.info import OutOfRangeError, Provenance, StoreError
from skelconv.store.recording import Recording, Sequence
from skelconv.store.store import Store, open_store
from skelconv.store.windows import Windows
from skelconv.store.writer import write_store
from skelformats.errors import UnknownNameError
from skelformats.reader import Clip
from tests.skelconv.small_store import DATASET, SEQUENCES, canonical, make_store, recording, track


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("reading") / "small.zarr")


@pytest.fixture
def store(path: Path) -> Store:
    return open_store(path)


class TestLookedAt:
    def test_what_is_looked_at_is_read_once_and_nothing_else(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []
        read = Store.read

        def counted(self: Store, start: int, stop: int, array: str = "position") -> Any:
            asked.append(array)
            return read(self, start, stop, array)

        monkeypatch.setattr(Store, "read", counted)
        sequence = store[1]
        assert (len(sequence), sequence.name, sequence.row["label"]) == (210, "take01_b0", 1)
        assert asked == []
        first = sequence.position
        assert sequence.position is first
        assert asked == ["position"]
        assert sequence.extras["pixel"].shape == (210, 13, 2)
        assert asked == ["position", "pixel"]

    def test_a_row_is_a_mapping_of_plain_cells(self, store: Store) -> None:
        row = store[4].row
        assert list(row) == [name for name in store.to_frame()]
        assert len(row) == len(dict(row))
        assert all(isinstance(value, int | str) for value in row.values())
        assert row.get("nothing") is None
        assert "sequence" not in row
        with pytest.raises(UnknownNameError, match=r"no column named 'labell'\. Did you mean 'label'"):
            row["labell"]

    def test_a_copy_a_pickle_and_a_changed_one_are_whole(self, store: Store) -> None:
        for made in (copy.copy(store[3]), pickle.loads(pickle.dumps(store[3]))):
            assert made.position.tobytes() == store[3].position.tobytes()
            assert (made.name, dict(made.row)) == (store[3].name, dict(store[3].row))
            assert made.to_xarray().equals(store[3].to_xarray())
        moved = replace(store[3], position=store[3].position + 1)
        np.testing.assert_array_equal(moved.position, store[3].position + 1)
        assert isinstance(moved, Sequence)
        assert len(moved) == 1600

    def test_sequences_are_equal_where_they_are_one(self, store: Store) -> None:
        one = store[0]
        assert one != store[0]
        assert {one: 1}[one] == 1

    @pytest.mark.parametrize("backend", ["direct", "resident", "zarr"])
    def test_back_ends_agree(self, path: Path, backend: Any) -> None:
        for sequence, (_, _, truth) in zip(open_store(path, backend), SEQUENCES, strict=True):
            np.testing.assert_array_equal(sequence.position, canonical(truth.position))


class TestSelections:
    def test_slices_numbers_ids_masks_and_splits(self, store: Store) -> None:
        frame = store.to_frame()
        for key, wanted in (
            (slice(0, 3), [0, 1, 2]),
            (slice(None, None, -3), [7, 4, 1]),
            ([1, -1], [1, 7]),
            ((2, 2), [2, 2]),
            (range(2), [0, 1]),
            ([], []),
            (["take03_b0", "take00_b0"], [4, 0]),
            (store.select("xsub", "test"), [1, 2, 4]),
            (frame["length"].to_numpy() == 300, [0, 4]),
            ([True] + [False] * 7, [0]),
            (frame["length"] == 300, [0, 4]),
            (frame["action"] == "walk", [1, 2, 6, 7]),
            (frame.sort_values("length")["length"] == 300, [0, 4]),
            (frame.sort_values("action").query("label == 2"), [3]),
            (frame.index[2:4], [2, 3]),
        ):
            selection = store[key]
            assert selection.numbers.tolist() == wanted
            assert selection.numbers.dtype == np.intp
            assert selection.names == [store.names[number] for number in wanted]
            assert [one.name for one in selection] == list(selection.to_frame().index) == selection.names

    def test_a_selection_is_selected_from(self, store: Store) -> None:
        test = store[store.select("xsub", "test")]
        assert test[-1].name == test["take03_b0"].name == "take03_b0"
        assert test[1:].names == ["take01_b1", "take03_b0"]
        assert test[test.to_frame()["length"] == 300].names == ["take03_b0"]
        assert pickle.loads(pickle.dumps(test)).names == test.names
        with pytest.raises(OutOfRangeError, match="expected one of a selected sequence"):
            test["take00_b0"]
        with pytest.raises(IndexError, match="found number 3, expected below 3"):
            test[3]

    @pytest.mark.parametrize(
        ("key", "message"),
        [
            (1.5, "found 1.5 of type float, expected a number, an id, a slice"),
            (True, "found True of type bool"),
            ({1}, r"found \{1\} of type set"),
            ([1.5], r"found values such as 1.5 \(float64\)"),
            ([[1]], r"found an array of shape \(1, 1\)"),
            ([8], "found sequence number 8, expected below 8"),
            ([-9], "found sequence number -9, expected below 8"),
            (np.array([True]), "found a mask of 1, expected one bool for each of 8 sequences"),
            (slice("a", "b"), "expected a slice of whole numbers"),
            (["take09_b0"], "no sequence named 'take09_b0'"),
        ],
    )
    def test_what_names_nothing_is_said(self, store: Store, key: Any, message: str) -> None:
        with pytest.raises((StoreError, UnknownNameError), match=message):
            store[key]

    def test_a_mask_of_another_store_is_refused(self, store: Store) -> None:
        with pytest.raises(UnknownNameError, match="no sequence named 'other'"):
            store[pd.Series([True], index=["other"])]


class TestWindows:
    def expected(self, clip: Clip, body: int, start: int, length: int) -> np.ndarray:
        """A window by the plain way: all frames of the recording, then a slice of them."""
        own = clip.tracks[body]
        room = np.full((clip.length + length, 13, 3), np.nan, np.float32)
        room[own.frame_index] = canonical(own.position)
        return room[start : start + length]

    @pytest.mark.parametrize(("length", "stride"), [(64, 32), (50, 50), (7, 90), (1, 400), (301, 90)])
    def test_each_is_a_stretch_of_the_recordings_time(self, store: Store, length: int, stride: int) -> None:
        windows = store.windows(length, stride)
        begun: dict[str, list[int]] = {}
        for window in windows:
            _, clip, own = SEQUENCES[window.number]
            wanted = self.expected(clip, clip.tracks.index(own), window.start, length)
            np.testing.assert_array_equal(window.position, wanted)
            observed = np.isin(np.arange(window.start, window.start + length), own.frame_index)
            np.testing.assert_array_equal(window.valid, observed)
            assert window.confidence is not None
            assert not window.confidence[~observed].any()
            begun.setdefault(window.name, []).append(window.start)
        for name, _, own in SEQUENCES:
            first, last = int(own.frame_index[0]), int(own.frame_index[-1])
            whole = list(range(first, last - length + 2, stride))
            assert begun[name] == (whole or [first])

    def test_short_sequences_are_filled_up_or_left_out(self, store: Store) -> None:
        assert store["take04_b0"].position.shape[0] == 1
        (filled,) = store[["take04_b0"]].windows(8)
        assert filled.valid.tolist() == [True] + [False] * 7
        assert np.isnan(filled.position[1:]).all()
        assert (filled.start, filled.row["recording"]) == (17, "take04")
        assert len(store[["take04_b0"]].windows(8, short="leave_out")) == 0
        names = {window.name for window in store.windows(300, short="leave_out")}
        assert names == {"take00_b0", "take02_b0", "take03_b0"}

    def test_of_a_selection_in_its_order(self, store: Store) -> None:
        windows = store[[4, 0]].windows(150)
        assert windows.numbers.tolist() == [4, 4, 0, 0]
        assert windows.starts.tolist() == [0, 150, 0, 150]
        again = pickle.loads(pickle.dumps(windows))
        assert again[-1].position.tobytes() == windows[3].position.tobytes()

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"length": 0}, "found a length of 0, expected a whole number of frames"),
            ({"length": 2.5}, "found a length of 2.5"),
            ({"length": 4, "stride": 0}, "found a stride of 0"),
            ({"length": 4, "short": "pad"}, "found short='pad', expected one of fill, leave_out"),
        ],
    )
    def test_what_cannot_be_is_said(self, store: Store, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(StoreError, match=message):
            store.windows(**settings)

    def test_a_window_out_of_range(self, store: Store) -> None:
        windows = Windows(store, np.array([0]), 100)
        with pytest.raises(IndexError, match="found window 3, expected below 3"):
            windows[3]
        with pytest.raises(StoreError, match="expected the number of a window"):
            windows[0.5]  # type: ignore[index]


class TestXarray:
    def test_seconds_frames_names_and_units(self, store: Store) -> None:
        data = store["take01_b0"].to_xarray()
        assert data.position.dims == ("time", "joint", "axis")
        assert data.position.attrs["units"] == "m"
        assert data.time.attrs["units"] == "s"
        np.testing.assert_array_equal(data.frame, store["take01_b0"].frame_index)
        np.testing.assert_allclose(data.time, store["take01_b0"].frame_index / 30)
        np.testing.assert_array_equal(
            data.position.sel(joint="head", axis="y"),
            store["take01_b0"].position[:, store.skeleton.index("head"), 1],
        )
        assert (str(data.body.values), str(data.recording.values)) == ("72057594037944339", "take01")
        assert data.pixel.dims == ("time", "joint", "image_axis")
        assert data.image_axis.values.tolist() == ["column", "row"]
        assert (data.attrs["subject"], data.attrs["skeleton"]) == (1, "toyota13")

    def test_a_frame_rate_is_given_or_asked_for(self, store: Store, tmp_path: Path) -> None:
        assert store[0].to_xarray(frame_rate=10).time[-1] == 29.9
        with pytest.raises(StoreError, match="found a frame rate of 0, expected a number above 0"):
            store[0].to_xarray(frame_rate=0)
        clip = recording(0, (track("0", np.arange(5), 0),), 0, "train")
        made_by = Provenance(tool="test", command="test")
        write_store(tmp_path / "s.zarr", replace(DATASET, frame_rate=None), [("a", clip)], made_by)
        with pytest.raises(StoreError, match=r"found no frame rate .* Give it: to_xarray\(frame_rate=30\)"):
            open_store(tmp_path / "s.zarr")[0].to_xarray()

    def test_a_sequence_made_by_hand_has_no_names(self) -> None:
        frames = np.arange(3, dtype=np.int32)
        with pytest.raises(StoreError, match="found a sequence that is not of a store"):
            Sequence("a", "0", frames, np.zeros((3, 4, 3), np.float32)).to_xarray()


class TestShortForms:
    def test_each_is_one_short_line(self, store: Store) -> None:
        recorded = store.recording("take01")
        windows = store.windows(64)
        for shown in (store, store[0], store[0:2], store[0].row, recorded, windows, windows[0]):
            assert "\n" not in repr(shown)
            assert len(repr(shown)) < 400
        assert repr(store[0]) == "<skelconv.Sequence 'take00_b0': 300 frames, 13 joints, wave>"
        assert "bodies 'take01_b0' (210), 'take01_b1' (160)" in repr(recorded)
        by_hand = Sequence("a", "0", np.arange(3, dtype=np.int32), np.zeros((3, 4, 3), np.float32))
        assert repr(by_hand) == "<skelconv.Sequence 'a': 3 frames, 4 joints>"

    def test_tables_of_notebooks_escape_what_comes_from_files(self, store: Store) -> None:
        for shown in (store, store[0], store[:], store[0].row, store.recording("take01")):
            assert "<table>" in shown._repr_html_()
        evil = "<script>alert(1)</script>"
        row = {"action": evil}
        one = Sequence(evil, "0", np.zeros(1, np.int32), np.zeros((1, 4, 3), np.float32), row=row)
        for shown in (one, Recording(evil, 1, (one,), row)):
            assert "<script" not in shown._repr_html_()
