from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from skeltrain.losses import motion as losses
from skeltrain.models.dstformer import DSTformer
from skeltrain.models.errors import ModelError
from tests.skeltrain import plain_dstformer as plain
from tests.skeltrain.motion_goldens import TINY, Figures, close

SMALL = {**TINY, "dim_feat": 12, "dim_rep": 10, "num_heads": 3, "maxlen": 9}


def perturbed(**settings: Any) -> DSTformer:
    """A network in which every tensor matters."""
    generator = torch.Generator().manual_seed(7)
    model = DSTformer(**settings)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.3 * torch.randn(value.shape, generator=generator))
    return model.eval()


def clips(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("frames", [1, 2, 9])
@pytest.mark.parametrize("fused", [True, False])
def test_it_computes_its_definition_for_every_length(frames: int, fused: bool) -> None:
    model = perturbed(**SMALL, att_fuse=fused).double()
    state = plain.arrays(model.state_dict())
    x = clips(3, frames, 17, 3).double()
    close(model(x), plain.motion(state, x, 3, 2, fused), atol=1e-12, rtol=1e-10)
    close(model.get_representation(x), plain.representation(state, x, 3, 2, fused), 1e-12, 1e-10)


def test_gradients_are_those_of_finite_differences() -> None:
    model = perturbed(
        dim_feat=4, dim_rep=3, depth=1, num_heads=2, mlp_ratio=1, num_joints=2, maxlen=3
    ).double()
    x = clips(2, 3, 2, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: model(x).pow(2).sum(), (x,))
    weight = model.blocks_st[0].attn_t.qkv.weight
    at = weight.detach().clone()

    def loss(step: Tensor) -> Tensor:
        state = {"blocks_st.0.attn_t.qkv.weight": at + step}
        return torch.func.functional_call(model, state, (x.detach(),)).pow(2).sum()

    assert torch.autograd.gradcheck(loss, (torch.zeros_like(at, requires_grad=True),))


def test_the_released_sizes_have_their_parameters_and_260_tensors() -> None:
    with torch.device("meta"):
        base, lite = DSTformer(dim_feat=512, mlp_ratio=2), DSTformer(dim_feat=256, mlp_ratio=4)
    for model, parameters in ((base, 42_466_317), (lite, 16_001_549)):
        assert sum(value.numel() for value in model.parameters()) == parameters
        assert len(model.state_dict()) == 260


def test_a_fresh_network_weighs_its_streams_equally() -> None:
    torch.manual_seed(0)
    fused = DSTformer(**SMALL)
    mean = DSTformer(**SMALL, att_fuse=False)
    mean.load_state_dict({k: v for k, v in fused.state_dict().items() if not k.startswith("ts_attn")})
    x = clips(2, 5, 17, 3)
    close(fused(x), mean(x), atol=1e-7)


def test_clips_of_a_batch_do_not_see_each_other() -> None:
    model = perturbed(**SMALL)
    x = clips(4, 6, 17, 3)
    together = model(x)
    for one, row in zip(x, together, strict=True):
        close(model(one[None])[0], row, atol=1e-6)


def test_no_attention_over_frames_copies_its_features() -> None:
    """The output of the fused attention is the input of the projection without being moved."""
    attention = perturbed(**SMALL).blocks_st[0].attn_t
    attended = attention._over_frames(clips(2, 5, 17, 12))
    assert attended.is_contiguous()


def test_a_bias_of_the_keys_changes_nothing() -> None:
    model = perturbed(**SMALL)
    x = clips(2, 5, 17, 3)
    before = model(x)
    with torch.no_grad():
        for block in (*model.blocks_st, *model.blocks_ts):
            for attention in (block.attn_s, block.attn_t):
                attention.qkv.bias[12:24] += 1.0
    close(model(x), before, atol=1e-5)


@pytest.mark.slow
def test_it_is_one_graph_for_the_compiler() -> None:
    model = perturbed(**SMALL)
    x = clips(2, 5, 17, 3)
    close(torch.compile(model, backend="eager", fullgraph=True)(x), model(x), atol=1e-6)


def test_bfloat16_autocast_stays_near() -> None:
    model = perturbed(**SMALL)
    x = clips(2, 5, 17, 3)
    with torch.autocast("cpu", torch.bfloat16):
        low = model(x)
    close(low.float(), model(x), atol=0.15, rtol=0.1)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((2, 5, 13, 3), r"13.*expected \(clips, 1 to 9 frames, 17 joints, 3 numbers\).*num_joints=13"),
        ((2, 10, 17, 3), "windows of at most 9 frames.*maxlen=10"),
        ((2, 0, 17, 3), "1 to 9 frames"),
        ((2, 5, 17, 2), "x, y and confidence"),
        ((5, 17, 3), "expected"),
    ],
)
def test_a_wrong_input_is_named(shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        DSTformer(**SMALL)(torch.zeros(shape))


@pytest.mark.parametrize(
    "wrong", [{"num_heads": 5}, {"depth": 0}, {"maxlen": -1}, {"mlp_ratio": 0}, {"dim_feat": 2.5}]
)
def test_settings_that_make_no_network_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=next(iter(wrong))):
        DSTformer(**{**SMALL, **wrong})


@pytest.fixture(scope="module")
def figures(golden: Path) -> Figures:
    return Figures(golden, "dstformer")


@pytest.mark.real
class TestOfficialCode:
    @pytest.fixture
    def model(self, figures: Figures) -> DSTformer:
        assert all(figures.number(f"cfg/{name}") == value for name, value in TINY.items())
        model = DSTformer(**TINY)
        model.load_state_dict(figures.below("perturbed/state_dict/"))
        return model

    def test_output_and_representation(self, figures: Figures, model: DSTformer) -> None:
        x = figures["perturbed/x"]
        close(model(x), figures["perturbed/y"], rtol=0)
        close(model.get_representation(x), figures["perturbed/rep"], rtol=0)
        close(model.double()(x.double()), figures["perturbed/y_f64"], atol=1e-12, rtol=1e-10)

    def test_one_frame(self, figures: Figures, model: DSTformer) -> None:
        x = figures["perturbed/x_T1"]
        close(model(x), figures["perturbed/y_T1"], rtol=0)
        close(model.get_representation(x), figures["perturbed/rep_T1"], rtol=0)

    def test_every_activation(self, figures: Figures, model: DSTformer) -> None:
        expected = figures.below("perturbed/acts/")
        found: dict[str, Tensor] = {}
        for name in expected:
            module = model.get_submodule(name.removesuffix(".logits"))
            module.register_forward_hook(lambda _, __, out, name=name: found.__setitem__(name, out))
        model(figures["perturbed/x"])
        assert len(expected) == 12
        for name, value in expected.items():
            close(found[name].reshape(value.shape), value, rtol=1e-5)

    def test_every_gradient(self, figures: Figures, model: DSTformer) -> None:
        pred, target = model(figures["perturbed/x"]), figures["perturbed/grad_target"]
        loss = losses.mpjpe(pred, target) + 0.5 * losses.n_mpjpe(pred, target)
        loss = loss + 20 * losses.velocity(pred, target)
        loss.backward()
        close(loss, figures["perturbed/grad_loss"])
        expected = figures.below("perturbed/grads/")
        assert set(expected) == {name for name, _ in model.named_parameters()}
        for name, value in model.named_parameters():
            close(value.grad, expected[name])
