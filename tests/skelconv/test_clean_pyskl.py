"""The steps of the pyskl chain that differ from SGN's, and the rotation it shares with MS-G3D."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from skelconv.clean import clean
from skelconv.clean import pyskl as pyskl
from skelconv.clean.candidates import Actors, CleaningError, cast_every_body, zero_missing_joints
from skelconv.clean.rotate import rotation_onto, turn_upright, upright_joints
from skelconv.store.recording import Sequence
from tests.skelconv.scenes import NTU25, UCLA20, body, recording


def actors(*bodies: Sequence, length: int | None = None) -> Actors:
    return cast_every_body(zero_missing_joints(recording(*bodies, length=length), NTU25), NTU25)


class TestSpread:
    def test_the_last_body_is_dropped_too_and_that_is_an_error(self) -> None:
        candidates = zero_missing_joints(
            recording(body(range(30), 1, wide=30), body(range(30), 2, wide=30)), NTU25
        )
        with pytest.raises(CleaningError, match="found 2 bodies wider than high"):
            pyskl.drop_all_spread_bodies(candidates, NTU25)

    def test_an_upright_body_stays(self) -> None:
        candidates = zero_missing_joints(recording(body(range(30), 1, wide=30), body(range(30), 2)), NTU25)
        assert [one.body for one in pyskl.drop_all_spread_bodies(candidates, NTU25).bodies] == [1]

    def test_a_single_body_is_not_judged(self) -> None:
        candidates = zero_missing_joints(recording(body(range(30), wide=30)), NTU25)
        assert pyskl.drop_all_spread_bodies(candidates, NTU25) is candidates


class TestActors:
    def chosen(self, *frames: range) -> Actors:
        candidates = zero_missing_joints(
            recording(*(body(one, seed) for seed, one in enumerate(frames))), NTU25
        )
        return pyskl.choose_apart_actors(candidates, NTU25)

    def test_bodies_that_do_not_touch_are_stitched(self) -> None:
        stitched = self.chosen(range(10), range(10, 20))
        np.testing.assert_array_equal(stitched.body[0], [0] * 10 + [1] * 10)

    def test_a_touch_of_one_frame_is_an_overlap(self) -> None:
        apart = self.chosen(range(11), range(10, 20))
        assert (apart.body[0] == 0).sum() == 11
        assert (apart.body[1] == 1).sum() == 10

    def test_a_lone_body_is_one_actor(self) -> None:
        assert len(self.chosen(range(4)).position) == 1


class TestOrder:
    def test_empty_ends_go_and_a_gap_inside_stays(self) -> None:
        trimmed = pyskl.trim_empty_ends(actors(body([2, 3, 6]), length=9), NTU25)
        np.testing.assert_array_equal(trimmed.frame_index, [2, 3, 4, 5, 6])

    def test_a_frame_is_empty_below_a_thousandth_and_not_from_there_on(self) -> None:
        one = body(range(3))
        one.position[[0, 2]] = 0
        one.position[0, 4, 0], one.position[2, 4, 0] = 0.0009, 0.0011
        np.testing.assert_array_equal(pyskl.trim_empty_ends(actors(one), NTU25).frame_index, [1, 2])

    def test_the_person_who_is_there_at_the_start_comes_first(self) -> None:
        swapped = pyskl.put_present_actor_first(actors(body(range(2, 9), 1), body(range(4), 2)), NTU25)
        np.testing.assert_array_equal(swapped.body[:, 3], [1, 0])

    @pytest.mark.parametrize("second", [range(9), range(3, 9)])
    def test_nobody_is_swapped_when_the_first_is_there_at_the_start(self, second: range) -> None:
        two = actors(body(range(9), 1), body(second, 2))
        assert pyskl.put_present_actor_first(two, NTU25) is two

    def test_the_longer_one_comes_first_and_only_its_frames_stay(self) -> None:
        kept = pyskl.keep_longer_actor(actors(body(range(4), 1), body(range(2, 9), 2)), NTU25)
        np.testing.assert_array_equal(kept.frame_index, range(2, 9))
        assert (kept.body[0] == 1).all()

    def test_equally_long_ones_keep_their_order(self) -> None:
        kept = pyskl.keep_longer_actor(actors(body(range(4), 1), body(range(2, 6), 2)), NTU25)
        assert (kept.body[0] == 0).all()


class TestNormalisation:
    def test_rounding_is_to_half_precision(self) -> None:
        one = actors(body(range(4)))
        rounded = pyskl.round_to_half(one, NTU25).position
        np.testing.assert_array_equal(rounded, one.position.astype(np.float16))
        assert 1e-5 < np.abs(rounded - one.position).max() < 2e-3

    def test_only_observed_joints_are_centred(self) -> None:
        one = body(range(3))
        one.position[1, 5] = np.nan
        centred = pyskl.centre_observed_joints(actors(one), NTU25).position[0]
        assert not centred[1, 5].any()
        np.testing.assert_array_equal(centred[2], one.position[2] - one.position[0, 1])

    def test_frame_0_stands_upright_and_lengths_stay(self) -> None:
        turned = clean(recording(body(range(20))), "pyskl_prenorm", NTU25).position[0]
        base, middle, left, right = upright_joints(NTU25)
        shoulders = turned[0, right] - turned[0, left]
        np.testing.assert_allclose(shoulders[1:], 0, atol=1e-6)
        assert shoulders[0] > 0
        np.testing.assert_allclose(turned[0, middle], 0, atol=1e-6)
        raw = body(range(20)).position.astype(np.float16).astype(np.float32)
        np.testing.assert_allclose(
            np.linalg.norm(turned[:, 3] - turned[:, base], axis=-1),
            np.linalg.norm(raw[:, 3] - raw[:, base], axis=-1),
            rtol=1e-5,
        )


class TestRotation:
    @pytest.mark.parametrize("axis", [0, 1, 2])
    @pytest.mark.parametrize("vector", [(0.3, -2.0, 0.1), (1e-3, 1e-3, -1.0), (0.0, 5.0, 0.2)])
    def test_it_turns_the_vector_onto_the_axis_and_is_a_rotation(
        self, axis: int, vector: tuple[float, float, float]
    ) -> None:
        matrix = rotation_onto(np.array(vector), axis)
        np.testing.assert_allclose(matrix @ vector, np.linalg.norm(vector) * np.eye(3)[axis], atol=1e-12)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(matrix) == pytest.approx(1)

    @pytest.mark.parametrize("vector", [(0.0, 0.0, 0.0), (0.0, 0.0, 2.0), (0.0, 0.0, -2.0)])
    def test_it_is_the_identity_where_the_turn_has_no_axis(self, vector: tuple[float, float, float]) -> None:
        np.testing.assert_array_equal(rotation_onto(np.array(vector), 2), np.eye(3))

    def test_joints_are_found_by_name_in_other_layouts(self) -> None:
        pose: NDArray[np.float64] = body([0], joints=20).position[0].astype(np.float64)
        turned = turn_upright(pose, pose, UCLA20)
        _, _, left, right = upright_joints(UCLA20)
        np.testing.assert_allclose((turned[right] - turned[left])[1:], 0, atol=1e-12)

    def test_a_reference_without_joints_leaves_everything_as_it_is(self) -> None:
        pose = np.ones((25, 3))
        np.testing.assert_array_equal(turn_upright(pose, np.zeros((25, 3)), NTU25), pose)


def test_a_swap_moves_everything_that_belongs_to_a_person() -> None:
    two = actors(body(range(4), 1), body(range(2), 2))
    swapped = two.take_persons([1, 0])
    for name in ("position", "present", "body", "row"):
        np.testing.assert_array_equal(getattr(swapped, name), getattr(two, name)[::-1])
    assert replace(swapped, frame_index=two.frame_index).recording == "walk"
