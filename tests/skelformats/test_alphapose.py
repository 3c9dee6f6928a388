"""The AlphaPose reader: track ids in all their forms, frame numbers, layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelformats.alphapose import ALPHAPOSE, frame_numbers
from skelformats.errors import FormatError
from skelformats.reader import Clip


def entry(image: str = "0.jpg", joints: int = 26, shift: float = 0.0, **more: Any) -> dict[str, Any]:
    keypoints = [value for j in range(joints) for value in (10.5 + j + shift, 20.25, 0.5)]
    return {"image_id": image, "category_id": 1, "keypoints": keypoints, "score": 2.5, **more}


def read(folder: Path, content: Any, name: str = "results.json", **options: Any) -> Clip:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    asked = ALPHAPOSE.options(("box", "score"), **options)
    (source,) = ALPHAPOSE.scan(folder, asked)
    (clip,) = ALPHAPOSE.read(folder, source, asked)
    assert isinstance(clip, Clip)
    return clip


@pytest.mark.parametrize(("one", "two"), [(1, 2), ([1.0], [2.0]), ("a", "b"), ([[1]], [[2]])])
def test_ids_link_people_through_gaps(tmp_path: Path, one: Any, two: Any) -> None:
    content = [
        entry("0.jpg", idx=one),
        entry("1.jpg", idx=two),
        entry("1.jpg", idx=one, shift=1.0, box=[1, 2, 3, 4]),
        entry("5.jpg", idx=one),
    ]
    clip = read(tmp_path, content)
    first, second = clip.tracks
    assert clip.length == 6
    np.testing.assert_array_equal(first.frame_index, [0, 1, 5])
    np.testing.assert_array_equal(second.frame_index, [1])
    np.testing.assert_array_equal(first.position[:, 0, 0], [10.5, 11.5, 10.5])
    np.testing.assert_array_equal(first.extras["box"][1], [1, 2, 3, 4])
    assert np.isnan(first.extras["box"][0]).all()
    np.testing.assert_array_equal(first.extras["score"], [2.5] * 3)
    np.testing.assert_array_equal(first.confidence, np.full((3, 26), 0.5, np.float32))


def test_frames_are_numbered_as_their_images_not_in_the_order_of_text(tmp_path: Path) -> None:
    content = [entry(f"{n}.jpg", idx=0, shift=n) for n in (10, 9, 2, 1)]
    (track,) = read(tmp_path, content).tracks
    np.testing.assert_array_equal(track.frame_index, [1, 2, 9, 10])
    np.testing.assert_array_equal(track.position[:, 0, 0], [11.5, 12.5, 19.5, 20.5])


def test_names_without_different_numbers_keep_the_order_of_the_file() -> None:
    assert frame_numbers(["b.jpg", "a.jpg", "b.jpg"]) == {"b.jpg": 0, "a.jpg": 1}
    assert frame_numbers(["x/1.jpg", "y/1.jpg"]) == {"x/1.jpg": 0, "y/1.jpg": 1}
    assert frame_numbers(["f_007.png", "f_003.png"]) == {"f_007.png": 7, "f_003.png": 3}


def test_an_id_that_comes_twice_in_a_frame_gives_a_second_track(tmp_path: Path) -> None:
    clip = read(tmp_path, [entry(idx=1), entry(idx=1, shift=3.0), entry("1.jpg", idx=1)])
    assert [(track.body, len(track.frame_index)) for track in clip.tracks] == [("1", 2), ("1#2", 1)]


def test_without_ids_each_person_and_frame_is_a_sequence(tmp_path: Path) -> None:
    clip = read(tmp_path, [entry("0.jpg"), entry("3.jpg"), entry("3.jpg", idx=[])])
    assert [track.body for track in clip.tracks] == ["0.0", "3.0", "3.1"]
    assert [track.frame_index.tolist() for track in clip.tracks] == [[0], [3], [3]]


def test_the_single_person_of_a_video_can_be_linked(tmp_path: Path) -> None:
    (track,) = read(tmp_path, [entry("0.jpg"), entry("3.jpg")], single_person=True).tracks
    np.testing.assert_array_equal(track.frame_index, [0, 3])
    with pytest.raises(FormatError, match="several people without a track id in frame 3"):
        read(tmp_path / "two", [entry("3.jpg"), entry("3.jpg")], single_person=True)


def test_a_recording_is_named_after_its_folder_or_file(tmp_path: Path) -> None:
    assert read(tmp_path / "a", [entry()], "x/alphapose-results.json").recording == "x"
    assert read(tmp_path / "b", [entry()], "x/walk.json").recording == "x__walk"
    assert read(tmp_path / "c", [entry()], "alphapose-results.json").recording == "alphapose-results"


@pytest.mark.parametrize(("joints", "layout"), [(17, "coco17"), (26, "halpe26"), (136, "halpe26")])
def test_the_number_of_keypoints_tells_the_layout(tmp_path: Path, joints: int, layout: str) -> None:
    clip = read(tmp_path, [entry(joints=joints, idx=0)])
    assert ALPHAPOSE.dataset_of(tmp_path, ALPHAPOSE.options()).skeleton == layout
    assert clip.tracks[0].position.shape == (1, int(layout[-2:]), 2)


def test_the_layout_can_be_said(tmp_path: Path) -> None:
    read(tmp_path, [entry(joints=17)], layout="posetrack17")
    asked = ALPHAPOSE.options(layout="posetrack17")
    assert ALPHAPOSE.dataset_of(tmp_path, asked).skeleton == "posetrack17"
    with pytest.raises(FormatError, match="the 26 joints of halpe26"):
        read(tmp_path, [entry(joints=17)], layout="halpe26")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("[" * 1_000_000, "not JSON"),
        ("[NaN]", "not JSON"),
        ({}, "a JSON dict"),
        ([3], "in entry 0 no person with an 'image_id'"),
        ([{"image_id": "0.jpg"}], "in entry 0 no 'keypoints'"),
        ([entry(joints=20)], "in entry 0 a list of 60 numbers"),
        ([entry(idx={})], "in entry 0 the track id {}"),
        ([entry(idx=1.5)], "in entry 0 the track id 1.5"),
        ([entry(idx=[[1], ["x"]])], "in entry 0 the track id 'x'"),
        ([entry(idx=[[1, 2], [3]])], "in entry 0 the track id [1, 2]"),
        ([entry(score="high")], "in entry 0 a score with a value that is not a number"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: Any, found: str) -> None:
    with pytest.raises(FormatError) as error:
        read(tmp_path, content)
    assert found in str(error.value)


@pytest.mark.parametrize("merged", [[[3.0], [1.0]], [3, 1], [[1], [1]]])
def test_a_person_with_merged_identities_has_the_least_of_them(tmp_path: Path, merged: Any) -> None:
    (track,) = read(tmp_path, [entry("0.jpg", idx=[1.0]), entry("1.jpg", idx=merged)]).tracks
    assert (track.body, track.frame_index.tolist()) == ("1", [0, 1])


@pytest.mark.parametrize("zero", [0, [0.0], [[0.0], [0.0]]])
def test_ids_that_are_all_0_with_several_in_a_frame_are_none(tmp_path: Path, zero: Any) -> None:
    several = [entry("0.jpg", idx=zero), entry("1.jpg", idx=zero), entry("1.jpg", idx=zero, shift=9.0)]
    assert [t.body for t in read(tmp_path / "a", several).tracks] == ["0.0", "1.0", "1.1"]
    linked = read(tmp_path / "b", several, track=1).tracks
    assert [(t.body, t.frame_index.tolist()) for t in linked] == [("0", [0, 1]), ("1", [1])]
    alone = [entry(f"{n}.jpg", idx=zero) for n in range(3)]
    assert [t.body for t in read(tmp_path / "c", alone).tracks] == ["0"]


@pytest.mark.real
def test_a_real_file_with_merged_identities_is_read_whole(shared_data: Path, tmp_path: Path) -> None:
    text = (shared_data / "strangers" / "alphapose_merged_ids.json").read_text()
    entries = json.loads(text)
    assert len(read(tmp_path, text).tracks) == len(entries) == 153
    linked = read(tmp_path, text, track=5).tracks
    assert sum(len(track.frame_index) for track in linked) == 153
    assert len(linked) < 30


@pytest.mark.real
def test_real_results_read_as_numpy_reads_them(shared_data: Path, tmp_path: Path) -> None:
    text = (shared_data / "coco2d" / "alphapose-results.json").read_text()
    entries = json.loads(text)
    # all ids are 0, and two frames have two people: these results were not tracked
    assert len(read(tmp_path, text, "alphapose-results.json").tracks) == 872
    first, *others = read(tmp_path, text, "alphapose-results.json", track=5).tracks
    assert (len(first.frame_index), [len(other.frame_index) for other in others]) == (870, [2])
    seen: dict[int, dict[str, Any]] = {}
    for item in entries:
        seen.setdefault(int(item["image_id"].removesuffix(".jpg")), item)
    np.testing.assert_array_equal(first.frame_index, sorted(seen))
    rows = np.array([seen[frame]["keypoints"] for frame in sorted(seen)], np.float32).reshape(-1, 26, 3)
    np.testing.assert_array_equal(first.position, rows[..., :2])
    np.testing.assert_array_equal(first.confidence, rows[..., 2])
