"""The 3DPW reader: sequences of the generator, and what is wrong with others."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skelconv.synth import SYNTHESIZERS, Settings
from skelformats.errors import FormatError
from skelformats.pw3d import PW3D
from skelformats.reader import Clip
from tests.fuzzing import examples

HOW = Settings(frames=(6, 9), faults=3.0)
EXTRAS = ("pose", "translation", "keypoints", "camera")
Edit = Callable[[dict[str, Any]], object]


def made(index: int) -> tuple[Any, str, bytes]:
    truth, content = SYNTHESIZERS["pw3d"].make(0, index, HOW)
    assert not isinstance(content, bytes)
    ((path, text),) = content.items()
    return truth, path, text


def read(folder: Path, path: str, content: bytes) -> Clip:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(content)
    options = PW3D.options(EXTRAS)
    (source,) = PW3D.scan(folder, options)
    (clip,) = PW3D.read(folder, source, options)
    assert isinstance(clip, Clip)
    return clip


@pytest.mark.parametrize("index", range(8))
def test_the_reader_finds_the_truth_bit_for_bit(tmp_path: Path, index: int) -> None:
    truth, path, text = made(index)
    clip = read(tmp_path, path, text)
    assert (clip.recording, clip.length, clip.label) == (truth.name, truth.length, -1)
    assert clip.splits["pw3d"] == {0: "train", 1: "train", 2: "val", 3: "test"}[index % 4]
    assert [track.body for track in clip.tracks] == [track.body for track in truth.tracks]
    for found, wanted in zip(clip.tracks, truth.tracks, strict=True):
        np.testing.assert_array_equal(found.position, wanted.position)
        np.testing.assert_array_equal(found.confidence, wanted.state)
        np.testing.assert_array_equal(found.frame_index, range(truth.length))


def test_extras_and_columns_are_the_files_own_arrays(tmp_path: Path) -> None:
    _, path, text = made(2)  # two people
    clip, raw = read(tmp_path, path, text), pickle.loads(text)
    assert len(clip.tracks) == 2
    for person, track in enumerate(clip.tracks):
        np.testing.assert_array_equal(track.extras["translation"], raw["trans"][person].astype("f4"))
        np.testing.assert_array_equal(track.extras["camera"], raw["cam_poses"].astype("f4"))
        keypoints = raw["poses2d"][person].astype("f4").transpose(0, 2, 1)
        np.testing.assert_array_equal(np.nan_to_num(track.extras["keypoints"]), keypoints)
        lost = np.isnan(track.extras["keypoints"]).all(axis=(1, 2))
        np.testing.assert_array_equal(lost, ~keypoints.any(axis=(1, 2)))
        np.testing.assert_array_equal(track.columns["betas"], raw["betas"][person].astype("f4"))
        assert track.columns["gender"] == {"m": "male", "f": "female"}[raw["genders"][person]]
    np.testing.assert_array_equal(clip.columns["intrinsics"], raw["cam_intrinsics"].astype("f4"))


def test_joints_project_onto_the_detections(tmp_path: Path) -> None:
    truth, content = SYNTHESIZERS["pw3d"].make(0, 0, Settings(frames=(6, 6), noise=0.0, faults=0.0))
    assert not isinstance(content, bytes)
    ((path, text),) = content.items()
    clip = read(tmp_path, path, text)
    (track,) = clip.tracks
    camera = track.extras["camera"].astype(float)
    position = truth.tracks[0].noiseless
    seen = np.einsum("tij,tkj->tki", camera[:, :3, :3], position) + camera[:, None, :3, 3]
    pixels = seen @ np.asarray(clip.columns["intrinsics"], float).T
    pixels = pixels[..., :2] / pixels[..., 2:]
    # knees are joints 4 and 5 of SMPL, keypoints 12 and 9 of the detector
    np.testing.assert_allclose(pixels[:, [4, 5]], track.extras["keypoints"][:, [12, 9], :2], atol=0.02)


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        (lambda c: c.pop("jointPositions"), "without 'jointPositions'"),
        (lambda c: c.update(jointPositions=[]), "nobody in 'jointPositions'"),
        (lambda c: c.update(jointPositions=[np.zeros((3, 66))]), "of shape (3, 66)"),
        (lambda c: c.update(jointPositions=np.zeros(())), "'jointPositions' of type ndarray"),
        (lambda c: c["jointPositions"].__setitem__(0, np.full((3, 72), np.nan)), "values beyond"),
        (lambda c: c.pop("campose_valid"), "'campose_valid' of type NoneType"),
        (lambda c: c.update(campose_valid=[]), "'campose_valid' of 0 people"),
        (lambda c: c.update(cam_poses=np.zeros((3, 3))), "'cam_poses' of shape (3, 3)"),
        (lambda c: c.update(cam_intrinsics="K"), "'cam_intrinsics' of type str"),
        (lambda c: c.update(genders=["x"]), "the gender 'x' of person 0"),
        (lambda c: c.update(betas=[np.zeros(3)]), "'betas[0]' of shape (3,)"),
        (lambda c: c.update(poses2d=[np.zeros((3, 18, 3))]), "'poses2d[0]' of shape (3, 18, 3)"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, edit: Edit, found: str) -> None:
    content = {
        "jointPositions": [np.zeros((3, 72))],
        "poses": [np.zeros((3, 72))],
        "trans": [np.zeros((3, 3))],
        "betas": [np.zeros(10)],
        "genders": ["m"],
        "poses2d": [np.zeros((3, 3, 18))],
        "cam_poses": np.zeros((3, 4, 4)),
        "cam_intrinsics": np.eye(3),
        "campose_valid": [np.ones(3)],
    }
    edit(content)
    with pytest.raises(FormatError) as error:
        read(tmp_path, "train/a.pkl", pickle.dumps(content))
    assert found in str(error.value)


@settings(max_examples=examples(100))
@given(
    changes=st.lists(
        st.tuples(st.integers(0, 10**5), st.binary(min_size=1, max_size=3)), min_size=1, max_size=3
    )
)
def test_a_damaged_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, bytes]]
) -> None:
    _, path, text = made(0)
    for place, new in changes:
        # the instructions stand at the beginning, arrays fill the rest
        start = place % (len(text) if place % 2 else 400)
        text = text[:start] + new + text[start + len(new) :]
    try:
        clip = read(tmp_path_factory.mktemp("raw"), path, text)
    except FormatError:
        return
    assert all(track.position.shape[1:] == (24, 3) for track in clip.tracks)
