from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from skeltrain.models.dstformer import DSTformer
from skeltrain.models.errors import WeightsError
from skeltrain.models.motion_heads import ActionNet, MeshNet
from skeltrain.models.motionbert_weights import read_motionbert
from skeltrain.models.weights import WeightReport, load_motionbert
from tests.skeltrain.motion_goldens import TINY
from tests.skeltrain.test_motion_heads import REGRESSOR, SMALL
from tests.skeltrain.test_smpl_torch import a_body

Save = Callable[[object], Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(content: object) -> Path:
        torch.save(content, tmp_path / "best_epoch.bin")
        return tmp_path / "best_epoch.bin"

    return write


def network(seed: int = 0, **settings: Any) -> DSTformer:
    torch.manual_seed(seed)
    model = DSTformer(**{**SMALL, **settings})
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn_like(value))
    return model


def official(model: nn.Module, key: str = "model_pos", **more: Any) -> dict[str, Any]:
    """What the official training writes: ``module.`` before every name, and a numpy number."""
    tensors = {f"module.{name}": value for name, value in model.state_dict().items()}
    return {"epoch": 3, "lr": [0.1], key: tensors, "min_loss": np.float64(37.2), **more}


def mmpose(model: DSTformer) -> dict[str, Any]:
    """The same under the names that MMPose gives it."""
    names = {}
    for name in model.state_dict():
        theirs = re.sub(r"(mlp_[st])\.fc([12])", lambda m: f"{m[1]}.{2 * int(m[2]) - 2}", name)
        theirs = theirs.replace("pos_embed", "spat_embed").replace("ts_attn", "attn_regress")
        if name.startswith("pre_logits."):
            names[name] = f"head.{name}"
        elif name.startswith("head."):
            names[name] = name.replace("head.", "head.fc.")
        else:
            names[name] = f"backbone.{theirs}"
    return {
        "state_dict": {names[name]: value for name, value in model.state_dict().items()},
        "meta": {"sigmas": np.ones(17), "epoch": 1},
    }


