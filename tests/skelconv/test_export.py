"""Stores in other projects' files: equal to what those projects' own scripts write."""

from __future__ import annotations

import csv
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skelconv.clean import clean
from skelconv.derive.clean import clean_store
from skelconv.export import (
    ExportError,
    export_csv,
    export_ctrgcn,
    export_parquet,
    export_pyskl,
    read_csv,
)
from skelconv.export.csv_cells import escape, unescape
from skelconv.export.frames import long_form, long_frames
from skelconv.store.info import Provenance
from skelconv.store.store import Store, open_store
from skelconv.store.writer import write_store
from skelformats.errors import UnknownNameError
from skelformats.reader import Clip, Column, Confidence, Dataset, Protocol, Track
from tests.skelconv.ntu_text import read_recording
from tests.skelconv.scenes import body, recording
from tests.skelconv.side_store import clips, side_store, write
from tests.skelconv.stores import CLASSES, dataset, store_of


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = pickle.loads(path.read_bytes())
    return content


@pytest.fixture
def store(tmp_path: Path) -> Store:
    takes = [
        recording(body(range(20), 3), name="c_alone"),
        recording(body(range(30), 1, motion=1.0), body(range(10, 40), 2), name="a_both"),
        recording(body(range(25), 4), name="b_alone"),
    ]
    return store_of(tmp_path / "raw.zarr", takes)


class TestPyskl:
    def test_annotations_are_what_the_chain_gives_as_float16(self, tmp_path: Path, store: Store) -> None:
        done = export_pyskl(store, tmp_path / "out.pkl")
        content = load(tmp_path / "out.pkl")
        assert [one["frame_dir"] for one in content["annotations"]] == ["a_both", "b_alone", "c_alone"]
        assert done.counts["annotations"] == 3
        for annotation in content["annotations"]:
            wanted = clean(store.recording(annotation["frame_dir"]), "pyskl", store.skeleton).position
            assert annotation["keypoint"].dtype == np.float16
            np.testing.assert_array_equal(annotation["keypoint"], wanted)
            assert annotation["total_frames"] == wanted.shape[1]
            assert set(annotation) == {"frame_dir", "label", "keypoint", "total_frames"}

    def test_test_parts_of_the_ntu_splits_are_called_val(self, tmp_path: Path, store: Store) -> None:
        export_pyskl(store, tmp_path / "out.pkl")
        assert load(tmp_path / "out.pkl")["split"] == {
            "xsub_train": ["b_alone", "c_alone"],
            "xsub_val": ["a_both"],
        }

    def test_a_cleaned_store_is_not_cleaned_again(self, tmp_path: Path, store: Store) -> None:
        clean_store(store, tmp_path / "c.zarr", "pyskl")
        export_pyskl(open_store(tmp_path / "c.zarr"), tmp_path / "cleaned.pkl")
        export_pyskl(store, tmp_path / "raw.pkl")
        for one, other in zip(
            load(tmp_path / "cleaned.pkl")["annotations"],
            load(tmp_path / "raw.pkl")["annotations"],
            strict=True,
        ):
            np.testing.assert_array_equal(one["keypoint"], other["keypoint"])

    def test_recordings_that_the_authors_list_as_missing_are_left_out(self, tmp_path: Path) -> None:
        described = dataset()
        described = replace(described, columns=(*described.columns, Column("listed_missing", "i4", "1: yes")))
        takes = clips(0, 2)
        own = [
            replace(
                take,
                tracks=tuple(replace(t, columns={}, extras={}, confidence=None) for t in take.tracks),
                columns={"subject": 1, "room": "", "score": 0.0, "listed_missing": number},
                tables={},
            )
            for number, take in enumerate(takes)
        ]
        done = export_pyskl(
            write(tmp_path / "s.zarr", own, replace(described, skeleton="toyota13", name="other")),
            tmp_path / "out.pkl",
        )
        assert [name for name, _ in done.set_aside] == ["take01"]
        assert len(load(tmp_path / "out.pkl")["annotations"]) == 1

    def test_2d_poses_keep_their_scores_and_the_size_of_the_picture(self, tmp_path: Path) -> None:
        flat = _flat_store(tmp_path / "flat.zarr")
        export_pyskl(flat, tmp_path / "out.pkl")
        content = load(tmp_path / "out.pkl")
        (annotation,) = content["annotations"]
        assert annotation["keypoint"].shape == (1, 40, 13, 2)
        assert annotation["keypoint_score"].shape == (1, 40, 13)
        assert annotation["img_shape"] == (480, 640)
        assert content["split"] == {"train": ["take00"], "test": []}
        sequence = flat[0]
        at = annotation["keypoint"][0][sequence.frame_index]
        np.testing.assert_array_equal(at, np.nan_to_num(sequence.position).astype(np.float16))
        assert not annotation["keypoint"][0, 5:9].any()

    @pytest.mark.real
    def test_it_equals_what_pyskl_writes(self, tmp_path: Path, shared_data: Path, golden: Path) -> None:
        wanted = _golden(golden, "pyskl_keypoint_f16")
        export_pyskl(_ntu_store(tmp_path, shared_data, list(wanted)), tmp_path / "out.pkl")
        annotations = {one["frame_dir"]: one for one in load(tmp_path / "out.pkl")["annotations"]}
        assert list(annotations) == sorted(wanted)
        assert len(wanted) > 8
        for name, keypoint in wanted.items():
            np.testing.assert_array_equal(annotations[name]["keypoint"], keypoint, err_msg=name)
            assert annotations[name]["keypoint"].dtype == keypoint.dtype


