"""The canonical facing: a clip turned about the vertical cleans to the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from skelconv.clean import Actors, CleaningError, clean
from skelconv.clean.facing import FACING_FRAMES, turn_to_face_z
from skelconv.store.recording import Recording, Sequence
from skelformats.errors import UnknownNameError
from skelformats.reader import ReadOptions, Source
from skelformats.skeleton import Skeleton, load_skeleton
from skelformats.ucla import read
from tests.skelconv.scenes import NTU25, TOYOTA13, UCLA20, body, recording

COCO17 = load_skeleton("coco17")


def about_vertical(angle: float) -> NDArray[np.float64]:
    """Turn x towards -z, as a right hand with its thumb up turns."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])


def turned(take: Recording, angle: float) -> Recording:
    bodies = (
        replace(one, position=(one.position @ about_vertical(angle).T).astype(np.float32))
        for one in take.bodies
    )
    return replace(take, bodies=tuple(bodies))


def standing(frames: range, skeleton: Skeleton, seed: int = 0, jitter: float = 0.02) -> Sequence:
    """Make somebody who faces +z: left joints at +x, right ones at -x."""
    one = body(frames, seed, motion=jitter, joints=len(skeleton))
    for side, place in (("left", 0.2), ("right", -0.2)):
        for part in ("hip", "shoulder"):
            one.position[:, skeleton.index(f"{side}_{part}")] += (place, 0, 0)
    return one


def across(actors: Actors, skeleton: Skeleton, person: int = 0) -> NDArray[np.float64]:
    """(3,) from the right to the left hip and shoulder, over the frames that decide the facing."""
    poses = actors.position[person, actors.present[person]][:FACING_FRAMES].astype(np.float64)
    left, right = (
        [skeleton.index(f"{side}_{part}") for part in ("hip", "shoulder")] for side in ("left", "right")
    )
    way: NDArray[np.float64] = (poses[:, left] - poses[:, right]).sum(axis=(0, 1))
    return way


@pytest.mark.parametrize("chain", ["metric_facing", "ucla_facing"])
@pytest.mark.parametrize("skeleton", [NTU25, UCLA20, TOYOTA13, COCO17], ids=lambda one: one.name)
@pytest.mark.parametrize("angle", [0.4, 1.9, np.pi, -2.5])
def test_a_clip_turned_about_the_vertical_cleans_to_the_same(
    skeleton: Skeleton, chain: str, angle: float
) -> None:
    take = recording(standing(range(20), skeleton, 1), standing(range(4, 15), skeleton, 2))
    here, there = clean(take, chain, skeleton), clean(turned(take, angle), chain, skeleton)
    np.testing.assert_allclose(here.position, there.position, atol=1e-5)


@pytest.mark.parametrize("angle", [0.0, 2.2])
def test_the_main_person_faces_z_and_its_left_is_at_x(angle: float) -> None:
    actors = clean(turned(recording(standing(range(9), UCLA20)), angle), "metric_facing", UCLA20)
    way = across(actors, UCLA20)
    assert way[0] > 1
    assert abs(way[2]) < 1e-4
    # left x up is forward in right-handed axes
    assert np.cross(way, (0, 1, 0))[2] > 1


def test_it_is_one_rotation_for_all_persons_and_frames() -> None:
    take = recording(standing(range(9), NTU25, 1), standing(range(2, 9), NTU25, 2))
    before, after = clean(take, "metric", NTU25), clean(take, "metric_facing", NTU25)
    way = across(before, NTU25)
    rotation = about_vertical(np.arctan2(way[2], way[0]))
    np.testing.assert_allclose(after.position, before.position @ rotation.T, atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(rotation), 1)
    assert not after.position[1, :2].any(), "an absent person stays at 0"


