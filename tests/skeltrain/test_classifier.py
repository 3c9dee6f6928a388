"""Fine-tuning: the whole network learns (the linear probe's tests stand in test_mae.py)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from skelformats.errors import UnknownNameError
from skeltrain.models.classifier import Classifier, drop_patches
from skeltrain.models.encoder import build_encoder
from skeltrain.models.errors import ModelError
from skeltrain.models.presets import split_options


@pytest.fixture
def image() -> Tensor:
    return torch.randn(4, 3, 32, 16, generator=torch.Generator().manual_seed(1))


def classifier(pool: str = "token", drop_path: float = 0.0, seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    encoder = build_encoder((32, 16), (8, 4), embed_dim=32, depth=3, num_heads=2, drop_path=drop_path)
    return Classifier(encoder, 5, pool)


@pytest.mark.parametrize(
    ("classes", "parameters"),
    [(60, 85_844_796), (120, 85_890_936), (51, 85_837_875), (31, 85_822_495), (10, 85_806_346)],
)
@pytest.mark.parametrize("pool", ["token", "avg"])
def test_the_papers_classifier_has_so_many_parameters(classes: int, parameters: int, pool: str) -> None:
    with torch.device("meta"):
        model = Classifier(split_options("vit_base", {})[0].encoder(), classes, pool)
    assert sum(value.numel() for value in model.parameters() if value.requires_grad) == parameters
    assert all(value.requires_grad for value in model.parameters())


def test_the_class_token_is_normalised_and_then_classified(image: Tensor) -> None:
    model = classifier().eval()
    feature = model.encoder(image)
    torch.testing.assert_close(model(image), feature @ model.head.weight.T + model.head.bias)


def test_the_mean_of_the_patches_is_taken_before_the_normalisation(image: Tensor) -> None:
    model = classifier("avg").eval()
    with torch.no_grad():
        model.encoder.norm.weight.uniform_(0.5, 2)
        norm, model.encoder.norm = model.encoder.norm, nn.Identity()
        tokens = model.encoder.forward_features(image)
        model.encoder.norm = norm
        mean = tokens[:, 1:].mean(1)
        centred = mean - mean.mean(1, keepdim=True)
        expected = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt() * norm.weight
        torch.testing.assert_close(model.features(image), expected, atol=1e-5, rtol=1e-5)


def test_with_the_mean_the_normalisation_starts_afresh() -> None:
    encoder = build_encoder(16, 8, embed_dim=32, depth=1, num_heads=2)
    with torch.no_grad():
        encoder.norm.weight.fill_(3)
    assert (Classifier(encoder, 5).encoder.norm.weight == 3).all()
    assert (Classifier(encoder, 5, "avg").encoder.norm.weight == 1).all()


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_every_parameter_learns(image: Tensor, pool: str) -> None:
    model = classifier(pool)
    model(image).square().sum().backward()
    assert [name for name, value in model.named_parameters() if value.grad is None] == []


def test_the_head_starts_almost_at_zero() -> None:
    torch.manual_seed(0)
    head = Classifier(build_encoder(16, 8, embed_dim=96, depth=1, num_heads=2), 100).head
    assert head.weight.std().item() == pytest.approx(2e-5, rel=0.05)
    assert head.bias.count_nonzero() == 0


def test_paths_are_dropped_in_training_only_and_more_often_in_later_blocks(image: Tensor) -> None:
    model = classifier(drop_path=0.5)
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in model.encoder.blocks]
    assert rates == pytest.approx([0.0, 0.25, 0.5])
    assert not torch.allclose(model.features(image), model.features(image))
    model.eval()
    assert torch.equal(model.features(image), model.features(image))
    assert torch.equal(model.features(image), classifier().eval().features(image))


def test_logits_are_float32_under_autocast(image: Tensor) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert classifier()(image).dtype == torch.float32


def test_images_may_have_any_number_of_channels() -> None:
    encoder = build_encoder((40, 20), (8, 4), embed_dim=32, depth=1, num_heads=2, channels=12)
    assert Classifier(encoder, 5)(torch.randn(2, 12, 40, 20)).shape == (2, 5)
    assert encoder.patch_embed.grid_size == (5, 5)


def test_unknown_pooling() -> None:
    with pytest.raises(UnknownNameError, match=r"no pooling named 'max'\. Known: token, avg"):
        classifier("max")


@pytest.mark.parametrize("drop_path", [-0.1, 1.0])
def test_a_drop_path_that_is_no_probability(drop_path: float) -> None:
    with pytest.raises(ModelError, match="a drop path of"):
        classifier(drop_path=drop_path)


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_patches_are_dropped_in_training_alone(pool: str) -> None:
    torch.manual_seed(0)
    model = classifier(pool)
    image = torch.randn(6, 3, 32, 16)
    seen: list[int] = []
    model.encoder.blocks[0].register_forward_hook(lambda module, args, out: seen.append(args[0].shape[1]))
    whole = model.eval()(image)
    model.patch_drop = 0.4
    torch.testing.assert_close(model(image), whole, rtol=0, atol=0)
    first, second = model.train()(image), model(image)
    assert not torch.equal(first, second)
    # 16 patches and the class token; 6 of them are dropped
    assert seen == [17, 17, 11, 11]


def test_dropped_patches_leave_others_in_each_sample_in_their_order() -> None:
    patches = torch.arange(16.0)[None, :, None].expand(64, 16, 1)
    kept = drop_patches(patches, 0.5)[..., 0]
    assert kept.shape == (64, 8)
    assert (kept.diff(dim=1) > 0).all()
    assert len({tuple(row.tolist()) for row in kept}) > 32
    share = torch.bincount(kept.flatten().long(), minlength=16) / 64
    assert (share > 0.2).all()
    assert (share < 0.8).all()
    assert drop_patches(patches, 0.99).shape == (64, 1, 1)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_patch_drop_that_is_no_share(rate: float) -> None:
    with pytest.raises(ModelError, match="expected a share below 1"):
        Classifier(build_encoder(32, 8, embed_dim=32, depth=1, num_heads=2), 3, patch_drop=rate)
