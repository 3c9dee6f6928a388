from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from skelformats.errors import UnknownNameError
from skeltrain.models.errors import ModelError
from skeltrain.models.feature_prediction import FeaturePredictor, build_feature_predictor
from skeltrain.models.masking import split, tube_noise

SIZES = {"image_size": (16, 8), "patch_size": (4, 2), "embed_dim": 32, "depth": 2, "num_heads": 2}


def small(seed: int = 0, **options: Any) -> FeaturePredictor:
    """4 x 4 patches, 4 of them visible."""
    torch.manual_seed(seed)
    decoder = {"decoder_dim": 16, "decoder_heads": 2}
    return build_feature_predictor("vit_micro", **{**SIZES, **decoder, **options})


def images(samples: int, generator: torch.Generator) -> Tensor:
    """A wave in time, a bend and a slope over the joints, all different from image to image; little noise."""
    what = torch.randn(samples, 4, 1, 1, generator=generator)
    time = torch.linspace(0, 1, 16)[None, :, None].expand(samples, -1, 8)
    joint = (torch.arange(8)[None, None, :] / 8).expand(samples, 16, -1)
    wave = torch.sin(2 * math.pi * (time * (1 + what[:, 0].abs()) + what[:, 1] + joint))
    image = torch.stack([wave, what[:, 2] * (3 * time).cos(), what[:, 3] * joint], dim=1)
    return image + 0.1 * torch.randn(image.shape, generator=generator)


def spread(feature: Tensor) -> float:
    """How much features (N, L, D) differ between images, as part of their size."""
    apart = (feature - feature.mean(0)).square().mean().sqrt()
    return (apart / feature.square().mean().sqrt()).item()


class TestCollapse:
    """An encoder that gives the same features for every image is predicted with ease, and useless."""

    @pytest.mark.parametrize("predictor_depth", [0, 1])
    def test_the_features_of_different_images_stay_apart(self, predictor_depth: int) -> None:
        model, generator = small(predictor_depth=predictor_depth, momentum=0.99), self.generator()
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        seen = []
        for _ in range(100):
            output = model(images(32, generator), generator=generator)
            optimizer.zero_grad()
            output.loss.backward()
            optimizer.step()
            model.after_step()
            seen.append((output.loss.item(), output.spread.item()))
        assert min(value for _, value in seen) > 0.4
        assert seen[-1][0] < 0.6, "it predicts a good part of what can be known"
        test = images(64, generator)
        assert spread(model.encoder.forward_features(test)[:, 1:]) > 0.5

    def test_without_teacher_and_average_the_same_images_collapse(self) -> None:
        """The same student, predicting its own features: the spread falls by more than five times."""
        model, generator = small(), self.generator()
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        before = spread(model.encoder.forward_features(images(64, generator))[:, 1:])
        for _ in range(100):
            image = images(32, generator)
            mask = split(model.draw(32, image.device, generator)["noise"], model.masked)
            own = model.encoder.forward_features(image)[:, 1:]
            hidden = mask.hidden[:, :, None].expand(-1, -1, 32)
            loss = (model._predict(image, mask) - own).gather(1, hidden).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        after = spread(model.encoder.forward_features(images(64, generator))[:, 1:])
        assert before > 0.5
        assert after < 0.1

    def test_what_all_images_share_is_no_target(self) -> None:
        """Features that follow from the place but for a thousandth: only that thousandth is a target."""
        model, generator = small(), self.generator()
        place = torch.randn(16, 32, generator=generator)
        apart = 1e-3 * torch.randn(64, 16, 32, generator=generator)
        for _ in range(100):
            model._gather(place + apart)
            model.after_step()
        target = model._targets(place + apart)
        own = apart - apart.mean(0)
        own = (own - own.mean(-1, keepdim=True)) / own.std(-1, keepdim=True, correction=0)
        # what is left of the place is rounding, and the average itself is still a little behind
        agreement = torch.nn.functional.cosine_similarity(target, own, dim=-1)
        assert agreement.min() > 0.99
        assert target.mean(0).abs().max() < 0.5, "a prediction from the place alone would explain little"

    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(0)


def test_the_loss_is_that_of_the_definition() -> None:
    model, generator = small(momentum=0.9).double(), torch.Generator().manual_seed(1)
    for _ in range(3):  # so that the teacher is another than the student, and has seen something
        model(images(8, generator).double(), generator=generator)
        with torch.no_grad():
            for value in model.encoder.parameters():
                value += 0.02 * torch.randn(value.shape, generator=generator)
        model.after_step()
    image = images(6, generator).double()
    noise = tube_noise(6, (4, 4), image.device, generator)
    output = model(image, noise)

    hidden = noise.argsort(dim=1, stable=True)[:, 4:]
    centre = model.centre / (1 - 0.9**3)
    with torch.no_grad():
        teacher = model.teacher.forward_features(image)[:, 1:]
        errors = []
        for i in range(6):
            patches = model.encoder.patch_embed(image[i : i + 1])[0]
            patches[hidden[i]] = model.mask_token[0, 0]
            tokens = torch.cat([model.encoder.cls_token[0], patches]) + model.encoder.pos_embed[0]
            tokens = model.encoder.norm(model.encoder.blocks(tokens[None]))[0, 1:]
            predicted = tokens @ model.predictor.weight.T + model.predictor.bias
            target = teacher[i] - centre
            target = target - target.mean(-1, keepdim=True)
            target = target / (target.square().mean(-1, keepdim=True) + 1e-5).sqrt()
            errors.append((predicted - target)[hidden[i]].square().mean())
    torch.testing.assert_close(output.loss, torch.stack(errors).mean(), atol=1e-10, rtol=0)


