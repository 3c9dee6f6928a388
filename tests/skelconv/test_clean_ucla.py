"""The NW-UCLA chain against the feeders' formula, and the chain that only translates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from skelconv.clean import clean
from skelconv.clean.candidates import Actors, cast_every_body, zero_missing_joints
from skelconv.clean.ucla import centre_on_first_frame, resample_to_52_frames, to_unit_range
from skelconv.store.recording import Recording, Sequence
from skelformats.reader import ReadOptions, Source
from skelformats.ucla import read
from tests.skelconv.scenes import NTU25, TOYOTA13, UCLA20, body, recording


def feeder(raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Write down the published test branch: centre, stretch, before the choice of frames."""
    centred = raw - raw[0, 1]
    low, high = centred.min(axis=(0, 1)), centred.max(axis=(0, 1))
    return (centred - low) / (high - low) * 2 - 1


def one_person(frames: int, seed: int = 0) -> Sequence:
    return body(range(frames), seed, joints=20)


class TestUnitRange:
    def test_each_axis_reaches_both_ends_exactly(self) -> None:
        scaled = to_unit_range(one_person(30).position)
        assert scaled.dtype == np.float32
        np.testing.assert_array_equal(scaled.min(axis=(0, 1)), -1)
        np.testing.assert_array_equal(scaled.max(axis=(0, 1)), 1)

    def test_a_constant_axis_becomes_the_middle_of_the_range(self) -> None:
        flat = one_person(10).position
        flat[..., 2] = 3.7
        scaled = to_unit_range(flat)
        assert not scaled[..., 2].any()
        assert np.abs(scaled[..., :2]).max() == 1

    def test_no_rows_stay_no_rows(self) -> None:
        assert to_unit_range(np.zeros((0, 20, 3), np.float32)).shape == (0, 20, 3)

    def test_a_shift_or_a_scale_changes_nothing(self) -> None:
        rows = one_person(30).position
        np.testing.assert_allclose(to_unit_range(rows * 2 + 1), to_unit_range(rows), atol=2e-6)


