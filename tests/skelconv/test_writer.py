"""The store writer: ragged frames into whole shards, the table, optional arrays, resuming."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from skelconv.store.digest import motion_digest
from skelconv.store.info import Provenance, StoreError
from skelconv.store.text import UnstorableTextError
from skelconv.store.writer import Begun, DuplicateRecordingError, StoreWriter, WriteOptions, write_store
from skelformats.reader import AxisMap, Clip, Column, Confidence, Dataset, Extra, Protocol, SideTable, Track

DATASET = Dataset(
    name="made-up",
    title="made up for a test",
    skeleton="toyota13",
    licence="none",
    citation="none",
    homepage="none",
    frame_rate=30.0,
    classes=("sit", "stand"),
    columns=(Column("subject", "i4", "who"), Column("room", "string", "where")),
    protocols=(Protocol("xsub", "cross-subject"),),
    missing="never",
    confidence=Confidence("u1", "tracking state", {0: "not tracked", 1: "inferred", 2: "tracked"}),
    extras=(Extra("color", ("joint", "pixel"), {"pixel": ("u", "v")}, "f4", "px", "colour image position"),),
)
PROVENANCE = Provenance(tool="test", command="test")


def clip(name: str, lengths: tuple[int, ...], subject: int = 1, seed: int = 0) -> Clip:
    rng = np.random.default_rng((seed, len(name)))
    tracks = tuple(
        Track(
            body=str(10**16 + k),
            frame_index=np.arange(3 * k, 3 * k + length, dtype=np.int32),
            position=rng.normal(size=(length, 13, 3)).astype(np.float32),
            confidence=rng.integers(0, 3, (length, 13)).astype(np.uint8),
            extras={"color": rng.normal(size=(length, 13, 2)).astype(np.float32)},
        )
        for k, length in enumerate(lengths)
    )
    part = "train" if subject == 1 else "test"
    return Clip(name, 900, tracks, subject % 2, {"subject": subject, "room": "kitchen"}, {"xsub": part})


CLIPS = [("a.txt", clip("a", (100, 90))), ("b.txt", clip("bb", (700,), 2)), ("c.txt", clip("ccc", (1, 300)))]


def write(path: Path, **options: Any) -> zarr.Group:
    write_store(path, DATASET, CLIPS, PROVENANCE, shard_frames=512, extras=("color",), **options)
    return zarr.open_group(path, mode="r")


def test_each_track_is_a_sequence_and_lies_where_the_table_says(tmp_path: Path) -> None:
    group = write(tmp_path / "out.zarr")
    assert list(group["sequence"][:]) == ["a_b0", "a_b1", "bb_b0", "ccc_b0", "ccc_b1"]
    row = 0
    for source, made in CLIPS:
        for track in made.tracks:
            start, length = int(group["start"][row]), int(group["length"][row])
            where = slice(start, start + length)
            np.testing.assert_array_equal(group["position"][where], track.position)
            np.testing.assert_array_equal(group["frame_index"][where], track.frame_index)
            np.testing.assert_array_equal(group["confidence"][where], track.confidence)
            np.testing.assert_array_equal(group["color"][where], track.extras["color"])
            assert group["body"][row] == track.body
            assert group["source"][row] == source
            assert group["subject"][row] == made.columns["subject"]
            assert group["split_xsub"][row] == made.splits["xsub"]
            assert group["digest"][row] == motion_digest(track.position)
            row += 1
    assert group["position"].shape == (1191, 13, 3)


def test_xarray_opens_it_by_name_and_without_a_warning(tmp_path: Path) -> None:
    write(tmp_path / "out.zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = xr.open_zarr(tmp_path / "out.zarr")
        table = opened[["label", "subject", "length"]].to_dataframe()
        heads = opened.position.isel(frame=slice(0, 5)).sel(joint="head", axis="y").values
    assert table.loc["bb_b0", "length"] == 700
    np.testing.assert_array_equal(heads, CLIPS[0][1].tracks[0].position[:5, 12, 1])


def test_arrays_have_the_layout_of_the_specification(tmp_path: Path) -> None:
    group = write(tmp_path / "out.zarr")
    position = group["position"]
    assert position.metadata.dimension_names == ("frame", "joint", "axis")
    assert position.shards == (512, 13, 3)
    assert position.chunks == (256, 13, 3)
    assert group["length"].attrs["sample_dimension"] == "frame"
    assert list(group["joint"][:])[-1] == "head"
    assert list(group["pixel"][:]) == ["u", "v"]
    assert group["confidence"].attrs["flag_meanings"] == "not_tracked inferred tracked"


def test_canonical_axes_are_stored_and_raw_ones_come_back(tmp_path: Path) -> None:
    turned = replace(DATASET, axis_map=AxisMap((0, 2, 1), (1, 1, -1), 0.5))
    info = write_store(tmp_path / "out.zarr", turned, CLIPS, PROVENANCE, shard_frames=512)
    stored = zarr.open_group(tmp_path / "out.zarr", mode="r")["position"][:100]
    raw = CLIPS[0][1].tracks[0].position
    np.testing.assert_array_equal(stored, np.stack([raw[..., 0], raw[..., 2], -raw[..., 1]], -1) * 0.5)
    np.testing.assert_array_equal(info.axes.axis_map().to_raw(stored), raw)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_joint_with_a_coordinate_that_is_no_number_is_missing(tmp_path: Path, value: float) -> None:
    source, made = CLIPS[1]
    position = made.tracks[0].position.copy()
    position[5, 2, 1] = value
    odd = replace(made, tracks=(replace(made.tracks[0], position=position),))
    write_store(tmp_path / "out.zarr", DATASET, [(source, odd)], PROVENANCE)
    stored = zarr.open_group(tmp_path / "out.zarr", mode="r")["position"][:]
    assert np.argwhere(np.isnan(stored).any(axis=-1)).tolist() == [[5, 2]]
    assert np.isnan(stored[5, 2]).all()


def test_a_continued_store_is_the_store_written_in_one_go(tmp_path: Path) -> None:
    options = WriteOptions(extras=("color",), shard_frames=512)
    digests: list[dict[str, str]] = []
    whole = StoreWriter(tmp_path / "whole", DATASET, options)
    for source, made in CLIPS:
        whole.append(made, source)
    whole.finish(PROVENANCE)

    cut = StoreWriter(tmp_path / "cut", DATASET, options, on_shard=digests.append)
    cut.append(CLIPS[0][1], "a.txt")
    cut.append(CLIPS[1][1], "b.txt")
    again = StoreWriter(tmp_path / "cut", DATASET, options, Begun(digests, cut.table.rows(0)))
    for source, made in CLIPS[1:]:
        again.append(made, source)
    again.finish(PROVENANCE)
    names = [f.relative_to(tmp_path / "whole") for f in (tmp_path / "whole").rglob("*") if f.is_file()]
    assert cut.shards == 1
    assert len(names) > 20
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes(), name


SIDED = replace(
    DATASET,
    columns=(*DATASET.columns, Column("betas", "f4", "body shape", (3,), ("beta",))),
    tables=(
        SideTable("interval", "actions", (Column("recording", "string", "in"), Column("stop", "i4", "end"))),
        SideTable(
            "lens",
            "cameras",
            (Column("id", "string", "camera"), Column("matrix", "f8", "intrinsics", (2, 2), ("m", "n"))),
            key=("id",),
        ),
    ),
)


def sided(source: str, made: Clip, number: int) -> tuple[str, Clip]:
    tracks = tuple(
        replace(track, columns={"betas": np.full(3, 10 * number + k, np.float32)})
        for k, track in enumerate(made.tracks)
    )
    tables = {
        "interval": [{"recording": made.recording, "stop": stop} for stop in (5, 9)],
        "lens": [{"id": "c1", "matrix": np.eye(2) / 3}],
    }
    return source, replace(made, tracks=tracks, tables=tables)


SIDED_CLIPS = [sided(source, made, n) for n, (source, made) in enumerate(CLIPS)]


def test_side_tables_and_columns_of_arrays_are_stored(tmp_path: Path) -> None:
    info = write_store(tmp_path / "out.zarr", SIDED, SIDED_CLIPS, PROVENANCE, shard_frames=512)
    opened = xr.open_zarr(tmp_path / "out.zarr")
    assert opened.betas.dims == ("sequence", "beta")
    assert opened.betas[:, 0].values.tolist() == [0, 1, 10, 20, 21]
    assert opened.interval_recording.values.tolist() == ["a", "a", "bb", "bb", "ccc", "ccc"]
    assert opened.interval_stop.dims == ("interval",)
    np.testing.assert_array_equal(opened.lens_matrix.values, [np.eye(2) / 3])
    assert info.tables == {"interval": "actions", "lens": "cameras"}


def test_side_tables_survive_a_crash_without_repeating(tmp_path: Path) -> None:
    digests: list[dict[str, str]] = []
    cut = StoreWriter(tmp_path / "cut", SIDED, WriteOptions(shard_frames=512), on_shard=digests.append)
    for source, made in SIDED_CLIPS[:2]:
        before = cut.side_rows.sizes()
        cut.append(made, source)
    nothing = dict.fromkeys(before, 0)
    begun = Begun(digests, cut.table.rows(0), cut.side_rows.rows(nothing, before))
    again = StoreWriter(tmp_path / "cut", SIDED, WriteOptions(shard_frames=512), begun)
    for source, made in SIDED_CLIPS[1:]:
        again.append(made, source)
    again.finish(PROVENANCE)
    stored = zarr.open_group(tmp_path / "cut", mode="r")["interval_recording"][:]
    assert stored.tolist() == ["a", "a", "bb", "bb", "ccc", "ccc"]


def test_a_recording_cannot_come_from_two_sources(tmp_path: Path) -> None:
    with pytest.raises(DuplicateRecordingError, match=r"d\.txt: found the recording 'a' again"):
        write_store(tmp_path / "out.zarr", DATASET, [*CLIPS, ("d.txt", CLIPS[0][1])], PROVENANCE)
    assert not (tmp_path / "out.zarr").exists()


def test_nor_twice_from_one(tmp_path: Path) -> None:
    """Once they were run together, as if the second were the first one read again after a crash."""
    other = clip("a", (300, 90))
    writer = StoreWriter(tmp_path / "out", DATASET, WriteOptions(shard_frames=512))
    writer.append(CLIPS[0][1], "a.txt")
    with pytest.raises(DuplicateRecordingError, match=r"a\.txt: found the recording 'a' again.*it holds it"):
        writer.append(other, "a.txt")
    assert writer.frames == 190


def test_nor_twice_where_the_first_was_begun_before_a_crash(tmp_path: Path) -> None:
    cut = StoreWriter(tmp_path / "cut", DATASET, WriteOptions(shard_frames=512))
    cut.append(CLIPS[0][1], "a.txt")
    begun = Begun((), cut.table.rows(0))
    again = StoreWriter(tmp_path / "cut", DATASET, WriteOptions(shard_frames=512), begun)
    again.append(CLIPS[0][1], "a.txt")
    with pytest.raises(DuplicateRecordingError, match="again"):
        again.append(CLIPS[0][1], "a.txt")


@pytest.mark.parametrize("where", ["recording", "column", "source", "body"])
def test_text_that_is_not_utf8_is_refused_before_anything_is_written(tmp_path: Path, where: str) -> None:
    bad, made = "x\udcff", CLIPS[0][1]
    odd = {
        "recording": ("a.txt", replace(made, recording=bad)),
        "column": ("a.txt", replace(made, columns={**made.columns, "room": bad})),
        "source": (bad, made),
        "body": ("a.txt", replace(made, tracks=(replace(made.tracks[0], body=bad),))),
    }
    writer = StoreWriter(tmp_path / "out", DATASET)
    source, clip_ = odd[where]
    with pytest.raises(UnstorableTextError, match=r"the text 'x\\\\udcff', expected text that is UTF-8"):
        writer.append(clip_, source)
    assert (writer.frames, len(writer.table)) == (0, 0)


def test_a_store_that_exists_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "out.zarr")
    with pytest.raises(StoreError, match="--overwrite"):
        write(tmp_path / "out.zarr")
    write(tmp_path / "out.zarr", overwrite=True)


def test_a_digest_tells_motions_apart_and_does_not_see_how_a_nan_is_written() -> None:
    position = CLIPS[0][1].tracks[0].position.copy()
    other = position.copy()
    other[3, 2, 1] = np.nextafter(other[3, 2, 1], np.float32(9), dtype=np.float32)
    assert motion_digest(position) != motion_digest(other)
    position[0, 0] = np.nan
    strange = position.copy()
    strange.view(np.uint32)[0, 0] = 0xFFC00001
    assert np.isnan(strange[0, 0]).all()
    assert motion_digest(position) == motion_digest(strange)
