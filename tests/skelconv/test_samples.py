"""Persons to rows, and a whole store to packed samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from skelconv.clean import Actors, CleaningError, clean
from skelconv.clean.samples import (
    ALL_PERSONS,
    PERSONS,
    Persons,
    Rows,
    Samples,
    arrange,
    merge_persons,
    pack_samples,
)
from skelconv.clean.ucla import to_unit_range
from skelconv.store.recording import Recording
from skelformats.errors import UnknownNameError
from skelformats.skeleton import SkeletonError, match_joints
from tests.skelconv.scenes import NTU25, UCLA20, body, recording
from tests.skelconv.stores import CLASSES, dataset, store_of


def actors(*present: str) -> Actors:
    """Persons by a string each, such as ``#.#``; the coordinates of person m in frame t are 100 m + t + 1."""
    shown = np.array([[mark == "#" for mark in row] for row in present])
    persons, frames = shown.shape
    value = 100.0 * np.arange(persons)[:, None] + np.arange(frames) + 1
    position = np.where(shown, value, 0)[..., None, None].repeat(2, 2).repeat(3, 3).astype(np.float32)
    where = np.where(shown, 0, -1).astype(np.int32)
    return Actors(position, np.arange(frames, dtype=np.int32), shown, where, where)


def values(rows: Rows) -> list[int]:
    return [int(value) for value in rows.position[:, 0, 0]]


class TestArrange:
    def test_interleave_takes_both_persons_frame_by_frame_the_first_first(self) -> None:
        (rows,) = arrange(actors("####", ".##."), "interleave")
        assert values(rows) == [1, 2, 102, 3, 103, 4]
        assert rows.person.tolist() == [0, 0, 1, 0, 1, 0]

    def test_next_row_is_the_same_persons_next_frame_before_merging(self) -> None:
        (rows,) = arrange(actors("####", ".##."), "interleave")
        assert rows.next_row.tolist() == [1, 3, 4, 5, 4, 5]

    def test_next_row_leads_over_a_gap_and_stays_at_the_last_frame(self) -> None:
        (rows,) = arrange(actors("#..#", "...#"), "interleave")
        assert values(rows) == [1, 4, 104]
        assert rows.next_row.tolist() == [1, 1, 2]

    def test_concat_takes_one_person_after_the_other(self) -> None:
        (rows,) = arrange(actors("####", ".##."), "concat")
        assert values(rows) == [1, 2, 3, 4, 102, 103]
        assert rows.next_row.tolist() == [1, 2, 3, 3, 5, 5]

    def test_separate_gives_a_sample_a_person_and_none_for_a_person_never_there(self) -> None:
        samples = arrange(actors("##", "..", ".#"), "separate")
        assert [values(rows) for rows in samples] == [[1, 2], [202]]
        assert [rows.person.tolist() for rows in samples] == [[0, 0], [2]]
        assert [rows.next_row.tolist() for rows in samples] == [[1, 1], [0]]

    def test_first_takes_the_first_person_who_is_ever_there(self) -> None:
        assert values(arrange(actors("##.", "###"), "first")[0]) == [1, 2]
        assert values(merge_persons(actors("...", ".##"), "first")) == [102, 103]

    @pytest.mark.parametrize("how", PERSONS)
    def test_a_frame_without_anybody_gives_no_row(self, how: Persons) -> None:
        for rows in arrange(actors("#.#.#", ".....", "#...#"), how):
            assert rows.position.any(axis=(1, 2)).all()

    @pytest.mark.parametrize("how", PERSONS)
    def test_dtypes(self, how: Persons) -> None:
        rows = arrange(actors("##", ".#"), how)[0]
        assert (rows.position.dtype, rows.person.dtype, rows.next_row.dtype) == (
            np.float32,
            np.uint8,
            np.int64,
        )

    def test_an_unknown_way_is_an_error(self) -> None:
        with pytest.raises(UnknownNameError, match="Did you mean 'interleave'"):
            arrange(actors("##"), "interleaved")  # type: ignore[arg-type]