class TestCtrgcn:
    def test_samples_go_by_the_id_that_the_split_goes_by_then_by_name(self, tmp_path: Path) -> None:
        takes = [recording(body(range(5 + n), n), name=name) for n, name in enumerate("zyxwvu")]
        store = store_of(tmp_path / "s.zarr", takes)  # subject n, even ones train
        export_ctrgcn(store, tmp_path / "out.npz", "xsub")
        with np.load(tmp_path / "out.npz") as arrays:
            lengths = (arrays["x_train"] != 0).any(axis=2).sum(axis=1)
        assert lengths.tolist() == [5, 7, 9]  # subjects 0, 2, 4: z, x, v; by name it would be v, x, z

    def test_it_is_what_the_chain_gives_padded_to_the_longest(self, tmp_path: Path, store: Store) -> None:
        done = export_ctrgcn(store, tmp_path / "out.npz")
        with np.load(tmp_path / "out.npz") as arrays:
            assert set(arrays) == {"x_train", "y_train", "x_test", "y_test"}
            assert arrays["x_train"].shape == (2, 40, 150)
            assert arrays["x_train"].dtype == np.float32
            both = clean(store.recording("a_both"), "ctrgcn60", store.skeleton).position
            frames = both.shape[1]
            np.testing.assert_array_equal(
                arrays["x_test"][0, :frames], both.transpose(1, 0, 2, 3).reshape(frames, 150)
            )
            assert not arrays["x_test"][0, frames:].any()
            np.testing.assert_array_equal(arrays["y_test"], np.eye(len(CLASSES))[[1]])
            np.testing.assert_array_equal(arrays["y_train"], np.eye(len(CLASSES))[[0, 2]])
        assert done.counts == {"in train": 2, "in test": 1, "frames the longest": 40}

    def test_equal_stores_give_equal_bytes(self, tmp_path: Path, store: Store) -> None:
        export_ctrgcn(store, tmp_path / "a.npz")
        export_ctrgcn(store, tmp_path / "b.npz")
        assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()

    def test_an_unknown_protocol_writes_nothing(self, tmp_path: Path, store: Store) -> None:
        with pytest.raises(UnknownNameError, match="Did you mean 'xsub'"):
            export_ctrgcn(store, tmp_path / "out.npz", "xsup")
        with pytest.raises(UnknownNameError, match="chain"):
            export_ctrgcn(store, tmp_path / "out.npz", chain="nothing")
        assert not list(tmp_path.glob("out*"))

    @pytest.mark.real
    @pytest.mark.parametrize("name", ["ntu60", "ntu120"])
    def test_it_equals_what_the_scripts_write(
        self, tmp_path: Path, shared_data: Path, golden: Path, name: str
    ) -> None:
        wanted = _golden(golden, f"ctrgcn{name.removeprefix('ntu')}_aligned")
        store = _ntu_store(tmp_path, shared_data, list(wanted), name)
        export_ctrgcn(store, tmp_path / "out.npz", "xsub")
        table = store.to_frame().groupby("recording", sort=False).first()
        longest = max(len(values) for values in wanted.values())
        with np.load(tmp_path / "out.npz") as arrays:
            for part in ("train", "test"):
                rows = table[table["split_xsub"] == part]
                names = sorted(rows.index, key=lambda one: (rows["subject"][one], one))
                assert arrays[f"x_{part}"].shape == (len(names), longest, 150)
                for name, found in zip(names, arrays[f"x_{part}"], strict=True):
                    frames = len(wanted[name])
                    np.testing.assert_array_equal(found[:frames], wanted[name], err_msg=name)
                    assert not found[frames:].any()


