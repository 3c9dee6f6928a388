"""Several stores as one, and a store in another joint layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from skelconv.clean import default_chain
from skelconv.derive.merge import MergeError, merge_stores
from skelconv.derive.remap import remap_store
from skelconv.store.info import DatasetInfo, StoreError
from skelconv.store.store import Store, open_store
from skelconv.verify import verify
from skelformats.reader import Column, Confidence, Protocol
from skelformats.skeleton import SkeletonError, load_skeleton, match_joints
from tests.skelconv.scenes import body, recording
from tests.skelconv.side_store import DATASET, clip, side_store, write
from tests.skelconv.stores import dataset, store_of


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def same_sequence(one: Store, other: Store, name: str, renamed: str = "") -> None:
    mine, theirs = one[name], other[renamed or name]
    np.testing.assert_array_equal(mine.position, theirs.position)
    np.testing.assert_array_equal(mine.frame_index, theirs.frame_index)
    assert mine.row["digest"] == theirs.row["digest"]


@pytest.fixture
def parts(tmp_path: Path) -> list[Store]:
    return [side_store(tmp_path / f"part{n}.zarr", 3 * n, 3) for n in range(3)]


class TestPartsOfOneDataset:
    def test_they_give_the_store_that_one_ingest_would(self, tmp_path: Path, parts: list[Store]) -> None:
        merged = merge_stores(parts, tmp_path / "m.zarr", shard_frames=256)
        whole, made = side_store(tmp_path / "whole.zarr", 0, 9), open_store(tmp_path / "m.zarr")
        assert merged.left_out == ()
        for name in whole.all_arrays:
            np.testing.assert_array_equal(made.array(name), whole.array(name), err_msg=name)
        assert made.info.axes == whole.info.axes
        assert made.info.model_dump(exclude={"provenance"}) == whole.info.model_dump(exclude={"provenance"})
        assert verify(tmp_path / "m.zarr").ok

    def test_the_order_in_which_they_are_named_does_not_matter(
        self, tmp_path: Path, parts: list[Store]
    ) -> None:
        merge_stores(parts, tmp_path / "a.zarr")
        merge_stores([parts[2], parts[0], parts[1]], tmp_path / "b.zarr")
        assert contents(tmp_path / "a.zarr") == contents(tmp_path / "b.zarr")

    def test_the_provenance_of_each_is_kept(self, tmp_path: Path, parts: list[Store]) -> None:
        made = merge_stores(parts, tmp_path / "m.zarr").info.provenance
        assert made.sources == 9
        assert made.derived_from is not None
        digests = [part["provenance"]["digest"] for part in made.derived_from["merge"]]
        assert digests == [f"sha256:part{n}.zarr" for n in range(3)]

    def test_a_side_table_s_rows_stand_once_but_rows_that_repeat_in_a_store_stay(
        self, tmp_path: Path, parts: list[Store]
    ) -> None:
        merge_stores(parts, tmp_path / "m.zarr")
        store = open_store(tmp_path / "m.zarr")
        assert store.table("calibration")["camera"].tolist() == [1, 2]
        assert len(store.table("interval")) == 27

    def test_a_recording_in_two_of_them_is_refused_by_name(self, tmp_path: Path, parts: list[Store]) -> None:
        again = side_store(tmp_path / "again.zarr", 2, 2)
        with pytest.raises(MergeError, match=r"take02.*holds them already.*Leave one"):
            merge_stores([*parts, again], tmp_path / "m.zarr")
        assert not list(tmp_path.glob("m.zarr*"))

    def test_an_existing_store_is_not_touched_unless_asked(self, tmp_path: Path, parts: list[Store]) -> None:
        merge_stores(parts[:2], tmp_path / "m.zarr")
        with pytest.raises(StoreError, match="--overwrite"):
            merge_stores(parts, tmp_path / "m.zarr")
        assert merge_stores(parts, tmp_path / "m.zarr", overwrite=True).info.provenance.recordings == 9

    def test_one_store_is_not_enough(self, tmp_path: Path, parts: list[Store]) -> None:
        with pytest.raises(MergeError, match="expected two or more"):
            merge_stores(parts[:1], tmp_path / "m.zarr")


class TestDatasetsThatDiffer:
    @pytest.fixture
    def other(self, tmp_path: Path) -> Store:
        described = replace(
            DATASET,
            name="beta",
            title="Beta",
            classes=("sit", "wave", "jump"),
            frame_rate=50.0,
            columns=(Column("subject", "string", "who"), Column("room", "i4", "where")),
            protocols=(Protocol("cv1", "by view"), Protocol("xsub", "by other subjects")),
            confidence=Confidence("f4", "score"),
            extras=(DATASET.extras[0],),
            tables=(DATASET.tables[0],),
        )
        takes = []
        for number in range(3):
            take = clip(f"take{number:02d}", 10 + number, label=number)
            (track,) = take.tracks
            score = np.full(track.position.shape[:2], 0.5, np.float32)
            tracks = (replace(track, confidence=score, columns={}),)
            rows = {"interval": take.tables["interval"]}
            columns: dict[str, Any] = {"subject": f"P{number}", "room": number}
            takes.append(
                replace(take, tracks=tracks, columns=columns, tables=rows, splits={"cv1": "val", "xsub": ""})
            )
        return write(tmp_path / "beta.zarr", takes, described, ("pixel",))

    @pytest.fixture
    def merged(self, tmp_path: Path, parts: list[Store], other: Store) -> Store:
        done = merge_stores([other, parts[0]], tmp_path / "m.zarr", prefix=True)
        assert [line.split(":")[0] for line in done.left_out] == ["confidence", "root"]
        return open_store(tmp_path / "m.zarr")

    def test_classes_are_united_by_name(self, merged: Store, other: Store, parts: list[Store]) -> None:
        assert merged.info.classes == ("Wave", "walk", "sit", "jump")
        table = merged.to_frame()
        assert table["action"].tolist() == ["Wave", "walk", "walk", "sit", "sit", "Wave", "jump"]
        assert merged.table("interval")["label"].tolist() == [
            0,
            0,
            0,
            1,
            1,
            1,
            2,
            2,
            2,
            2,
            2,
            2,
            0,
            0,
            0,
            3,
            3,
            3,
        ]

    def test_every_motion_is_the_same(self, merged: Store, other: Store, parts: list[Store]) -> None:
        for store in (parts[0], other):
            for name in store.names:
                same_sequence(store, merged, name, f"{store.info.dataset.name}_{name}")

    def test_columns_are_united_and_filled(self, merged: Store) -> None:
        table = merged.to_frame()
        assert table["dataset"].tolist() == ["alpha"] * 4 + ["beta"] * 3
        assert table["frame_rate"].tolist() == [30.0] * 4 + [50.0] * 3
        assert table["subject"].tolist() == ["0", "1", "1", "2", "P0", "P1", "P2"]
        assert table["room"].tolist() == [-1] * 4 + [0, 1, 2]
        assert table["weight"].isna().tolist() == [False] * 4 + [True] * 3
        assert np.isnan(merged["beta_take00_b0"].row["betas"]).all()
        assert table["split_cv1"].tolist() == [""] * 4 + ["val"] * 3

    def test_both_datasets_and_their_terms_are_named(self, merged: Store) -> None:
        assert merged.info.dataset.name == "alpha+beta"
        assert merged.info.dataset.title == "alpha: Alpha; beta: Beta"
        assert merged.info.dataset.licence == "free"
        assert merged.info.frame_rate is None
        assert merged.info.protocols["xsub"] == "by subject; by other subjects"

    def test_what_only_one_has_is_left_out_and_said(self, merged: Store) -> None:
        assert "confidence" not in merged.arrays
        assert merged.info.extras == ("pixel",)
        derived = merged.info.provenance.derived_from
        assert derived is not None
        assert len(derived["left_out"]) == 2

    def test_the_store_is_sound(self, merged: Store) -> None:
        assert verify(merged.path).problems == []

    def test_recordings_of_one_name_need_a_prefix(
        self, tmp_path: Path, parts: list[Store], other: Store
    ) -> None:
        with pytest.raises(MergeError, match="--prefix"):
            merge_stores([parts[0], other], tmp_path / "n.zarr")

    def test_recordings_in_side_tables_get_it_too(self, merged: Store) -> None:
        assert set(merged.table("interval")["recording"]) == set(merged.recording_names())

    def test_a_merged_store_can_be_merged_again(
        self, tmp_path: Path, merged: Store, parts: list[Store]
    ) -> None:
        merge_stores([merged, parts[1]], tmp_path / "again.zarr")
        assert open_store(tmp_path / "again.zarr").info.dataset.name == "alpha+beta"
        assert verify(tmp_path / "again.zarr").ok


class TestWhatDoesNotGoTogether:
    def test_another_layout_is_refused_with_the_verb_that_helps(
        self, tmp_path: Path, parts: list[Store]
    ) -> None:
        ntu = store_of(tmp_path / "ntu.zarr", [recording(body(range(5)))])
        with pytest.raises(MergeError, match=r"layout .*ntu25|skelconv remap"):
            merge_stores([parts[0], ntu], tmp_path / "m.zarr")

    @pytest.mark.parametrize(
        ("change", "message"), [({"unit": "px"}, "the unit"), ({"axis_convention": "+z up"}, "axes")]
    )
    def test_another_unit_or_other_axes_are_refused(
        self, tmp_path: Path, parts: list[Store], change: dict[str, Any], message: str
    ) -> None:
        odd = side_store(tmp_path / "odd.zarr", 50, 1, **change)
        with pytest.raises(MergeError, match=message):
            merge_stores([parts[0], odd], tmp_path / "m.zarr")

    @pytest.mark.parametrize("array", ["label", "interval_label"])
    def test_a_label_beyond_the_classes_is_named(
        self, tmp_path: Path, parts: list[Store], array: str
    ) -> None:
        group = zarr.open_group(str(parts[1].path), mode="r+")
        group[array][0] = 7
        with pytest.raises(MergeError, match=r"part1\.zarr, .*found the label 7, expected one from -1 to 2"):
            merge_stores([parts[0], open_store(parts[1].path)], tmp_path / "m.zarr")
        assert not list(tmp_path.glob("m.zarr*"))

    def test_columns_of_other_shapes_are_refused(self, tmp_path: Path, parts: list[Store]) -> None:
        columns = tuple(
            replace(c, shape=(1, 3), dims=("x1", "beta")) if c.name == "betas" else c for c in DATASET.columns
        )
        odd = side_store(tmp_path / "odd.zarr", 50, 1, columns=columns)
        with pytest.raises(StoreError, match="'betas' of shape"):
            merge_stores([parts[0], odd], tmp_path / "m.zarr")


@pytest.mark.parametrize(("other", "together"), [("sgn", "sgn"), ("metric", "metric")])
def test_the_chain_of_merged_datasets_is_theirs_when_they_agree(
    tmp_path: Path, other: str, together: str
) -> None:
    first = store_of(tmp_path / "a.zarr", [recording(body(range(5)), name="a")], dataset("ntu60"))
    described = dataset("ntu120", cleaning=other)
    second = store_of(tmp_path / "b.zarr", [recording(body(range(5)), name="b")], described)
    assert merge_stores([first, second], tmp_path / "m.zarr").info.dataset.cleaning == together


def test_the_chain_of_merged_datasets_that_name_none_is_theirs_when_they_agree() -> None:
    about = {"title": "", "licence": "", "citation": "", "homepage": ""}
    assert default_chain(DatasetInfo(name="ntu120+ntu60", **about)) == "sgn"
    assert default_chain(DatasetInfo(name="amass+ntu60", **about)) == "metric"


class TestRemap:
    def test_each_joint_is_the_one_of_its_name(self, tmp_path: Path) -> None:
        source = store_of(
            tmp_path / "ntu.zarr",
            [recording(body(range(30), 1), body(range(5, 20), 2))],
            dataset(confidence=True),
        )
        remap_store(source, tmp_path / "t.zarr", "toyota13")
        made, target = open_store(tmp_path / "t.zarr"), load_skeleton("toyota13")
        assert made.skeleton == target
        match = match_joints(source.skeleton, target)
        for name in source.names:
            np.testing.assert_array_equal(made[name].position, source[name].position[:, match])
            np.testing.assert_array_equal(made[name].confidence, source[name].confidence[:, match])  # type: ignore[index]
        columns = ["label", "subject", "room", "split_xsub", "body", "recording_length"]
        assert made.to_frame()[columns].equals(source.to_frame()[columns])

    def test_it_records_which_joint_became_which_and_the_way_back_to_raw_values(self, tmp_path: Path) -> None:
        source = side_store(tmp_path / "s.zarr")
        info = remap_store(source, tmp_path / "t.zarr", source.skeleton)
        assert info.provenance.derived_from is not None
        assert info.provenance.derived_from["remap"]["from"] == "toyota13"
        assert info.axes == source.info.axes

    def test_arrays_go_along(self, tmp_path: Path) -> None:
        source = side_store(tmp_path / "s.zarr")
        layout = load_skeleton("toyota13").to_dict()
        layout["joint"].reverse()
        turned = type(source.skeleton).from_dict(layout, "turned")
        remap_store(source, tmp_path / "t.zarr", turned)
        made = open_store(tmp_path / "t.zarr")
        np.testing.assert_array_equal(made.array("pixel"), source.array("pixel")[:, ::-1])
        for name in ("root", "betas", "interval_start", "calibration_rotation"):
            np.testing.assert_array_equal(made.array(name), source.array(name))
        assert verify(tmp_path / "t.zarr").ok

    def test_joints_without_a_counterpart_are_named(self, tmp_path: Path) -> None:
        source = side_store(tmp_path / "s.zarr")
        with pytest.raises(SkeletonError, match=r"no counterpart of .*spine_base.*Its joints are"):
            remap_store(source, tmp_path / "t.zarr", "ntu25")
        assert not list(tmp_path.glob("t.zarr*"))

    def test_a_cleaned_store_stays_cleaned(self, tmp_path: Path) -> None:
        from skelconv.clean.samples import chain_for
        from skelconv.derive.clean import clean_store

        source = store_of(tmp_path / "ntu.zarr", [recording(body(range(30), 1))])
        clean_store(source, tmp_path / "c.zarr", "sgn")
        assert (
            chain_for(remap_store(open_store(tmp_path / "c.zarr"), tmp_path / "t.zarr", "toyota13")) == "none"
        )
