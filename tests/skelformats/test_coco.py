"""The COCO reader: annotations and results, one sequence a person and image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelformats.coco import COCO
from skelformats.errors import FormatError
from skelformats.reader import Clip

OPTIONS = COCO.options()


def keypoints(count: int = 17, state: int = 2) -> list[int]:
    return [value for j in range(count) for value in (10 + j, 20 + j, state)]


def person(image: int = 7, identity: int = 1, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "id": identity, "category_id": 1, "keypoints": keypoints(), **more}


def labelled(*people: Any) -> dict[str, Any]:
    images = [{"id": 7, "file_name": "000000000007.jpg", "width": 640, "height": 480}]
    return {"images": images, "annotations": list(people), "categories": []}


def read(
    folder: Path, content: Any, name: str = "person_keypoints_val2017.json", **options: Any
) -> list[Clip]:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    asked = COCO.options(("box",), **options)
    (source,) = (source for source in COCO.scan(folder, asked) if source.path == name)
    return [clip for clip in COCO.read(folder, source, asked) if isinstance(clip, Clip)]


def test_each_image_is_a_recording_and_each_person_a_sequence_of_one_frame(tmp_path: Path) -> None:
    content = labelled(person(identity=5, bbox=[1, 2, 3, 4]), person(identity=6, iscrowd=1))
    (clip,) = read(tmp_path, content)
    assert clip.recording == "person_keypoints_val2017_000000000007"
    assert (clip.length, clip.label) == (1, -1)
    assert clip.columns == {"subset": "val2017", "image": "000000000007.jpg", "width": 640, "height": 480}
    assert clip.splits == {"coco2017": "val"}
    first, second = clip.tracks
    assert (first.body, second.body) == ("5", "6")
    assert (first.columns, second.columns) == ({"crowd": 0}, {"crowd": 1})
    np.testing.assert_array_equal(first.position[0, :, 0], np.arange(10, 27))
    np.testing.assert_array_equal(first.confidence, np.full((1, 17), 2))
    np.testing.assert_array_equal(first.extras["box"], [[1, 2, 3, 4]])
    assert np.isnan(second.extras["box"]).all()


def test_a_joint_that_is_not_labelled_is_missing(tmp_path: Path) -> None:
    one = person()
    one["keypoints"][3:6] = [0, 0, 0]
    one["keypoints"][6:9] = [0, 0, 1]  # the corner of the picture, occluded
    (clip,) = read(tmp_path, labelled(one))
    (track,) = clip.tracks
    assert np.isnan(track.position[0, 1]).all()
    np.testing.assert_array_equal(track.position[0, 2], [0, 0])
    assert track.confidence is not None
    assert track.confidence[0, :3].tolist() == [2, 0, 1]
    assert track.confidence.dtype == np.uint8


def test_people_and_images_without_keypoints_are_left_out(tmp_path: Path) -> None:
    blank = person(identity=2, keypoints=[0] * 51)
    assert len(read(tmp_path, labelled(person(), blank))[0].tracks) == 1
    (tmp_path / "b").mkdir()
    assert read(tmp_path / "b", labelled(blank)) == []


def test_results_have_scores(tmp_path: Path) -> None:
    result = {"image_id": 7, "category_id": 1, "keypoints": [1.5, 2.5, 0.75] * 17, "score": 3.5}
    (clip,) = read(tmp_path, [result, result], "results.json")
    assert [track.body for track in clip.tracks] == ["0.0", "0.1"]
    assert clip.columns["image"] == "7"
    dataset = COCO.dataset_of(tmp_path, OPTIONS)
    assert dataset.confidence is not None
    assert dataset.confidence.dtype == "f4"
    assert clip.tracks[0].confidence is not None
    assert clip.tracks[0].confidence.dtype == np.float32


def test_the_number_of_keypoints_tells_the_layout(tmp_path: Path) -> None:
    for count, layout in ((26, "halpe26"), (136, "halpe26"), (133, "coco17"), (16, "mpii16")):
        folder = tmp_path / str(count)
        (clip,) = read(folder, labelled(person(keypoints=keypoints(count))))
        assert COCO.dataset_of(folder, OPTIONS).skeleton == layout
        assert clip.tracks[0].position.shape[1] == int(layout[-2:])


def test_a_file_of_another_kind_or_layout_than_the_first_is_refused(tmp_path: Path) -> None:
    read(tmp_path, labelled(person()), "a.json")
    with pytest.raises(FormatError, match="annotations and results separately"):
        read(tmp_path, [person()], "b.json")
    with pytest.raises(FormatError, match="--layout halpe26"):
        read(tmp_path, labelled(person(keypoints=keypoints(26))), "c.json")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("", "no JSON"),
        ("[" * 1_000_000, "no JSON"),
        ('{"annotations": ' + "[" * 1_000_000, "no JSON"),
        ("3", "a JSON int"),
        ({"images": []}, "'annotations' of type NoneType"),
        ({"annotations": [], "images": 3}, "'images' of type int"),
        (labelled(person(keypoints=keypoints()[:-1])), "in entry 0 a list of 50 numbers"),
        (labelled(person(keypoints=["1"] * 51)), "a value that is no number"),
        (labelled(person(keypoints=[[1] * 51])), "a value that is no number"),
        (labelled(person(keypoints=[1e300] * 51)), "in entry 0 keypoints with 1e+300"),
        (labelled(person(keypoints=keypoints(state=3))), "the visibility 3 of joint 0"),
        (labelled(person(image_id=None)), "the image_id None"),
        (labelled(person(id="x")), "the id 'x'"),
        (labelled(person(bbox=[1, 2])), "a box [1, 2]"),
        (labelled({"image_id": 7, "bbox": [1, 2, 3, 4]}), "a list of person boxes"),
        (labelled(3), "in entry 0 a JSON int"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: Any, found: str) -> None:
    with pytest.raises(FormatError) as error:
        read(tmp_path, content)
    assert found in str(error.value)
    assert "person_keypoints_val2017.json" in str(error.value)


@pytest.mark.real
@pytest.mark.parametrize(("name", "joints"), [("test_coco.json", 17), ("test_halpe.json", 26)])
def test_real_annotations_read_as_numpy_reads_them(
    shared_data: Path, tmp_path: Path, name: str, joints: int
) -> None:
    text = (shared_data / "coco2d" / name).read_text()
    content = json.loads(text)
    clips = read(tmp_path, text, name)
    found = {track.body: track for clip in clips for track in clip.tracks}
    people = {
        str(a["id"]): np.array(a["keypoints"], np.float32).reshape(-1, 3)[:joints]
        for a in content["annotations"]
    }
    assert {body for body, rows in people.items() if rows.any()} == set(found)
    for body, track in found.items():
        rows = people[body]
        np.testing.assert_array_equal(np.nan_to_num(track.position[0]), rows[:, :2])
        np.testing.assert_array_equal(track.confidence, rows[None, :, 2])
        np.testing.assert_array_equal(np.isnan(track.position[0, :, 0]), (rows == 0).all(-1))