class TestFolders:
    @pytest.fixture
    def side(self, tmp_path: Path) -> Store:
        return side_store(tmp_path / "side.zarr")

    def test_the_long_form_has_a_row_a_joint_in_blocks_of_whole_sequences(self, side: Store) -> None:
        form = long_form(side)
        assert list(form.columns) == ["x", "y", "z", "confidence", "pixel_column", "pixel_row"]
        assert form.left_out == ("root",)
        blocks = list(long_frames(side, form, rows=500))
        assert [block["sequence"].nunique() for block in blocks] == [1, 1, 1, 1]
        assert len(list(long_frames(side, form))) == 1
        one = blocks[1][blocks[1]["joint"] == "head"]
        sequence = side[1]
        np.testing.assert_array_equal(one["frame"], sequence.frame_index)
        np.testing.assert_array_equal(
            one[["x", "y", "z"]].to_numpy(), sequence.position[:, side.skeleton.index("head")]
        )

    def test_parquet_holds_everything_exactly(self, tmp_path: Path, side: Store) -> None:
        pq = pytest.importorskip("pyarrow.parquet")
        done = export_parquet(side, tmp_path / "out")
        assert done.left_out == ("root",)
        table = pd.read_parquet(tmp_path / "out" / "sequences.parquet").set_index("sequence")
        for column in side.to_frame():
            assert table[column].tolist() == side.to_frame()[column].tolist()
        np.testing.assert_array_equal(np.stack(table["betas"]), side.array("betas"))
        frames = pd.read_parquet(tmp_path / "out" / "frames.parquet")
        np.testing.assert_array_equal(
            frames[["x", "y", "z"]].to_numpy().reshape(side.frames, 13, 3), side.array("position")
        )
        np.testing.assert_array_equal(frames["confidence"], side.array("confidence").ravel())
        cameras = pq.read_table(tmp_path / "out" / "calibration.parquet").to_pylist()
        assert cameras[1]["rotation"] == (3 * np.eye(3)).tolist()
        about = json.loads((tmp_path / "out" / "about.json").read_text())
        assert about["dataset"]["licence"] == "free"

    def test_a_parquet_reader_finds_a_sequence_by_its_row_group(
        self, tmp_path: Path, side: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pq = pytest.importorskip("pyarrow.parquet")
        monkeypatch.setattr(long_frames, "__defaults__", (500,))
        export_parquet(side, tmp_path / "out")
        assert pq.ParquetFile(tmp_path / "out" / "frames.parquet").num_row_groups == 4
        one = pd.read_parquet(tmp_path / "out" / "frames.parquet", filters=[("sequence", "==", "take01_b1")])
        assert len(one) == 13 * len(side["take01_b1"])

    def test_csv_reads_back_exactly(self, tmp_path: Path, side: Store) -> None:
        export_csv(side, tmp_path / "out")
        frames = pd.read_csv(tmp_path / "out" / "frames.csv", dtype={"x": "f4", "y": "f4", "z": "f4"})
        np.testing.assert_array_equal(
            frames[["x", "y", "z"]].to_numpy().reshape(side.frames, 13, 3), side.array("position")
        )
        table = pd.read_csv(tmp_path / "out" / "sequences.csv", keep_default_na=False)
        assert table["sequence"].tolist() == side.names
        np.testing.assert_array_equal(
            table[["betas_0", "betas_1", "betas_2"]].to_numpy(np.float64), side.array("betas")
        )
        intervals = pd.read_csv(tmp_path / "out" / "interval.csv")
        assert intervals["start"].tolist() == [0, 0, 7] * 3
        cameras = pd.read_csv(tmp_path / "out" / "calibration.csv")
        assert cameras["rotation_1_1"].tolist() == [2.0, 3.0]

    def test_read_csv_gives_every_value_and_dtype_back(self, tmp_path: Path, side: Store) -> None:
        export_csv(side, tmp_path / "out")
        table = read_csv(tmp_path / "out").set_index("sequence")
        expected = side.to_frame()
        for column in expected:
            assert table[column].tolist() == expected[column].tolist()
            assert table[column].dtype == expected[column].dtype
        frames = read_csv(tmp_path / "out", "frames")
        np.testing.assert_array_equal(
            frames[["x", "y", "z"]].to_numpy().reshape(side.frames, 13, 3), side.array("position")
        )
        assert frames["x"].dtype == np.float32
        np.testing.assert_array_equal(frames["confidence"], side.array("confidence").ravel())
        with pytest.raises(ExportError, match=r"no cameras\.csv, expected one of: sequences, frames"):
            read_csv(tmp_path / "out", "cameras")
        with pytest.raises(ExportError, match=r"no about\.json"):
            read_csv(tmp_path)

    def test_what_a_spreadsheet_would_run_is_escaped_and_reads_back(self, tmp_path: Path) -> None:
        names = ["=1+1", "+cmd", "-5", "-x", "@sum", "'quoted", "\ttab", "plain", "a=b", "NA", ""]
        described = replace(dataset(), columns=(Column("room", "string", "where"),))
        clips_of = []
        for number, name in enumerate(names):
            one = body(range(3), number)
            tracks = (Track("0", one.frame_index, one.position),)
            clip = Clip(f"take{number:02d}", 3, tracks, 0, {"room": name}, {"xsub": "train"})
            clips_of.append((f"{number}.txt", clip))
        write_store(tmp_path / "s.zarr", described, clips_of, Provenance(tool="t", command="c"))
        export_csv(open_store(tmp_path / "s.zarr"), tmp_path / "out")
        with (tmp_path / "out" / "sequences.csv").open(newline="") as handle:
            cells = [row["room"] for row in csv.DictReader(handle)]
        assert cells == [
            "'=1+1", "'+cmd", "-5", "'-x", "'@sum", "''quoted", "'\ttab", "plain", "a=b", "NA", "",
        ]  # fmt: skip
        assert read_csv(tmp_path / "out")["room"].tolist() == names
        # numbers, negative ones too, are numbers
        frames = pd.read_csv(tmp_path / "out" / "frames.csv")
        assert (frames["x"] < 0).any()
        assert not any(cell.startswith("'") for cell in frames["x"].astype(str))

    @given(st.text(max_size=8))
    def test_any_text_survives_its_escape(self, text: str) -> None:
        assert unescape(escape(text)) == text
        assert not escape(text).startswith(("=", "@", "\t", "\r", "\n"))


class TestPlace:
    def test_what_exists_is_not_replaced_unless_asked(self, tmp_path: Path, store: Store) -> None:
        export_pyskl(store, tmp_path / "out.pkl")
        with pytest.raises(ExportError, match="--overwrite"):
            export_pyskl(store, tmp_path / "out.pkl")
        export_pyskl(store, tmp_path / "out.pkl", overwrite=True)
        assert not list(tmp_path.glob("*.partial"))

    def test_only_a_folder_that_an_export_wrote_is_replaced(self, tmp_path: Path, store: Store) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "thesis.txt").write_text("precious")
        with pytest.raises(ExportError, match=r"about\.json"):
            export_csv(store, tmp_path / "mine", overwrite=True)
        assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
        export_csv(store, tmp_path / "out")
        export_csv(store, tmp_path / "out", overwrite=True)

    def test_a_store_without_splits_has_no_npz(self, tmp_path: Path) -> None:
        store = side_store(tmp_path / "s.zarr")
        bare = write(
            tmp_path / "bare.zarr",
            [replace(take, splits={}) for take in clips()],
            replace(_described(store), protocols=()),
        )
        with pytest.raises(ExportError, match="no official split"):
            export_ctrgcn(bare, tmp_path / "out.npz")