@pytest.fixture
def takes() -> list[Recording]:
    """A lone walker, two persons of whom one comes late, a ghost without joints, a short one."""
    ghost = body(range(20), 9)
    ghost.position[...] = np.nan
    return [
        recording(body(range(2, 40), 1), name="alone"),
        recording(body(range(30), 2), body(range(10, 30), 3), name="both"),
        recording(ghost, name="ghost"),
        recording(body([4], 5), name="blink"),
    ]


@pytest.fixture
def packed(tmp_path: Path, takes: list[Recording]) -> Callable[..., Samples]:
    store = store_of(tmp_path / "some.zarr", takes)
    return lambda **options: pack_samples(store, **options)


class TestPack:
    def test_each_sample_holds_what_cleaning_its_recording_gives(
        self, packed: Callable[..., Samples], takes: list[Recording]
    ) -> None:
        for persons in PERSONS:
            samples = packed(persons=persons)
            expected = [
                rows
                for take in takes
                if take.name != "ghost"
                for rows in arrange(clean(take, "sgn", NTU25), persons)
            ]
            assert len(samples) == len(expected)
            for n, rows in enumerate(expected):
                start, stop = samples.offsets[n : n + 2]
                np.testing.assert_array_equal(samples.position[start:stop], rows.position)
                np.testing.assert_array_equal(samples.next_row[start:stop] - start, rows.next_row)

    def test_offsets_cover_all_rows_and_no_row_leads_out_of_its_sample(
        self, packed: Callable[..., Samples]
    ) -> None:
        samples = packed()
        assert samples.offsets[0] == 0
        assert samples.offsets[-1] == len(samples.position) == len(samples.next_row)
        assert (np.diff(samples.offsets) > 0).all()
        sample_of = np.repeat(np.arange(len(samples)), np.diff(samples.offsets))
        np.testing.assert_array_equal(sample_of[samples.next_row], sample_of)
        assert (samples.position.dtype, samples.offsets.dtype, samples.next_row.dtype) == ("f4", "i8", "i8")
        assert samples.position.flags.c_contiguous

    def test_what_cannot_be_cleaned_is_set_aside_with_the_reason(
        self, packed: Callable[..., Samples]
    ) -> None:
        ((name, reason),) = packed().set_aside
        assert name == "ghost"
        assert reason.startswith("found no observed joint")

    def test_the_table_keeps_what_is_constant_in_a_recording(self, packed: Callable[..., Samples]) -> None:
        table = packed().table
        assert table.index.name == "sample"
        assert table.index.tolist() == table["recording"].tolist() == ["alone", "both", "blink"]
        assert table["label"].tolist() == [0, 1, 0]
        assert table["action"].tolist() == [CLASSES[0], CLASSES[1], CLASSES[0]]
        assert table["split_xsub"].tolist() == ["train", "test", "test"]
        assert table["subject"].tolist() == [0, 1, 3]
        assert set(table["person"]) == {ALL_PERSONS}
        assert not {"start", "length", "body", "digest"} & set(table.columns)

    def test_separate_samples_are_named_by_person(self, packed: Callable[..., Samples]) -> None:
        table = packed(persons="separate").table
        assert table.index.tolist() == ["alone_p0", "both_p0", "both_p1", "blink_p0"]
        assert table["person"].tolist() == [0, 0, 1, 0]
        assert table["label"].tolist() == [0, 1, 1, 0]

    def test_the_chain_follows_the_dataset_or_the_wish(self, packed: Callable[..., Samples]) -> None:
        assert packed().chain == "sgn"
        raw = packed(chain="none", persons="first")
        assert raw.chain == "none"
        assert raw.position[:, :, 2].min() > 1

    def test_a_chain_that_repeats_persons_gives_more_rows_than_the_store_has(
        self, packed: Callable[..., Samples]
    ) -> None:
        twice, once = packed(chain="ctrgcn120", persons="concat"), packed(chain="ctrgcn", persons="concat")
        alone = once.offsets[1]
        np.testing.assert_array_equal(twice.position[:alone], once.position[:alone])
        np.testing.assert_array_equal(twice.position[alone : 2 * alone], once.position[:alone])
        assert len(twice.position) == len(once.position) + alone + 1

    def test_joints_are_carried_to_another_layout_after_cleaning(
        self, packed: Callable[..., Samples]
    ) -> None:
        own, other = packed(), packed(skeleton=UCLA20)
        np.testing.assert_array_equal(other.position, own.position[:, match_joints(NTU25, UCLA20)])
        assert other.skeleton is UCLA20

    def test_a_layout_with_foreign_joints_is_refused(self, tmp_path: Path) -> None:
        take = recording(body(range(5), joints=20))
        store = store_of(tmp_path / "u.zarr", [take], dataset("ucla", "ucla20", cleaning="ucla"))
        with pytest.raises(SkeletonError, match="left_thumb"):
            pack_samples(store, skeleton=NTU25)

    def test_a_store_of_which_nothing_can_be_cleaned_is_an_error(self, tmp_path: Path) -> None:
        ghost = body(range(5))
        ghost = replace(ghost, position=np.full_like(ghost.position, np.nan))
        store = store_of(tmp_path / "g.zarr", [recording(ghost, name="ghost")])
        with pytest.raises(CleaningError, match=r"all 1 recordings: found .*ghost: found no observed joint"):
            pack_samples(store)

    def test_bodies_of_a_recording_need_not_stand_together(
        self, tmp_path: Path, takes: list[Recording]
    ) -> None:
        """Another program may write the rows of the table in another order."""
        store = store_of(tmp_path / "some.zarr", takes)
        ordered = pack_samples(store)
        mixed_table = store.to_frame().loc[["both_b0", "blink_b0", "ghost_b0", "both_b1", "alone_b0"]]
        mixed = pack_samples(
            SimpleNamespace(
                info=store.info, skeleton=store.skeleton, load=store.load, to_frame=lambda: mixed_table
            )
        )
        assert mixed.table.index.tolist() == ["both", "blink", "alone"]
        for n, name in enumerate(mixed.table.index):
            m = ordered.table.index.get_loc(name)
            np.testing.assert_array_equal(
                mixed.position[mixed.offsets[n] : mixed.offsets[n + 1]],
                ordered.position[ordered.offsets[m] : ordered.offsets[m + 1]],
            )


