from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from skelformats.errors import UnknownNameError
from skeltrain.models.diffmae import DiffusionMAE, build_diffmae
from skeltrain.models.encoder import encode_visible
from skeltrain.models.errors import ModelError
from skeltrain.models.mae import build_mae
from skeltrain.models.patches import patchify, unpatchify
from skeltrain.models.positions import sincos_table

KINDS = ("cross", "cross_self", "joint")


def small(seed: int = 0, **options: Any) -> DiffusionMAE:
    """4 x 3 patches of 4 x 2 pixels, 3 visible, encoder and decoder two blocks deep."""
    torch.manual_seed(seed)
    sizes = {"image_size": (16, 6), "patch_size": (4, 2), "embed_dim": 32, "depth": 2, "num_heads": 2}
    decoder = {"decoder_dim": 16, "decoder_depth": 2, "decoder_heads": 2}
    return build_diffmae("vit_micro", **{**sizes, **decoder, **options})


def shaken(model: DiffusionMAE) -> DiffusionMAE:
    """Move every parameter from where it starts, so that none that is 0 or 1 goes untested; float64."""
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value.add_(0.1 * torch.randn(value.shape, generator=generator))
    return model.double()


def images(samples: int = 5, seed: int = 1) -> Tensor:
    return torch.randn(samples, 3, 16, 6, generator=torch.Generator().manual_seed(seed))


# --- the specification in float64, from the tensors of a model ---


