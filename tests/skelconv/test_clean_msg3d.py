"""The steps of the 2s-AGCN / MS-G3D chain."""

from __future__ import annotations

import numpy as np

from skelconv.clean import msg3d as msg3d
from skelconv.clean.candidates import Actors, cast_every_body, zero_missing_joints
from skelconv.store.recording import Sequence
from tests.skelconv.scenes import NTU25, body, recording


def slots(*bodies: Sequence, length: int | None = None) -> Actors:
    return msg3d.fill_slots(zero_missing_joints(recording(*bodies, length=length), NTU25), NTU25)


def persons(*bodies: Sequence, length: int | None = None) -> Actors:
    return cast_every_body(zero_missing_joints(recording(*bodies, length=length), NTU25), NTU25)


class TestSlots:
    def test_a_later_body_moves_up_when_an_earlier_one_is_gone(self) -> None:
        filled = slots(body(range(4), 1), body(range(2, 8), 2), length=9)
        np.testing.assert_array_equal(filled.body[0], [0, 0, 0, 0, 1, 1, 1, 1, -1])
        np.testing.assert_array_equal(filled.body[1], [-1, -1, 1, 1, -1, -1, -1, -1, -1])

    def test_a_fifth_body_is_ignored(self) -> None:
        filled = slots(*(body(range(3), seed) for seed in range(5)))
        assert len(filled.position) == 4
        assert 4 not in filled.body

    def test_the_two_most_energetic_slots_stay_the_stronger_first(self) -> None:
        bodies = [body(range(20), seed, motion=motion) for seed, motion in enumerate((0.1, 2.0, 1.0))]
        kept = msg3d.keep_most_energetic(slots(*bodies), NTU25)
        np.testing.assert_array_equal(kept.body[:, 0], [1, 2])

    def test_energy_counts_shown_frames_only(self) -> None:
        """A body seen briefly is not moving because it is zero elsewhere."""
        calm, brief = body(range(40), 1, motion=0.5), body(range(20), 2, motion=0.0)
        kept = msg3d.keep_most_energetic(slots(calm, brief), NTU25)
        np.testing.assert_array_equal(kept.body[:, 0], [0, 1])


class TestFilling:
    def test_a_person_who_comes_late_is_moved_to_the_start_without_gaps(self) -> None:
        moved = msg3d.start_at_first_shown(persons(body([2, 3, 6]), length=8), NTU25)
        np.testing.assert_array_equal(moved.row[0], [0, 1, 2, -1, -1, -1, -1, -1])

    def test_a_person_there_from_the_start_keeps_its_gaps(self) -> None:
        moved = msg3d.start_at_first_shown(persons(body([0, 1, 4]), length=6), NTU25)
        np.testing.assert_array_equal(moved.row[0], [0, 1, -1, -1, 2, -1])

    def test_an_empty_tail_plays_again_what_is_before_it(self) -> None:
        filled = msg3d.repeat_to_the_end(persons(body([0, 1, 2]), length=8), NTU25)
        np.testing.assert_array_equal(filled.row[0], [0, 1, 2, 0, 1, 2, 0, 1])
        np.testing.assert_array_equal(filled.position[0, 3:6], filled.position[0, :3])

    def test_a_gap_inside_stays_and_is_played_again(self) -> None:
        filled = msg3d.repeat_to_the_end(persons(body([0, 2]), length=5), NTU25)
        np.testing.assert_array_equal(filled.row[0], [0, -1, 1, 0, -1])

    def test_an_absent_person_stays_absent(self) -> None:
        two = persons(body(range(5), 1), body(range(5), 2))
        two.position[1], two.present[1], two.row[1] = 0, False, -1
        filled = msg3d.repeat_to_the_end(msg3d.start_at_first_shown(two, NTU25), NTU25)
        assert not filled.position[1].any()


class TestCentring:
    def test_the_first_persons_spine_is_the_origin_in_every_frame(self) -> None:
        one, two = body(range(6), 1), body(range(6), 2)
        centred = msg3d.centre_every_frame(persons(one, two), NTU25)
        assert not centred.position[0, :, 1].any()
        np.testing.assert_array_equal(centred.position[1], two.position - one.position[:, 1:2])

    def test_missing_joints_stay_at_zero(self) -> None:
        one = body(range(3))
        one.position[1, 9] = np.nan
        assert not msg3d.centre_every_frame(persons(one), NTU25).position[0, 1, 9].any()
