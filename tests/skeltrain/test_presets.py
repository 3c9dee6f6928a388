from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from skeltrain.models.diffmae import build_diffmae
from skeltrain.models.encoder import build_encoder
from skeltrain.models.errors import ModelError
from skeltrain.models.feature_prediction import build_feature_predictor
from skeltrain.models.mae import MaskedAutoencoder, build_mae
from skeltrain.models.patches import pair, patch_grid, patchify, unpatchify
from skeltrain.models.positions import sincos_table
from skeltrain.models.presets import PRESETS, preset_options

BUILD = {"mae": build_mae, "diffmae": build_diffmae, "features": build_feature_predictor}
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "models.md"


def trained_parameters(kind: str, preset: str) -> int:
    with torch.device("meta"):
        model = BUILD[kind](preset, patch_size=14 if preset == "vit_huge" else 16)
    return sum(value.numel() for value in model.parameters() if value.requires_grad)


@pytest.mark.parametrize("name", PRESETS)
def test_the_document_gives_the_sizes_and_parameters_of_a_preset(name: str) -> None:
    preset = PRESETS[name]
    row = re.search(rf"^\| `{name}` \|.*$", DOCUMENT.read_text(), re.M)
    assert row is not None, f"docs/models.md has no row for {name}"
    cells = [cell.strip() for cell in row[0].strip("|").split("|")]
    assert cells[1] == f"{preset.embed_dim} × {preset.depth} × {preset.num_heads}"
    assert cells[2] == f"{preset.decoder_dim} × {preset.decoder_depth} × {preset.decoder_heads}"
    assert cells[3:6] == [f"{trained_parameters(kind, name):,}" for kind in BUILD]


class TestTimm:
    @pytest.mark.parametrize(
        "name", ["vit_small_patch32_224", "vit_large_patch14_224", "deit_tiny_patch16_224"]
    )
    def test_a_model_of_timms_gives_its_encoder(self, name: str) -> None:
        with torch.device("meta"):
            ours, theirs = build_mae(f"timm/{name}").encoder, timm.create_model(name, num_classes=0)
        assert [(k, v.shape) for k, v in ours.state_dict().items()] == [
            (k, v.shape) for k, v in theirs.state_dict().items()
        ]
        assert ours.blocks[0].attn.num_heads == theirs.blocks[0].attn.num_heads

    def test_options_win_over_its_sizes(self) -> None:
        with torch.device("meta"):
            model = build_mae("timm/vit_small_patch32_224", image_size=(64, 32), patch_size=8, channels=6)
        assert model.grid == (8, 4)
        assert model.encoder.patch_embed.proj.weight.shape == (384, 6, 8, 8)
        assert len(model.decoder.blocks) == PRESETS["vit_small"].decoder_depth

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("vit_small_patch33", "'timm/vit_small_patch33', which is not a model of timm's, expected for"),
            ("resnet18", "a model of type ResNet, expected a plain vision transformer"),
            ("deit3_small_patch16_224", r"differs from MAE's encoder in blocks\.0\.ls1\.gamma"),
            ("vit_base_patch16_clip_quickgelu_224", r"differs from MAE's encoder in norm_pre\.bias"),
        ],
    )
    def test_another_architecture_is_refused(self, name: str, message: str) -> None:
        with pytest.raises(ModelError, match=message):
            preset_options(f"timm/{name}")


class TestRectangles:
    """Images of 40 frames and 20 joints, in patches of 8 frames and 4 joints: 25 tokens."""

    @pytest.mark.parametrize("kind", BUILD)
    def test_every_model_takes_them_with_any_number_of_channels(self, kind: str) -> None:
        torch.manual_seed(0)
        model = BUILD[kind]("vit_micro", image_size=[40, 20], patch_size=[8, 4], channels=12)
        output = model(torch.randn(2, 12, 40, 20))
        output.loss.backward()
        assert output.loss.isfinite()
        assert model.grid == (5, 5)
        assert model.encoder.patch_embed.proj.weight.shape == (96, 12, 8, 4)
        assert model.features(torch.randn(2, 12, 40, 20)).shape == (2, 96)

    def test_the_position_table_has_the_grids_rows_and_columns(self) -> None:
        encoder = build_encoder((24, 20), (8, 4), embed_dim=16, depth=1, num_heads=2)
        assert encoder.pos_embed is not None
        assert torch.equal(encoder.pos_embed[0], sincos_table(16, 3, 5))

    def test_a_patch_holds_its_rectangle_pixel_row_first(self) -> None:
        image = torch.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6)
        patches = patchify(image, (2, 3))
        assert patches.shape == (2, 4, 18)
        expected = image[1, :, 2:4, 0:3].permute(1, 2, 0).flatten()
        assert torch.equal(patches[1, 2], expected)
        assert torch.equal(unpatchify(patches, (2, 3), (2, 2)), image)

    def test_the_encoder_sees_the_rectangle_that_the_decoder_predicts(self) -> None:
        """An image that differs in one patch alone changes the embedding of that patch alone."""
        model = build_mae("vit_micro", image_size=(40, 20), patch_size=(8, 4))
        patches = torch.zeros(1, 25, 96)
        patches[0, 13] = 1
        image = unpatchify(patches, (8, 4), (5, 5))
        moved = model.encoder.patch_embed(image) - model.encoder.patch_embed(torch.zeros_like(image))
        assert moved.abs().amax((0, 2)).nonzero().flatten().tolist() == [13]

    def test_a_square_is_the_same_in_either_spelling(self) -> None:
        losses = []
        for size in (8, (8, 8), [8, 8]):
            torch.manual_seed(0)
            model = build_mae("vit_micro", image_size=32, patch_size=size)
            losses.append(model(torch.randn(2, 3, 32, 32)).loss.item())
        assert losses[0] == losses[1] == losses[2]

    @pytest.mark.parametrize(
        ("image", "patch", "message"),
        [
            ((40, 20), (8, 3), "image size 40 x 20 and patch size 8 x 3, expected patches that tile"),
            ((40, 20), (0, 4), "patch size 0 x 4"),
            ((4, 20), (8, 4), "image size 4 x 20"),
            ((40, 20, 3), 4, r"found the size \(40, 20, 3\), expected one whole number"),
            ((40.0, 20), 4, r"found the size \(40\.0, 20\)"),
        ],
    )
    def test_sizes_that_make_no_grid(self, image: Any, patch: Any, message: str) -> None:
        with pytest.raises(ModelError, match=message):
            patch_grid(image, patch)

    def test_one_number_is_both(self) -> None:
        assert pair(7) == (7, 7)
        assert pair([3, 4]) == (3, 4)

    def test_no_channels(self) -> None:
        with pytest.raises(ModelError, match="found 0 channels"):
            build_mae("vit_micro", channels=0)


def test_what_is_drawn_for_a_step_is_what_a_model_draws_itself() -> None:
    model: MaskedAutoencoder = build_mae("vit_micro", image_size=32, patch_size=8, masking="block")
    image: Tensor = torch.randn(4, 3, 32, 32)
    draw = model.draw(4, image.device, torch.Generator().manual_seed(3))
    own = model(image, generator=torch.Generator().manual_seed(3))
    assert torch.equal(model(image, **draw).mask, own.mask)