def test_the_teacher_follows_the_student_and_learns_nothing_itself() -> None:
    model = small(momentum=0.75)
    with torch.no_grad():
        model.encoder.norm.weight.fill_(2)
    model(images(4, torch.Generator().manual_seed(0))).loss.backward()
    assert all(value.grad is None for value in model.teacher.parameters())
    learning = [
        name for name, value in model.named_parameters() if value.requires_grad and value.grad is None
    ]
    assert learning == []
    model.after_step()
    assert torch.allclose(model.teacher.norm.weight, torch.tensor(0.75 * 1 + 0.25 * 2))
    model.after_step(progress=0.5)  # half of the speed
    assert torch.allclose(model.teacher.norm.weight, torch.tensor(1.25 + 0.125 * 0.75))
    model.after_step(progress=1.0)
    assert torch.allclose(model.teacher.norm.weight, torch.tensor(1.25 + 0.125 * 0.75))


def test_the_teacher_sees_the_whole_image_and_stays_in_evaluation_mode() -> None:
    model = small().train()
    assert model.training
    assert not any(module.training for module in model.teacher.modules())
    image = images(2, torch.Generator().manual_seed(0))
    noise = torch.rand(2, 16, generator=torch.Generator().manual_seed(1))
    hidden = model(image, noise).mask.hidden[0, 0].item()
    row, column = divmod(int(hidden), 4)
    changed = image.clone()
    changed[0, :, 4 * row : 4 * row + 4, 2 * column : 2 * column + 2] += 1
    before, after = model(image, noise), model(changed, noise)
    assert torch.equal(before.prediction, after.prediction), "the student does not see it"
    assert not torch.allclose(before.target[0], after.target[0])


@pytest.mark.parametrize("predictor_depth", [0, 2])
def test_a_step_may_be_divided(predictor_depth: int) -> None:
    """In parts of equal size: the mean of the losses, and the teacher's average features, stay."""
    whole, parts = (small(predictor_depth=predictor_depth).double() for _ in range(2))
    generator = torch.Generator().manual_seed(2)
    for _ in range(3):
        image = images(6, generator).double()
        noise = whole.draw(6, image.device, generator)["noise"]
        one = whole(image, noise).loss
        two = [parts(image[part], noise[part]).loss for part in (slice(0, 3), slice(3, 6))]
        torch.testing.assert_close(torch.stack(two).mean(), one, atol=1e-12, rtol=0)
        whole.after_step()
        parts.after_step()
    torch.testing.assert_close(parts.centre, whole.centre, atol=1e-12, rtol=0)


def test_a_state_that_is_saved_and_loaded_goes_on_the_same() -> None:
    def steps(model: FeaturePredictor, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            loss = model(images(4, generator), generator=generator).loss
            loss.backward()
            optimizer.step()
            model.after_step()
        return loss

    straight, resumed = small(), small(seed=1)
    steps(straight, 1)
    resumed.load_state_dict(straight.state_dict())
    assert steps(resumed, 2) == steps(straight, 2)


def test_evaluation_leaves_the_average_features_alone() -> None:
    model = small().eval()
    model(images(4, torch.Generator().manual_seed(0)))
    model.after_step()
    assert model.centre.count_nonzero() == 0


def test_features_are_the_students() -> None:
    model, image = small().eval(), images(3, torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(model.features(image, "avg"), model.encoder.forward_features(image)[:, 1:].mean(1))


def test_the_loss_is_float32_under_autocast() -> None:
    model, image = small().eval(), images(4, torch.Generator().manual_seed(0))
    noise = torch.rand(4, 16, generator=torch.Generator().manual_seed(1))
    full = model(image, noise).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(image, noise).loss
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(full.item(), rel=2e-2)


def test_the_model_compiles_as_one_graph() -> None:
    plain, compiled_one = small(), small()
    compiled = torch.compile(compiled_one, backend="eager", fullgraph=True)
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        image, noise = images(4, generator), torch.rand(4, 16, generator=generator)
        assert compiled(image, noise).loss == plain(image, noise).loss
        plain.after_step()
        compiled_one.after_step()
    assert torch.equal(plain.centre, compiled_one.centre)


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"momentum": 1.0}, "found a momentum of 1"),
            ({"predictor_depth": -1}, "a predictor of -1 blocks"),
            ({"predictor_depth": 1, "decoder_heads": 3}, "width 16 and 3 attention heads"),
            ({"mask_ratio": 1.0}, "masks 16 of 16 patches"),
        ],
    )
    def test_settings_that_do_not_fit(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ModelError, match=message):
            small(**options)

    def test_unknown_masking(self) -> None:
        with pytest.raises(UnknownNameError, match="no masking strategy named 'tub'"):
            small(masking="tub")

    def test_images_of_another_size(self) -> None:
        with pytest.raises(ModelError, match=r"expected \(N, 3, 16, 8\)"):
            small()(torch.zeros(2, 3, 8, 16))