class TestChain:
    def test_it_is_the_feeders_formula(self) -> None:
        one = one_person(30)
        actors = clean(recording(one), "ucla", UCLA20)
        np.testing.assert_allclose(actors.position[0], feeder(one.position.astype(np.float64)), atol=2e-6)

    def test_one_frame_is_enough(self) -> None:
        actors = clean(recording(one_person(1)), "ucla", UCLA20)
        assert actors.position.shape == (1, 1, 20, 3)
        np.testing.assert_array_equal(actors.position.max(axis=(0, 1, 2)), 1)

    def test_a_missing_joint_enters_as_zero_as_published(self) -> None:
        one = one_person(30)
        raw = one.position.astype(np.float64)
        raw[4, 7] = 0
        one.position[4, 7] = np.nan
        actors = clean(recording(one), "ucla", UCLA20)
        np.testing.assert_allclose(actors.position[0], feeder(raw), atol=2e-6)

    def test_the_spine_of_frame_0_is_the_centre_and_absent_persons_stay_at_zero(self) -> None:
        one, two = one_person(9, 1), body(range(3, 6), 2, joints=20)
        entered = cast_every_body(zero_missing_joints(recording(one, two), UCLA20), UCLA20)
        centred = centre_on_first_frame(entered, UCLA20)
        np.testing.assert_array_equal(centred.position[0], one.position - one.position[0, 1])
        assert not centred.position[1, :3].any()

    @pytest.mark.parametrize("frames", [1, 6, 52, 201])
    def test_resampling_takes_52_frames_at_even_steps(self, frames: int) -> None:
        actors: Actors = clean(recording(one_person(frames)), "none", UCLA20)
        resampled = resample_to_52_frames(actors, UCLA20)
        np.testing.assert_array_equal(resampled.frame_index, [k * (frames - 1) // 51 for k in range(52)])
        np.testing.assert_array_equal(resampled.position[0], actors.position[0, resampled.frame_index])

    def test_ucla52_scales_over_all_frames_before_it_resamples(self) -> None:
        take = recording(one_person(150))
        whole, short = clean(take, "ucla", UCLA20), clean(take, "ucla52", UCLA20)
        np.testing.assert_array_equal(short.position[0], whole.position[0, short.frame_index])


class TestMetric:
    def test_the_origin_is_the_first_body_in_its_first_frame_and_lengths_stay(self) -> None:
        one, two = body(range(3, 9), 1), body(range(9), 2)
        actors = clean(recording(one, two, length=12), "metric", NTU25)
        np.testing.assert_array_equal(actors.frame_index, range(9))
        np.testing.assert_array_equal(actors.position[0, 3:], one.position - one.position[0, 1])
        np.testing.assert_array_equal(actors.position[1], two.position - one.position[0, 1])
        assert not actors.position[0, :3].any()

    def test_several_origin_joints_give_their_mean(self) -> None:
        actors = clean(recording(body(range(5), joints=13)), "metric", TOYOTA13)
        np.testing.assert_allclose(actors.position[0, 0, list(TOYOTA13.origin)].mean(axis=0), 0, atol=1e-6)

    def test_missing_joints_stay_at_zero(self) -> None:
        one = body(range(5))
        one.position[2, 9] = np.nan
        assert not clean(recording(one), "metric", NTU25).position[0, 2, 9].any()

    def test_a_missing_origin_joint_is_looked_for_in_later_frames(self) -> None:
        one = body(range(5))
        one.position[:2, 1] = np.nan
        actors = clean(recording(one), "metric", NTU25)
        np.testing.assert_array_equal(actors.position[0, 4], one.position[4] - one.position[2, 1])

    def test_without_any_origin_joint_the_first_poses_mean_is_the_origin(self) -> None:
        one = body(range(5))
        one.position[:, 1] = np.nan
        actors = clean(recording(one), "metric", NTU25)
        seen = np.delete(actors.position[0, 0], 1, axis=0)
        np.testing.assert_allclose(seen.mean(axis=0), 0, atol=1e-6)

    def test_two_axes_work(self) -> None:
        flat = body(range(5))
        flat.position[...] *= 100
        pixels = Sequence(flat.name, flat.body, flat.frame_index, flat.position[..., :2])
        assert not clean(recording(pixels), "metric", NTU25).position[0, 0, 1].any()

    def test_none_moves_nothing_and_keeps_every_frame(self) -> None:
        one = body([2, 5])
        actors = clean(recording(one, length=8), "none", NTU25)
        np.testing.assert_array_equal(actors.position[0, [2, 5]], one.position)
        np.testing.assert_array_equal(np.flatnonzero(actors.present[0]), [2, 5])
        assert actors.frame_index.tolist() == list(range(8))


@pytest.mark.real
def test_real_takes_equal_the_feeders_formula(shared_data: Path) -> None:
    """Every twentieth take, the two with missing joints and the two of one frame."""
    folder = shared_data / "ucla" / "all_sqe"
    special = {"a04_s01_e01_v01", "a04_s04_e02_v01", "a02_s09_e04_v02", "a02_s09_e04_v03"}
    paths = sorted(folder.glob("*.json"))
    chosen = paths[::20] + [path for path in paths if path.stem in special]
    assert len(chosen) > 70
    for path in chosen:
        (clip,) = read(folder, Source(path.name, 0), ReadOptions())
        (track,) = clip.tracks
        take = Recording(path.stem, clip.length, (Sequence("b0", "0", track.frame_index, track.position),))
        raw = np.array(json.loads(path.read_text())["skeletons"], np.float64)
        np.testing.assert_allclose(
            clean(take, "ucla", UCLA20).position[0], feeder(raw), atol=5e-6, err_msg=path.stem
        )
