"""Each step of the SGN / CTR-GCN chain on its own, each threshold from both sides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from skelconv.clean import clean
from skelconv.clean import ntu as ntu
from skelconv.clean.candidates import (
    Actors,
    Candidates,
    CleaningError,
    cast_every_body,
    drop_bodyless_frames,
    drop_empty_frames,
    gather_extra,
    zero_missing_joints,
)
from skelconv.store.recording import Sequence
from tests.skelconv.scenes import NTU25, TOYOTA13, body, recording


def candidates(*bodies: Sequence, length: int | None = None) -> Candidates:
    return zero_missing_joints(recording(*bodies, length=length), NTU25)


def with_motion(*pairs: tuple[range, float]) -> Candidates:
    """Bodies over the given frames, with the given motion."""
    made = candidates(*(body(frames, seed) for seed, (frames, _) in enumerate(pairs)))
    bodies = (replace(one, motion=motion) for one, (_, motion) in zip(made.bodies, pairs, strict=True))
    return replace(made, bodies=tuple(bodies))


class TestEntry:
    def test_missing_joints_become_zero_and_nothing_else_changes(self) -> None:
        one = body(range(4))
        one.position[1, 7] = np.nan
        entered = candidates(one).bodies[0].position
        assert not entered[1, 7].any()
        seen = ~np.isnan(one.position)
        np.testing.assert_array_equal(entered[seen], one.position[seen])

    def test_the_time_axis_has_every_frame_of_the_recording(self) -> None:
        entered = candidates(body([2, 3, 6]), length=9)
        np.testing.assert_array_equal(entered.frame_index, np.arange(9))
        np.testing.assert_array_equal(entered.bodies[0].place, [2, 3, 6])

    def test_frames_without_bodies_are_left_out_and_time_closes_up(self) -> None:
        closed = drop_bodyless_frames(candidates(body([2, 3, 6], 1), body([3, 8], 2), length=12), NTU25)
        np.testing.assert_array_equal(closed.frame_index, [2, 3, 6, 8])
        np.testing.assert_array_equal(closed.bodies[0].place, [0, 1, 2])
        np.testing.assert_array_equal(closed.bodies[1].place, [1, 3])

    def test_nothing_happens_where_every_frame_has_a_body(self) -> None:
        full = candidates(body(range(5)))
        assert drop_bodyless_frames(full, NTU25) is full


class TestGaps:
    def test_a_body_that_comes_back_is_shifted_early(self) -> None:
        closed = ntu.close_gaps(candidates(body(range(10), 1), body([2, 3, 7, 8], 2)), NTU25)
        np.testing.assert_array_equal(closed.bodies[0].place, np.arange(10))
        np.testing.assert_array_equal(closed.bodies[1].place, [2, 3, 4, 5])

    def test_the_frame_it_was_taken_from_stays_known(self) -> None:
        two = body([2, 3, 7, 8], 2)
        color = np.arange(4, dtype=np.float32)[:, None]
        shifted = replace(two, extras={"color": color})
        take = recording(
            replace(body(range(10), 1), extras={"color": np.zeros((10, 1), np.float32)}), shifted
        )
        closed = ntu.close_gaps(zero_missing_joints(take, NTU25), NTU25)
        gathered = gather_extra(take, cast_every_body(closed, NTU25), "color")
        np.testing.assert_array_equal(gathered[1, 2:6], color)
        assert np.isnan(gathered[1, 6:]).all()

    def test_an_array_that_is_not_there_is_named(self) -> None:
        take = recording(body(range(3)))
        actors = clean(take, "none", NTU25)
        with pytest.raises(CleaningError, match="walk: found no array 'color'"):
            gather_extra(take, actors, "color")


class TestLength:
    def test_eleven_frames_are_too_short_and_twelve_are_not(self) -> None:
        kept = ntu.drop_short_bodies(
            candidates(body(range(11), 1), body(range(12), 2), body(range(40), 3)), NTU25
        )
        assert [one.body for one in kept.bodies] == [1, 2]

    def test_a_single_body_stays_however_short(self) -> None:
        assert len(ntu.drop_short_bodies(candidates(body(range(1))), NTU25).bodies) == 1

    def test_several_bodies_that_are_all_too_short_are_an_error(self) -> None:
        with pytest.raises(
            CleaningError, match="found 2 bodies of at most 11 frames, expected one of more than 11"
        ):
            ntu.drop_short_bodies(candidates(body(range(11), 1), body(range(8), 2)), NTU25)


class TestSpread:
    @staticmethod
    def box(width: float, height: float, frames: int = 20) -> Sequence:
        """A body whose joints span exactly ``width`` and ``height`` in every frame."""
        one = body(range(frames))
        one.position[..., :2] = 0
        one.position[:, 1, 0], one.position[:, 2, 1] = width, height
        return one

    def judged(self, one: Sequence) -> object:
        return ntu.judge_spread(candidates(one).bodies[0])

    def test_a_width_of_four_fifths_of_the_height_is_still_clean(self) -> None:
        assert self.judged(self.box(0.8, 1.0)) is not None
        assert self.judged(self.box(np.nextafter(np.float32(0.8), np.float32(1)), 1.0)) is None

    def test_noise_in_just_under_the_threshold_of_frames_keeps_the_body(self) -> None:
        """0.69754 lies between 6975 and 6976 frames of 10,000; here 69 and 70 of 100."""
        assert self.judged(body(range(100), wide=69)) is not None
        assert self.judged(body(range(100), wide=70)) is None

    def test_the_motion_of_a_noisy_body_is_that_of_its_clean_frames_if_smaller(self) -> None:
        noisy = ntu.measure_motion(candidates(body(range(50), 1, wide=20), body(range(50), 2)), NTU25).bodies[
            0
        ]
        judged = ntu.judge_spread(noisy)
        assert judged is not None
        assert judged.motion == ntu.body_motion(noisy.position[20:])
        assert judged.motion < noisy.motion
        calm = replace(noisy, motion=np.float32(0.001))
        judged = ntu.judge_spread(calm)
        assert judged is not None
        assert judged.motion == calm.motion
        np.testing.assert_array_equal(judged.position, calm.position)

    def test_a_clean_body_keeps_its_motion(self) -> None:
        one = replace(candidates(body(range(50))).bodies[0], motion=np.float32(9))
        assert ntu.judge_spread(one) is one

    def test_the_last_body_is_never_dropped_and_the_first_is_judged_first(self) -> None:
        both_wide = candidates(body(range(30), 1, wide=30), body(range(30), 2, wide=30))
        assert [one.body for one in ntu.drop_spread_bodies(both_wide, NTU25).bodies] == [1]

    def test_a_wide_body_between_two_upright_ones_is_dropped(self) -> None:
        three = candidates(body(range(30), 1), body(range(30), 2, wide=30), body(range(30), 3))
        assert [one.body for one in ntu.drop_spread_bodies(three, NTU25).bodies] == [0, 2]

    def test_a_lone_wide_body_stays(self) -> None:
        assert len(ntu.drop_spread_bodies(candidates(body(range(30), wide=30)), NTU25).bodies) == 1


class TestMotion:
    def test_it_is_the_sum_of_the_variances_of_the_axes(self) -> None:
        one = candidates(body(range(30), 1), body(range(30), 2)).bodies[1]
        expected = sum(one.position[..., axis].astype(np.float64).var() for axis in range(3))
        assert float(ntu.body_motion(one.position)) == pytest.approx(expected, rel=1e-5)
        assert ntu.body_motion(one.position).dtype == np.float32

    def test_it_ranks_from_large_to_small_and_keeps_the_order_of_equals(self) -> None:
        ranked = ntu.rank_by_motion(
            with_motion((range(5), 0.1), (range(5), 0.3), (range(5), 0.1), (range(5), 0.2)), NTU25
        )
        assert [one.body for one in ranked.bodies] == [1, 3, 0, 2]


class TestActors:
    def chosen(self, *frames: range) -> Actors:
        return ntu.choose_main_actors(with_motion(*((one, 1.0) for one in frames)), NTU25)

    def test_a_lone_body_is_one_actor(self) -> None:
        assert self.chosen(range(5)).position.shape[0] == 1

    def test_two_at_the_same_time_are_two_actors(self) -> None:
        actors = self.chosen(range(20), range(5, 15))
        assert (actors.body[0] == 0).all()
        np.testing.assert_array_equal(np.flatnonzero(actors.present[1]), np.arange(5, 15))

    def test_one_after_the_other_is_stitched_into_one_actor(self) -> None:
        actors = self.chosen(range(10, 20), range(10))
        np.testing.assert_array_equal(actors.body[0], [1] * 10 + [0] * 10)
        assert not actors.present[1].any()

    def test_a_touch_of_one_frame_is_no_overlap_and_overwrites_it(self) -> None:
        actors = self.chosen(range(11), range(10, 20))
        np.testing.assert_array_equal(actors.body[0], [0] * 10 + [1] * 10)

    def test_a_touch_of_two_frames_is_an_overlap(self) -> None:
        actors = self.chosen(range(12), range(10, 20))
        assert (actors.body[0] == 1).sum() == 0
        assert (actors.body[1] == 1).sum() == 10

    def test_a_third_at_the_same_time_is_lost(self) -> None:
        assert 2 not in self.chosen(range(20), range(20), range(5, 15)).body

    def test_a_third_after_the_second_joins_it(self) -> None:
        actors = self.chosen(range(30), range(5, 15), range(16, 30))
        np.testing.assert_array_equal(np.unique(actors.body[1]), [-1, 1, 2])

    def test_a_third_before_the_second_is_lost_although_there_is_room(self) -> None:
        """The published interval of the second actor starts at frame 0."""
        assert 2 not in self.chosen(range(30), range(16, 30), range(2, 14)).body


class TestTranslation:
    def actors(self, *bodies: Sequence) -> Actors:
        return cast_every_body(candidates(*bodies), NTU25)

    def test_the_origin_is_the_first_actors_middle_of_the_spine_where_it_is_first_seen(self) -> None:
        late, early = body(range(3, 9), 1), body(range(9), 2)
        moved = ntu.translate_to_first_frame(self.actors(late, early), NTU25)
        np.testing.assert_array_equal(moved.position[0, 3:], late.position - late.position[0, 1])
        np.testing.assert_array_equal(moved.position[1], early.position - late.position[0, 1])

    def test_frames_without_the_second_actor_are_zero_again(self) -> None:
        moved = ntu.translate_to_first_frame(self.actors(body(range(9), 1), body(range(4), 2)), NTU25)
        assert not moved.position[1, 4:].any()

    def test_a_missing_joint_ends_at_minus_the_origin(self) -> None:
        one = body(range(5))
        one.position[2, 9] = np.nan
        moved = ntu.translate_to_first_frame(self.actors(one), NTU25)
        np.testing.assert_array_equal(moved.position[0, 2, 9], -one.position[0, 1])

    def test_a_pose_whose_coordinates_cancel_counts_as_absent(self) -> None:
        one, two = body(range(5), 1), body(range(5), 2)
        two.position[3] = 0
        two.position[3, 4], two.position[3, 8] = (1, 2, 3), (-1, -2, -3)
        moved = ntu.translate_to_first_frame(self.actors(one, two), NTU25)
        assert not moved.position[1, 3].any()
        np.testing.assert_array_equal(moved.present[1], [True, True, True, False, True])

    def test_a_layout_with_several_origin_joints_uses_their_mean(self) -> None:
        one = body(range(5), joints=13)
        moved = ntu.translate_to_first_frame(cast_every_body(candidates(one), TOYOTA13), TOYOTA13)
        hips = moved.position[0, 0, list(TOYOTA13.origin)].mean(axis=0)
        np.testing.assert_allclose(hips, 0, atol=1e-6)


class TestZeroSum:
    def test_frames_that_sum_to_zero_go_when_there_were_several_bodies(self) -> None:
        actors = cast_every_body(candidates(body([0, 1, 4], 1), body([1, 4], 2), length=6), NTU25)
        kept = ntu.drop_zero_sum_frames(actors, NTU25)
        np.testing.assert_array_equal(kept.frame_index, [0, 1, 4])

    def test_a_frame_whose_coordinates_cancel_goes_too(self) -> None:
        one, two = body(range(3), 1), body(range(3), 2)
        one.position[1], two.position[1] = 1, -1
        kept = ntu.drop_zero_sum_frames(cast_every_body(candidates(one, two), NTU25), NTU25)
        np.testing.assert_array_equal(kept.frame_index, [0, 2])

    def test_a_recording_of_one_body_keeps_them(self) -> None:
        actors = cast_every_body(candidates(body([0, 1, 4]), length=6), NTU25)
        assert ntu.drop_zero_sum_frames(actors, NTU25) is actors


class TestAlignment:
    def test_ntu60_puts_an_empty_person_beside_a_lone_one(self) -> None:
        lone = cast_every_body(candidates(body(range(4))), NTU25)
        pair = ntu.add_empty_second(lone, NTU25)
        np.testing.assert_array_equal(pair.position[0], lone.position[0])
        assert not pair.position[1].any()
        assert not pair.present[1].any()

    def test_ntu120_puts_a_copy_beside_a_lone_one(self) -> None:
        lone = cast_every_body(candidates(body(range(4))), NTU25)
        pair = ntu.repeat_lone_actor(lone, NTU25)
        np.testing.assert_array_equal(pair.position, lone.position.repeat(2, axis=0))

    @pytest.mark.parametrize("step", [ntu.add_empty_second, ntu.repeat_lone_actor])
    def test_two_persons_stay(self, step: object) -> None:
        two = cast_every_body(candidates(body(range(4), 1), body(range(4), 2)), NTU25)
        assert callable(step)
        assert step(two, NTU25) is two


def test_a_lone_body_without_joints_in_a_frame_gives_no_row_there() -> None:
    """Published arrays hold minus the origin there, and keep the frame; it is marked as absent."""
    one = body(range(5))
    one.position[2] = np.nan
    actors = clean(recording(one), "ctrgcn", NTU25)
    np.testing.assert_array_equal(actors.position[0, 2], np.tile(-one.position[0, 1], (25, 1)))
    np.testing.assert_array_equal(actors.present[0], [True, True, False, True, True])
    np.testing.assert_array_equal(clean(recording(one), "sgn", NTU25).frame_index, [0, 1, 3, 4])


def test_sgn_drops_frames_in_which_nobody_is_present() -> None:
    actors = cast_every_body(candidates(body([1, 2], 1), body([2, 5], 2), length=7), NTU25)
    np.testing.assert_array_equal(drop_empty_frames(actors, NTU25).frame_index, [1, 2, 5])
