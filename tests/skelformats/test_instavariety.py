"""The InstaVariety reader: one file a frame of a track."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelformats.errors import FormatError
from skelformats.instavariety import INSTAVARIETY, joint_keys
from skelformats.reader import Clip


def frame(number: int, **more: Any) -> dict[str, Any]:
    joints = {key: {"x": j + 0.5, "y": 2.0, "logits": 0.5} for j, key in enumerate(joint_keys())}
    box = {"xmin": 1, "ymin": 2, "xmax": 11, "ymax": 22}
    return {"frame": number, "imloc": "x.png", "track_id": 0, "bbox": box, **joints, **more}


def read(folder: Path, files: dict[str, Any]) -> list[Clip]:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    asked = INSTAVARIETY.options(("box",))
    sources = INSTAVARIETY.scan(folder, asked)
    clips = [clip for source in sources for clip in INSTAVARIETY.read(folder, source, asked)]
    return [clip for clip in clips if isinstance(clip, Clip)]


def test_joints_have_their_own_names() -> None:
    keys = joint_keys()
    assert len(keys) == 25
    assert keys[:9] == (
        *("Nose", "Neck", "R Shoulder", "R Elbow", "R Wrist", "L Shoulder", "L Elbow", "L Wrist", "Hip"),
    )
    assert {"R Big Toe", "L Small Toe", "L Heel", "R Knee", "L Ankle", "R Eye"} <= set(keys)


def test_a_folder_is_a_track_and_a_video_a_recording(tmp_path: Path) -> None:
    files = {f"InstaVariety_tracks/swim/v1/{track}/{n:06d}.json": frame(n) for track in "01" for n in (3, 7)}
    files["InstaVariety_tracks/swim/v2/0/000000.json"] = frame(0)
    one, two = read(tmp_path, files)
    assert (one.recording, one.length) == ("swim__v1", 8)
    assert one.columns == {"tag": "swim", "video": "v1"}
    assert [track.body for track in one.tracks] == ["0", "1"]
    np.testing.assert_array_equal(one.tracks[1].frame_index, [3, 7])
    np.testing.assert_array_equal(one.tracks[0].position[0, :, 0], np.arange(25) + 0.5)
    np.testing.assert_array_equal(one.tracks[0].extras["box"][0], [1, 2, 10, 20])
    assert two.length == 1


def test_a_joint_that_is_absent_is_missing(tmp_path: Path) -> None:
    without = frame(0, Nose={"x": 0, "y": 0, "logits": 0})
    del without["R Wrist"]
    (clip,) = read(tmp_path, {"swim/v1/0/0.json": without})
    lost = np.isnan(clip.tracks[0].position[0, :, 0])
    assert np.flatnonzero(lost).tolist() == [0, 4]


def test_files_that_lie_above_the_tracks_are_none(tmp_path: Path) -> None:
    assert len(read(tmp_path, {"InstaVariety.json": [], "swim/v1/0/0.json": frame(0)})) == 1


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("[" * 1_000_000, "not JSON"),
        ([], "a JSON list"),
        ({"frame": 0}, "none of the joints Nose, Neck"),
        (frame(-1), "the frame -1"),
        (frame(10**11), "the frame 100000000000"),
        (frame(0, Neck=3), "'Neck' of type int"),
        (frame(0, Neck={"x": 1, "y": 2}), "'Neck' with a value that is not a number"),
        (frame(0, bbox=3), "'bbox' of type int"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: Any, found: str) -> None:
    with pytest.raises(FormatError) as error:
        read(tmp_path, {"swim/v1/0/000000.json": content})
    assert found in str(error.value)
    assert "000000.json" in str(error.value)
