"""The layouts of the pose sets: tables of the specification, and what their own files say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from skelformats.skeleton import load_skeleton, match_joints

NAMES = {
    "coco17": "coco17",
    "halpe26": "halpe26",
    "openpose25": "openpose25",
    "mpi28": "mpi3dhp28",
    "mpii16": "mpii16",
    "posetrack17": "posetrack17",
}


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


@pytest.mark.parametrize("name", NAMES)
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
