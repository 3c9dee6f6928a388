"""The Skeleton-to-Image encoding: plan, streams and kernel, against loops in double precision."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from skelconv.s2i import (
    S2IError,
    S2IPlan,
    aligned_images,
    encode,
    line_weights,
    make_plan,
    stream_rows,
)
from skelconv.s2i.statistics import ImageMoments
from skelformats.errors import UnknownNameError
from skelformats.skeleton import load_skeleton

NTU25 = make_plan(load_skeleton("ntu25"))
TABLE_14 = {
    "ntu25": [
        *(3, 2, 20, 1, 0),
        *(4, 5, 6, 7, 22, 21),
        *(8, 9, 10, 11, 24, 23),
        *(12, 13, 14, 15),
        *(16, 17, 18, 19),
    ],
    "ucla20": [*(3, 2, 1, 0), *(4, 5, 6, 7), *(8, 9, 10, 11), *(12, 13, 14, 15), *(16, 17, 18, 19)],
    "toyota13": [12, *(11, 9, 7), *(10, 8, 6), *(5, 3, 1), *(4, 2, 0)],
}


def reference_axis(values: NDArray[np.float64], size: int, align_corners: bool) -> NDArray[np.float64]:
    """Resize the first axis, point by point, with the coordinate as an exact fraction."""
    count = len(values)
    out = np.empty((size, *values.shape[1:]))
    for i in range(size):
        if align_corners:
            at = Fraction(i * (count - 1), size - 1) if size > 1 else Fraction(0)
        else:
            at = Fraction((2 * i + 1) * count, 2 * size) - Fraction(1, 2)
        at = min(max(at, Fraction(0)), Fraction(count - 1))
        low = int(at)
        share = float(at - low)
        out[i] = values[low] if share == 0 else (1 - share) * values[low] + share * values[low + 1]
    return out


def reference(position: NDArray[np.floating], plan: S2IPlan) -> NDArray[np.float64]:
    ordered = position.astype(np.float64)[:, list(plan.order)]
    in_time = reference_axis(ordered, plan.size[0], plan.align_corners)
    in_both = reference_axis(in_time.transpose(1, 0, 2), plan.size[1], plan.align_corners)
    return in_both.transpose(2, 1, 0)


def motion(frames: int, joints: int = 25, seed: int = 0) -> NDArray[np.float32]:
    """A few metres of random walk: (frames, joints, 3)."""
    rng = np.random.default_rng(seed)
    return (np.cumsum(rng.normal(0, 0.02, (frames, joints, 3)), 0) + rng.normal(0, 1, (joints, 3))).astype(
        "f4"
    )


def batch(*lengths: int, joints: int = 25) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return np.concatenate([motion(n, joints, seed) for seed, n in enumerate(lengths)]), offsets


class TestPlan:
    @pytest.mark.parametrize("layout", sorted(TABLE_14))
    def test_columns_follow_table_14(self, layout: str) -> None:
        assert list(make_plan(load_skeleton(layout)).order) == TABLE_14[layout]

    def test_part_edges_of_ntu(self) -> None:
        np.testing.assert_allclose(NTU25.part_edges, [0, 44.8, 98.56, 152.32, 188.16, 224])

    @pytest.mark.parametrize("align_corners", [False, True])
    def test_a_joint_outweighs_all_others_between_its_edges(self, align_corners: bool) -> None:
        plan = make_plan(load_skeleton("toyota13"), (8, 300), align_corners)
        lower, upper, weight = plan.weights_joint()
        nearest = np.where(weight > 0.5, upper, lower)
        owner = np.searchsorted(plan.joint_edges, np.arange(300) + 0.5, side="right") - 1
        decided = np.abs(weight - 0.5) > 1e-9
        assert (nearest == owner)[decided].all()
        assert decided.sum() > 280

    def test_plain_data_gives_the_plan_back(self) -> None:
        plan = make_plan(load_skeleton("ucla20"), (32, 48), align_corners=True)
        assert S2IPlan.from_dict(plan.to_dict()) == plan

    @pytest.mark.parametrize("key", ["columns", "size", "skeleton", "align_corners"])
    def test_damaged_plain_data_is_refused(self, key: str) -> None:
        data = NTU25.to_dict()
        del data[key]
        with pytest.raises(S2IError, match="cannot be read"):
            S2IPlan.from_dict(data)

    def test_order_outside_the_layout_is_refused(self) -> None:
        data = NTU25.to_dict()
        data["columns"][0]["index"] = 25
        with pytest.raises(S2IError, match="indices below 25"):
            S2IPlan.from_dict(data)

    def test_description_shows_every_joint_with_its_raw_index_and_columns(self) -> None:
        lines = make_plan(load_skeleton("toyota13")).describe().splitlines()
        head = next(line.split() for line in lines if " head " in line)
        assert head == ["spine", "head", "12", "0.00", "-", "17.23", "0-1"]
        right_ankle = next(line.split() for line in lines if "right_ankle" in line)
        assert right_ankle == ["right_leg", "right_ankle", "0", "206.77", "-", "224.00", "12-13"]
        assert lines[0].endswith("toyota13")

    @pytest.mark.parametrize("size", [0, (224, 0), -3])
    def test_empty_images_are_refused(self, size: int | tuple[int, int]) -> None:
        with pytest.raises(S2IError, match="at least 1 x 1"):
            make_plan(load_skeleton("ntu25"), size)


class TestWeights:
    @given(count=st.integers(1, 10_000), size=st.integers(1, 300), align_corners=st.booleans())
    @settings(max_examples=100, deadline=None)
    def test_a_straight_line_stays_straight(self, count: int, size: int, align_corners: bool) -> None:
        lower, upper, weight = line_weights(count, size, align_corners)
        assert lower.min() >= 0
        assert upper.max() < count
        assert ((weight >= 0) & (weight < 1)).all()
        i = np.arange(size)
        at = i * (count - 1) / max(size - 1, 1) if align_corners else (i + 0.5) * count / size - 0.5
        np.testing.assert_allclose(lower + weight * (upper - lower), at.clip(0, count - 1), atol=1e-9)

    def test_a_weight_of_nothing_points_at_nothing_else(self) -> None:
        lower, upper, weight = line_weights(224, 224)
        assert (weight == 0).all()
        assert (lower == upper).all()


class TestEncode:
    @pytest.mark.parametrize("align_corners", [False, True])
    @pytest.mark.parametrize("size", [(19, 23), (32, 48), (16, 16), (1, 1), (7, 160)])
    @pytest.mark.parametrize("frames", [1, 2, 7, 16, 19, 30, 85])
    def test_equals_the_double_precision_loops(
        self, frames: int, size: tuple[int, int], align_corners: bool
    ) -> None:
        plan = make_plan(load_skeleton("ntu25"), size, align_corners)
        position = motion(frames)
        image = encode(position, [0, frames], plan)
        assert image.shape == (1, 3, *size)
        assert image.dtype == np.float32
        np.testing.assert_allclose(image[0], reference(position, plan), atol=1e-6, rtol=0)

    @pytest.mark.parametrize("layout", ["toyota13", "ucla20"])
    def test_other_layouts_at_full_size(self, layout: str) -> None:
        plan = make_plan(load_skeleton(layout))
        position = motion(103, plan.joint_count)
        image = encode(position, [0, 103], plan)
        np.testing.assert_allclose(image[0], reference(position, plan), atol=1e-6, rtol=0)

    def test_is_the_linear_map_that_its_plan_holds(self) -> None:
        def matrix(count: int, weights: tuple[NDArray, ...]) -> NDArray[np.float64]:
            lower, upper, weight = weights
            rows = np.arange(len(lower))
            dense = np.zeros((len(lower), count))
            np.add.at(dense, (rows, lower), 1 - weight)
            np.add.at(dense, (rows, upper), weight)
            return dense

        position = motion(60)
        in_time, in_joints = matrix(60, NTU25.weights_time(60)), matrix(25, NTU25.weights_joint())
        expected = [in_time @ position[:, list(NTU25.order), c] @ in_joints.T for c in range(3)]
        np.testing.assert_allclose(encode(position, [0, 60], NTU25)[0], expected, atol=1e-6, rtol=0)

    def test_equals_cv2_with_half_pixel_centres(self) -> None:
        position = motion(300)
        resized = cv2.resize(position[:, list(NTU25.order)], (224, 224), interpolation=cv2.INTER_LINEAR)
        image = encode(position, [0, 300], NTU25)[0]
        np.testing.assert_allclose(image, resized.transpose(2, 0, 1), atol=2e-6, rtol=0)

    def test_samples_of_a_ragged_batch_do_not_touch_each_other(self) -> None:
        position, offsets = batch(1, 300, 17, 700, 224)
        images = encode(position, offsets, NTU25)
        for n, image in enumerate(images):
            alone = encode(position[offsets[n] : offsets[n + 1]], [0, offsets[n + 1] - offsets[n]], NTU25)[0]
            np.testing.assert_array_equal(image, alone)

    @pytest.mark.parametrize("threads", [2, 3, 16])
    def test_any_number_of_threads_gives_the_same_bits(self, threads: int) -> None:
        position, offsets = batch(*range(1, 40, 3))
        plan = make_plan(load_skeleton("ntu25"), 64)
        one, many = encode(position, offsets, plan), encode(position, offsets, plan, threads=threads)
        np.testing.assert_array_equal(one.view(np.int32), many.view(np.int32))

    def test_an_output_at_any_address_gets_the_same_bits(self) -> None:
        position, offsets = batch(5, 90)
        expected = encode(position, offsets, NTU25)
        raw = np.full(expected.size + 20, 7, np.float32)
        out = raw[1 : 1 + expected.size].reshape(expected.shape)
        assert encode(position, offsets, NTU25, out=out) is out
        np.testing.assert_array_equal(out, expected)
        assert (raw[:1] == 7).all()
        assert (raw[1 + expected.size :] == 7).all()

    def test_a_missing_joint_blots_out_its_own_pixels_only(self) -> None:
        plan = make_plan(load_skeleton("ntu25"), (20, 50))
        position = motion(10)
        position[4, 7, 1] = np.nan
        image = encode(position, [0, 10], plan)[0]
        lower, upper, _ = plan.weights_time(10)
        rows = (lower == 4) | (upper == 4)
        lower, upper, _ = plan.weights_joint()
        column = plan.order.index(7)
        columns = (lower == column) | (upper == column)
        expected = np.zeros((3, 20, 50), bool)
        expected[1] = rows[:, None] & columns
        np.testing.assert_array_equal(np.isnan(image), expected)

    def test_read_only_positions_of_any_float_kind_do(self) -> None:
        plan = make_plan(load_skeleton("ntu25"), 16)
        position = motion(9)
        expected = encode(position, [0, 9], plan)
        position.flags.writeable = False
        np.testing.assert_array_equal(encode(position, [0, 9], plan), expected)
        np.testing.assert_array_equal(encode(position.astype(np.float64), [0, 9], plan), expected)

    def test_a_batch_of_nothing_is_no_image(self) -> None:
        assert encode(np.zeros((0, 25, 3), np.float32), [0], NTU25).shape == (0, 3, 224, 224)

    @pytest.mark.parametrize(
        ("shape", "offsets", "complaint"),
        [
            ((4, 20, 3), [0, 4], "expected \\(rows, 25, 3\\)"),
            ((4, 25, 2), [0, 4], "2 axes, expected three"),
            ((4, 25, 3), [0, 3], "the 4 rows"),
            ((4, 25, 3), [1, 4], "from 0"),
            ((4, 25, 3), [0, 4, 4], "no row in sample 1"),
            ((4, 25, 3), [0, 5, 4], "no row in sample 1"),
        ],
    )
    def test_what_does_not_fit_is_refused(
        self, shape: tuple[int, ...], offsets: list[int], complaint: str
    ) -> None:
        with pytest.raises(S2IError, match=complaint):
            encode(np.zeros(shape, np.float32), offsets, NTU25)

    @pytest.mark.parametrize(
        "out",
        [np.zeros((1, 3, 224, 224)), np.zeros((2, 3, 224, 224), "f4"), aligned_images(2, NTU25)[::2, ::-1]],
    )
    def test_an_output_that_cannot_hold_the_images_is_refused(self, out: NDArray) -> None:
        with pytest.raises(S2IError, match="C-contiguous"):
            encode(motion(4), [0, 4], NTU25, out=out)


class TestStreams:
    # rows of two persons: p0 p1 p0 p1 p0
    NEXT = np.array([2, 3, 4, 3, 4])

    def test_motion_of_interleaved_persons_stays_with_each_person(self) -> None:
        position = motion(5)
        rows = stream_rows(position, self.NEXT, load_skeleton("ntu25"), "motion")
        np.testing.assert_array_equal(rows[0], position[2] - position[0])
        np.testing.assert_array_equal(rows[1], position[3] - position[1])
        np.testing.assert_array_equal(rows[2], position[4] - position[2])
        assert (rows[3:] == 0).all()

    @pytest.mark.parametrize("layout", ["ntu25", "ucla20", "toyota13"])
    def test_bones_follow_the_bone_matrix(self, layout: str) -> None:
        skeleton = load_skeleton(layout)
        position = motion(5, len(skeleton))
        rows = stream_rows(position, self.NEXT, skeleton, "bone")
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows, skeleton.bone_matrix() @ position, atol=1e-6)

    def test_joints_are_what_they_were(self) -> None:
        position = motion(5)
        np.testing.assert_array_equal(
            stream_rows(position, self.NEXT, load_skeleton("ntu25"), "joint"), position
        )

    def test_an_unknown_stream_is_refused_by_name(self) -> None:
        with pytest.raises(UnknownNameError, match="Did you mean 'motion'"):
            stream_rows(motion(5), self.NEXT, load_skeleton("ntu25"), "motions")

    def test_positions_of_another_layout_are_refused(self) -> None:
        with pytest.raises(S2IError, match="layout ucla20"):
            stream_rows(motion(5), self.NEXT, load_skeleton("ucla20"), "bone")


def test_statistics_equal_numpy_far_from_zero() -> None:
    rng = np.random.default_rng(0)
    far = np.array([1000, -3, 0])[:, None, None]
    images = (rng.normal(0, 0.01, (5, 3, 8, 16)) + far).astype("f4")
    moments = ImageMoments(5, 8 * 16)
    moments.add(0, images[:2])
    moments.add(2, images[2:], threads=2)
    chosen = np.array([True, False, True, True, False])
    for pick, pooled in ((slice(None), moments.pool()), (chosen, moments.pool(chosen))):
        assert pooled is not None
        wide = images[pick].astype(np.float64)
        np.testing.assert_allclose(pooled.mean, wide.mean((0, 2, 3)), rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(pooled.std, wide.std((0, 2, 3)), rtol=1e-9)
    assert moments.pool(np.zeros(5, bool)) is None


@pytest.mark.parametrize("kind", ["hp", "ac"])
class TestGolden:
    """Every seventh row and every fifth column of the full image is kept (tests/golden/README.md)."""

    def test_twenty_five_joints(self, golden_numbers: Path, kind: str) -> None:
        with np.load(golden_numbers / "s2i.npz") as data:
            plan = make_plan(load_skeleton("ntu25"), align_corners=kind == "ac")
            assert plan.order == tuple(data["order_a"])
            image = encode(data["in_a"], [0, len(data["in_a"])], plan)[0]
            np.testing.assert_allclose(image[:, ::7, ::5], data[f"out_a_{kind}"], atol=1e-6, rtol=0)

    def test_thirteen_joints(self, golden_numbers: Path, kind: str) -> None:
        with np.load(golden_numbers / "s2i.npz") as data:
            plan = replace(
                make_plan(load_skeleton("toyota13"), align_corners=kind == "ac"),
                order=tuple(data["order_d"].tolist()),
            )
            image = encode(data["in_d"], [0, len(data["in_d"])], plan)[0]
            np.testing.assert_allclose(image[:, ::7, ::5], data[f"out_d_{kind}"], atol=1e-6, rtol=0)
