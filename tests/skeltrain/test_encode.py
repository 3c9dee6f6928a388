"""The encoding on the device: the torch form against the kernel, the goldens and torch's own resize."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from skelconv.s2i import S2IError, encode, make_plan, stream_rows
from skelformats.errors import UnknownNameError
from skelformats.skeleton import load_skeleton
from skeltrain.data.encode import S2IEncoder, stream_rows_torch

LENGTHS = (1, 2, 30, 64, 65, 300)


def ragged(joints: int = 25, lengths: tuple[int, ...] = LENGTHS) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    position = torch.randn(sum(lengths), joints, 3, generator=generator)
    return position, torch.tensor([0, *lengths]).cumsum(0)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("layout", ["ntu25", "toyota13"])
def test_torch_form_equals_the_kernel(layout: str, align_corners: bool) -> None:
    skeleton = load_skeleton(layout)
    encoder = S2IEncoder(make_plan(skeleton, 64, align_corners))
    position, offsets = ragged(len(skeleton))
    images = encoder.encode_on_device(position, offsets)
    expected = encode(position.numpy(), offsets.numpy(), encoder.plan)
    assert images.is_contiguous()
    np.testing.assert_allclose(images.numpy(), expected, atol=1e-5, rtol=0)
    np.testing.assert_array_equal(encoder(position, offsets).numpy(), expected)


@pytest.mark.parametrize("align_corners", [False, True])
def test_torch_form_equals_interpolate(align_corners: bool) -> None:
    encoder = S2IEncoder(make_plan(load_skeleton("ntu25"), (64, 48), align_corners))
    position, offsets = ragged()
    images = encoder.encode_on_device(position, offsets)
    for n in range(len(LENGTHS)):
        sequence = position[offsets[n] : offsets[n + 1], list(encoder.plan.order)].double()
        resized = functional.interpolate(
            sequence.permute(2, 0, 1)[None], (64, 48), mode="bilinear", align_corners=align_corners
        )[0]
        torch.testing.assert_close(images[n].double(), resized, atol=1e-5, rtol=0)


def test_rows_are_exact_for_any_length() -> None:
    # a float32 coordinate keeps its fraction to 1/32 only at half a million frames
    frames = 500_001
    encoder = S2IEncoder(make_plan(load_skeleton("toyota13"), (9, 13)))
    position = torch.zeros(frames, 13, 3)
    position[:, :, 0] = (torch.arange(frames) % 1000)[:, None] / 1000
    image = encoder.encode_on_device(position, torch.tensor([0, frames]))
    lower, upper, weight = encoder.plan.weights_time(frames)
    values = position[:, 0, 0].double().numpy()
    expected = values[lower] + weight * (values[upper] - values[lower])
    np.testing.assert_allclose(image[0, 0, :, 6], expected, atol=1e-6)


def test_precision_is_the_same_under_autocast() -> None:
    encoder = S2IEncoder(make_plan(load_skeleton("ntu25"), 32))
    position, offsets = ragged()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images = encoder.encode_on_device(position, offsets)
        bones = stream_rows_torch(
            position,
            torch.arange(len(position)),
            torch.from_numpy(load_skeleton("ntu25").bone_matrix()),
            "bone",
        )
    assert images.dtype == bones.dtype == torch.float32
    torch.testing.assert_close(images, encoder.encode_on_device(position, offsets), atol=0, rtol=0)


def test_gradients_reach_the_positions() -> None:
    encoder = S2IEncoder(make_plan(load_skeleton("ntu25"), (12, 20)))
    position, offsets = ragged(lengths=(3, 9))
    position.requires_grad_()
    encoder(position, offsets).sum().backward()
    assert position.grad is not None
    # every pixel is a mean of joints, so what all gradients add up to is the number of pixels
    assert position.grad.sum().item() == pytest.approx(2 * 3 * 12 * 20, rel=1e-5)


def test_compiles_as_one_graph() -> None:
    encoder = S2IEncoder(make_plan(load_skeleton("ntu25"), 16))
    position, offsets = ragged(lengths=(3, 9))
    compiled = torch.compile(encoder, backend="eager", fullgraph=True)
    torch.testing.assert_close(
        compiled(position, offsets), encoder.encode_on_device(position, offsets), atol=0, rtol=0
    )


def test_nothing_of_it_is_saved() -> None:
    assert not S2IEncoder(make_plan(load_skeleton("ntu25"))).state_dict()


@pytest.mark.parametrize("layout", ["ntu25", "ucla20", "toyota13"])
@pytest.mark.parametrize("stream", ["joint", "bone", "motion"])
def test_streams_equal_those_of_the_cpu(layout: str, stream: str) -> None:
    skeleton = load_skeleton(layout)
    position, _ = ragged(len(skeleton), (10,))
    next_row = torch.tensor([2, 3, 4, 5, 6, 7, 8, 9, 8, 9])
    rows = stream_rows_torch(position, next_row, torch.from_numpy(skeleton.bone_matrix()), stream)
    expected = stream_rows(position.numpy(), next_row.numpy(), skeleton, stream)
    np.testing.assert_allclose(rows.numpy(), expected, atol=1e-6, rtol=0)


def test_what_does_not_fit_is_refused() -> None:
    encoder = S2IEncoder(make_plan(load_skeleton("ntu25"), 16))
    position, offsets = ragged(20)
    with pytest.raises(S2IError, match=r"expected \(rows, 25, 3\)"):
        encoder.encode_on_device(position, offsets)
    with pytest.raises(S2IError, match=r"torch\.int64"):
        encoder.encode_on_device(torch.zeros(4, 25, 3), torch.tensor([0.0, 4.0]))
    with pytest.raises(S2IError, match="no row in sample 0"):
        encoder(torch.zeros(4, 25, 3), torch.tensor([0, 0, 4]))
    with pytest.raises(UnknownNameError, match="stream"):
        stream_rows_torch(position, offsets, torch.eye(20), "bones")


@pytest.mark.parametrize("kind", ["hp", "ac"])
def test_golden(golden_numbers: Path, kind: str) -> None:
    encoder = S2IEncoder(make_plan(load_skeleton("ntu25"), align_corners=kind == "ac"))
    with np.load(golden_numbers / "s2i.npz") as data:
        position = torch.from_numpy(data["in_a"]).float()
        image = encoder.encode_on_device(position, torch.tensor([0, len(position)]))[0]
        np.testing.assert_allclose(image.numpy()[:, ::7, ::5], data[f"out_a_{kind}"], atol=1e-5, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_the_kernel_with_tf32_allowed() -> None:
    skeleton = load_skeleton("ntu25")
    encoder = S2IEncoder(make_plan(skeleton)).cuda()
    position, offsets = ragged()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            images = encoder(position.cuda(), offsets.cuda())
            bones = stream_rows_torch(
                position.cuda(),
                torch.arange(len(position)).cuda(),
                torch.from_numpy(skeleton.bone_matrix()).cuda(),
                "bone",
            )
    finally:
        torch.set_float32_matmul_precision(before)
    expected = encode(position.numpy(), offsets.numpy(), encoder.plan)
    np.testing.assert_allclose(images.cpu().numpy(), expected, atol=1e-5, rtol=0)
    np.testing.assert_allclose(bones.cpu().numpy(), skeleton.bone_matrix() @ position.numpy(), atol=1e-5)
