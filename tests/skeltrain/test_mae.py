from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from skelformats.errors import UnknownNameError
from skeltrain.models.classifier import LinearProbe
from skeltrain.models.encoder import encode_visible, features
from skeltrain.models.errors import ModelError
from skeltrain.models.mae import PRESETS, MaskedAutoencoder, build_mae, patchify, unpatchify
from skeltrain.models.positions import sincos_table
from skeltrain.models.weights import load_mae, our_name

CASES = [(loss, dtype) for loss in ("rawpix", "normpix") for dtype in ("f32", "f64")]


@pytest.fixture
def micro() -> MaskedAutoencoder:
    torch.manual_seed(0)
    return build_mae("vit_micro", image_size=32, patch_size=8)


@pytest.fixture
def image() -> Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def figures(golden_numbers: Path) -> dict[str, Any]:
    return torch.load(golden_numbers / "mae_tiny.pt", weights_only=True)


class TestOfficialCode:
    """Against figures made with facebookresearch/mae, through our key map."""

    def model(self, figures: dict[str, Any], folder: Path, norm_pix_loss: bool = False) -> MaskedAutoencoder:
        config = figures["config"]
        model = MaskedAutoencoder(
            image_size=config["img_size"],
            patch_size=config["patch_size"],
            embed_dim=config["embed_dim"],
            depth=config["depth"],
            num_heads=config["num_heads"],
            decoder_dim=config["decoder_embed_dim"],
            decoder_depth=config["decoder_depth"],
            decoder_heads=config["decoder_num_heads"],
            mlp_ratio=config["mlp_ratio"],
            norm_pix_loss=norm_pix_loss,
            mask_ratio=figures["mask_ratio"],
        )
        torch.save({"model": figures["state_dict"]}, folder / "official.pth")
        report = load_mae(model, folder / "official.pth")
        assert len(report.matched) == len(figures["state_dict"])
        assert report.missing == report.unused == ()
        return model

    @pytest.mark.parametrize(("loss", "dtype"), CASES)
    def test_loss_prediction_and_gradients_are_equal(
        self, figures: dict[str, Any], tmp_path: Path, loss: str, dtype: str
    ) -> None:
        expected = figures[f"{loss}_{dtype}"]
        kind = torch.float64 if dtype == "f64" else torch.float32
        tolerance = 1e-12 if dtype == "f64" else 1e-5
        model = self.model(figures, tmp_path, norm_pix_loss=loss == "normpix").to(kind)

        output = model(figures["x"].to(kind), noise=figures["noise"])
        output.loss.backward()

        assert abs(output.loss - expected["loss"]) <= (1e-12 if dtype == "f64" else 1e-6)
        assert torch.equal(output.mask, figures["mask"])
        assert torch.equal(output.ids_restore, figures["ids_restore"])
        if loss == "rawpix":
            torch.testing.assert_close(output.prediction, expected["pred"], atol=tolerance, rtol=0)
            torch.testing.assert_close(output.latent, expected["latent"], atol=tolerance, rtol=0)
        gradients = {name: value.grad for name, value in model.named_parameters() if value.requires_grad}
        assert {our_name(key) for key in expected["grad_norms"]} == set(gradients)
        for key, norm in expected["grad_norms"].items():
            gradient = gradients[our_name(key)]
            assert gradient is not None
            assert gradient.norm().item() == pytest.approx(norm, rel=tolerance)
        for key, name in (
            ("grad_patch_embed", "encoder.patch_embed.proj.weight"),
            ("grad_decoder_pred", "decoder.pred.weight"),
        ):
            torch.testing.assert_close(gradients[name], expected[key], atol=tolerance * 1e-2, rtol=0)

    def test_features_are_equal(self, figures: dict[str, Any], tmp_path: Path) -> None:
        model = self.model(figures, tmp_path).eval()
        with torch.no_grad():
            token = model.features(figures["x"])
            mean = model.features(figures["x"], pool="mean")
        torch.testing.assert_close(token, figures["feat_cls_norm"], atol=1e-5, rtol=0)
        torch.testing.assert_close(mean, figures["feat_norm_then_mean"], atol=1e-5, rtol=0)

    def test_patches_and_positions_are_equal(self, figures: dict[str, Any]) -> None:
        assert torch.equal(patchify(figures["x"], 8), figures["patchify_x"])
        table = sincos_table(768, 14, 14)[:, ::64]
        torch.testing.assert_close(table, figures["pos_embed_224"], atol=1e-6, rtol=0)

    def test_a_fresh_model_has_the_official_position_tables(self, figures: dict[str, Any]) -> None:
        assert torch.equal(sincos_table(32, 4, 4)[None], figures["state_dict"]["pos_embed"])
        assert torch.equal(sincos_table(16, 4, 4)[None], figures["state_dict"]["decoder_pos_embed"])


