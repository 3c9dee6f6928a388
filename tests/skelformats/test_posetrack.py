"""The PoseTrack18 reader: tracks with gaps, labelled frames, several videos in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelformats.errors import FormatError
from skelformats.posetrack import POSETRACK
from skelformats.reader import Clip

NAME = "posetrack18_annotations/val/000001_mpii_test.json"


def image(frame: int, labelled: bool = True, video: str = "000001_mpii_test", **more: Any) -> dict[str, Any]:
    return {
        "id": 10_000_010_000 + frame,
        "file_name": f"images/val/{video}/{frame:06d}.jpg",
        "is_labeled": labelled,
        "nframes": 20,
        **more,
    }


def person(frame: int, track: int = 0, shift: float = 0.0, **more: Any) -> dict[str, Any]:
    keypoints = [v for j in range(17) for v in ((0, 0, 0) if j in (3, 4) else (5.5 + j + shift, 6.0, 1))]
    return {"image_id": 10_000_010_000 + frame, "track_id": track, "keypoints": keypoints, **more}


def read(folder: Path, content: Any, name: str = NAME) -> list[Clip]:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    asked = POSETRACK.options(("box", "head_box"))
    (source,) = POSETRACK.scan(folder, asked)
    return [clip for clip in POSETRACK.read(folder, source, asked) if isinstance(clip, Clip)]


def test_tracks_keep_their_gaps_and_the_frames_their_flags(tmp_path: Path) -> None:
    images = [image(f, labelled=f % 4 == 0, width=640, height=360) for f in (8, 0, 4, 1)]
    people = [person(8, 3, 2.0), person(0, 3, bbox=[1, 2, 3, 4], bbox_head=[5, 6, 7, 8]), person(4, 1)]
    (clip,) = read(tmp_path, {"images": images, "annotations": people})
    assert (clip.recording, clip.length) == ("000001_mpii_test", 20)
    assert clip.splits == {"posetrack18": "val"}
    first, second = clip.tracks
    assert (first.body, second.body) == ("3", "1")
    np.testing.assert_array_equal(first.frame_index, [0, 8])
    np.testing.assert_array_equal(first.position[:, 0, 0], [5.5, 7.5])
    np.testing.assert_array_equal(first.extras["box"][0], [1, 2, 3, 4])
    np.testing.assert_array_equal(first.extras["head_box"][0], [5, 6, 7, 8])
    assert np.isnan(first.position[:, 3:5]).all()
    assert first.confidence is not None
    assert first.confidence[0].tolist() == [1, 1, 1, 0, 0] + [1] * 12
    rows = clip.tables["image"]
    assert [(row["frame"], row["labelled"]) for row in rows] == [(0, 1), (1, 0), (4, 1), (8, 1)]
    assert rows[0]["width"] == 640


def test_the_folder_tells_the_subset_and_not_the_end_of_the_name(tmp_path: Path) -> None:
    content = {"images": [image(0)], "annotations": [person(0)]}
    for folder, subset in (("train", "train"), ("elsewhere", "val")):
        (clip,) = read(tmp_path / folder, content, f"{folder}/000001_mpii_test.json")
        assert clip.columns["subset"] == subset


def test_a_file_of_several_videos_gives_several_recordings(tmp_path: Path) -> None:
    images = [image(0), image(1, video="000002_mpii_test")]
    clips = read(tmp_path, {"images": images, "annotations": [person(0, 0), person(1, 0)]})
    assert [clip.recording for clip in clips] == ["000001_mpii_test", "000002_mpii_test"]
    assert [track.body for clip in clips for track in clip.tracks] == ["0", "0"]


def content(**changes: Any) -> dict[str, Any]:
    return {"images": [image(0)], "annotations": [person(0)], **changes}


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        ("[" * 1_000_000, "not JSON"),
        ([{"bbox": [1, 2, 3, 4], "image_id": 3}], "a list of person boxes"),
        (content(images=None), "'images' of type NoneType"),
        (content(annotations=None), "'annotations' of type NoneType"),
        (content(images=[{"id": 3}]), "in image 0 no 'file_name'"),
        (content(images=[image(0, file_name="nonsense.jpg")]), "the file name 'nonsense.jpg'"),
        (content(images=[image(0, id="a")]), "in image 0 the id 'a'"),
        (content(images=[image(0, nframes=10**12)]), "in image 0 nframes 1000000000000"),
        (content(annotations=[person(5)]), "the image_id 10000010005"),
        (content(annotations=[person(0, keypoints=[1, 1, 2] * 17)]), "the visibility 2 of joint 0"),
        (content(annotations=[person(0, keypoints=[1, 1, 1] * 16)]), "a list of 48 numbers"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, broken: Any, found: str) -> None:
    with pytest.raises(FormatError) as error:
        read(tmp_path, broken)
    assert found in str(error.value)


@pytest.mark.real
@pytest.mark.parametrize(
    "name", ["003418_mpii_test.json", "012834_mpii_test.json", "test_posetrack18_val.json"]
)
def test_real_annotations_read_as_numpy_reads_them(shared_data: Path, tmp_path: Path, name: str) -> None:
    text = (shared_data / "posetrack" / name).read_text()
    clips = read(tmp_path, text, name)
    made = json.loads(text)
    video = {i["id"]: i["file_name"].split("/")[2] for i in made["images"]}
    found = {(clip.recording, track.body): track for clip in clips for track in clip.tracks}
    assert {clip.splits["posetrack18"] for clip in clips} == {"val"}
    assert len(found) == len(made["annotations"])
    for annotation in made["annotations"]:
        track = found[video[annotation["image_id"]], str(annotation["track_id"])]
        rows = np.array(annotation["keypoints"], np.float32).reshape(17, 3)
        np.testing.assert_array_equal(np.nan_to_num(track.position[0]), rows[:, :2])
        np.testing.assert_array_equal(track.confidence, rows[None, :, 2])
        np.testing.assert_array_equal(track.extras["box"][0], np.array(annotation["bbox"], np.float32))


@pytest.mark.real
def test_real_person_boxes_are_refused_for_what_they_are(shared_data: Path, tmp_path: Path) -> None:
    text = (shared_data / "posetrack" / "test_posetrack18_human_detections.json").read_text()
    with pytest.raises(FormatError, match="a list of person boxes"):
        read(tmp_path, text)
