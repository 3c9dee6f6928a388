from __future__ import annotations

import argparse
import functools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from skeltrain.models.classifier import LinearProbe
from skeltrain.models.diffmae import DiffusionMAE, build_diffmae
from skeltrain.models.errors import WeightsError
from skeltrain.models.feature_prediction import build_feature_predictor
from skeltrain.models.mae import MaskedAutoencoder, build_mae
from skeltrain.models.weights import (
    load_diffmae,
    load_encoder,
    load_feature_predictor,
    load_mae,
    read_weights,
)

TO_MAE = {
    "decoder.mask_token": "mask_token",
    "decoder.pos_embed": "decoder_pos_embed",
    "decoder.embed": "decoder_embed",
    "decoder.blocks": "decoder_blocks",
    "decoder.norm": "decoder_norm",
    "decoder.pred": "decoder_pred",
}


def small(seed: int = 0, **options: Any) -> MaskedAutoencoder:
    torch.manual_seed(seed)
    return build_mae("vit_micro", **{"image_size": 32, "patch_size": 8, "depth": 2, **options})


def official(model: nn.Module) -> dict[str, Tensor]:
    """Return the model's tensors under the names of MAE's released files."""
    result = {}
    for name, value in model.state_dict().items():
        stem = next((ours for ours in TO_MAE if name == ours or name.startswith(ours + ".")), None)
        result[name.removeprefix("encoder.") if stem is None else TO_MAE[stem] + name.removeprefix(stem)] = (
            value
        )
    return result


def encoder_only(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v for k, v in tensors.items() if not k.startswith("decoder") and k != "mask_token"}


@pytest.fixture
def trained() -> MaskedAutoencoder:
    model = small(seed=1)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn_like(value))
    return model


@pytest.fixture
def save(tmp_path: Path) -> Callable[[object], Path]:
    def write(content: object) -> Path:
        torch.save(content, tmp_path / "weights.pth")
        return tmp_path / "weights.pth"

    return write


