"""The layouts of the pose sets: tables of the specification, and what their own files say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from skelformats.skeleton import SkeletonError, load_skeleton, match_joints

NAMES = {
    "coco17": "coco17",
    "halpe26": "halpe26",
    "openpose25": "openpose25",
    "mpi28": "mpi3dhp28",
    "mpii16": "mpii16",
    "posetrack17": "posetrack17",
}

WHOLE = {"mediapipe33": 33, "coco_wholebody133": 133, "halpe136": 136}
"""Layouts with face, hands or feet, and how many joints they have."""


@pytest.fixture(scope="module")
def specified(golden_numbers: Path) -> dict[str, Any]:
    content = json.loads((golden_numbers / "skeletons.json").read_text())
    assert isinstance(content, dict)
    return content


@pytest.mark.parametrize("name", NAMES)
def test_a_layout_is_that_of_the_specification(name: str, specified: dict[str, Any]) -> None:
    skeleton, spec = load_skeleton(name), specified[NAMES[name]]
    assert len(skeleton) == spec["n"]
    assert list(skeleton.parents) == spec["parents"]
    mirror = list(range(len(skeleton)))
    for left, right in spec["left_right_pairs"]:
        mirror[left], mirror[right] = right, left
        assert skeleton.names[left].startswith("left_")
        assert skeleton.names[right].startswith("right_")
    assert list(skeleton.mirror) == mirror
    assert [list(part) for part in skeleton.parts] == list(spec["s2i_parts"].values())


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "file"),
    [("coco17", "coco2d/test_coco.json"), ("posetrack17", "posetrack/003418_mpii_test.json")],
)
def test_official_names_are_those_of_the_files(name: str, file: str, shared_data: Path) -> None:
    (category,) = json.loads((shared_data / file).read_text())["categories"]
    assert [joint.official for joint in load_skeleton(name).joints] == category["keypoints"]


@pytest.mark.parametrize("name", [*NAMES, "crowdpose14", *WHOLE])
def test_every_joint_has_one_column_and_one_way_to_the_root(name: str) -> None:
    skeleton = load_skeleton(name)
    assert sorted(skeleton.column_order) == list(range(len(skeleton)))
    assert len(skeleton.edges) == len(skeleton) - 1
    without = [skeleton.names[i] for i, bone in enumerate(skeleton.bones) if not bone]
    assert without == [skeleton.names[skeleton.parents.index(-1)]]


def test_coco_joints_are_found_by_name_in_the_detectors_layouts() -> None:
    assert match_joints(load_skeleton("halpe26"), load_skeleton("coco17")).tolist() == list(range(17))
    openpose = [0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11]
    assert match_joints(load_skeleton("openpose25"), load_skeleton("coco17")).tolist() == openpose


@pytest.mark.parametrize("name", WHOLE)
def test_left_and_right_are_called_so_and_mirror_each_other(name: str) -> None:
    skeleton = load_skeleton(name)
    assert len(skeleton) == WHOLE[name]
    for joint, other in zip(skeleton.names, (skeleton.names[i] for i in skeleton.mirror), strict=True):
        side, _, rest = joint.partition("_")
        assert other == {"left": f"right_{rest}", "right": f"left_{rest}"}.get(side, joint)
    parents = [skeleton.names[i] if i >= 0 else "" for i in skeleton.parents]
    tree = dict(zip(skeleton.names, parents, strict=True))
    mirrored = {joint: skeleton.names[skeleton.mirror[i]] for i, joint in enumerate(skeleton.names)}
    assert all(mirrored[parent] == tree[mirrored[joint]] for joint, parent in tree.items() if parent)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        # numbers as the sets' documents have them: face and hands begin at 23 and 91, and at 26 and 94
        ("coco_wholebody133", {"left_big_toe": 17, "right_heel": 22, "right_contour_1": 23, "nose4": 53}),
        ("coco_wholebody133", {"contour_middle": 31, "left_mouth_1": 77, "left_hand_root": 91}),
        ("coco_wholebody133", {"left_pinky_tip": 111, "right_hand_root": 112, "right_index1": 117}),
        ("halpe136", {"right_heel": 25, "right_contour_1": 26, "left_hand_root": 94, "right_pinky_tip": 135}),
        ("mediapipe33", {"left_ear": 7, "left_pinky1": 17, "right_hip": 24, "left_heel": 29}),
        ("mediapipe33", {"LEFT_INDEX": 19, "MOUTH_RIGHT": 10, "RIGHT_FOOT_INDEX": 32}),
    ],
)
def test_joints_stand_where_the_sets_documents_have_them(name: str, numbers: dict[str, int]) -> None:
    assert {joint: load_skeleton(name).index(joint) for joint in numbers} == numbers


def test_the_same_place_is_found_by_name_in_every_whole_body_layout() -> None:
    coco, whole, halpe, mediapipe = map(
        load_skeleton, ("coco17", "coco_wholebody133", "halpe136", "mediapipe33")
    )
    assert match_joints(whole, coco).tolist() == match_joints(halpe, coco).tolist() == list(range(17))
    assert match_joints(mediapipe, coco).tolist() == [0, 2, 5, 7, 8, *range(11, 17), *range(23, 29)]
    # feet stand in another order in Halpe, face and hands in the same
    assert match_joints(halpe, whole).tolist() == [*range(17), 20, 22, 24, 21, 23, 25, *range(26, 136)]
    assert match_joints(halpe, load_skeleton("halpe26")).tolist() == list(range(26))
    with pytest.raises(SkeletonError, match="no counterpart of left_foot_index, right_foot_index"):
        match_joints(whole, mediapipe)
