"""Rotations, and motion at another frame rate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from skelformats.resample import resample_linear, resample_rotations, sample_times
from skelformats.rotation import from_quaternion, slerp, to_matrix, to_quaternion

VECTORS = arrays.arrays(np.float64, (4, 3), elements=st.floats(-6.0, 6.0))


@given(VECTORS)
def test_matrices_are_rotations_about_the_vector(vector: Any) -> None:
    matrix = to_matrix(vector)
    np.testing.assert_allclose(
        matrix @ np.swapaxes(matrix, -1, -2), np.tile(np.eye(3), (4, 1, 1)), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(matrix), 1.0, atol=1e-12)
    np.testing.assert_allclose((matrix @ vector[..., None])[..., 0], vector, atol=1e-11)
    angle = np.linalg.norm(vector, axis=-1)
    np.testing.assert_allclose(np.trace(matrix, axis1=1, axis2=2), 1.0 + 2.0 * np.cos(angle), atol=1e-11)


@given(VECTORS)
def test_quaternions_are_the_same_rotation(vector: Any) -> None:
    back = from_quaternion(to_quaternion(vector))
    assert (np.linalg.norm(back, axis=-1) <= np.pi + 1e-12).all()
    np.testing.assert_allclose(to_matrix(back), to_matrix(vector), atol=1e-9)


@pytest.mark.parametrize("size", [0.0, 1e-300, 1e-12, 1e-7, 9.99e-7, 1.01e-6, 1e-3])
def test_small_angles_lose_nothing(size: float) -> None:
    vector = np.array([[0.6, 0.0, 0.8]]) * size
    np.testing.assert_allclose(from_quaternion(to_quaternion(vector)), vector, rtol=1e-9)
    # the turn of x = (1, 0, 0), to second order
    want = [1.0 - 0.32 * size**2, 0.8 * size]
    np.testing.assert_allclose(to_matrix(vector)[0, :2, 0], want, rtol=1e-6, atol=size**3)


def test_slerp_goes_at_constant_speed_the_shorter_way() -> None:
    start, stop = np.array([0.0, 0.0, 0.1]), np.array([0.0, 0.0, 3.0])
    weight = np.linspace(0, 1, 5)
    first, second = (np.tile(to_quaternion(v), (5, 1)) for v in (start, stop))
    for sign in (1.0, -1.0):
        between = from_quaternion(slerp(first, sign * second, weight))
        np.testing.assert_allclose(between[:, 2], 0.1 + weight * 2.9, atol=1e-12)
        np.testing.assert_allclose(between[:, :2], 0, atol=1e-12)
    # 0.2 and 2 pi - 0.2 are 0.4 apart, through 0
    around = slerp(
        to_quaternion(np.array([0.0, 0.0, 0.2])),
        to_quaternion(np.array([0, 0, 2 * np.pi - 0.2])),
        np.array(0.5),
    )
    np.testing.assert_allclose(from_quaternion(around), 0, atol=1e-12)


def test_instants_are_the_new_rate_s_and_end_within_the_recording() -> None:
    np.testing.assert_allclose(sample_times(9, 120.0, 30.0), [0, 4, 8])
    np.testing.assert_allclose(sample_times(8, 120.0, 30.0), [0, 4])
    np.testing.assert_allclose(sample_times(4, 60.0, 100.0), [0, 0.6, 1.2, 1.8, 2.4, 3.0])
    assert len(sample_times(1201, 120.00004577636719, 120.0)) == 1201
    np.testing.assert_allclose(sample_times(1, 120.0, 30.0), [0])


def test_motion_at_constant_speed_stays_that_at_any_rate() -> None:
    time = np.arange(25) / 120.0
    vectors = np.zeros((25, 2, 3))
    vectors[:, 0, 1], vectors[:, 1, 2] = 8.0 * time, -3.0 * time
    for rate in (30.0, 50.0, 59.94, 200.0):
        times = sample_times(25, 120.0, rate)
        seconds = np.arange(len(times)) / rate
        found = resample_rotations(vectors, times)
        np.testing.assert_allclose(found[:, 0, 1], 8.0 * seconds, atol=1e-9)
        np.testing.assert_allclose(found[:, 1, 2], -3.0 * seconds, atol=1e-9)
        line = resample_linear(np.stack([time, 2 * time], -1), times)
        np.testing.assert_allclose(line, np.stack([seconds, 2 * seconds], -1), atol=1e-12)


def test_one_frame_stays_one_frame() -> None:
    vectors = np.array([[[0.1, 0.2, 0.3]]])
    np.testing.assert_allclose(resample_rotations(vectors, sample_times(1, 120.0, 30.0)), vectors, atol=1e-12)
