"""Pictures of poses agree with the poses: what a pixel shows is what its ray meets."""

from __future__ import annotations

import numpy as np
import pytest

from skelconv.human.body import Body, Controls, solve
from skelconv.view.figures import (
    BACKGROUND,
    FigureError,
    PinholeCamera,
    draw_figures,
    limb_radius,
)
from skelformats.skeleton import load_skeleton

LAYOUT = load_skeleton("ntu25")
CAMERA = PinholeCamera.looking_at((0, 0.9, 0), (0.8, 1.3, 3.0), 190.0, (192, 256))


def standing(x: float = 0.0, z: float = 0.0) -> np.ndarray:
    body = Body.of_stature(1.75)
    controls = Controls.standing(body, 1)
    controls.hand["left"][:] = (0.7, 0.3, 0.4)
    pose = solve(body, controls).layout(LAYOUT)[0]
    return pose + np.array([x, 0.0, z])


def test_a_joint_lies_in_the_pixels_of_its_limbs() -> None:
    pose = standing()
    found = draw_figures([pose], LAYOUT, CAMERA)
    pixel, depth = CAMERA.project(pose), CAMERA.to_camera(pose)[:, 2]
    inner = set(LAYOUT.parents)
    own = 0
    for joint, (x, y) in enumerate(pixel):
        row, column = int(y), int(x)
        assert found.limb[row, column] != BACKGROUND, LAYOUT.names[joint]
        # something nearer may be seen there, never anything behind the joint
        assert found.depth[row, column] < depth[joint]
        seen = int(found.limb[row, column])
        own += seen == joint or LAYOUT.parents[seen] == joint
    assert own >= len(inner)


def test_each_pixel_shows_what_its_ray_meets_first() -> None:
    """Against the distance from points along each ray to each limb, computed anew."""
    camera = PinholeCamera((30.0, 33.0), (12.3, 15.1), (24, 32))
    pose = standing()
    pose = np.stack([pose[:, 0], 0.9 - pose[:, 1], pose[:, 2] + 2.5], axis=-1)
    found = draw_figures([pose], LAYOUT, camera)
    steps = np.arange(1.9, 3.1, 0.002)
    differing = 0
    for row in range(32):
        for column in range(24):
            ray = np.array([(column + 0.5 - 12.3) / 30.0, (row + 0.5 - 15.1) / 33.0, 1.0])
            points = steps[:, None] * ray
            first = np.inf
            for joint, parent in enumerate(LAYOUT.parents):
                if parent >= 0:
                    axis = pose[parent] - pose[joint]
                    part = np.clip((points - pose[joint]) @ axis / max(axis @ axis, 1e-12), 0, 1)
                    away = np.linalg.norm(points - pose[joint] - part[:, None] * axis, axis=1)
                    inside = np.flatnonzero(away < limb_radius(LAYOUT.names[joint]))
                    first = min(first, steps[inside[0]] if len(inside) else np.inf)
            if np.isinf(first) or np.isinf(found.depth[row, column]):
                differing += np.isinf(first) != np.isinf(found.depth[row, column])  # grazing rays
            else:
                assert found.depth[row, column] == pytest.approx(first, abs=0.0021)
    assert differing <= 2
    assert np.isfinite(found.depth).sum() > 60


def test_the_nearer_body_is_seen() -> None:
    far, near = standing(), standing(0.2, 0.8)
    both = draw_figures([far, near], LAYOUT, CAMERA)
    alone = [draw_figures([pose], LAYOUT, CAMERA) for pose in (far, near)]
    assert set(np.unique(both.body)) == {BACKGROUND, 0, 1}
    np.testing.assert_array_equal(both.depth, np.minimum(alone[0].depth, alone[1].depth))
    front = both.body == 1
    np.testing.assert_array_equal(both.image[front], alone[1].image[front])


def test_equal_input_gives_equal_bytes_and_background_is_plain() -> None:
    one, other = (draw_figures([standing()], LAYOUT, CAMERA) for _ in range(2))
    assert one.image.tobytes() == other.image.tobytes()
    assert (one.image[one.limb == BACKGROUND] == (233, 236, 240)).all()
    assert len(np.unique(one.image[one.limb != BACKGROUND], axis=0)) > 100


def test_left_is_on_the_right_of_a_picture_from_the_front() -> None:
    camera = PinholeCamera.looking_at((0, 0.9, 0), (0, 0.9, 3.0), 190.0, (192, 256))
    pose = standing()
    pixel = camera.project(pose)
    left, right = (pixel[LAYOUT.index(f"{side}_shoulder"), 0] for side in ("left", "right"))
    assert left > 96 > right
    assert pixel[LAYOUT.index("head"), 1] < pixel[LAYOUT.index("left_foot"), 1]


def test_a_limb_with_a_missing_joint_or_behind_the_camera_is_left_out() -> None:
    pose = standing()
    knee = LAYOUT.index("left_knee")
    pose[knee] = np.nan
    found = draw_figures([pose], LAYOUT, CAMERA)
    assert knee not in found.limb
    assert LAYOUT.index("left_ankle") not in found.limb
    assert LAYOUT.index("right_knee") in found.limb
    behind = draw_figures([standing(0, 20.0)], LAYOUT, CAMERA)
    assert (behind.limb == BACKGROUND).all()
    assert np.isnan(CAMERA.project(standing(0, 20.0))).all()


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(FigureError, match=r"expected \(25, 3\)"):
        draw_figures([np.zeros((17, 3))], LAYOUT, CAMERA)
    with pytest.raises(FigureError, match="positive"):
        draw_figures([standing()], LAYOUT, CAMERA, girth=0.0)
    with pytest.raises(FigureError, match="not vertical"):
        PinholeCamera.looking_at((0, 0, 0), (0, 2, 0), 100.0, (10, 10))
    with pytest.raises(FigureError, match="positive ones"):
        PinholeCamera((0.0, 1.0), (0, 0), (10, 10))