def linear(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def norm(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    spread = (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return centred / spread * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def attention(query: Tensor, key: Tensor, value: Tensor, heads: int = 2) -> Tensor:
    """Attention of one sample, (M, D) to (K, D), head by head."""
    result = []
    for q, k, v in zip(*(t.chunk(heads, -1) for t in (query, key, value)), strict=True):
        weight = (q @ k.T / math.sqrt(q.shape[-1])).exp()
        result.append(weight / weight.sum(-1, keepdim=True) @ v)
    return torch.cat(result, -1)


def self_attention(w: dict[str, Tensor], at: str, x: Tensor) -> Tensor:
    q, k, v = linear(w, f"{at}.attn.qkv", norm(w, f"{at}.norm1", x)).chunk(3, -1)
    return x + linear(w, f"{at}.attn.proj", attention(q, k, v))


def reference(
    model: DiffusionMAE, image: Tensor, draw: dict[str, Tensor], kind: str
) -> tuple[Tensor, Tensor]:
    """Loss and predictions of one sample after the other."""
    w = {name.removeprefix("decoder."): v for name, v in model.decoder.state_dict().items()}
    table = sincos_table(16, 4, 3).double()
    predictions, errors = [], []
    for i in range(len(image)):
        order = draw["noise"][i].argsort(stable=True)
        keep, hidden = order[:3], order[3:]
        clean = patchify(image[i : i + 1], (4, 2))[0, hidden]
        t = int(draw["step"][i])
        a = math.prod(1 - (1e-4 + 0.0199 * j / 999) for j in range(t + 1))
        noisy = math.sqrt(a) * clean + math.sqrt(1 - a) * draw["pixel_noise"][i].double()
        angle = [t * 10_000 ** (-j / 128) for j in range(128)]
        waves = torch.tensor([math.cos(v) for v in angle] + [math.sin(v) for v in angle], dtype=torch.float64)
        time = linear(w, "time.first", waves)
        time = linear(w, "time.second", time * time.sigmoid())
        x = linear(w, "embed_noisy", noisy) + table[1 + hidden] + time
        latent = encode_visible(model.encoder, image[i : i + 1], keep[None])[0]
        context = linear(w, "embed", latent) + torch.cat([table[:1], table[1 + keep]])
        if kind == "joint":
            x = torch.cat([context, x])
        for j in range(2):
            at = f"blocks.{j}"
            if kind != "joint":
                q = linear(w, f"{at}.cross.q", norm(w, f"{at}.norm_cross", x))
                k, v = linear(w, f"{at}.cross.kv", context).chunk(2, -1)
                x = x + linear(w, f"{at}.cross.proj", attention(q, k, v))
            if kind != "cross":
                x = self_attention(w, at, x)
            inner = linear(w, f"{at}.mlp.fc1", norm(w, f"{at}.norm2", x))
            inner = 0.5 * inner * (1 + torch.erf(inner / math.sqrt(2)))
            x = x + linear(w, f"{at}.mlp.fc2", inner)
        prediction = linear(w, "pred", norm(w, "norm", x[-9:]))
        predictions.append(prediction)
        errors.append((prediction - clean).square().mean())
    return torch.stack(errors).mean(), torch.stack(predictions)


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_prediction_are_those_of_the_specification(kind: str) -> None:
    model, image = shaken(small(decoder=kind)), images().double()
    draw = model.draw(5, image.device, torch.Generator().manual_seed(2))
    draw["step"] = torch.tensor([0, 1, 400, 998, 999])
    output = model(image, **draw)
    with torch.no_grad():
        loss, prediction = reference(model, image, draw, kind)
    torch.testing.assert_close(output.prediction, prediction, atol=1e-10, rtol=0)
    torch.testing.assert_close(output.loss, loss, atol=1e-11, rtol=0)
    output.loss.backward()
    unused = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert unused == [], "a parameter without a gradient would stop training on several processes"


@pytest.mark.parametrize("kv", ["last", "top_down"])
@pytest.mark.parametrize("kind", ["cross", "cross_self"])
def test_only_cross_patches_never_see_one_another(kind: str, kv: str) -> None:
    model, image = small(decoder=kind, kv=kv, depth=3).eval(), images(1)
    draw = model.draw(1, image.device, torch.Generator().manual_seed(3))
    draw["step"][:] = 500
    other = {**draw, "pixel_noise": draw["pixel_noise"].clone()}
    other["pixel_noise"][0, 4] += 1
    moved = (model(image, **draw).prediction - model(image, **other).prediction).abs().amax((0, 2)) > 1e-7
    assert moved[4]
    assert moved.sum() == (1 if kind == "cross" else 9)


def test_blocks_attend_to_the_encoder_from_its_end_to_its_beginning() -> None:
    model = small(kv="top_down", depth=5, decoder_depth=3)
    assert model.decoder.levels == [4, 2, 0]
    assert set(model.decoder.level_norms) == {"0", "2"}
    model(images()).loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    # with the middle of the encoder cut off from the decoder, the prediction is another one
    draw = model.draw(5, torch.device("cpu"), torch.Generator().manual_seed(1))
    before = model(images(), **draw).prediction
    with torch.no_grad():
        model.decoder.level_norms["0"].weight.zero_()
    assert not torch.allclose(before, model(images(), **draw).prediction)


def test_the_time_can_be_left_out() -> None:
    model = small(time="none")
    draw = model.draw(5, torch.device("cpu"), torch.Generator().manual_seed(1))
    draw["pixel_noise"].zero_()
    image = torch.zeros(5, 3, 16, 6)  # without noise and signal, only the time could tell two steps apart
    later = {**draw, "step": (draw["step"] + 300) % 1000}
    assert torch.equal(model(image, **draw).prediction, model(image, **later).prediction)
    told = small()
    assert not torch.allclose(told(image, **draw).prediction, told(image, **later).prediction)


@pytest.mark.parametrize(
    ("kind", "decoder"), [("cross", 26_795_776), ("cross_self", 35_208_960), ("joint", 26_795_776)]
)
def test_the_papers_decoder_has_so_many_parameters(kind: str, decoder: int) -> None:
    """Blocks of 3,152,384 (a block of MAE's decoder) or 4,204,032, eight of them, and what surrounds them."""
    with torch.device("meta"):
        model = build_diffmae("vit_base", decoder=kind)
    count = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    block = sum(n for name, n in count.items() if name.startswith("decoder.blocks.0."))
    assert block == (4_204_032 if kind == "cross_self" else 3_152_384)
    assert sum(n for name, n in count.items() if name.startswith("decoder.")) == decoder
    assert sum(n for name, n in count.items() if name.startswith("encoder.")) == 85_647_360


class TestRandomNumbers:
    def test_the_same_seed_gives_the_same_loss(self) -> None:
        model = small()
        first, again, other = (
            model(images(), generator=torch.Generator().manual_seed(seed)).loss for seed in (5, 5, 6)
        )
        assert first == again
        assert first != other

    def test_a_step_may_be_divided_among_processes(self) -> None:
        """Each takes its rows of what was drawn for the whole; the mean of the losses stays."""
        model, image = small().double(), images(6).double()
        draw = model.draw(6, image.device, torch.Generator().manual_seed(4))
        whole = model(image, **draw).loss
        halves = [
            model(image[part], **{name: value[part] for name, value in draw.items()}).loss
            for part in (slice(0, 3), slice(3, 6))
        ]
        torch.testing.assert_close(torch.stack(halves).mean(), whole, atol=1e-12, rtol=0)

    def test_every_step_of_the_diffusion_is_drawn_equally_often(self) -> None:
        step = small(steps=4).draw(8000, torch.device("cpu"), torch.Generator().manual_seed(0))["step"]
        often = step.bincount(minlength=4) / 8000
        assert (often - 0.25).abs().max() < 5 * math.sqrt(0.25 * 0.75 / 8000)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"step": None}, "expected all of them or none"),
            ({"step": torch.zeros(4, dtype=torch.int64)}, r"found step of shape \(4,\)"),
            ({"pixel_noise": torch.zeros(5, 9, 23)}, r"pixel_noise of shape \(5, 9, 23\), .*\(5, 9, 24\)"),
            ({"noise": torch.zeros(5, 11)}, r"found noise of shape \(5, 11\), expected \(5, 12\)"),
        ],
    )
    def test_other_shapes_are_refused(self, change: dict[str, Any], message: str) -> None:
        model = small()
        draw = {**model.draw(5, torch.device("cpu")), **change}
        with pytest.raises(ModelError, match=message):
            model(images(), **draw)


