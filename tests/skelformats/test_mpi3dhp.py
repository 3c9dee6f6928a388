"""The MPI-INF-3DHP reader, and the MATLAB reader under it."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skelconv.synth import SYNTHESIZERS, Settings, synthesize
from skelconv.synth.mpi3dhp import mat_bytes
from skelformats.errors import FormatError
from skelformats.mat5 import load_mat
from skelformats.mpi3dhp import MPI3DHP, TEST_JOINTS
from skelformats.reader import Clip
from tests.fuzzing import examples

HOW = Settings(frames=(6, 9))
COUNT = 17
OPTIONS = MPI3DHP.options(("other", "pixels"))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mpi") / "raw"
    synthesize("mpi3dhp", folder, COUNT, settings=HOW)
    return folder


def clips(folder: Path, **options: str) -> dict[str, Clip]:
    asked = MPI3DHP.options(("other", "pixels"), **options)
    found = [clip for source in MPI3DHP.scan(folder, asked) for clip in MPI3DHP.read(folder, source, asked)]
    return {clip.recording: clip for clip in found if isinstance(clip, Clip)}


def test_the_reader_finds_the_truth_bit_for_bit(raw: Path) -> None:
    found = clips(raw)
    assert len(found) == COUNT
    for index in range(COUNT):
        truth, _ = SYNTHESIZERS["mpi3dhp"].make(0, index, HOW)
        clip = found[truth.name]
        assert clip.length == truth.length
        np.testing.assert_array_equal(clip.tracks[0].position, truth.tracks[0].position)
        np.testing.assert_array_equal(clip.tracks[0].confidence, truth.tracks[0].state)
        assert clip.splits["mpi3dhp"] == ("test" if truth.name.startswith("TS") else "train")


@pytest.mark.parametrize("dims", [(0, 2**31 - 1), (2**31 - 1, 0, 2**31 - 1), (0, 65_536, 65_536)])
@pytest.mark.parametrize("kind", [6, 1])
def test_mat_dimensions_of_0_and_as_large_as_can_be_are_damage(
    tmp_path: Path, dims: tuple[int, ...], kind: int
) -> None:
    """A matrix (kind 6) or a cell (1) of no elements takes no bytes, whatever its other dimensions claim."""

    def element(number: int, content: bytes) -> bytes:
        return struct.pack("<II", number, len(content)) + content + bytes(-len(content) % 8)

    body = element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack(f"<{len(dims)}i", *dims))
    body += element(1, b"x") + element(9, b"")
    path = tmp_path / "a.mat"
    path.write_bytes(bytes(124) + b"\x00\x01IM" + element(14, body))
    with pytest.raises(FormatError, match=r"a matrix of size \("):
        load_mat(path, ["x"])


def test_canonical_axes_point_up_and_are_metres(raw: Path) -> None:
    (track,) = clips(raw)["S1_Seq1_cam0"].tracks
    position = MPI3DHP.dataset.axis_map.to_canonical(track.position)
    head, ankle = position[:, 7], position[:, 20]
    assert (head[:, 1] - ankle[:, 1] > 1.0).all()
    assert (np.abs(position[..., 2] + 4.0) < 1.5).all()
    np.testing.assert_allclose(MPI3DHP.dataset.axis_map.to_raw(position), track.position, rtol=1e-6)


def test_the_other_annotation_and_the_pixels_are_kept(raw: Path) -> None:
    plain, universal = clips(raw), clips(raw, annotation="univ_annot3")
    for name in ("S1_Seq1_cam3", "TS1"):
        one, two = plain[name].tracks[0], universal[name].tracks[0]
        np.testing.assert_array_equal(one.extras["other"], two.position)
        np.testing.assert_array_equal(two.extras["other"], one.position)
        pixels = 1024 + 1500 * one.position[..., :2] / one.position[..., 2:]
        np.testing.assert_allclose(one.extras["pixels"], pixels, rtol=1e-4)


def test_cameras_are_those_of_the_calibration(raw: Path) -> None:
    found = clips(raw)
    rows = [found[f"S1_Seq1_cam{camera}"].tables["camera"][0] for camera in (0, 5)]
    assert (rows[0]["width"], rows[0]["intrinsic"][0, 0]) == (2048, 1500)
    # one place in the world, seen by two cameras
    places = []
    for row in rows:
        seen = found[row["recording"]].tracks[0].position.astype(float)
        world = (seen - row["extrinsic"][:3, 3]) @ row["extrinsic"][:3, :3]
        places.append(world)
    np.testing.assert_allclose(places[0], places[1], atol=0.01)


def test_test_files_lack_eleven_joints(raw: Path) -> None:
    (track,) = clips(raw)["TS1"].tracks
    lost = np.isnan(track.position).all(axis=(0, 2))
    assert set(np.flatnonzero(~lost)) == set(TEST_JOINTS)
    assert track.confidence is not None
    assert set(np.unique(track.confidence)) == {0, 1}


def test_a_file_of_another_name_or_damaged_is_refused(raw: Path, tmp_path: Path) -> None:
    text = (raw / "S1" / "Seq1" / "annot.mat").read_bytes()
    for name, content, found in (
        ("S9/Seq1/annot.mat", text, "the path 'S9/Seq1/annot.mat'"),
        ("S1/Seq1/annot.mat", text[:5000], "damage"),
        ("S1/Seq1/annot.mat", b"x" * 200, "another header"),
        ("S1/Seq1/annot.mat", text[:128], "no 'annot2'"),
        ("S1/Seq1/annot.mat", mat_bytes({"annot2": [np.zeros((3, 5))]}), "no 'annot3'"),
        ("TS1/annot_data.mat", text, "cannot read"),
    ):
        folder = tmp_path / str(abs(hash((name, found))))
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(content)
        with pytest.raises(FormatError) as error:
            clips(folder)
        assert found in str(error.value)


def test_matlab_files_read_as_scipy_reads_them(tmp_path: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    rng = np.random.default_rng(0)
    cell = np.empty((3, 1), object)
    for k in range(3):
        cell[k, 0] = rng.normal(size=(4, 6)).astype(np.float32 if k else np.float64)
    plain = {
        "a": cell,
        "b": rng.integers(0, 300, (2, 5)),
        "text": "words",
        "frames": np.array([[3]], np.uint8),
    }
    for compressed in (False, True):
        path = tmp_path / f"{compressed}.mat"
        scipy_io.savemat(path, plain, do_compression=compressed)
        found = load_mat(path, ("a", "b", "frames", "text"))
        assert set(found) == {"a", "b", "frames"}
        for one, two in zip(found["a"], cell[:, 0], strict=True):
            np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(found["b"], plain["b"])
    generated = tmp_path / "generated.mat"
    generated.write_bytes(mat_bytes({"x": [np.arange(6.0).reshape(2, 3)]}))
    np.testing.assert_array_equal(scipy_io.loadmat(generated)["x"][0, 0], np.arange(6.0).reshape(2, 3))


def element(kind: int, content: bytes, claim: int | None = None) -> bytes:
    return struct.pack("<II", kind, len(content) if claim is None else claim) + content


def array_head(kind: int, *dims: int) -> bytes:
    size = struct.pack(f"<{len(dims)}i", *dims)
    flags = element(6, struct.pack("<II", kind, 0))
    return flags + element(5, size) + element(1, b"annot3\0\0", 6)


def test_absurd_sizes_and_bombs_are_refused(tmp_path: Path) -> None:
    header = bytes(124) + b"\x00\x01IM"
    big = 2**31 - 1
    nested = element(14, array_head(1, 1, 1))
    for _ in range(1000):
        nested = element(14, array_head(1, 1, 1) + nested)
    bomb = element(14, array_head(6, 30_000, 30_000) + element(9, bytes(300_000_000)))
    hostile = {
        "an array of many numbers": element(14, array_head(6, big, big) + element(9, bytes(16))),
        "a claim of bytes": element(14, array_head(6, 2, 1) + element(9, bytes(16), 2**32 - 8)),
        "a cell of many": element(14, array_head(1, big, big)),
        "cells in cells": nested,
        "a bomb": element(15, zlib.compress(bomb, 9)),
    }
    for name, content in hostile.items():
        path = tmp_path / f"{name}.mat"
        path.write_bytes(header + content)
        with pytest.raises(FormatError, match="damage"):
            load_mat(path, ("annot3",))


@settings(max_examples=examples(150))
@given(
    st.sampled_from(
        ["S1/Seq1/annot.mat", "mpi_inf_3dhp_test_set/TS1/annot_data.mat", "S1/Seq1/camera.calibration"]
    ),
    st.lists(st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4),
)
def test_a_damaged_file_is_read_or_refused(
    raw: Path, tmp_path_factory: pytest.TempPathFactory, name: str, changes: list[tuple[int, bytes]]
) -> None:
    folder = tmp_path_factory.mktemp("raw")
    for path in (
        "S1/Seq1/annot.mat",
        "mpi_inf_3dhp_test_set/TS1/annot_data.mat",
        "S1/Seq1/camera.calibration",
    ):
        text = (raw / path).read_bytes()
        if path == name:
            for place, new in changes:
                start = place % (len(text) if place % 2 else min(len(text), 2000))
                text = text[:start] + new + text[start + len(new) :]
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(text)
    for source in MPI3DHP.scan(folder, OPTIONS):
        try:
            found = MPI3DHP.read(folder, source, OPTIONS)
        except FormatError:
            continue
        for clip in found:
            assert isinstance(clip, Clip)
            assert clip.tracks[0].position.shape == (clip.length, 28, 3)