class TestScaling:
    @pytest.fixture
    def takes(self) -> list[Recording]:
        return [recording(body(range(20), seed, joints=20), name=f"take{seed}") for seed in range(3)]

    @pytest.fixture
    def packed(self, tmp_path: Path, takes: list[Recording]) -> Callable[..., Samples]:
        store = store_of(tmp_path / "ucla.zarr", takes, dataset("ucla", "ucla20", cleaning="ucla"))
        return lambda **options: pack_samples(store, **options)

    def test_it_is_done_sample_by_sample_unless_asked_otherwise(
        self, packed: Callable[..., Samples], takes: list[Recording]
    ) -> None:
        samples = packed()
        assert (samples.chain, samples.scaling) == ("ucla", "none")
        for n, take in enumerate(takes):
            rows = samples.position[samples.offsets[n] : samples.offsets[n + 1]]
            np.testing.assert_array_equal(rows, clean(take, "ucla", UCLA20).position[0])

    def test_left_for_later_it_gives_the_same(self, packed: Callable[..., Samples]) -> None:
        done, later = packed(), packed(final_scaling=False)
        assert later.scaling == "minmax"
        assert not later.position[0, UCLA20.origin[0]].any()
        for n in range(len(done)):
            rows = slice(done.offsets[n], done.offsets[n + 1])
            np.testing.assert_array_equal(to_unit_range(later.position[rows]), done.position[rows])

    def test_chains_without_scaling_have_none_to_leave(self, packed: Callable[..., Samples]) -> None:
        assert packed(chain="metric", final_scaling=False).scaling == "none"

    def test_equal_motions_stay_recognisable(self, packed: Callable[..., Samples]) -> None:
        """With one body a recording, the digest is constant in it, and leakage can be counted."""
        assert packed().table["digest"].is_unique
