"""Back from images: decoding gives the poses that went in, and weights carried back lose nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from skelconv.s2i import S2IError, encode, make_plan
from skelconv.s2i.inverse import decode, joint_matrix, time_matrix, transpose
from skelformats.skeleton import load_skeleton

NTU = load_skeleton("ntu25")


def walk(frames: int, joints: int = 25) -> np.ndarray:
    rng = np.random.default_rng(frames)
    return (rng.normal(0, 1, (1, joints, 3)) + rng.normal(0, 0.1, (frames, joints, 3))).astype(np.float32)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("frames", [1, 2, 17, 47, 48])
def test_what_was_encoded_is_decoded(frames: int, align_corners: bool) -> None:
    plan = make_plan(NTU, (48, 40), align_corners)
    position = walk(frames)
    image = encode(position, np.array([0, frames]), plan)[0]
    np.testing.assert_allclose(decode(image, plan, frames), position, atol=2e-5)


def test_persons_in_turn_are_decoded_apart() -> None:
    plan = make_plan(NTU, 48)
    position = walk(40)
    position[1::2] += 3
    next_row = np.minimum(np.arange(40) + 2, 39)
    next_row[38] = 38
    image = encode(position, np.array([0, 40]), plan)[0]
    np.testing.assert_allclose(decode(image, plan, 40, next_row), position, atol=2e-5)


def test_frames_between_the_rows_lie_on_a_line() -> None:
    plan = make_plan(NTU, 48)
    straight = walk(1) + np.linspace(0, 2, 300, dtype=np.float32)[:, None, None]
    image = encode(straight, np.array([0, 300]), plan)[0]
    found = decode(image, plan, 300)
    # beyond the first and the last row nothing says how it goes on
    np.testing.assert_allclose(found[4:-4], straight[4:-4], atol=2e-3)


def test_a_joint_that_the_plan_leaves_out_is_missing() -> None:
    whole = make_plan(NTU, 32)
    plan = replace(
        whole,
        joints=whole.joints[:-1],
        order=whole.order[:-1],
        part_sizes=(*whole.part_sizes[:-1], whole.part_sizes[-1] - 1),
    )
    left_out = [whole.order[-1]]
    found = decode(encode(walk(5), np.array([0, 5]), plan)[0], plan, 5)
    assert np.isnan(found[:, left_out]).all()
    assert np.isfinite(found[:, list(plan.order)]).all()


@pytest.mark.parametrize(("frames", "size"), [(1, 48), (30, 48), (300, 48), (77, (40, 20)), (52, 224)])
@pytest.mark.parametrize("align_corners", [False, True])
def test_weights_carried_back_keep_their_sum_and_are_the_transpose(
    frames: int, size: int | tuple[int, int], align_corners: bool
) -> None:
    plan = make_plan(NTU, size, align_corners)
    weight = np.random.default_rng(0).random(plan.size)
    back = transpose(weight, plan, frames)
    assert back.shape == (frames, 25)
    assert back.min() >= 0
    assert back.sum() == pytest.approx(weight.sum(), rel=1e-12)
    # <encode(X), M> = <X, transpose(M)>, which holds of the transpose alone
    position = walk(frames)
    image = encode(position, np.array([0, frames]), plan)[0]
    np.testing.assert_allclose(
        (image * weight).sum(axis=(1, 2)), (position * back[..., None]).sum(axis=(0, 1)), rtol=1e-4, atol=1e-3
    )


def test_the_matrices_are_the_encoding() -> None:
    plan = make_plan(NTU, (48, 40))
    position = walk(30)
    image = np.einsum("rf,fjc,kj->crk", time_matrix(plan, 30), position, joint_matrix(plan))
    np.testing.assert_allclose(image, encode(position, np.array([0, 30]), plan)[0], atol=1e-5)


def test_another_size_is_refused() -> None:
    plan = make_plan(NTU, 48)
    with pytest.raises(S2IError, match="found weights"):
        transpose(np.ones((48, 47)), plan, 3)
    for image, frames in ((np.ones((3, 48, 47)), 3), (np.ones((48, 48)), 3), (np.ones((3, 48, 48)), 0)):
        with pytest.raises(S2IError, match="found an image"):
            decode(image, plan, frames)
