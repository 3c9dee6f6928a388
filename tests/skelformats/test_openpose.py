"""The OpenPose reader: the files of a video are one recording."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelformats.errors import FormatError
from skelformats.openpose import OPENPOSE, frame_of
from skelformats.reader import Clip


def people(*shifts: float, identity: int = -1, joints: int = 25) -> dict[str, Any]:
    return {
        "version": 1.3,
        "people": [
            {
                "person_id": [identity],
                "pose_keypoints_2d": [v for j in range(joints) for v in (1.5 + j + shift, 2.0, 0.5)],
            }
            for shift in shifts
        ],
    }


def read(folder: Path, files: dict[str, Any], **options: Any) -> list[Clip]:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    asked = OPENPOSE.options(**options)
    sources = OPENPOSE.scan(folder, asked)
    clips = [clip for source in sources for clip in OPENPOSE.read(folder, source, asked)]
    return [clip for clip in clips if isinstance(clip, Clip)]


def name(frame: int, video: str = "walk") -> str:
    return f"{video}_{frame:012d}_keypoints.json"


def test_the_files_of_a_video_are_one_recording(tmp_path: Path) -> None:
    files = {name(f): people(f, identity=4) for f in (0, 2, 10)} | {name(1): people()}
    (clip,) = read(tmp_path, files | {name(5, "run"): people(identity=1)})[1:]
    assert (clip.recording, clip.length) == ("walk", 11)
    assert clip.columns["files"] == 4
    (track,) = clip.tracks
    assert track.body == "4"
    np.testing.assert_array_equal(track.frame_index, [0, 2, 10])
    np.testing.assert_array_equal(track.position[:, 0, 0], [1.5, 3.5, 11.5])


def test_videos_of_different_folders_are_different(tmp_path: Path) -> None:
    clips = read(tmp_path, {f"{folder}/{name(0)}": people(0.0) for folder in "ab"})
    assert [clip.recording for clip in clips] == ["a__walk", "b__walk"]


def test_untracked_people_are_sequences_of_one_frame_unless_told_to_be_one(tmp_path: Path) -> None:
    files = {name(f): people(f) for f in range(3)}
    (clip,) = read(tmp_path, files)
    assert [track.body for track in clip.tracks] == ["0.0", "1.0", "2.0"]
    (clip,) = read(tmp_path, files, single_person=True)
    assert [len(track.frame_index) for track in clip.tracks] == [3]
    with pytest.raises(FormatError, match="several people without a track id in frame 1"):
        read(tmp_path, {name(1): people(1, 2)}, single_person=True)


def test_a_file_without_a_frame_number_is_a_recording(tmp_path: Path) -> None:
    (clip,) = read(tmp_path, {"im1010_openpose.json": people(0.0)})
    assert (clip.recording, clip.length) == ("im1010_openpose", 1)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/walk_000000000012_keypoints.json", ("a/walk.json", 12)),
        ("a/000000000012_keypoints.json", ("a.json", 12)),
        ("000000000012_keypoints.json", ("video.json", 12)),
        ("a/pose.json", ("a/pose.json", 0)),
        ("x_999999999999_keypoints.json", ("x_999999999999_keypoints.json", 0)),
    ],
)
def test_frames_are_numbered_by_the_files_names(path: str, expected: tuple[str, int]) -> None:
    assert frame_of(path) == expected


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("[" * 1_000_000, "not JSON"),
        ([], "no list 'people'"),
        ({"people": [3]}, "in person 0 a JSON int"),
        ({"people": [{}]}, "in person 0 keypoints of type NoneType"),
        (people(0.0, joints=18), "18 keypoints, those of the model COCO"),
        (people(0.0, joints=15), "15 keypoints, those of the model MPI"),
        (people(0.0, joints=24), "in person 0 a list of 72 numbers"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: Any, found: str) -> None:
    with pytest.raises(FormatError) as error:
        read(tmp_path, {name(0): content})
    assert found in str(error.value)
    assert name(0) in str(error.value)


@pytest.mark.real
def test_a_real_file_reads_as_numpy_reads_it(shared_data: Path, tmp_path: Path) -> None:
    text = (shared_data / "coco2d" / "im1010_openpose.json").read_text()
    (clip,) = read(tmp_path, {"im1010_openpose.json": text})
    rows = np.array(json.loads(text)["people"][0]["pose_keypoints_2d"], np.float32).reshape(25, 3)
    (track,) = clip.tracks
    np.testing.assert_array_equal(np.nan_to_num(track.position[0]), rows[:, :2])
    np.testing.assert_array_equal(track.confidence, rows[None, :, 2])
    assert np.isnan(track.position[0, :, 0]).sum() == 3
