from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from skelformats.errors import FormatError
from skelformats.smpl import BodyModel, Motion, body_vertices
from skeltrain.models.dstformer import DSTformer
from skeltrain.models.errors import ModelError
from skeltrain.models.motion_heads import ActionHead, ActionNet, EmbeddingHead, MeshHead, MeshNet, _pool
from skeltrain.models.smpl import matrix_to_rot6d
from tests.skeltrain.motion_goldens import TINY, Figures, close
from tests.skeltrain.test_smpl_torch import a_body

SMALL: dict[str, Any] = {**TINY, "dim_feat": 8, "dim_rep": 6, "num_heads": 2, "depth": 1, "maxlen": 5}


def backbone() -> DSTformer:
    torch.manual_seed(0)
    return DSTformer(**SMALL)


def features(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def trained(head: nn.Module) -> nn.Module:
    """A head whose running statistics are not those of a fresh one."""
    with torch.no_grad():
        for name, value in (*head.named_parameters(), *head.named_buffers()):
            if value.dtype.is_floating_point:
                value.copy_(torch.rand(value.shape, generator=torch.Generator().manual_seed(len(name))) + 0.1)
    return head.eval()


def linear(head: nn.Module, name: str, x: np.ndarray) -> np.ndarray:
    state = head.state_dict()
    return x @ state[f"{name}.weight"].numpy().T + state[f"{name}.bias"].numpy()


def normalised(head: nn.Module, name: str, x: np.ndarray) -> np.ndarray:
    s = {key: value.numpy() for key, value in head.state_dict().items()}
    scaled = (x - s[f"{name}.running_mean"]) / np.sqrt(s[f"{name}.running_var"] + 1e-5)
    return scaled * s[f"{name}.weight"] + s[f"{name}.bias"]


def test_the_class_head_is_its_definition() -> None:
    head = trained(ActionHead(dim_rep=6, num_classes=4, hidden_dim=7, dropout_ratio=0.5))
    x = features(3, 2, 5, 17, 6)
    pooled = x.numpy().astype(np.float64).mean(axis=2).reshape(3, 2, -1).mean(axis=1)
    hidden = np.maximum(normalised(head, "bn", linear(head, "fc1", pooled)), 0)
    close(head(x), linear(head, "fc2", hidden), atol=1e-5)


def test_the_embedding_has_length_1_and_only_the_first_layer() -> None:
    head = trained(EmbeddingHead(dim_rep=6, hidden_dim=7))
    x = features(3, 2, 5, 17, 6)
    embedded = linear(head, "fc1", x.numpy().mean(axis=2).reshape(3, 2, -1).mean(axis=1))
    close(head(x), embedded / np.linalg.norm(embedded, axis=1, keepdims=True), atol=1e-6)
    assert set(head.state_dict()) == {"fc1.weight", "fc1.bias"}


def test_dropout_before_and_after_the_mean_agree_in_expectation_only() -> None:
    x = torch.ones(100, 2, 50, 17, 2)
    torch.manual_seed(0)
    of_code, of_paper = (_pool(x, nn.Dropout(0.5), pooling) for pooling in ("code", "paper"))
    close(of_code.mean(), 1.0, atol=0.01)
    close(of_paper.mean(), 1.0, atol=0.1)
    assert set(of_paper.unique().tolist()) == {0.0, 2.0}, "a feature of the mean is there or not"
    close(of_code.std(), 0.1, atol=0.01)  # of 100 frames, each there or not


def test_every_person_of_a_sample_counts() -> None:
    net = ActionNet(backbone(), num_classes=3, hidden_dim=7).eval()
    x = features(4, 2, 5, 17, 3)
    x[1, 1] = 0
    close(net(x), net(x.flip(1)), atol=1e-5)
    alone = net(x[:, :1])
    assert not torch.allclose(net(x)[1], alone[1])


def test_the_frozen_backbone_is_only_a_module_of_the_net() -> None:
    net = ActionNet(backbone(), version="embed", hidden_dim=7)
    net.backbone.requires_grad_(False)
    net(features(2, 1, 5, 17, 3)).sum().backward()
    assert net.backbone.pos_embed.grad is None
    assert net.head.fc1.weight.grad is not None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"version": "other"}, "'class' or 'embed'"),
        ({"pooling": "max"}, "'code' or 'paper'"),
        ({"dim_rep": 512}, "dim_rep=512.*dim_rep=6"),
        ({"num_joints": 25}, "num_joints=25"),
    ],
)
def test_settings_that_make_no_action_net_are_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        ActionNet(backbone(), **settings)


def test_a_sample_without_persons_is_named() -> None:
    with pytest.raises(ModelError, match="persons"):
        ActionNet(backbone())(torch.zeros(2, 5, 17, 3))


REGRESSOR = np.random.default_rng(3).random((17, 30)) / 15


def test_a_mesh_is_what_its_numbers_say() -> None:
    model = a_body()
    net = MeshNet(backbone(), model, REGRESSOR, hidden_dim=9).eval()
    trained(net.head)
    bodies = net(features(2, 4, 17, 3))
    theta = bodies.theta.detach().double().numpy()
    assert theta.shape == (2, 4, 82)
    assert (theta[:, :1, 72:] == theta[:, :, 72:]).all(), "one shape a clip"
    motion = Motion(theta[1, :, :72].reshape(4, 24, 3), np.zeros((4, 3)), theta[1, 0, 72:])
    vertices = 1000 * body_vertices(model, motion)
    close(bodies.vertices[1], vertices, atol=0.05)
    close(bodies.joints[1], REGRESSOR @ vertices, atol=0.05)