def test_min_snr_weighs_a_sample_by_signal_to_noise_up_to_a_limit() -> None:
    plain, weighed = small(steps=1000), small(min_snr=5.0)
    weighed.load_state_dict(plain.state_dict())
    for step in (0, 300, 999):
        draw = plain.draw(5, torch.device("cpu"), torch.Generator().manual_seed(1))
        draw["step"][:] = step
        left = plain.left[step].item()
        ratio = weighed(images(), **draw).loss / plain(images(), **draw).loss
        assert ratio.item() == pytest.approx(min(left / (1 - left), 5.0), rel=1e-4)


def test_the_targets_may_be_normalised_patches() -> None:
    model, image = small(norm_pix_loss=True), 3 * images() + 5
    draw = model.draw(5, image.device, torch.Generator().manual_seed(1))
    draw["step"].zero_()
    draw["pixel_noise"].zero_()
    clean = model(image, **draw).noisy / math.sqrt(1 - 1e-4)
    assert clean.mean(-1).abs().max() < 1e-4
    torch.testing.assert_close(clean.var(-1), torch.ones(5, 9), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("steps", "eta"), [(1, 0.0), (3, 0.0), (20, 1.0)])
def test_sampling_fills_the_masked_patches_and_leaves_the_others(kind: str, steps: int, eta: float) -> None:
    model, image = small(decoder=kind, steps=20).eval(), images()
    noise = torch.rand(5, 12, generator=torch.Generator().manual_seed(1))
    filled = model.fill(image, noise, steps, eta, torch.Generator().manual_seed(2))
    mask = model(image, noise, *list(model.draw(5, image.device).values())[1:]).mask.mask
    same = (patchify(filled, (4, 2)) == patchify(image, (4, 2))).all(-1)
    assert torch.equal(same, mask == 0)
    # what was under the mask is not looked at
    covered = patchify(image, (4, 2)) + 100 * mask[:, :, None]
    blind = model.fill(
        unpatchify(covered, (4, 2), (4, 3)), noise, steps, eta, torch.Generator().manual_seed(2)
    )
    torch.testing.assert_close(blind, filled, atol=1e-5, rtol=0)