def same(one: nn.Module, other: nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


@pytest.mark.parametrize("form", [official, mmpose, lambda model: model.state_dict()])
def test_a_network_comes_from_every_form_of_file(save: Save, form: Callable[[DSTformer], Any]) -> None:
    source, model = network(1), network(2)
    report = load_motionbert(model, save(form(source)))
    assert same(model, source)
    assert set(report.matched) == set(model.state_dict())
    assert not report.missing
    assert not report.unused
    assert "60 of 60 tensors loaded" in report.summary()


def test_a_pretrained_network_goes_under_a_new_head(save: Save) -> None:
    source = network(1)
    net = ActionNet(network(2), num_classes=3, hidden_dim=7)
    report = load_motionbert(net, save(official(source)))
    assert same(net.backbone, source)
    assert {name.split(".")[0] for name in report.missing} == {"head"}
    assert "head: 0 of 9 tensors loaded, 9 keep their fresh values" in report.summary()


def test_action_and_mesh_checkpoints_load_whole(save: Save) -> None:
    def action(seed: int) -> ActionNet:
        return ActionNet(network(seed), num_classes=3, hidden_dim=7)

    def mesh(seed: int) -> MeshNet:
        return MeshNet(network(seed), a_body(), REGRESSOR, hidden_dim=9)

    for build in (action, mesh):
        source, model = build(1), build(2)
        report = load_motionbert(model, save(official(source, "model", best_jpe=np.float32(1))))
        assert same(model, source)
        assert not report.missing


def test_the_body_model_in_a_mesh_checkpoint_is_left_there(save: Save) -> None:
    source = MeshNet(network(1), a_body(), REGRESSOR, hidden_dim=9)
    content = official(source, "model")
    content["model"]["module.head.smpl.v_template"] = torch.zeros(30, 3)
    content["model"]["module.head.smpl.betas"] = torch.zeros(64, 10)
    model = MeshNet(network(2), a_body(), REGRESSOR, hidden_dim=9)
    report = load_motionbert(model, save(content))
    assert same(model, source)
    assert report.unused == ("module.head.smpl.v_template", "module.head.smpl.betas")


def test_a_network_is_taken_out_of_a_whole_model(save: Save) -> None:
    source = ActionNet(network(1), num_classes=3, hidden_dim=7)
    model = network(2)
    report = load_motionbert(model, save(official(source, "model")))
    assert same(model, source.backbone)
    assert len(report.unused) == 9
    assert all(key.startswith("module.head.") for key in report.unused)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (
            {"depth": 2},
            r"no place for: module.blocks_st.1.norm1_s.weight.*DSTformer\(depth=2\) where it has depth=1",
        ),
        ({"dim_feat": 16}, r"module.temp_embed \(1, 5, 1, 16\) instead of \(1, 5, 1, 8\).*dim_feat=16"),
        ({"dim_rep": 9}, "module.pre_logits.fc.weight.*dim_rep=9"),
        ({"mlp_ratio": 4}, r"mlp_s.fc1.weight \(32, 8\) instead of \(16, 8\).*mlp_ratio=4"),
        ({"num_joints": 13}, r"module.pos_embed \(1, 13, 8\).*num_joints=13"),
        ({"maxlen": 9}, "module.temp_embed.*maxlen=9"),
        ({"att_fuse": False}, "no values for ts_attn.0.weight.*att_fuse=False"),
    ],
)
def test_another_network_is_refused_with_the_settings_that_would_fit(
    save: Save, other: dict[str, Any], words: str
) -> None:
    model = network(1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    path = save(official(network(2, **other)))
    with pytest.raises(WeightsError, match=words):
        load_motionbert(model, path)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    # and they do fit
    fits = read_motionbert(path).settings()
    load_motionbert(DSTformer(num_heads=2, **fits), path)


def test_a_head_of_another_size_is_refused(save: Save) -> None:
    path = save(official(ActionNet(network(1), num_classes=60, hidden_dim=7), "model"))
    with pytest.raises(
        WeightsError, match=r"head.fc2.weight \(60, 7\) instead of \(3, 7\).*fc2.weight \(60, 7\)"
    ):
        load_motionbert(ActionNet(network(2), num_classes=3, hidden_dim=7), path)


def test_a_missing_or_surplus_tensor_is_refused_unless_allowed(save: Save) -> None:
    content = official(network(1))
    del content["model_pos"]["module.norm.bias"]
    content["model_pos"]["module.extra.weight"] = torch.zeros(1)
    path = save(content)
    model = network(2)
    with pytest.raises(WeightsError, match=r"no values for norm.bias.*no place for: module.extra.weight"):
        load_motionbert(model, path)
    report = load_motionbert(model, path, strict=False)
    assert report.missing == ("norm.bias",)
    assert report.unused == ("module.extra.weight",)
    assert len(report.matched) == 59


def test_a_key_of_no_network_of_motionbert_is_refused_too(save: Save) -> None:
    content = mmpose(network(1))
    content["state_dict"]["neck.weight"] = torch.zeros(1)
    path = save(content)
    with pytest.raises(WeightsError, match=r"no place for: neck.weight"):
        load_motionbert(network(2), path)
    assert load_motionbert(network(2), path, strict=False).unused == ("neck.weight",)


class _Payload:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("/tmp/skelconv-was-run"),))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (official(network(1), extra=_Payload()), "read safely.*Nothing in it was run"),
        ({"model_pos": {"a": torch.zeros(1)}}, "0 keys ending in 'joints_embed.weight' among 1"),
        ([1, 2], "object of type list"),
    ],
)
def test_what_is_no_checkpoint_is_refused(save: Save, content: object, words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        load_motionbert(network(1), save(content))
    assert not Path("/tmp/skelconv-was-run").exists()


def test_damaged_and_absent_files_are_refused(tmp_path: Path, save: Save) -> None:
    whole = save(official(network(1))).read_bytes()
    (tmp_path / "cut.bin").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "plain.bin").write_bytes(pickle.dumps({"a": 1}))
    for name in ("cut.bin", "none.bin", "."):
        with pytest.raises(WeightsError):
            load_motionbert(network(1), tmp_path / name)


@pytest.mark.real
def test_a_checkpoint_as_the_official_training_writes_it(golden: Path) -> None:
    path = golden / "motionbert" / "checkpoint_pose3d.bin"
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    model = DSTformer(**TINY)
    report = load_motionbert(model, path)
    assert isinstance(report, WeightReport)
    assert len(report.matched) == 110
    assert not report.missing
    assert not report.unused
    assert {**read_motionbert(path).settings(), "num_heads": 4, "dim_in": 3} == {
        **TINY,
        "dim_in": 3,
        "dim_out": 3,
        "att_fuse": True,
    }
    tensors: dict[str, Tensor] = dict(read_motionbert(path).tensors)
    assert all(torch.equal(tensors[f"backbone.{name}"], value) for name, value in model.state_dict().items())
