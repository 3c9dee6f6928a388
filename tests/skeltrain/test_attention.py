from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.layers.attention import Attention
from torch import Tensor, nn
from torch.nn import functional

from skelformats.errors import UnknownNameError
from skeltrain.models import attention as module
from skeltrain.models.attention import CrossAttention, attend, is_fused_faster, set_attention
from skeltrain.models.diffmae import build_diffmae
from skeltrain.models.mae import build_mae

SIZES: dict[str, Any] = {"image_size": 32, "patch_size": 8, "depth": 2, "decoder_depth": 1}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the queries that go through torch's fused attention."""
    seen: list[tuple[int, ...]] = []
    original = functional.scaled_dot_product_attention

    def count(query: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        seen.append(tuple(query.shape))
        return original(query, *args, **kwargs)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", count)
    return seen


def loss(choice: str, diffusion: bool = False) -> tuple[Tensor, nn.Module]:
    """Loss of a model with the same weights and random numbers, whatever the choice."""
    torch.manual_seed(0)
    build = build_diffmae if diffusion else build_mae
    model = build("vit_micro", attention=choice, **SIZES, **({"decoder": "cross_self"} if diffusion else {}))
    image = torch.randn(3, 3, 32, 32)
    return model(image, generator=torch.Generator().manual_seed(1)).loss, model


@pytest.mark.parametrize("diffusion", [False, True])
@pytest.mark.parametrize("choice", ["explicit", "auto"])
def test_every_way_gives_the_same(choice: str, diffusion: bool, calls: list[tuple[int, ...]]) -> None:
    fused, model = loss("fused", diffusion)
    assert len(calls) == (4 if diffusion else 3)
    calls.clear()
    other, changed = loss(choice, diffusion)
    assert calls == [], "so few tokens are faster without fusion, on a CPU"
    torch.testing.assert_close(other, fused, atol=1e-6, rtol=1e-6)
    assert list(changed.state_dict()) == list(model.state_dict())


def test_fused_is_the_default_and_timms_own(calls: list[tuple[int, ...]]) -> None:
    torch.manual_seed(0)
    model = build_mae("vit_micro", **SIZES)
    value = model(torch.randn(3, 3, 32, 32), generator=torch.Generator().manual_seed(1)).loss
    assert value == loss("fused")[0]
    assert all(type(m) is Attention for m in model.modules() if isinstance(m, Attention))


@pytest.mark.parametrize(
    ("device", "dtype", "tokens", "fused"),
    [
        ("cuda", torch.bfloat16, 26, True),
        ("cuda", torch.float32, 1000, True),
        ("cpu", torch.float32, 26, False),
        ("cpu", torch.float32, 197, True),
        ("cpu", torch.bfloat16, 26, False),
        ("cpu", torch.bfloat16, 197, False),
    ],
)
def test_the_rule(device: str, dtype: torch.dtype, tokens: int, fused: bool) -> None:
    assert is_fused_faster(torch.device(device), dtype, tokens) is fused


def test_the_rule_goes_by_the_tokens_and_the_precision_of_each_pass(
    calls: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CPU_EXPLICIT_TOKENS", 10)
    _, model = loss("auto")
    # 5 of the encoder's tokens are visible, the decoder has all 17
    assert {shape[2] for shape in calls} == {17}
    calls.clear()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(torch.randn(3, 3, 32, 32))
    assert calls == []


def test_a_choice_can_be_changed_back(calls: list[tuple[int, ...]]) -> None:
    _, model = loss("auto")
    set_attention(model, "explicit")
    set_attention(model, "fused")
    calls.clear()
    model(torch.randn(3, 3, 32, 32))
    assert len(calls) == 3


def test_the_rule_compiles() -> None:
    _, model = loss("auto")
    image, noise = torch.randn(2, 3, 32, 32), torch.rand(2, 16)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert compiled(image, noise=noise).loss == model(image, noise=noise).loss


@pytest.mark.parametrize("fused", [True, False])
def test_attention_is_softmax_of_scaled_products(fused: bool) -> None:
    q, k, v = (torch.randn(2, 3, n, 8, dtype=torch.float64) for n in (4, 6, 6))
    weight = (torch.einsum("nhqd,nhkd->nhqk", q, k) / 8**0.5).exp()
    expected = torch.einsum("nhqk,nhkd->nhqd", weight / weight.sum(-1, keepdim=True), v)
    torch.testing.assert_close(attend(q, k, v, fused), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("choice", ["fused", "explicit", "auto"])
def test_cross_attention_mixes_the_context_alone(choice: str) -> None:
    layer = CrossAttention(16, 2)
    set_attention(layer, choice)
    x, context = torch.randn(1, 3, 16), torch.randn(1, 5, 16)
    first = layer(x, context)
    moved = x.clone()
    moved[0, 1] += 1
    changed = (layer(moved, context) - first).abs().amax((0, 2)) > 1e-6
    assert changed.tolist() == [False, True, False]


def test_an_unknown_choice_names_those_that_exist() -> None:
    with pytest.raises(UnknownNameError, match=r"named 'flash'\. Known: auto, fused, explicit"):
        build_mae("vit_micro", attention="flash", **SIZES)
