"""Side tables and columns of arrays: written, read, verified."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from skelconv.derive.clean import clean_store
from skelconv.ingest.ingest import ingest
from skelconv.ingest.plan import make_plan
from skelconv.store import schema
from skelconv.store.backends import Backend
from skelconv.store.store import Store, open_store
from skelconv.synth import synthesize
from skelconv.verify import verify
from skelformats.errors import UnknownNameError
from skelformats.reader import Column
from tests.skelconv.side_store import DATASET, clip, clips, side_store, write


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("side") / "side.zarr"
    side_store(path)
    return path


@pytest.fixture(params=["auto", "direct", "zarr", "resident"])
def store(request: pytest.FixtureRequest, made: Path) -> Store:
    backend: Backend = request.param
    return open_store(made, backend)


class TestReading:
    def test_a_side_table_is_a_frame_of_its_rows_in_order(self, store: Store) -> None:
        table = store.table("interval")
        assert table["recording"].tolist() == [f"take0{n}" for n in range(3) for _ in range(3)]
        assert table["start"].tolist() == [0, 0, 7] * 3
        assert table["recording"].dtype == "string"
        assert table["label"].dtype == np.int32

    def test_rows_of_one_key_stand_once_and_arrays_are_arrays(self, store: Store) -> None:
        table = store.table("calibration")
        assert table["camera"].tolist() == [1, 2]
        for number, rotation in zip((1, 2), table["rotation"], strict=True):
            np.testing.assert_array_equal(rotation, np.eye(3) * (number + 1))
        assert store.array("calibration_rotation").shape == (2, 3, 3)

    def test_an_unknown_table_or_array_is_named_with_those_that_exist(self, store: Store) -> None:
        with pytest.raises(UnknownNameError, match="Did you mean 'interval'"):
            store.table("intervals")
        with pytest.raises(UnknownNameError, match="Did you mean 'betas'"):
            store.array("beta")

    def test_a_column_of_arrays_is_read_whole_and_by_row_but_is_not_in_the_frame(self, store: Store) -> None:
        betas = [track.columns["betas"] for take in clips() for track in take.tracks]
        np.testing.assert_array_equal(store.array("betas"), betas)
        for sequence, wanted in zip(store, betas, strict=True):
            np.testing.assert_array_equal(sequence.row["betas"], wanted)
        assert store.array_columns == ("betas", "names")
        assert "betas" not in store.to_frame()
        assert "interval_label" not in store.to_frame()

    def test_a_column_may_hold_arrays_of_text(self, store: Store) -> None:
        assert store["take01_b1"].row["names"].tolist() == ["take01", "second"]

    def test_a_recording_has_the_columns_that_its_bodies_share(self, store: Store) -> None:
        row = store.recording("take01").row
        assert row["names"].tolist() == ["take01", "second"]
        assert not {"betas", "weight"} & set(row)

    def test_writing_into_a_row_does_not_change_the_store(self, store: Store) -> None:
        store[0].row["betas"][:] = 0
        assert store[0].row["betas"].any()

    def test_xarray_reads_both(self, made: Path) -> None:
        ds = xr.open_zarr(made, chunks=None)
        assert ds["betas"].dims == ("sequence", "beta")
        assert ds["calibration_rotation"].dims == ("calibration", "camera_axis", "world_axis")

    def test_missing_numbers_are_equal_in_the_columns_that_bodies_share(self, tmp_path: Path) -> None:
        take = clip("pair", 1, bodies=2)
        for track in take.tracks:
            dict.update(track.columns, weight=float("nan"))  # type: ignore[arg-type]
        assert np.isnan(write(tmp_path / "nan.zarr", [take]).recording("pair").row["weight"])

    def test_a_side_table_may_have_no_row(self, tmp_path: Path) -> None:
        take = clip("lone", 1)
        dict.update(take.tables, interval=[])  # type: ignore[arg-type]
        store = write(tmp_path / "none.zarr", [take])
        assert list(store.table("interval").columns) == ["label", "recording", "start"]
        assert not len(store.table("interval"))
        assert verify(tmp_path / "none.zarr").ok


class TestVerify:
    @pytest.fixture
    def copy(self, made: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(made, tmp_path / "copy.zarr"))

    def test_a_sound_store_is_sound(self, made: Path) -> None:
        assert verify(made).problems == []

    @pytest.mark.parametrize("array", ["betas", "names", "calibration_rotation", "interval_recording"])
    def test_a_flipped_byte_is_found(self, copy: Path, array: str) -> None:
        chunk = next(file for file in (copy / array / "c").rglob("*") if file.is_file())
        content = bytearray(chunk.read_bytes())
        content[len(content) // 2] ^= 1
        chunk.write_bytes(content)
        assert any(array in problem and "crc32c" in problem for problem in verify(copy).problems)

    def test_an_array_that_the_format_does_not_know_is_found(self, copy: Path) -> None:
        group = zarr.open_group(str(copy), mode="a")
        group.create_array("stray", shape=(3,), dtype="f4", dimension_names=("elsewhere",))
        schema.consolidate(copy)
        assert any("array stray: found an array along elsewhere" in p for p in verify(copy).problems)

    def test_a_side_table_whose_columns_differ_in_length_is_found(self, copy: Path) -> None:
        group = zarr.open_group(str(copy), mode="a")
        column = DATASET.tables[0].columns[2]
        schema.write_column(group, type(column)("interval_start", "i4", ""), np.arange(4), "interval", {})
        schema.consolidate(copy)
        problems = verify(copy).problems
        assert any("dimension interval: found lengths" in problem for problem in problems)

    def test_a_side_table_without_arrays_is_found(self, copy: Path) -> None:
        for name in ("calibration_camera", "calibration_rotation"):
            shutil.rmtree(copy / name)
        schema.consolidate(copy)
        assert "found no array calibration_..., expected columns of the side table calibration" in (
            verify(copy).problems
        )

    def test_an_array_along_frame_must_be_named_as_an_extra(self, copy: Path) -> None:
        group = zarr.open_group(str(copy), mode="a")
        attribute = dict(group.attrs["skelconv"])  # type: ignore[arg-type]
        attribute["extras"] = ["pixel"]
        group.attrs["skelconv"] = attribute
        schema.consolidate(copy)
        assert any("array root: found an array along frame" in problem for problem in verify(copy).problems)


def test_a_cleaned_store_of_them_can_be_made(made: Path, tmp_path: Path) -> None:
    clean_store(open_store(made), tmp_path / "clean.zarr", "metric")
    assert verify(tmp_path / "clean.zarr").ok


def test_side_tables_are_compared_with_the_sources(tmp_path: Path) -> None:
    synthesize("pku1", tmp_path / "raw", 2, 0)
    plan = make_plan("pku1", tmp_path / "raw", "skelconv test", (), {"untrimmed": True})
    ingest(plan, tmp_path / "s.zarr")
    assert verify(tmp_path / "s.zarr", tmp_path / "raw").problems == []
    store = open_store(tmp_path / "s.zarr")
    starts = store.array("interval_start").copy()
    starts[-1] += 1
    group = zarr.open_group(str(tmp_path / "s.zarr"), mode="a")
    schema.write_column(group, Column("interval_start", "i4", ""), starts, "interval")
    schema.consolidate(tmp_path / "s.zarr")
    problems = verify(tmp_path / "s.zarr", tmp_path / "raw").problems
    assert [p for p in problems if "side table interval: found another start" in p] == problems != []