def test_base_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = build_mae("vit_base")
    count = {name: value.numel() for name, value in model.named_parameters()}
    trainable = {name: value.numel() for name, value in model.named_parameters() if value.requires_grad}
    assert sum(count.values()) == 111_907_840
    assert sum(trainable.values()) == 111_655_680
    assert sum(n for name, n in trainable.items() if name.startswith("encoder.")) == 85_647_360
    assert sum(n for name, n in trainable.items() if name.startswith("decoder.")) == 26_008_320
    assert set(count) - set(trainable) == {"encoder.pos_embed", "decoder.pos_embed"}


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_the_encoder_of_a_preset_is_timms_model_of_that_name(size: str) -> None:
    with torch.device("meta"):
        ours = build_mae(f"vit_{size}").encoder
        theirs = timm.create_model(f"vit_{size}_patch16_224", num_classes=0)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in theirs.state_dict().items()
    }
    assert ours.blocks[0].attn.num_heads == theirs.blocks[0].attn.num_heads


def test_options_win_over_the_preset() -> None:
    with torch.device("meta"):
        model = build_mae("vit_micro", depth=2, decoder_depth=1)
    assert (len(model.encoder.blocks), len(model.decoder.blocks)) == (2, 1)


def test_every_normalisation_of_the_blocks_has_maes_epsilon(micro: MaskedAutoencoder) -> None:
    epsilons = {layer.eps for layer in micro.modules() if isinstance(layer, nn.LayerNorm)}
    assert epsilons == {1e-6}


def test_initial_values_are_maes(micro: MaskedAutoencoder) -> None:
    for layer in micro.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            weight = layer.weight.detach().flatten(1)
            bound = (6 / sum(weight.shape)) ** 0.5  # Xavier's
            assert 0.98 * bound < weight.abs().max() <= bound
            assert layer.bias is not None
            assert layer.bias.count_nonzero() == 0
        elif isinstance(layer, nn.LayerNorm):
            assert (layer.weight == 1).all()
            assert (layer.bias == 0).all()
    for token in (micro.encoder.cls_token, micro.decoder.mask_token):
        assert token is not None
        assert 0.01 < token.std() < 0.03


def test_the_encoder_processes_nothing_but_visible_patches(micro: MaskedAutoencoder, image: Tensor) -> None:
    seen: list[tuple[int, ...]] = []
    for block in micro.encoder.blocks:
        block.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    output = micro(image)
    assert seen == [(4, 1 + 4, 96)] * 4
    assert output.latent.shape == (4, 5, 96)
    assert output.prediction.shape == (4, 16, 8 * 8 * 3)


def test_what_is_masked_does_not_reach_the_prediction(micro: MaskedAutoencoder, image: Tensor) -> None:
    noise = torch.rand(4, 16)
    first = micro(image, noise=noise)
    patches = patchify(image, 8)
    changed = torch.where(first.mask[:, :, None] == 1, patches + 100, patches)
    second = micro(unpatchify(changed, 8, (4, 4)), noise=noise)
    assert torch.equal(first.prediction, second.prediction)
    assert second.loss > first.loss + 1000


def test_only_masked_patches_count_in_the_loss(micro: MaskedAutoencoder, image: Tensor) -> None:
    mask = torch.zeros(4, 16)
    mask[:, 3:15] = 1
    prediction = patchify(image, 8)
    prediction[:, 0] += 7
    assert micro.loss(image, prediction, mask) == 0
    prediction[:, 3] += 2  # one of twelve masked patches, off by 2 in every pixel
    assert micro.loss(image, prediction, mask).item() == pytest.approx(4 / 12)


def test_normalised_targets_have_unit_unbiased_variance(image: Tensor) -> None:
    model = build_mae("vit_micro", image_size=32, patch_size=8, norm_pix_loss=True)
    mask = torch.ones(4, 16)
    zero = torch.zeros(4, 16, 192)
    # Against zero the loss is the targets' mean square: (n - 1) / n for n pixels of unit unbiased variance.
    assert model.loss(3 * image + 5, zero, mask).item() == pytest.approx(191 / 192, abs=1e-6)


def test_patches_are_cut_row_by_row_with_channels_last() -> None:
    image = torch.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6)
    patches = patchify(image, 2)
    assert patches.shape == (2, 6, 12)
    # Second patch of the first row: pixels (0, 2), (0, 3), (1, 2), (1, 3), each with its three channels.
    expected = torch.stack([image[1, :, r, c] for r, c in ((0, 2), (0, 3), (1, 2), (1, 3))]).flatten()
    assert torch.equal(patches[1, 1], expected)
    assert torch.equal(unpatchify(patches, 2, (2, 3)), image)


