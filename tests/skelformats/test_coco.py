"""The COCO reader: annotations and results, one sequence a person and image."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelformats.coco import COCO
from skelformats.errors import FormatError
from skelformats.reader import Clip
from skelformats.skeleton import load_skeleton

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
    for count, layout in (
        (26, "halpe26"),
        (136, "halpe26"),
        (133, "coco17"),
        (16, "mpii16"),
        (14, "crowdpose14"),
    ):
        folder = tmp_path / str(count)
        (clip,) = read(folder, labelled(person(keypoints=keypoints(count))))
        assert COCO.dataset_of(folder, OPTIONS).skeleton == layout
        assert clip.tracks[0].position.shape[1] == int(layout[-2:])


def test_whole_bodies_are_read_where_the_layout_asks_for_them(tmp_path: Path) -> None:
    feet, face, hand = (keypoints(count) for count in (6, 68, 21))
    more = {"foot_kpts": feet, "face_kpts": face, "lefthand_kpts": hand, "righthand_kpts": [0.0] * 63}
    content = labelled(person(**more, face_valid=True))
    content["annotations"][0]["lefthand_kpts"] = [v * 0.25 for v in hand]
    (clip,) = read(tmp_path / "coco", content, layout="coco_wholebody133")
    (track,) = clip.tracks
    rows = np.array(keypoints() + feet + face + [v * 0.25 for v in hand], np.float32).reshape(-1, 3)
    np.testing.assert_array_equal(track.position[0, :112], rows[:, :2])
    np.testing.assert_array_equal(track.confidence, [[*rows[:, 2], *[0.0] * 21]])
    assert np.isnan(track.position[0, 112:]).all()
    assert read(tmp_path / "coco", content)[0].tracks[0].position.shape == (1, 17, 2)
    del content["annotations"][0]["face_kpts"]
    with pytest.raises(FormatError, match="in entry 0 no list 'face_kpts'"):
        read(tmp_path / "lacks", content, layout="coco_wholebody133")
    (clip,) = read(tmp_path / "halpe", labelled(person(keypoints=keypoints(136))), layout="halpe136")
    assert clip.tracks[0].position.shape == (1, 136, 2)


def test_a_file_of_another_kind_or_layout_than_the_first_is_refused(tmp_path: Path) -> None:
    read(tmp_path, labelled(person()), "a.json")
    with pytest.raises(
        FormatError, match=r"expected annotations, as in the first file. Ingest them separately"
    ):
        read(tmp_path, [person()], "b.json")
    with pytest.raises(FormatError, match="--layout halpe26"):
        read(tmp_path, labelled(person(keypoints=keypoints(26))), "c.json")


def test_a_single_file_is_compared_with_no_other(tmp_path: Path) -> None:
    contents: tuple[Any, ...] = ([3], [{"image_id": 7}], {"annotations": [{}], "images": []})
    for number, content in enumerate(contents):
        with pytest.raises(FormatError) as error:
            read(tmp_path / str(number), content)
        assert "first file" not in str(error.value)
        assert "in entry 0" in str(error.value)
    assert read(tmp_path / "none", []) == []


MPII = {
    "joints": [[10.0 + j, 20.0] for j in range(15)] + [[-1.0, -1.0]],
    "joints_vis": [1] * 14 + [0, 0],
    "image": "005808361.jpg",
    "scale": 4.7,
    "center": [966.0, 340.0],
}


def test_mpiis_own_list_is_read(tmp_path: Path) -> None:
    (clip,) = read(tmp_path, [MPII, {**MPII, "joints": [[1.0, 2.0]] * 16}], "mpii_train.json")
    dataset = COCO.dataset_of(tmp_path, OPTIONS)
    assert dataset.skeleton == "mpii16"
    assert dataset.confidence is not None
    assert dataset.confidence.states == {0: "not annotated", 1: "annotated"}
    assert (clip.recording, clip.columns["image"]) == ("mpii_train_005808361", "005808361.jpg")
    first, second = clip.tracks
    np.testing.assert_array_equal(first.position[0, :15, 0], np.arange(10, 25))
    # not annotated and without a place; a place of its own is kept
    assert np.isnan(first.position[0, 15]).all()
    assert first.confidence is not None
    assert first.confidence[0].tolist() == [1] * 14 + [0, 0]
    np.testing.assert_array_equal(second.position[0], [[1.0, 2.0]] * 16)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"joints": [[1.0, 2.0]] * 15}, "in entry 0 joints"),
        ({"joints": [[1.0, 2.0, 3.0]] * 16}, "in entry 0 joints"),
        ({"joints": [[1.0, "2"]] * 16}, "a value that is not a number"),
        ({"joints": 3}, "in entry 0 joints 3"),
        ({"joints_vis": [1] * 15}, "in entry 0 joints_vis"),
        ({"joints_vis": [2] * 16}, "the visibility 2 of joint 0"),
        ({"image": 3}, "in entry 0 no 'image'"),
    ],
)
def test_what_is_wrong_in_mpiis_list_is_named(tmp_path: Path, change: dict[str, Any], found: str) -> None:
    with pytest.raises(FormatError, match=re.escape(found)):
        read(tmp_path, [{**MPII, **change}], "mpii.json", layout="mpii16")


def test_mpiis_test_images_have_no_joints(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"no 'joints'.* MPII's test images have none"):
        read(tmp_path, [{"image": "1.jpg", "center": [1, 2], "scale": 1.0}], "mpii_test.json")


def test_joint_names_of_another_order_are_refused(tmp_path: Path) -> None:
    """AI Challenger has 14 keypoints as CrowdPose has, in another order."""
    names = [f"{side}_{joint}" for side in ("right", "left") for joint in ("shoulder", "elbow", "wrist")]
    names += [f"{side}_{joint}" for side in ("right", "left") for joint in ("hip", "knee", "ankle")]
    content = labelled(person(keypoints=keypoints(14)))
    content["categories"] = [{"keypoints": [*names, "head_top", "neck"]}]
    with pytest.raises(FormatError, match=r"joints called right_shoulder, right_elbow, .*crowdpose14"):
        read(tmp_path, content)
    content["categories"] = [{"keypoints": []}]
    assert len(read(tmp_path, content)) == 1


def test_images_are_frames_of_a_video_where_people_are_to_be_tracked(tmp_path: Path) -> None:
    def seen(image: Any, shift: float) -> dict[str, Any]:
        rows = [v for j in range(17) for v in (10.0 * j + shift, 20.0 * j, 0.5)]
        return {"image_id": image, "category_id": 1, "keypoints": rows, "score": 1.0}

    results = [seen(f"a/{n:06d}.jpg", shift) for n in (10, 9, 11) for shift in (n, 1000.0 - n)]
    first, second = read(tmp_path, [*results, seen("b/000001.jpg", 0.0)], "r.json", track=1)
    assert (first.recording, first.length, second.recording) == ("r__a", 12, "r__b")
    assert [track.frame_index.tolist() for track in first.tracks] == [[9, 10, 11]] * 2
    np.testing.assert_array_equal(first.tracks[0].position[:, 0, 0], [9, 10, 11])
    np.testing.assert_array_equal(first.tracks[1].position[:, 0, 0], [991, 990, 989])
    assert first.columns == {"subset": "", "image": "", "width": -1, "height": -1}


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("", "not JSON"),
        ("[" * 1_000_000, "not JSON"),
        ('{"annotations": ' + "[" * 1_000_000, "not JSON"),
        ("3", "a JSON int"),
        ({"images": []}, "'annotations' of type NoneType"),
        ({"annotations": [], "images": 3}, "'images' of type int"),
        (labelled(person(keypoints=keypoints()[:-1])), "in entry 0 a list of 50 numbers"),
        (labelled(person(keypoints=["1"] * 51)), "a value that is not a number"),
        (labelled(person(keypoints=[[1] * 51])), "a value that is not a number"),
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
def test_real_mpii_annotations_read_as_numpy_reads_them(shared_data: Path, tmp_path: Path) -> None:
    text = (shared_data / "strangers" / "test_mpii.json").read_text()
    clips = {clip.columns["image"]: clip for clip in read(tmp_path, text, "test_mpii.json")}
    for entry in json.loads(text):
        (track,) = clips[entry["image"]].tracks
        want = np.array(entry["joints"], np.float32)
        want[np.array(entry["joints_vis"]) == 0] = np.nan
        np.testing.assert_array_equal(track.position[0], want)
        np.testing.assert_array_equal(track.confidence, [entry["joints_vis"]])


@pytest.mark.real
def test_real_crowdpose_annotations_have_their_layout(shared_data: Path, tmp_path: Path) -> None:
    text = (shared_data / "strangers" / "test_crowdpose.json").read_text()
    content = json.loads(text)
    clips = read(tmp_path, text, "test_crowdpose.json")
    skeleton = load_skeleton(COCO.dataset_of(tmp_path, OPTIONS).skeleton)
    assert skeleton.name == "crowdpose14"
    assert [joint.official for joint in skeleton.joints] == content["categories"][0]["keypoints"]
    found = {track.body: track for clip in clips for track in clip.tracks}
    people = [annotation for annotation in content["annotations"] if any(annotation["keypoints"])]
    assert len(found) == len(people) == 4
    for annotation in people:
        rows = np.array(annotation["keypoints"], np.float32).reshape(14, 3)
        np.testing.assert_array_equal(np.nan_to_num(found[str(annotation["id"])].position[0]), rows[:, :2])


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