def test_later_frames_do_not_change_the_facing() -> None:
    one = standing(range(12), UCLA20)
    other = replace(one, position=one.position.copy())
    other.position[FACING_FRAMES:] = other.position[FACING_FRAMES:, ::-1]
    first, second = (clean(recording(take), "metric_facing", UCLA20) for take in (one, other))
    np.testing.assert_array_equal(first.position[:, :FACING_FRAMES], second.position[:, :FACING_FRAMES])


def test_missing_joints_stay_at_zero_and_do_not_count() -> None:
    one = standing(range(9), UCLA20)
    gone = UCLA20.index("left_shoulder")
    one.position[:3, gone] = np.nan
    actors = clean(turned(recording(one), 1.0), "metric_facing", UCLA20)
    assert not actors.position[0, :3, gone].any()
    np.testing.assert_allclose(
        actors.position, clean(recording(one), "metric_facing", UCLA20).position, atol=1e-5
    )


def test_the_first_person_that_shows_a_pair_decides() -> None:
    hidden, seen = standing(range(9), UCLA20, 1), standing(range(9), UCLA20, 2)
    sides = [UCLA20.index(f"left_{part}") for part in ("hip", "shoulder")]
    hidden.position[:, sides] = np.nan
    actors = clean(turned(recording(hidden, seen), 2.0), "metric_facing", UCLA20)
    way = across(actors, UCLA20, person=1)
    assert way[0] > 1
    assert abs(way[2]) < 1e-4


def test_a_clip_whose_facing_nobody_can_tell_is_left_as_it_is() -> None:
    without, lying = standing(range(5), UCLA20, 1), standing(range(5), UCLA20, 2, jitter=0.0)
    without.position[:, [UCLA20.index(f"left_{part}") for part in ("hip", "shoulder")]] = np.nan
    for part in ("hip", "shoulder"):
        left, right = UCLA20.index(f"left_{part}"), UCLA20.index(f"right_{part}")
        lying.position[:, left] = lying.position[:, right] + np.float32((0, 0.4, 0.01))
    for one in (without, lying):
        before = clean(recording(one), "metric", UCLA20)
        assert turn_to_face_z(before, UCLA20) is before


def test_a_layout_without_hips_by_name_and_pixels_are_refused() -> None:
    hand = replace(
        UCLA20, joints=tuple(replace(one, name=f"j{k}", same_as=()) for k, one in enumerate(UCLA20.joints))
    )
    with pytest.raises(UnknownNameError, match="left_hip"):
        clean(recording(standing(range(5), UCLA20)), "metric_facing", hand)
    one = body(range(5), joints=20)
    flat = replace(one, position=one.position[..., :2])
    with pytest.raises(CleaningError, match="found positions of 2 axes, expected 3"):
        clean(recording(flat), "metric_facing", UCLA20)


@pytest.mark.real
def test_the_same_performance_before_three_cameras_comes_out_more_alike(shared_data: Path) -> None:
    """First poses of a performance before three cameras: nearer to each other, though not the same.

    Kinect's hips and shoulders of somebody seen from the side stand too close and too frontal, so that no
    turn brings two cameras' poses together.
    """
    folder = shared_data / "ucla" / "all_sqe"
    apart: dict[str, list[float]] = {"metric": [], "metric_facing": []}
    for stem in ("a01_s01_e00", "a05_s01_e00", "a06_s02_e00", "a08_s04_e01", "a11_s08_e00"):
        takes = []
        for view in (1, 2, 3):
            (clip,) = read(folder, Source(f"{stem}_v0{view}.json", 0), ReadOptions())
            (track,) = clip.tracks
            takes.append(
                Recording(stem, clip.length, (Sequence("b0", "0", track.frame_index, track.position),))
            )
        for chain, found in apart.items():
            poses = [clean(take, chain, UCLA20).position[0, 0] for take in takes]
            found += [float(np.linalg.norm(one - poses[0], axis=-1).mean()) for one in poses[1:]]
    assert np.mean(apart["metric_facing"]) < 0.95 * np.mean(apart["metric"]), apart