def test_the_position_of_a_patch_is_its_column_and_then_its_row() -> None:
    table = sincos_table(8, 3, 5).double()
    row, column = 2, 4
    frequency = torch.tensor([1.0, 0.01], dtype=torch.float64)
    halves = [f(frequency * place) for place in (column, row) for f in (torch.sin, torch.cos)]
    torch.testing.assert_close(table[1 + row * 5 + column], torch.cat(halves), atol=1e-7, rtol=0)
    assert table[0].count_nonzero() == 0


def test_an_image_may_be_wider_than_high() -> None:
    model = build_mae("vit_micro", image_size=(16, 32), patch_size=8)
    assert model.grid == (2, 4)
    output = model(torch.randn(2, 3, 16, 32))
    assert output.mask.sum(1).tolist() == [6, 6]


def test_a_cpu_generator_makes_masks_reproducible(micro: MaskedAutoencoder, image: Tensor) -> None:
    first, again, other = (
        micro(image, generator=torch.Generator().manual_seed(seed)).mask for seed in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_one_optimiser_step_lowers_the_loss(micro: MaskedAutoencoder, image: Tensor) -> None:
    optimizer = torch.optim.AdamW(micro.parameters(), lr=1e-3)
    noise = torch.rand(4, 16)
    before = micro(image, noise=noise).loss
    before.backward()
    tables = [micro.encoder.pos_embed.clone(), micro.decoder.pos_embed.clone()]
    optimizer.step()
    assert micro(image, noise=noise).loss < before
    assert torch.equal(micro.encoder.pos_embed, tables[0])
    assert torch.equal(micro.decoder.pos_embed, tables[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_loss_is_float32_under_autocast(
    micro: MaskedAutoencoder, image: Tensor, dtype: torch.dtype
) -> None:
    noise = torch.rand(4, 16)
    full = micro(image, noise=noise).loss
    with torch.autocast("cpu", dtype=dtype):
        output = micro(image, noise=noise)
    assert output.prediction.dtype == dtype
    assert output.loss.dtype == torch.float32
    assert output.loss.item() == pytest.approx(full.item(), rel=1e-2)
    output.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in micro.parameters() if p.requires_grad)


def test_the_model_compiles_as_one_graph(micro: MaskedAutoencoder, image: Tensor) -> None:
    noise = torch.rand(4, 16)
    compiled = torch.compile(micro, backend="eager", fullgraph=True)
    assert compiled(image, noise=noise).loss == micro(image, noise=noise).loss


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_cuda_device_masks_and_learns_as_the_cpu(
    micro: MaskedAutoencoder, image: Tensor, dtype: torch.dtype
) -> None:
    cpu = micro(image, generator=torch.Generator().manual_seed(3))
    micro.cuda()
    full = micro(image.cuda(), generator=torch.Generator().manual_seed(3))
    assert torch.equal(full.mask.cpu(), cpu.mask)
    assert full.loss.item() == pytest.approx(cpu.loss.item(), rel=1e-4)
    with torch.autocast("cuda", dtype=dtype):
        half = micro(image.cuda(), generator=torch.Generator().manual_seed(3))
    assert half.loss.dtype == torch.float32
    assert half.loss.item() == pytest.approx(cpu.loss.item(), rel=1e-2)
    half.loss.backward()


class TestFeatures:
    def test_equal_timms_own_forward_pass(self, micro: MaskedAutoencoder, image: Tensor) -> None:
        with torch.no_grad():
            assert torch.equal(micro.features(image), micro.encoder(image))

    def test_equal_the_encoding_of_all_patches(self, micro: MaskedAutoencoder, image: Tensor) -> None:
        everything = torch.arange(16).expand(4, -1)
        with torch.no_grad():
            tokens = encode_visible(micro.encoder, image, everything)
            torch.testing.assert_close(micro.features(image), tokens[:, 0])
            torch.testing.assert_close(micro.features(image, pool="avg"), tokens[:, 1:].mean(1))

    def test_an_unknown_pooling_names_those_that_exist(self, micro: MaskedAutoencoder, image: Tensor) -> None:
        with pytest.raises(UnknownNameError, match=r"no pooling named 'tokn'. Did you mean 'token'\?"):
            micro.features(image, pool="tokn")


class TestLinearProbe:
    def test_only_the_head_learns(self, micro: MaskedAutoencoder, image: Tensor) -> None:
        probe = LinearProbe(micro.encoder, classes=5)
        trainable = {name for name, value in probe.named_parameters() if value.requires_grad}
        assert trainable == {"head.weight", "head.bias"}
        probe(image).square().sum().backward()
        assert all(value.grad is None for value in micro.encoder.parameters())

    def test_the_encoder_stays_in_evaluation_mode(self, micro: MaskedAutoencoder) -> None:
        probe = LinearProbe(micro.train().encoder, classes=5).train()
        assert probe.training
        assert probe.norm.training
        assert not any(module.training for module in probe.encoder.modules())

    @pytest.mark.parametrize("pool", ["token", "avg"])
    def test_cached_features_give_the_same_logits(
        self, micro: MaskedAutoencoder, image: Tensor, pool: str
    ) -> None:
        probe = LinearProbe(micro.encoder, classes=5, pool=pool).eval()
        cached = probe.features(image)
        assert torch.equal(cached, features(micro.encoder, image, pool))
        assert torch.equal(probe.logits_from_features(cached), probe(image))

    def test_the_head_normalises_over_the_batch_without_learned_scale(self, micro: MaskedAutoencoder) -> None:
        probe = LinearProbe(micro.encoder, classes=5).train()
        feature = 3 * torch.randn(64, 96) + 2
        mean, variance = feature.mean(0), feature.var(0, correction=0)
        normal = (feature - mean) / (variance + 1e-6).sqrt()
        expected = normal @ probe.head.weight.T + probe.head.bias
        torch.testing.assert_close(probe.logits_from_features(feature), expected, atol=1e-5, rtol=1e-5)

    def test_the_normalisation_can_be_left_out(self, micro: MaskedAutoencoder) -> None:
        probe = LinearProbe(micro.encoder, classes=5, head_bn=False).train()
        feature = torch.randn(3, 96)
        expected = feature @ probe.head.weight.T + probe.head.bias
        torch.testing.assert_close(probe.logits_from_features(feature), expected)

    def test_the_head_starts_small(self, micro: MaskedAutoencoder) -> None:
        head = LinearProbe(micro.encoder, classes=100).head
        assert head.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert head.bias.count_nonzero() == 0

    def test_logits_are_float32_under_autocast(self, micro: MaskedAutoencoder, image: Tensor) -> None:
        probe = LinearProbe(micro.encoder, classes=5)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert probe(image).dtype == torch.float32

    def test_an_unknown_pooling_is_refused_at_once(self, micro: MaskedAutoencoder) -> None:
        with pytest.raises(UnknownNameError, match="no pooling named 'max'"):
            LinearProbe(micro.encoder, classes=5, pool="max")


class TestRefusals:
    def test_unknown_preset(self) -> None:
        with pytest.raises(UnknownNameError, match=r"'vit_bas'. Did you mean 'vit_base'\?") as caught:
            build_mae("vit_bas")
        assert caught.value.known == tuple(PRESETS)

    def test_unknown_masking(self) -> None:
        with pytest.raises(UnknownNameError, match="no masking strategy named 'randm'"):
            build_mae("vit_micro", masking="randm")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"image_size": 30, "patch_size": 8}, "image size 30 x 30 and patch size 8"),
            ({"patch_size": 0}, "patch size 0"),
            ({"num_heads": 5}, "width 96 and 5 attention heads"),
            ({"decoder_heads": 5}, "width 64 and 5 attention heads"),
            ({"embed_dim": 99}, "token width of 99"),
            ({"mask_ratio": 1.0}, "masks 196 of 196 patches"),
        ],
    )
    def test_sizes_that_do_not_fit(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ModelError, match=message):
            build_mae("vit_micro", **options)

    def test_images_of_another_size(self, micro: MaskedAutoencoder) -> None:
        with pytest.raises(
            ModelError, match=r"found images of shape \(2, 3, 64, 64\), expected \(N, 3, 32, 32\)"
        ):
            micro(torch.zeros(2, 3, 64, 64))

    def test_noise_of_another_shape(self, micro: MaskedAutoencoder, image: Tensor) -> None:
        with pytest.raises(ModelError, match=r"found noise of shape \(4, 15\), expected \(4, 16\)"):
            micro(image, noise=torch.rand(4, 15))

    def test_an_encoder_without_class_token(self, image: Tensor) -> None:
        encoder = timm.create_model(
            "vit_tiny_patch16_224", img_size=32, patch_size=8, depth=1, class_token=False, global_pool="avg"
        )
        with pytest.raises(ModelError, match="without class token"):
            encode_visible(encoder, image, torch.zeros(4, 4, dtype=torch.int64))