def _described(store: Store) -> Dataset:
    from tests.skelconv.side_store import DATASET

    return DATASET


def _flat_store(path: Path) -> Store:
    (take,) = clips(0, 1)
    (track,) = take.tracks
    flat = replace(
        track,
        position=track.position[..., :2],
        confidence=np.full(track.position.shape[:2], 0.25, np.float32),
        extras={},
        columns={},
    )
    described = replace(
        dataset("pyskl", "toyota13"),
        axes=("x", "y"),
        unit="px",
        axis_convention="pixels, +y down",
        confidence=Confidence("f4", "score"),
        columns=(Column("width", "i4", "pixels"), Column("height", "i4", "pixels")),
        protocols=(Protocol("split", "one split"),),
    )
    from skelformats.reader import AxisMap

    return write(
        path,
        [
            replace(
                take,
                tracks=(flat,),
                columns={"width": 640, "height": 480},
                splits={"split": "train"},
                tables={},
            )
        ],
        replace(described, axis_map=AxisMap((0, 1), (1, 1))),
    )


def _golden(golden: Path, key: str) -> dict[str, np.ndarray]:
    found = {}
    for file in sorted((golden / "ntu").glob("*.npz")):
        with np.load(file) as arrays:
            if key in arrays:
                found[file.stem] = arrays[key]
    return found


def _ntu_store(tmp_path: Path, shared_data: Path, names: list[str], dataset_name: str = "ntu60") -> Store:
    files = {file.stem: file for file in (shared_data / "ntu").rglob("*.skeleton") if "crlf" not in str(file)}
    takes = [read_recording(files[name]) for name in reversed(names)]
    return store_of(tmp_path / "ntu.zarr", takes, dataset(dataset_name))
