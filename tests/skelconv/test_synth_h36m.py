"""Generated Human3.6M files: the reader finds the truth, and from a store its 2D can be had again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cdflib
import numpy as np
import pytest
import zarr

import skelconv
from skelconv.extras import MissingExtraError
from skelconv.ingest.ingest import ingest
from skelconv.ingest.plan import make_plan
from skelconv.synth import SYNTHESIZERS, GroundTruth, Settings, SynthError, synthesize
from skelformats.h36m_cameras import CAMERA_TABLE, CAMERAS, Camera, builtin_cameras, project, to_camera
from skelformats.human36m import H36M
from skelformats.skeleton import load_skeleton

SHORT = Settings(frames=(8, 12))


def make(index: int, how: Settings = SHORT, seed: int = 0) -> tuple[GroundTruth, Mapping[str, bytes]]:
    truth, files = SYNTHESIZERS["h36m"].make(seed, index, how)
    assert isinstance(files, Mapping)
    return truth, files


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("h36m") / "raw"
    synthesize("h36m", folder, 12, settings=SHORT)
    return folder


def test_the_reader_finds_the_truth_bit_for_bit(raw: Path) -> None:
    options = H36M.options(("pixel",))
    clips = {clip.recording: clip for s in H36M.scan(raw, options) for clip in H36M.read(raw, s, options)}
    assert len(clips) == 12
    for index in range(12):
        truth, _ = make(index)
        clip = clips[truth.name]
        assert (clip.length, clip.label) == (truth.length, truth.label)
        assert [track.body for track in clip.tracks] == ["0"]
        np.testing.assert_array_equal(clip.tracks[0].position, truth.tracks[0].position)
        camera = builtin_cameras()[clip.columns["subject"], clip.columns["camera"]]
        np.testing.assert_allclose(
            clip.tracks[0].extras["pixel"], project(truth.tracks[0].position, camera), atol=1e-3
        )
    assert {clip.splits["xsub"] for clip in clips.values()} == {"train", "test"}


def test_cdflib_finds_the_same(tmp_path: Path) -> None:
    for index in (0, 3):
        truth, files = make(index)
        (mono,) = [content for path, content in files.items() if "/D3_Positions_mono/" in path]
        (tmp_path / "a.cdf").write_bytes(mono)
        pose = cdflib.CDF(tmp_path / "a.cdf")["Pose"]
        assert pose.shape == (1, truth.length, 96)
        np.testing.assert_array_equal(pose.reshape(-1, 32, 3), truth.tracks[0].position)


def test_a_take_is_the_same_in_the_world_and_in_its_four_cameras(raw: Path) -> None:
    options = H36M.options(space="world")
    worlds = {clip.recording: clip for s in H36M.scan(raw, options) for clip in H36M.read(raw, s, options)}
    assert len(worlds) == 3
    for index in range(12):
        truth, _ = make(index)
        name, camera = truth.name.split(".")
        world = worlds[name].tracks[0].position
        standing = builtin_cameras()[worlds[name].columns["subject"], int(camera)]
        np.testing.assert_array_equal(to_camera(world, standing).astype(np.float32), truth.tracks[0].position)


def test_limbs_are_rigid_and_coinciding_joints_coincide() -> None:
    skeleton = load_skeleton("h36m32")
    limbs = [joint for joint in range(32) if skeleton.mirror[joint] != joint]
    for index in range(0, 60, 4):
        truth, _ = make(index, Settings(frames=(30, 30), noise=0.0))
        position = truth.tracks[0].noiseless
        bones = np.linalg.norm(position - position[:, np.maximum(skeleton.parents, 0)], axis=-1)
        assert np.ptp(bones[:, limbs], axis=0).max() < 1e-6, truth.name
        for same in ((13, 16, 24), (19, 20), (22, 23), (27, 28), (30, 31)):
            for joint in same[1:]:
                np.testing.assert_array_equal(position[:, joint], position[:, same[0]])


def test_joints_that_are_one_place_stay_one_under_noise() -> None:
    truth, _ = make(0, Settings(frames=(30, 30), noise=3.0))
    position = truth.tracks[0].position
    for same in ((13, 16, 24), (19, 20), (22, 23), (27, 28), (30, 31)):
        for joint in same[1:]:
            np.testing.assert_array_equal(position[:, joint], position[:, same[0]])
    off = position - truth.tracks[0].noiseless
    assert 0.5 < np.abs(off).mean() < 1.2


def test_names_are_the_official_ones_and_never_the_same_twice() -> None:
    most = SYNTHESIZERS["h36m"].capacity(SHORT)
    assert most == 840
    names = [make(index, Settings(frames=(1, 1)))[0].name for index in range(0, most, 4)]
    assert len(set(names)) == 210
    _, files = make(0, Settings(frames=(1, 1), actions=(12,)))
    assert f"S1/MyPoseFeatures/D3_Positions_mono/TakingPhoto 1.{CAMERAS[0]}.cdf" in files
    with pytest.raises(SynthError, match="expected one of 0 to 839"):
        make(840)
    with pytest.raises(SynthError, match=r"found the classes \[1\], expected some of the dataset's: 2, 3"):
        make(0, Settings(actions=(1,)))


@pytest.mark.parametrize("joints", ["32", "17"])
def test_pixels_follow_from_what_a_store_holds(raw: Path, tmp_path: Path, joints: str) -> None:
    """The recipe of docs/datasets/h36m.md."""
    out = tmp_path / "out.zarr"
    summary = ingest(make_plan("h36m", raw, "test", ("pixel",), {"joints": joints}), out)
    assert not summary.set_aside
    group = zarr.open_group(str(out), mode="r")
    table = {column.name: group[f"calibration_{column.name}"][:] for column in CAMERA_TABLE.columns}
    cameras = [Camera(**{name: values[k] for name, values in table.items()}) for k in range(12)]
    found = {(int(camera.subject), int(camera.camera)): camera for camera in cameras}
    assert len(found) == 12
    store = skelconv.open(out)
    for sequence in store:
        camera = found[sequence.row["subject"], sequence.row["camera"]]
        points = store.info.axes.axis_map().to_raw(sequence.position)
        np.testing.assert_allclose(project(points, camera), sequence.extras["pixel"], atol=2e-3)
        assert sequence.position[..., 1].max() - sequence.position[..., 1].min() > 1.0


def test_a_world_store_gives_each_camera_too(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    ingest(make_plan("h36m", raw, "test", (), {"space": "world"}), out)
    store = skelconv.open(out)
    truths = {truth.name: truth for truth, _ in (make(index) for index in range(12))}
    assert len(store) == 3
    for sequence in store:
        # upright: the head is above the hips, the toes near the floor
        assert (sequence.position[:, 15, 1] > sequence.position[:, 0, 1]).all()
        assert -0.1 < sequence.position[..., 1].min() < 0.2
        raw_points = store.info.axes.axis_map().to_raw(sequence.position)
        for camera in CAMERAS:
            truth = truths[f"{sequence.row['recording']}.{camera}"]
            standing = builtin_cameras()[sequence.row["subject"], camera]
            np.testing.assert_allclose(to_camera(raw_points, standing), truth.tracks[0].position, atol=2e-3)


def test_without_the_package_that_writes_cdf_one_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skelconv.extras.find_spec", lambda package: None)
    with pytest.raises(MissingExtraError, match=r"needs cdflib.*pip install 'cdflib>="):
        synthesize("h36m", tmp_path / "raw", 4)
    assert not list(tmp_path.iterdir())
    synthesize("ucla", tmp_path / "raw", 1)  # no other format needs it