def test_the_mesh_head_is_its_definition() -> None:
    head = trained(MeshHead(dim_rep=6, hidden_dim=9, dropout_ratio=0.1))
    x = features(2, 4, 17, 6)
    rotations, betas = head(x)
    flat = x.numpy().reshape(2, 4, -1).astype(np.float64)
    pose = np.maximum(normalised(head, "bn1", linear(head, "fc1", flat)), 0)
    shape = np.maximum(normalised(head, "bn2", linear(head, "fc2", flat.mean(axis=1))), 0)
    six = (linear(head, "head_pose", pose) + head.init_pose.numpy()).reshape(2, 4, 24, 3, 2)
    first = six[..., 0] / np.linalg.norm(six[..., 0], axis=-1, keepdims=True)
    close(rotations[..., 0], first, atol=1e-5)
    close(betas[:, 2], linear(head, "head_shape", shape) + head.init_shape.numpy(), atol=1e-5)


def test_a_fresh_mesh_is_near_the_rest_pose() -> None:
    net = MeshNet(backbone(), a_body(), REGRESSOR).eval()
    rotations = net(features(1, 3, 17, 3)).rotations
    close(rotations, torch.eye(3).expand(1, 3, 24, 3, 3), atol=0.1)
    close(matrix_to_rot6d(torch.eye(3)).repeat(24)[None], net.head.init_pose, atol=0)


def test_mean_parameters_and_regressor_come_from_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "mean.npz", pose=np.arange(144.0), shape=np.arange(10.0), cam=np.zeros(3))
    np.save(tmp_path / "regressor.npy", REGRESSOR)
    net = MeshNet(backbone(), a_body(), tmp_path / "regressor.npy", mean_params=tmp_path / "mean.npz")
    close(net.head.init_pose[0], np.arange(144.0))
    close(net.head.init_shape[0], np.arange(10.0))
    assert not any("body" in name or "regressor" in name for name in net.state_dict())


@pytest.mark.parametrize("form", ["npz", "pkl"])
def test_a_body_model_comes_from_the_users_file(tmp_path: Path, form: str) -> None:
    model = a_body()
    arrays = {
        "v_template": model.template,
        "shapedirs": model.shape_directions,
        "posedirs": model.pose_directions,
        "J_regressor": model.joint_regressor,
        "weights": model.weights,
        "kintree_table": np.array([[2**32 - 1, *model.parents[1:]], range(24)], np.uint32),
    }
    path = tmp_path / f"SMPL_NEUTRAL.{form}"
    if form == "npz":
        np.savez(path, **arrays)
    else:
        path.write_bytes(pickle.dumps(arrays, protocol=2))
    x = features(1, 2, 17, 3)
    nets = [MeshNet(backbone(), body, REGRESSOR, hidden_dim=9).eval() for body in (path, model)]
    for net in nets:
        trained(net.head)
    close(nets[0](x).vertices, nets[1](x).vertices, atol=1e-3)


def test_an_absent_body_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"SMPL_NEUTRAL\.npz"):
        MeshNet(backbone(), tmp_path / "SMPL_NEUTRAL.npz", REGRESSOR)


@pytest.mark.parametrize(
    ("body", "regressor", "words"),
    [
        (a_body(), None, "no joint regressor.*J_regressor_h36m_correct.npy"),
        (a_body(), REGRESSOR[:14], r"\(14, 30\).*\(17, 30\)"),
        (a_body(52), REGRESSOR, "smplh model of 52 joints"),
    ],
)
def test_a_body_model_that_does_not_fit_is_named(
    body: BodyModel, regressor: np.ndarray | None, words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        MeshNet(backbone(), body, regressor)


@pytest.fixture(scope="module")
def figures(golden: Path) -> Figures:
    return Figures(golden, "action_head")


@pytest.mark.real
class TestOfficialCode:
    @pytest.fixture
    def net(self, figures: Figures) -> ActionNet:
        kwargs: Any = {
            "num_classes": int(figures.number("class/kwargs/num_classes")),
            "dim_rep": int(figures.number("class/kwargs/dim_rep")),
            "dropout_ratio": figures.number("class/kwargs/dropout_ratio"),
            "version": str(figures.arrays["class/kwargs/version"]),
        }
        net = ActionNet(DSTformer(**TINY), **kwargs)
        net.load_state_dict(figures.below("class/state_dict/"))
        return net

    def test_evaluation(self, figures: Figures, net: ActionNet) -> None:
        net.eval()
        close(net(figures["class/x"]), figures["class/out_eval"], rtol=0)
        close(net.head(figures["class/feat"]), figures["class/head_out_eval"], rtol=0)

    def test_training_with_its_statistics_and_gradients(self, figures: Figures, net: ActionNet) -> None:
        logits = net.train()(figures["class/x"])
        close(logits, figures["class/out_train_nodrop"])
        loss = nn.functional.cross_entropy(logits, figures["class/labels"])
        loss.backward()
        close(loss, figures["class/ce"])
        for name, value in figures.below("class/bn_after_train/").items():
            close(net.head.bn.state_dict()[name], value)
        # BatchNorm over 4 samples divides by deviations near 0: float64 is as far from these figures as
        # float32
        for found, expected in (
            (net.head.fc1.weight.grad, figures["class/grad_fc1"]),
            (net.backbone.joints_embed.weight.grad, figures["class/grad_joints_embed"]),
        ):
            assert found is not None
            assert (found - expected).norm() < 2e-4 * expected.norm()