def same(one: nn.Module, other: nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


def test_maes_files_have_150_and_254_keys() -> None:
    with torch.device("meta"):
        tensors = official(build_mae("vit_base"))
    assert len(tensors) == 254
    assert len(encoder_only(tensors)) == 150


class TestFiles:
    def test_maes_full_file_loads_encoder_and_decoder(
        self, trained: MaskedAutoencoder, save: Callable[[object], Path]
    ) -> None:
        model = small()
        report = load_mae(model, save({"model": official(trained)}))
        assert same(model, trained)
        assert set(report.matched) == set(model.state_dict())
        assert report.missing == report.unused == ()
        assert "every key of the source was used" in report.summary()

    def test_maes_encoder_file_leaves_the_decoder_fresh_and_says_so(
        self, trained: MaskedAutoencoder, save: Callable[[object], Path]
    ) -> None:
        model, fresh = small(), small()
        report = load_mae(model, save({"model": encoder_only(official(trained))}))
        assert same(model.encoder, trained.encoder)
        assert same(model.decoder, fresh.decoder)
        assert set(report.missing) == {f"decoder.{name}" for name in model.decoder.state_dict()}
        assert "encoder: 30 of 30 tensors loaded" in report.summary()
        assert "decoder: 0 of 32 tensors loaded, 32 keep their fresh values" in report.summary()

    def test_full_files_and_encoders_alone_are_told_apart(
        self, trained: MaskedAutoencoder, save: Callable[[object], Path]
    ) -> None:
        assert read_weights(save({"model": official(trained)})).kind == "mae"
        assert (
            "(a masked autoencoder: encoder and decoder)"
            in load_mae(small(), save(official(trained))).summary()
        )
        path = save({"model": encoder_only(official(trained))})
        assert read_weights(path).kind == "encoder"
        assert "(an encoder alone)" in load_mae(small(), path).summary()

    @pytest.mark.parametrize("preset", ["vit_base", "vit_large", "vit_huge"])
    def test_every_released_size_has_its_preset(self, preset: str) -> None:
        """Depth, width and parameters of the encoder as published (86 M, 303 M, 631 M)."""
        with torch.device("meta"):
            model = build_mae(preset, patch_size=14 if preset == "vit_huge" else 16)
        count = sum(value.numel() for value in encoder_only(official(model)).values())
        assert round(count / 1e6) == {"vit_base": 86, "vit_large": 303, "vit_huge": 631}[preset]

    def test_the_mask_token_of_a_full_file_does_not_make_it_another_architecture(
        self, trained: MaskedAutoencoder, save: Callable[[object], Path]
    ) -> None:
        # timm's own loading takes a `mask_token` for DINOv2 and drops it.
        encoder = small().encoder
        report = load_encoder(encoder, save({"model": official(trained)}))
        assert same(encoder, trained.encoder)
        assert "mask_token" in report.unused
        assert "not used: mask_token, " in report.summary()
        assert "and 27 more" in report.summary()

    @pytest.mark.parametrize("prefix", ["", "module.", "task.model."])
    def test_our_own_checkpoint_loads_from_wherever_the_model_was_in_it(
        self, trained: MaskedAutoencoder, save: Callable[[object], Path], prefix: str
    ) -> None:
        tensors = {prefix + name: value for name, value in trained.state_dict().items()}
        model = small()
        report = load_mae(model, save({"model": tensors, "epoch": 3, "recipe": {"task": "pretrain"}}))
        assert same(model, trained)
        assert report.unused == ()

    def test_a_probes_checkpoint_gives_its_encoder(
        self, trained: MaskedAutoencoder, save: Callable[[object], Path]
    ) -> None:
        path = save({"model": LinearProbe(trained.encoder, classes=4).state_dict()})
        encoder = small().encoder
        report = load_encoder(encoder, path)
        assert same(encoder, trained.encoder)
        assert {"head.weight", "head.bias"} <= set(report.unused)

    def test_a_timm_classifiers_head_is_left_and_reported(
        self, trained: MaskedAutoencoder, save: Callable[[object], Path]
    ) -> None:
        tensors = {
            **trained.encoder.state_dict(),
            "head.weight": torch.ones(2, 96),
            "head.bias": torch.ones(2),
        }
        report = load_encoder(small().encoder, save({"state_dict": tensors}))
        assert report.unused == ("head.weight", "head.bias")

    def test_safetensors(self, trained: MaskedAutoencoder, tmp_path: Path) -> None:
        save_file(encoder_only(official(trained)), tmp_path / "model.safetensors")
        encoder = small().encoder
        load_encoder(encoder, tmp_path / "model.safetensors")
        assert same(encoder, trained.encoder)

    def test_half_precision_is_widened(
        self, trained: MaskedAutoencoder, save: Callable[[object], Path]
    ) -> None:
        trained.half()
        model = small()
        load_mae(model, save(official(trained)))
        assert all(value.dtype == torch.float32 for value in model.parameters())
        assert same(model, trained.float())

    def test_a_checkpoint_with_maes_command_line_in_it(
        self, trained: MaskedAutoencoder, save: Callable[[object], Path]
    ) -> None:
        model = small()
        load_mae(
            model, save({"model": official(trained), "args": argparse.Namespace(blr=1.5e-4), "epoch": 9})
        )
        assert same(model, trained)


def small_diffmae(seed: int = 0, **options: Any) -> DiffusionMAE:
    torch.manual_seed(seed)
    return build_diffmae("vit_micro", **{"image_size": 32, "patch_size": 8, "depth": 2, **options})


class TestDiffusion:
    """A diffusion masked autoencoder starts from the weights of a masked autoencoder."""

    def test_an_encoder_alone_is_taken_and_said_to_be_no_diffusion_mae(
        self, trained: MaskedAutoencoder, save: Callable[[object], Path]
    ) -> None:
        model, fresh = small_diffmae(), small_diffmae()
        report = load_diffmae(model, save({"model": encoder_only(official(trained))}))
        assert same(model.encoder, trained.encoder)
        assert same(model.decoder, fresh.decoder)
        assert "encoder: 30 of 30 tensors loaded" in report.summary()
        assert "not the weights of a diffusion masked autoencoder" in report.summary()

    @pytest.mark.parametrize("kind", ["cross", "cross_self", "joint"])
    def test_a_full_file_gives_what_plays_the_same_role(
        self, trained: MaskedAutoencoder, save: Callable[[object], Path], kind: str
    ) -> None:
        model, fresh = small_diffmae(decoder=kind), small_diffmae(decoder=kind)
        report = load_diffmae(model, save({"model": official(trained)}))
        theirs, ours = trained.decoder.state_dict(), model.decoder.state_dict()
        shared = theirs.keys() & ours.keys()
        assert {"embed.weight", "pred.bias", "norm.weight", "blocks.1.mlp.fc1.weight"} <= shared
        assert ("blocks.0.attn.qkv.weight" in shared) == (kind != "cross")
        assert all(torch.equal(ours[name], theirs[name]) for name in shared)
        rest = ours.keys() - shared
        assert {"embed_noisy.weight", "time.first.weight"} <= rest
        assert all(torch.equal(ours[name], fresh.decoder.state_dict()[name]) for name in rest)
        assert set(report.missing) == {f"decoder.{name}" for name in rest}
        assert "mask_token" in report.unused
        assert same(model.encoder, trained.encoder)

    def test_its_own_checkpoint_is_loaded_whole(self, save: Callable[[object], Path]) -> None:
        other = small_diffmae(1)
        path = save({"model": {f"model.{name}": value for name, value in other.state_dict().items()}})
        model = small_diffmae()
        report = load_diffmae(model, path)
        assert same(model, other)
        assert report.kind == "diffmae"
        assert report.missing == report.unused == ()
        assert report.note == ""
        with pytest.raises(WeightsError, match=r"does not have: .*another depth or architecture"):
            load_diffmae(small_diffmae(decoder_depth=1), path)

    def test_a_masked_autoencoder_takes_its_encoder_alone(self, save: Callable[[object], Path]) -> None:
        other = small_diffmae(1)
        model, fresh = small(), small()
        report = load_mae(model, save(other.state_dict()))
        assert same(model.encoder, other.encoder)
        assert same(model.decoder, fresh.decoder)
        assert "decoder.embed_noisy.weight" in report.unused

    def test_a_source_that_does_not_fit_leaves_the_model_as_it_was(
        self, trained: MaskedAutoencoder, save: Callable[[object], Path]
    ) -> None:
        model, fresh = small_diffmae(depth=1), small_diffmae(depth=1)
        with pytest.raises(WeightsError, match="another depth"):
            load_diffmae(model, save({"model": official(trained)}))
        assert same(model, fresh)


class TestHub:
    NAME = "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"

    def test_a_hub_id_loads_through_timm(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        torch.manual_seed(1)
        published = timm.create_model("vit_tiny_patch16_224", num_classes=1000)
        torch.save(published.state_dict(), tmp_path / "published.pth")
        asked = []

        def create_model(name: str, **options: Any) -> nn.Module:
            asked.append((name, options["pretrained"]))
            overlay = {"file": str(tmp_path / "published.pth"), "custom_load": False}
            return original(name, pretrained_cfg_overlay=overlay, **options)

        original = timm.create_model
        monkeypatch.setattr(timm, "create_model", create_model)
        model = build_mae("vit_tiny")
        report = load_mae(model, self.NAME)

        assert asked == [(self.NAME.removeprefix("timm/"), True)]
        assert torch.equal(model.encoder.blocks[11].mlp.fc2.weight, published.blocks[11].mlp.fc2.weight)
        assert len(report.matched) == 150
        assert all(name.startswith("decoder.") for name in report.missing)

    def test_timm_has_maes_weights_under_the_documented_name(self) -> None:
        assert "vit_base_patch16_224.mae" in timm.list_models("vit_base_patch16_224*", pretrained=True)

    def test_no_network_is_explained(self, monkeypatch: pytest.MonkeyPatch) -> None:
        failure = functools.partial(_fail, OSError("cannot find the requested files in the local cache"))
        monkeypatch.setattr(timm, "create_model", failure)
        with pytest.raises(WeightsError, match=r"found no weights to be had .*give its path instead"):
            load_mae(small(), self.NAME)

    def test_an_unknown_id_is_explained(self) -> None:
        with pytest.raises(WeightsError, match="timm/vit_bse: found no vision transformer of that name"):
            load_mae(small(), "timm/vit_bse")


def _fail(error: Exception, *_: object, **__: object) -> None:
    raise error


class Harmful:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


class TestRefusals:
    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match=r"absent\.pth: found no such file, expected a \.pth"):
            load_mae(small(), tmp_path / "absent.pth")

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="found a folder"):
            load_mae(small(), tmp_path)

    @pytest.mark.parametrize("content", [b"", b"not weights\n", b"PK\x03\x04 truncated"])
    @pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
    def test_a_file_that_holds_no_weights(self, tmp_path: Path, name: str, content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match="found nothing that can be read safely"):
            load_mae(small(), tmp_path / name)

    def test_a_truncated_file(self, trained: MaskedAutoencoder, save: Callable[[object], Path]) -> None:
        path = save(official(trained))
        path.write_bytes(path.read_bytes()[:5000])
        with pytest.raises(WeightsError, match="found nothing that can be read safely"):
            load_mae(small(), path)

    @pytest.mark.parametrize(
        "write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2))]
    )
    def test_a_file_that_would_run_code_does_not(
        self, tmp_path: Path, write: Callable[[object, Path], object]
    ) -> None:
        mark = tmp_path / "harmed"
        write({"model": Harmful(mark)}, tmp_path / "harmful.pth")
        with pytest.raises(WeightsError, match="found nothing that can be read safely"):
            load_mae(small(), tmp_path / "harmful.pth")
        assert not mark.exists()

    def test_no_state_dict(self, save: Callable[[object], Path]) -> None:
        with pytest.raises(WeightsError, match="found an object of type list, expected a state dict"):
            load_mae(small(), save([1, 2]))

    def test_no_vision_transformer(self, save: Callable[[object], Path]) -> None:
        path = save({"model": nn.Linear(2, 2).state_dict()})
        with pytest.raises(WeightsError, match=r"found 0 keys ending in 'patch_embed.proj.weight' among 2"):
            load_mae(small(), path)

    def test_a_missing_encoder_tensor_is_never_silent(
        self, trained: MaskedAutoencoder, save: Callable[[object], Path]
    ) -> None:
        tensors = official(trained)
        del tensors["blocks.1.attn.qkv.bias"]
        with pytest.raises(WeightsError, match=r"no values for encoder\.blocks\.1\.attn\.qkv\.bias"):
            load_mae(small(), save(tensors))

    def test_half_a_decoder_is_refused(
        self, trained: MaskedAutoencoder, save: Callable[[object], Path]
    ) -> None:
        tensors = official(trained)
        del tensors["mask_token"]
        with pytest.raises(WeightsError, match=r"no values for decoder\.mask_token"):
            load_mae(small(), save(tensors))

    def test_another_shape_names_key_found_and_expected(
        self, trained: MaskedAutoencoder, save: Callable[[object], Path]
    ) -> None:
        path = save({"model": official(trained)})
        with pytest.raises(WeightsError, match=r"found pos_embed \(1, 17, 96\) instead of \(1, 65, 96\)"):
            load_mae(small(image_size=64), path)

    def test_a_deeper_encoder_is_not_cut_to_fit(
        self, trained: MaskedAutoencoder, save: Callable[[object], Path]
    ) -> None:
        path = save({"model": encoder_only(official(trained))})
        with pytest.raises(WeightsError, match=r"does not have: blocks\.1\.norm1\.weight.*another depth"):
            load_mae(small(depth=1), path)

    def test_a_refused_source_leaves_the_model_as_it_was(
        self, trained: MaskedAutoencoder, save: Callable[[object], Path]
    ) -> None:
        tensors = official(trained)
        tensors["decoder_pred.bias"] = torch.zeros(3)
        model, fresh = small(), small()
        with pytest.raises(WeightsError, match=r"decoder_pred\.bias"):
            load_mae(model, save(tensors))
        assert same(model, fresh)


def test_student_and_teacher_both_start_from_the_encoder(
    trained: MaskedAutoencoder, save: Callable[[object], Path]
) -> None:
    torch.manual_seed(0)
    model = build_feature_predictor("vit_micro", image_size=32, patch_size=8, depth=2)
    report = load_feature_predictor(model, save({"model": official(trained)}))
    assert same(model.encoder, trained.encoder)
    assert same(model.teacher, trained.encoder)
    assert "mask_token" in report.unused


def test_of_a_feature_predictors_checkpoint_the_student_is_taken(save: Callable[[object], Path]) -> None:
    model = build_feature_predictor("vit_micro", image_size=32, patch_size=8, depth=2)
    with torch.no_grad():
        model.encoder.norm.weight.fill_(3)
    encoder = small().encoder
    load_encoder(encoder, save({"model": {f"model.{k}": v for k, v in model.state_dict().items()}}))
    assert same(encoder, model.encoder)
