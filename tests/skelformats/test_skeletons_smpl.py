"""The layouts of the SMPL family, against the survey's checked tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from skelformats.skeleton import PARTS, load_skeleton, match_joints

NAMES = ("smpl22", "smpl24", "smplh52")


@pytest.mark.parametrize("name", NAMES)
def test_a_layout_is_that_of_the_survey(golden_numbers: Path, name: str) -> None:
    table = json.loads((golden_numbers / "skeletons.json").read_text())[name]
    skeleton = load_skeleton(name)
    sides = {"l": "left", "r": "right"}
    want = tuple(f"{sides[n[0]]}{n[1:]}" if n[1] == "_" else n for n in table["names"])
    assert skeleton.names == want
    assert list(skeleton.parents) == table["parents"]
    pairs = sorted([i, other] for i, other in enumerate(skeleton.mirror) if i < other)
    assert pairs == sorted(table["left_right_pairs"])
    assert {part: list(group) for part, group in zip(PARTS, skeleton.parts, strict=True)} == table[
        "s2i_parts"
    ]


@pytest.mark.parametrize("name", [*NAMES, "smplx55"])
def test_bones_follow_the_kinematic_tree_and_columns_hold_every_joint(name: str) -> None:
    skeleton = load_skeleton(name)
    assert skeleton.bones == tuple((p,) if p >= 0 else () for p in skeleton.parents)
    assert sorted(skeleton.column_order) == list(range(len(skeleton)))
    assert all(parent < child for child, parent in enumerate(skeleton.parents))


def test_the_body_is_the_same_in_all_and_the_hands_of_smplx_are_those_of_smplh() -> None:
    for name in ("smpl24", "smplh52", "smplx55"):
        np.testing.assert_array_equal(match_joints(load_skeleton(name), load_skeleton("smpl22")), range(22))
    want = [*range(22), *range(25, 55)]
    np.testing.assert_array_equal(match_joints(load_skeleton("smplx55"), load_skeleton("smplh52")), want)
    assert load_skeleton("smplx55").names[22:25] == ("jaw", "left_eye", "right_eye")
