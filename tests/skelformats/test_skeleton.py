"""Joint layouts: what a layout file must say, and carrying joints over by name."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelformats.errors import UnknownNameError
from skelformats.skeleton import (
    PARTS,
    Skeleton,
    SkeletonError,
    load_skeleton,
    match_joints,
    remap,
    skeleton_names,
)

NTU, UCLA, TOYOTA = (load_skeleton(name) for name in ("ntu25", "ucla20", "toyota13"))


@pytest.mark.parametrize("name", skeleton_names())
def test_every_shipped_layout_is_sound_and_survives_being_written_down(name: str) -> None:
    skeleton = load_skeleton(name)
    assert Skeleton.from_dict(json.loads(json.dumps(skeleton.to_dict()))) == skeleton
    assert len(skeleton.edges) == len(skeleton) - 1
    assert [skeleton.mirror[i] for i in skeleton.mirror] == list(range(len(skeleton)))


@pytest.mark.parametrize(
    ("skeleton", "order"),
    [
        (NTU, [3, 2, 20, 1, 0, 4, 5, 6, 7, 22, 21, 8, 9, 10, 11, 24, 23, *range(12, 20)]),
        (UCLA, [3, 2, 1, 0, *range(4, 20)]),
        (TOYOTA, [12, 11, 9, 7, 10, 8, 6, 5, 3, 1, 4, 2, 0]),
    ],
)
def test_columns_stand_as_in_the_papers_table_14(skeleton: Skeleton, order: list[int]) -> None:
    assert list(skeleton.column_order) == order


def test_bones_are_the_published_pairs() -> None:
    """2s-AGCN and after: (joint, reference), counted from 1; the root is its own."""
    ntu = (
        "1,2 2,21 3,21 4,3 5,21 6,5 7,6 8,7 9,21 10,9 11,10 12,11 13,1 14,13 15,14 16,15 17,1 18,17 19,18 "
        "20,19 22,23 21,21 23,8 24,25 25,12"
    )
    ucla = (
        "1,2 2,3 3,3 4,3 5,3 6,5 7,6 8,7 9,3 10,9 11,10 12,11 13,1 14,13 15,14 16,15 17,1 18,17 19,18 20,19"
    )
    for skeleton, pairs in ((NTU, ntu), (UCLA, ucla)):
        for pair in pairs.split():
            joint, reference = (int(number) - 1 for number in pair.split(","))
            assert skeleton.bones[joint] == (() if joint == reference else (reference,))


def test_a_bone_is_a_joint_minus_the_mean_of_its_references() -> None:
    position = np.random.default_rng(0).normal(size=(13, 3))
    bones = TOYOTA.bone_matrix() @ position
    head, shoulders = TOYOTA.index("head"), [TOYOTA.index("left_shoulder"), TOYOTA.index("right_shoulder")]
    np.testing.assert_allclose(bones[head], position[head] - position[shoulders].mean(axis=0))
    root = NTU.index("spine_shoulder")
    assert not NTU.bone_matrix()[root].any()


def test_joints_are_found_by_their_own_official_and_equivalent_names() -> None:
    assert NTU.index("left_wrist") == NTU.index("WristLeft") == 6
    assert NTU.index("shoulder_center") == 20
    with pytest.raises(UnknownNameError, match="Did you mean 'left_wrist'"):
        NTU.index("left_wrst")


def test_joints_are_carried_over_by_name() -> None:
    match = match_joints(NTU, UCLA)
    assert match[:3].tolist() == [0, 1, 20], "Kinect v1's ShoulderCenter is Kinect v2's SpineShoulder"
    assert [NTU.names[i] for i in match_joints(NTU, TOYOTA)] == list(TOYOTA.names)
    position = np.random.default_rng(0).normal(size=(4, 25, 3))
    np.testing.assert_array_equal(remap(position, NTU, TOYOTA)[:, 12], position[:, 3])


def test_joints_without_a_counterpart_are_all_named() -> None:
    with pytest.raises(SkeletonError) as error:
        match_joints(TOYOTA, UCLA)
    for name in ("hip_center", "spine", "shoulder_center", "left_hand", "right_foot"):
        assert name in str(error.value)


def test_an_unknown_layout_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'toyota13'"):
        load_skeleton("toyota_13")


Edit = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (
            lambda d: d["joint"][5].update(parent="knee"),
            "parent of left_elbow names the unknown joint 'knee'",
        ),
        (lambda d: d["joint"][5].update(parent="left_wrist"), "run in a circle"),
        (lambda d: d["joint"][5].update(parent=""), "exactly one root, found 2"),
        (lambda d: d["joint"][5].update(mirror="left_wrist"), "does not mirror it back"),
        (lambda d: d["joint"][5].update(name="head"), "stands twice"),
        (lambda d: d["joint"][5].update(colour="red"), "unknown joint keys ['colour']"),
        (lambda d: d["joint"][5].pop("name"), "has no name"),
        (lambda d: d["joint"][5].update(bone=["left_elbow"]), "is its own bone"),
        (lambda d: d["parts"]["spine"].append("left_elbow"), "stands in two parts"),
        (lambda d: d["parts"].update(spine=[]), "a part is empty"),
        (lambda d: d["parts"].pop("left_leg"), "parts must be"),
        (lambda d: d.update(origin=[]), "no origin"),
        (lambda d: d.update(joint=[]), "no [[joint]]"),
        (lambda d: d.update(joints=[]), "unknown keys ['joints']"),
        (lambda d: d.update(joint="head"), "'joint' is 'head' of type str, expected tables [[joint]]"),
        (lambda d: d.update(joint=[1]), "expected tables [[joint]]"),
        (lambda d: d.update(parts=[1]), "'parts' is [1] of type list, expected a table [parts]"),
        (
            lambda d: d["parts"].update(spine=3),
            "'parts.spine' is 3 of type int, expected a list of joint names",
        ),
        (lambda d: d.update(origin="spine"), "'origin' is 'spine' of type str, expected a list"),
        (lambda d: d.update(title=["x"]), "'title' is ['x'] of type list, expected text"),
        (lambda d: d["joint"][5].update(parent=4), "'joint[5].parent' is 4 of type int, expected text"),
        (lambda d: d["joint"][5].update(name=4), "'joint[5].name' is 4 of type int, expected text"),
        (lambda d: d["joint"][5].update(bone=4), "'joint[5].bone' is 4 of type int, expected a list"),
        (
            lambda d: d["joint"][5].update(same_as="x"),
            "'joint[5].same_as' is 'x' of type str, expected a list",
        ),
    ],
)
def test_a_layout_that_contradicts_itself_is_refused(edit: Edit, complaint: str) -> None:
    data = copy.deepcopy(NTU.to_dict())
    edit(data)
    with pytest.raises(SkeletonError) as error:
        Skeleton.from_dict(data)
    assert complaint in str(error.value)
    assert "'ntu25'" in str(error.value)


def test_the_order_of_the_parts_is_fixed() -> None:
    data = NTU.to_dict()
    data["parts"] = {part: data["parts"][part] for part in reversed(PARTS)}
    with pytest.raises(SkeletonError, match="in this order"):
        Skeleton.from_dict(data)


MINE = """
name = "mine"
origin = ["hip"]
[[joint]]
name = "hip"
[[joint]]
name = "head"
parent = "hip"
[[joint]]
name = "left_hand"
parent = "hip"
mirror = "right_hand"
[[joint]]
name = "right_hand"
parent = "hip"
mirror = "left_hand"
[[joint]]
name = "left_foot"
parent = "hip"
mirror = "right_foot"
[[joint]]
name = "right_foot"
parent = "hip"
mirror = "left_foot"
[parts]
spine = ["hip", "head"]
left_arm = ["left_hand"]
right_arm = ["right_hand"]
left_leg = ["left_foot"]
right_leg = ["right_foot"]
"""


class TestALayoutFromAFile:
    def test_is_loaded_by_its_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "my.toml").write_text(MINE)
        monkeypatch.chdir(tmp_path)
        for place in ("my.toml", str(tmp_path / "my.toml"), tmp_path / "my.toml"):
            skeleton = load_skeleton(place)
            assert (skeleton.name, len(skeleton)) == ("mine", 6)

    def test_is_called_by_its_file_where_it_has_no_name(self, tmp_path: Path) -> None:
        (tmp_path / "six.toml").write_text(MINE.replace('name = "mine"', "", 1))
        assert load_skeleton(tmp_path / "six.toml").name == "six"

    def test_is_read_anew_when_it_has_changed(self, tmp_path: Path) -> None:
        path = tmp_path / "my.toml"
        path.write_text(MINE)
        load_skeleton(path)
        path.write_text(MINE.replace('"mine"', '"yours"'))
        os.utime(path, ns=(1, 1))
        assert load_skeleton(path).name == "yours"

    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            (MINE.replace("[parts]", "[parts"), "is not TOML"),
            (b"\xff\xfe", "is not TOML"),
            (
                MINE.replace('mirror = "left_foot"', "mirror = 3"),
                "'joint[5].mirror' is 3 of type int, expected text",
            ),
            (MINE.replace('"mine"', '"ntu25"'), "'name' is 'ntu25', which is another layout"),
            ("a = " + "[" * 5000, "is not TOML"),
        ],
    )
    def test_that_is_damaged_is_refused_by_file_and_key(
        self, tmp_path: Path, content: str | bytes, complaint: str
    ) -> None:
        path = tmp_path / "my.toml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(SkeletonError) as error:
            load_skeleton(path)
        assert str(error.value).startswith(f"{path}: ")
        assert complaint in str(error.value)

    def test_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SkeletonError, match=r"absent\.toml: found no file"):
            load_skeleton(tmp_path / "absent.toml")
        (tmp_path / "folder.toml").mkdir()
        with pytest.raises(SkeletonError, match=r"folder\.toml: found no file"):
            load_skeleton(tmp_path / "folder.toml")


def test_ntu25_agrees_with_the_checked_tables(golden_numbers: Path) -> None:
    checked = json.loads((golden_numbers / "skeletons.json").read_text())["ntu25"]
    assert list(NTU.parents) == checked["parents"]
    assert [list(part) for part in NTU.parts] == list(checked["s2i_parts"].values())
    assert {tuple(sorted(pair)) for pair in checked["left_right_pairs"]} == {
        tuple(sorted((i, other))) for i, other in enumerate(NTU.mirror) if i != other
    }