def test_it_learns_to_fill_in() -> None:
    """Images whose patches are all alike: after training, the visible ones tell what is hidden."""
    torch.manual_seed(0)
    model = small(steps=100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, betas=(0.9, 0.95))
    generator = torch.Generator().manual_seed(0)

    def draw_images(samples: int) -> Tensor:
        return torch.randn(samples, 3, 1, 1, generator=generator).expand(-1, -1, 16, 6)

    def mistake() -> float:
        image = draw_images(64)
        noise = torch.rand(64, 12, generator=generator)
        return (model.fill(image, noise, 10, generator=generator) - image).square().mean().item() / 0.75

    before = mistake()
    for _ in range(80):
        optimizer.zero_grad()
        model(draw_images(32), generator=generator).loss.backward()
        optimizer.step()
    assert before > 0.9  # what guessing the mean gives is 1
    assert mistake() < 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_float32_under_autocast(kind: str) -> None:
    model, image = small(decoder=kind), images()
    draw = model.draw(5, image.device, torch.Generator().manual_seed(1))
    full = model(image, **draw).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(image, **draw)
    assert half.prediction.dtype == torch.bfloat16
    assert half.loss.dtype == torch.float32
    assert half.loss.item() == pytest.approx(full.item(), rel=2e-2)


def test_the_model_compiles_as_one_graph() -> None:
    model, image = small(), images()
    draw = model.draw(5, image.device)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert compiled(image, **draw).loss == model(image, **draw).loss


def test_the_encoder_is_that_of_the_masked_autoencoder() -> None:
    with torch.device("meta"):
        ours, maes = build_diffmae("vit_tiny").encoder, build_mae("vit_tiny").encoder
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [
        (k, v.shape) for k, v in maes.state_dict().items()
    ]
    model = small().eval()
    with torch.no_grad():
        assert torch.equal(model.features(images()), model.encoder(images()))


def test_every_normalisation_has_maes_epsilon() -> None:
    model = small(decoder="cross_self", kv="top_down", depth=4)
    assert {layer.eps for layer in model.modules() if isinstance(layer, nn.LayerNorm)} == {1e-6}


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"decoder": "crosself"}, r"no diffusion decoder named 'crosself'. Did you mean 'cross_self'\?"),
            ({"kv": "first"}, "no source of keys and values named 'first'"),
            ({"time": "mul"}, "no way of telling the time named 'mul'"),
            ({"masking": "randm"}, "no masking strategy named 'randm'"),
        ],
    )
    def test_unknown_names(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(UnknownNameError, match=message):
            small(**options)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"decoder": "joint", "kv": "top_down"}, "joint decoder with kv 'top_down'"),
            ({"decoder_heads": 3}, "width 16 and 3 attention heads"),
            ({"image_size": (16, 7)}, "image size 16 x 7 and patch size 4 x 2"),
            ({"rho": 0.0}, "rho 0"),
        ],
    )
    def test_settings_that_do_not_fit(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ModelError, match=message):
            small(**options)

    def test_images_of_another_size(self) -> None:
        with pytest.raises(
            ModelError, match=r"found images of shape \(2, 3, 6, 16\), expected \(N, 3, 16, 6\)"
        ):
            small()(torch.zeros(2, 3, 6, 16))

    def test_normalised_patches_cannot_be_filled_in(self) -> None:
        with pytest.raises(ModelError, match="expected a model of plain pixels"):
            small(norm_pix_loss=True).fill(images(), torch.rand(5, 12))
