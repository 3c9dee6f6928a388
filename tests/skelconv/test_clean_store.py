"""A store of cleaned persons."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skelconv.clean import CHAINS, CleaningError, clean
from skelconv.clean.samples import pack_samples
from skelconv.derive.clean import clean_store
from skelconv.store.info import StoreError
from skelconv.store.recording import Recording
from skelconv.store.store import Store, open_store
from skelconv.verify import verify
from skelformats.errors import UnknownNameError
from skelformats.reader import Clip, Column, Track
from tests.skelconv.scenes import NTU25, body, recording
from tests.skelconv.side_store import DATASET, clip, write
from tests.skelconv.stores import CLASSES, dataset, store_of


@pytest.fixture
def takes() -> list[Recording]:
    ghost = body(range(20), 9)
    ghost.position[...] = np.nan
    return [
        recording(body(range(2, 40), 1), name="alone"),
        recording(body(range(30), 2, motion=1.0), body(range(10, 30), 3), name="both"),
        recording(body(range(20), 4), body(range(20, 45), 5), name="stitched"),
        recording(ghost, name="ghost"),
    ]


@pytest.fixture
def source(tmp_path: Path, takes: list[Recording]) -> Store:
    return store_of(tmp_path / "raw.zarr", takes, dataset(confidence=True))


@pytest.fixture
def cleaned(tmp_path: Path, source: Store) -> Store:
    clean_store(source, tmp_path / "clean.zarr", "ctrgcn", shard_frames=512)
    return open_store(tmp_path / "clean.zarr")


class TestWhatIsCarriedOver:
    """Columns of every type and shape, units, side tables: as they were stored."""

    @pytest.fixture
    def pair(self, tmp_path: Path) -> tuple[Store, Store]:
        precise = Column("height", "f8", "of the body", unit="m")
        take = clip("take09", 9, bodies=2)
        tracks = tuple(
            replace(track, columns={**track.columns, "height": 1 + (number + 1) / 3})
            for number, track in enumerate(take.tracks)
        )
        source = write(
            tmp_path / "raw.zarr",
            [replace(take, tracks=tracks)],
            replace(DATASET, columns=(*DATASET.columns, precise)),
        )
        clean_store(source, tmp_path / "clean.zarr", "metric")
        return source, open_store(tmp_path / "clean.zarr")

    def test_types_units_and_values_of_columns(self, pair: tuple[Store, Store]) -> None:
        source, cleaned = pair
        assert cleaned.metadata("height")["data_type"] == "float64"
        for column in ("height", "weight", "betas", "names", "subject"):
            before, after = source.metadata(column), cleaned.metadata(column)
            assert after["data_type"] == before["data_type"]
            assert after["attributes"] == before["attributes"]
            assert after["dimension_names"] == before["dimension_names"]
            np.testing.assert_array_equal(cleaned.array(column), source.array(column))
        assert cleaned.metadata("weight")["attributes"]["units"] == "kg"

    def test_side_tables(self, pair: tuple[Store, Store]) -> None:
        source, cleaned = pair
        assert cleaned.info.tables == source.info.tables
        for table in source.info.tables:
            assert len(source.table(table))
        for name in ("interval_start", "interval_recording", "calibration_rotation"):
            np.testing.assert_array_equal(cleaned.array(name), source.array(name))
        assert verify(cleaned.path).ok

    def test_a_person_made_of_two_bodies_has_only_what_they_share(self, tmp_path: Path) -> None:
        take = recording(body(range(20), 4), body(range(20, 45), 5), name="stitched")
        tracks = tuple(
            Track(
                one.body,
                one.frame_index,
                one.position,
                columns={"weight": 50.0 + number, "betas": np.arange(3.0)},
            )
            for number, one in enumerate(take.bodies)
        )
        columns = (Column("weight", "f4", "kg"), Column("betas", "f8", "shape", (3,), ("beta",)))
        whole = Clip("stitched", take.length, tracks, 0, {}, {"xsub": "train"})
        source = write(tmp_path / "raw.zarr", [whole], replace(dataset(), columns=columns))
        clean_store(source, tmp_path / "clean.zarr", "ctrgcn")
        (person,) = open_store(tmp_path / "clean.zarr")
        assert person.body == "4+5"
        assert np.isnan(person.row["weight"])
        np.testing.assert_array_equal(person.row["betas"], np.arange(3.0))


class TestCleanStore:
    def test_its_samples_are_those_of_the_chain(self, source: Store, cleaned: Store) -> None:
        from_raw, from_cleaned = pack_samples(source, "ctrgcn"), pack_samples(cleaned)
        np.testing.assert_array_equal(from_cleaned.position, from_raw.position)
        np.testing.assert_array_equal(from_cleaned.next_row, from_raw.next_row)
        np.testing.assert_array_equal(from_cleaned.offsets, from_raw.offsets)

    def test_it_is_not_cleaned_again_by_default(self, cleaned: Store) -> None:
        assert pack_samples(cleaned).chain == "none"

    def test_persons_are_sequences_with_their_frames_and_bodies(self, cleaned: Store) -> None:
        assert cleaned.names == ["alone_b0", "both_b0", "both_b1", "stitched_b0"]
        assert cleaned["alone_b0"].frame_index.tolist() == list(range(2, 40))
        assert [cleaned[name].body for name in cleaned.names] == ["1", "2", "3", "4+5"]
        assert all((np.diff(sequence.frame_index) > 0).all() for sequence in cleaned)

    def test_table_and_confidence_are_carried_over(self, source: Store, cleaned: Store) -> None:
        table = cleaned.to_frame()
        assert table["label"].tolist() == [0, 1, 1, 2]
        assert table["action"].tolist() == [CLASSES[0], CLASSES[1], CLASSES[1], CLASSES[2]]
        for column in ("subject", "room", "score", "split_xsub", "source", "recording_length"):
            wanted = source.to_frame().groupby("recording")[column].first()
            assert table[column].tolist() == wanted[table["recording"]].tolist()
        track = cleaned["both_b1"]
        assert track.confidence is not None
        np.testing.assert_array_equal(track.confidence, np.repeat(track.frame_index[:, None] % 3, 25, 1))

    def test_provenance_says_what_was_done_and_what_was_set_aside(
        self, source: Store, cleaned: Store
    ) -> None:
        made = cleaned.info.provenance
        assert made.derived_from is not None
        assert made.derived_from["chain"] == "ctrgcn"
        assert made.derived_from["steps"] == list(CHAINS["ctrgcn"].step_names)
        assert made.derived_from["provenance"]["digest"] == source.info.provenance.digest
        ((aside),) = made.set_aside
        assert aside.source == "ghost.txt"
        assert "no observed joint" in aside.reason

    def test_joints_that_were_never_observed_are_missing_in_it(self, tmp_path: Path) -> None:
        one = body(range(20))
        one.position[3, 7] = np.nan
        source = store_of(tmp_path / "raw.zarr", [recording(one)])
        clean_store(source, tmp_path / "clean.zarr", "ctrgcn")
        position = open_store(tmp_path / "clean.zarr")[0].position
        assert np.argwhere(np.isnan(position).any(axis=-1)).tolist() == [[3, 7]]

    def test_a_stretched_axis_has_no_unit(self, tmp_path: Path) -> None:
        take = recording(body(range(9), joints=20))
        source = store_of(tmp_path / "raw.zarr", [take], dataset("ucla", "ucla20", cleaning="ucla"))
        assert clean_store(source, tmp_path / "ucla.zarr", "ucla").unit == "1"
        assert clean_store(source, tmp_path / "metric.zarr", "metric").unit == "m"

    def test_an_existing_store_is_not_touched_unless_asked(self, tmp_path: Path, source: Store) -> None:
        clean_store(source, tmp_path / "c.zarr", "sgn")
        with pytest.raises(StoreError, match="--overwrite"):
            clean_store(source, tmp_path / "c.zarr", "metric")
        assert clean_store(source, tmp_path / "c.zarr", "metric", overwrite=True).provenance.sequences == 5

    def test_an_unknown_chain_writes_nothing(self, tmp_path: Path, source: Store) -> None:
        with pytest.raises(UnknownNameError, match="Did you mean 'metric'"):
            clean_store(source, tmp_path / "c.zarr", "metrics")
        assert not list(tmp_path.glob("c.zarr*"))

    def test_a_store_of_which_nothing_can_be_cleaned_leaves_nothing_behind(
        self, tmp_path: Path, takes: list[Recording]
    ) -> None:
        source = store_of(tmp_path / "ghost.zarr", takes[-1:])
        with pytest.raises(CleaningError, match="no observed joint"):
            clean_store(source, tmp_path / "c.zarr", "sgn")
        assert not list(tmp_path.glob("c.zarr*"))

    def test_it_holds_what_the_chain_gives(self, cleaned: Store, takes: list[Recording]) -> None:
        actors = clean(takes[2], "ctrgcn", NTU25)
        np.testing.assert_array_equal(cleaned["stitched_b0"].position, actors.position[0])
