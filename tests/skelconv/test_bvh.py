"""BVH files: read back by a small reader of its own, they give the positions up to constant bone lengths."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from skelconv.export import ExportError, export_store
from skelconv.export.bvh import to_zxy
from skelconv.store.info import Provenance
from skelconv.store.store import Store, open_store
from skelconv.store.writer import write_store
from skelformats.reader import Clip, Dataset, Track
from skelformats.skeleton import load_skeleton


def about(z: float, x: float, y: float) -> np.ndarray:
    """Rz Rx Ry of degrees, factor by factor."""
    cz, sz, cx, sx, cy, sy = (f(math.radians(a)) for a in (z, x, y) for f in (math.cos, math.sin))
    return (
        np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
        @ np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    )


def played(path: Path) -> tuple[dict[str, np.ndarray], float]:
    """Places of every joint (T, 3) by name, and the frame time, as a player computes them."""
    head, motion = path.read_text().split("MOTION\n")
    lines = motion.strip().splitlines()
    rows = [[float(word) for word in line.split()] for line in lines[2:]]
    assert lines[0] == f"Frames: {len(rows)}"
    found: dict[str, np.ndarray] = {}
    for t, row in enumerate(rows):
        numbers = iter(row)
        stack: list[tuple[np.ndarray, np.ndarray]] = []
        name, place, turned = "", np.zeros(3), np.eye(3)
        for line in head.splitlines():
            words = line.split()
            if words[0] in ("ROOT", "JOINT", "End"):
                name = words[1]
            elif words[0] == "{":
                stack.append((place, turned))
            elif words[0] == "OFFSET":
                place = place + turned @ np.array([float(word) for word in words[1:]])
            elif words[0] == "CHANNELS":
                assert words[-3:] == ["Zrotation", "Xrotation", "Yrotation"]
                if words[1] == "6":
                    assert words[2:5] == ["Xposition", "Yposition", "Zposition"]
                    place = place + [next(numbers) for _ in range(3)]
                turned = turned @ about(*(next(numbers) for _ in range(3)))
                found.setdefault(name, np.zeros((len(rows), 3)))[t] = place
            elif words[0] == "}":
                place, turned = stack.pop()
        assert next(numbers, None) is None, "as many numbers as channels"
    return found, float(re.sub("Frame Time: ", "", lines[1]))


def a_store(
    path: Path, position: np.ndarray, layout: str = "h36m17", rate: float | None = 50.0, skip: int = 0
) -> Store:
    dataset = Dataset(
        name="people", title="people", skeleton=layout, licence="none", citation="none", homepage="none",
        frame_rate=rate, classes=(), columns=(), protocols=(), missing="NaN",
    )  # fmt: skip
    index = np.arange(len(position) + skip, dtype=np.int32)
    index = np.delete(index, slice(3, 3 + skip))
    clip = Clip("take 1", int(index[-1]) + 1, (Track("0", index, position.astype(np.float32)),), -1, {}, {})
    write_store(path, dataset, [("a", clip)], Provenance(tool="tests", command="tests", digest="a"))
    return open_store(path)


def rigid(layout: str, frames: int, seed: int = 0) -> np.ndarray:
    """(T, J, 3) random motion whose bones keep their lengths."""
    skeleton, rng = load_skeleton(layout), np.random.default_rng(seed)
    place = np.zeros((frames, len(skeleton), 3))

    def depth(joint: int) -> int:
        return 0 if skeleton.parents[joint] < 0 else 1 + depth(skeleton.parents[joint])

    for joint in sorted(range(len(skeleton)), key=depth):
        parent = skeleton.parents[joint]
        walk = rng.normal(size=3) + 0.3 * rng.normal(size=(frames, 3)).cumsum(axis=0)
        way = walk / np.linalg.norm(walk, axis=-1, keepdims=True)
        place[:, joint] = walk if parent < 0 else place[:, parent] + rng.uniform(0.1, 0.5) * way
    return place


@pytest.mark.parametrize("layout", ["h36m17", "smpl24", "ntu25"])
def test_it_plays_back_to_the_positions(tmp_path: Path, layout: str) -> None:
    place = rigid(layout, 12)
    done = export_store(a_store(tmp_path / "a.zarr", place, layout), tmp_path / "out", "bvh")
    (file,) = (tmp_path / "out").glob("*.bvh")
    found, step = played(file)
    assert step == pytest.approx(1 / 50, abs=1e-6)
    for joint, name in enumerate(load_skeleton(layout).names):
        np.testing.assert_allclose(found[name], 100 * place[:, joint], atol=2e-3)
    assert "centimetres" in done.describe()


def test_bones_are_as_long_as_in_the_mean_and_point_as_they_do(tmp_path: Path) -> None:
    place = rigid("h36m17", 9)
    place += np.random.default_rng(1).normal(0, 0.02, place.shape)
    export_store(a_store(tmp_path / "a.zarr", place), tmp_path / "out", "bvh")
    found, _ = played(next((tmp_path / "out").glob("*.bvh")))
    skeleton = load_skeleton("h36m17")
    for joint, parent in enumerate(skeleton.parents):
        if parent < 0:
            continue
        bone = place[:, joint] - place[:, parent]
        seen = found[skeleton.names[joint]] - found[skeleton.names[parent]]
        length = np.linalg.norm(bone, axis=-1)
        np.testing.assert_allclose(seen, 100 * length.mean() * bone / length[:, None], atol=3e-3)


def test_missing_frames_and_joints_are_interpolated_and_a_lost_joint_is_a_sentence(tmp_path: Path) -> None:
    place = np.repeat(rigid("h36m17", 1), 6, axis=0)
    place[..., 0] += np.array([0, 0.1, 0.2, 0.6, 0.7, 0.8])[:, None]
    place[1, 5] = np.nan
    export_store(a_store(tmp_path / "a.zarr", place, skip=3), tmp_path / "out", "bvh")
    found, _ = played(next((tmp_path / "out").glob("*.bvh")))
    np.testing.assert_allclose(np.diff(found["pelvis"][:, 0]), 10, atol=1e-3)
    place[:, 10] = np.nan
    with pytest.raises(ExportError, match="no place of head_top in any frame"):
        export_store(a_store(tmp_path / "b.zarr", place), tmp_path / "b", "bvh")


def test_a_bone_of_no_length_and_one_that_turns_round_are_no_trouble(tmp_path: Path) -> None:
    place = np.repeat(rigid("h36m17", 1), 4, axis=0)
    place[:, 3] = place[:, 2]
    place[2, 6] = 2 * place[2, 5] - place[2, 6]
    export_store(a_store(tmp_path / "a.zarr", place, rate=None), tmp_path / "out", "bvh")
    found, step = played(next((tmp_path / "out").glob("*.bvh")))
    np.testing.assert_allclose(found["left_ankle"], 100 * place[:, 6], atol=2e-3)
    np.testing.assert_allclose(found["right_ankle"], 100 * place[:, 2], atol=2e-3)
    assert step == pytest.approx(1 / 30, abs=1e-6)


def test_angles_give_the_rotation_even_where_two_axes_meet() -> None:
    rng = np.random.default_rng(0)
    angles = rng.uniform(-180, 180, (50, 3))
    angles[:, 1] /= 2
    angles[:5, 1] = 90
    angles[5:10, 1] = -90
    turned = np.stack([about(*row) for row in angles])
    np.testing.assert_allclose(np.stack([about(*row) for row in to_zxy(turned)]), turned, atol=1e-7)


def test_2d_poses_have_no_rotations(tmp_path: Path) -> None:
    from tests.skeltrain.motion_stores import write_2d

    with pytest.raises(ExportError, match="found 2D poses"):
        export_store(open_store(write_2d(tmp_path / "flat.zarr", "coco17", "f4")), tmp_path / "out", "bvh")
