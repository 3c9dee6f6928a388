"""Heads on MotionBERT's representation: action classes, embeddings for one-shot recognition, body meshes.

W. Zhu et al., MotionBERT (ICCV 2023), sections 3.4 and A.1. Parameters have the names and shapes of the
released checkpoints; where paper and released code differ, the code is the default (docs/motionbert.md).

N samples, M persons, T frames, J joints, R features of the representation, V vertices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from skelformats.safe_npz import load_npy, load_npz
from skelformats.smpl import BodyModel, load_body_model
from skeltrain.models.dstformer import DSTformer
from skeltrain.models.errors import ModelError
from skeltrain.models.registry import Family
from skeltrain.models.shared_norm import SharedBatchNorm
from skeltrain.models.smpl import Body, matrix_to_axis_angle, rot6d_to_matrix, skin

#: Width of the hidden layer of the action heads, and of the mesh head (the paper has 512 for the latter).
ACTION_HIDDEN, MESH_HIDDEN = 2048, 1024

#: Of the first values of the two last layers of the mesh head (MotionBERT, model_mesh.py).
MESH_GAIN = 0.01

#: Rotations and shape coefficients of SMPL as the mesh head has them.
SMPL_JOINTS, SMPL_BETAS = 24, 10

#: The body model's unit is metres; what the mesh head returns is millimetres.
MILLIMETRES = 1000.0

WHERE_FROM = (
    "Give J_regressor_h36m_correct.npy (17, 6890), which comes with MotionBERT's mesh data and with "
    "Pose2Mesh; SPIN's J_regressor_h36m.npy has the left leg where this one has the right"
)

Pooling = Literal["code", "paper"]


class ActionHead(nn.Module):
    """Classify: mean over frames, then over persons, linear, BatchNorm, ReLU, linear.

    Parameters
    ----------
    dropout_ratio
        Part of the features that training drops.
    pooling
        ``code`` drops features of every frame before the mean, ``paper`` those of the mean: the same in
        expectation only.
    """

    def __init__(
        self,
        dropout_ratio: float = 0.0,
        dim_rep: int = 512,
        num_classes: int = 60,
        num_joints: int = 17,
        hidden_dim: int = ACTION_HIDDEN,
        pooling: Pooling = "code",
    ) -> None:
        super().__init__()
        self.pooling = _find_pooling(pooling)
        self.dropout = nn.Dropout(dropout_ratio)
        self.bn = SharedBatchNorm(hidden_dim, one_sample=True)
        self.fc1 = nn.Linear(num_joints * dim_rep, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, num_classes)

    def forward(self, feature_NMTJR: Tensor) -> Tensor:
        """Return logits (N, classes) of representations (N, M, T, J, R)."""
        pooled = _pool(feature_NMTJR, self.dropout, self.pooling)
        return self.fc2(functional.relu(self.bn(self.fc1(pooled))))


class EmbeddingHead(nn.Module):
    """Embed for comparison by cosine: mean over frames, then over persons, linear, unit length.

    Parameters as for `ActionHead`.
    """

    def __init__(
        self,
        dropout_ratio: float = 0.0,
        dim_rep: int = 512,
        num_joints: int = 17,
        hidden_dim: int = ACTION_HIDDEN,
        pooling: Pooling = "code",
    ) -> None:
        super().__init__()
        self.pooling = _find_pooling(pooling)
        self.dropout = nn.Dropout(dropout_ratio)
        self.fc1 = nn.Linear(num_joints * dim_rep, hidden_dim)

    def forward(self, feature_NMTJR: Tensor) -> Tensor:
        """Return vectors (N, hidden_dim) of length 1 for representations (N, M, T, J, R)."""
        return functional.normalize(self.fc1(_pool(feature_NMTJR, self.dropout, self.pooling)), dim=-1)


class ActionNet(nn.Module):
    """A backbone and an action head.

    Parameters
    ----------
    dim_rep, num_joints
        Of the backbone; None takes them from it.
    version
        ``class`` for `ActionHead`, ``embed`` for `EmbeddingHead`, which needs no ``num_classes``.

    Raises
    ------
    ModelError
        The settings make no network.
    """

    def __init__(
        self,
        backbone: DSTformer,
        dim_rep: int | None = None,
        num_classes: int = 60,
        dropout_ratio: float = 0.0,
        version: Literal["class", "embed"] = "class",
        hidden_dim: int = ACTION_HIDDEN,
        num_joints: int | None = None,
        pooling: Pooling = "code",
    ) -> None:
        super().__init__()
        dim_rep, num_joints = _agree(backbone, dim_rep, num_joints)
        if version not in ("class", "embed"):
            raise ModelError(f"ActionNet: found version={version!r}, expected 'class' or 'embed'")
        self.backbone = backbone
        self.head: nn.Module
        if version == "class":
            self.head = ActionHead(dropout_ratio, dim_rep, num_classes, num_joints, hidden_dim, pooling)
        else:
            self.head = EmbeddingHead(dropout_ratio, dim_rep, num_joints, hidden_dim, pooling)

    def forward(self, x_NMTJ3: Tensor) -> Tensor:
        """Return the head's result for samples (N, M, T, J, 3) of x, y and confidence.

        Every person counts: one made of zeros, which fills a sample of two, is part of the mean.
        """
        if x_NMTJ3.ndim != 5:
            raise ModelError(
                f"ActionNet: found an input of shape {tuple(x_NMTJ3.shape)}, expected (samples, persons, "
                "frames, joints, 3)"
            )
        feature = self.backbone.get_representation(x_NMTJ3.flatten(0, 1))
        return self.head(feature.view(*x_NMTJ3.shape[:-1], self.backbone.dim_rep))


@dataclass(frozen=True, eq=False)
class MeshPrediction:
    """Bodies of N clips of T frames.

    Attributes
    ----------
    theta
        (N, T, 82): 24 axis-angle vectors in radians, then 10 shape coefficients.
    rotations
        (N, T, 24, 3, 3), the same as matrices.
    vertices
        (N, T, V, 3) millimetres, in the body's frame.
    joints
        (N, T, 17, 3) millimetres in the order of h36m17, from the vertices; not relative to the root.
    """

    theta: Tensor
    rotations: Tensor
    vertices: Tensor
    joints: Tensor


class MeshHead(nn.Module):
    """Pose and shape of SMPL: the pose from each frame, the shape from the mean over frames.

    Parameters
    ----------
    init_pose, init_shape
        What the head adds to: (144,) in the layout of `skeltrain.models.smpl.rot6d_to_matrix` and (10,), as
        ``smpl_mean_params.npz`` has them. None is the rest pose, and the mean shape. A checkpoint has its
        own.
    """

    init_pose: Tensor
    init_shape: Tensor

    def __init__(
        self,
        dim_rep: int = 512,
        num_joints: int = 17,
        hidden_dim: int = MESH_HIDDEN,
        dropout_ratio: float = 0.0,
        init_pose: Tensor | None = None,
        init_shape: Tensor | None = None,
    ) -> None:
        super().__init__()
        width = num_joints * dim_rep
        self.dropout = nn.Dropout(dropout_ratio)
        self.fc1, self.fc2 = nn.Linear(width, hidden_dim), nn.Linear(width, hidden_dim)
        self.bn1, self.bn2 = SharedBatchNorm(hidden_dim), SharedBatchNorm(hidden_dim)
        self.head_pose = nn.Linear(hidden_dim, 6 * SMPL_JOINTS)
        self.head_shape = nn.Linear(hidden_dim, SMPL_BETAS)
        for layer in (self.head_pose, self.head_shape):
            nn.init.xavier_uniform_(layer.weight, gain=MESH_GAIN)
        rest = torch.eye(3)[:, :2].flatten().repeat(SMPL_JOINTS)
        for name, given, fresh in (
            ("init_pose", init_pose, rest),
            ("init_shape", init_shape, torch.zeros(SMPL_BETAS)),
        ):
            value = fresh if given is None else torch.as_tensor(given, dtype=torch.float32).reshape(-1)
            if value.shape != fresh.shape:
                raise ModelError(f"MeshHead: found {name} of {value.numel()} numbers, expected {len(fresh)}")
            self.register_buffer(name, value[None].clone())

    def start_upright(self) -> None:
        """Start upright and facing the camera, in axes whose y points down."""
        # half a turn about x, as 6 numbers
        self.init_pose[0, :6] = torch.tensor([1.0, 0.0, 0.0, -1.0, 0.0, 0.0])

    def start_from(self, path: str | Path) -> None:
        """Start from the mean pose and shape of ``smpl_mean_params.npz``; raises `FormatError`,
        `ModelError`.
        """
        found = load_npz(path, ["pose", "shape"])
        for name, buffer in (("pose", self.init_pose), ("shape", self.init_shape)):
            value = torch.tensor(np.asarray(found[name], np.float32).reshape(1, -1))
            if value.shape != buffer.shape:
                raise ModelError(
                    f"{path}: found {name} of {value.numel()} numbers, expected {buffer.numel()}"
                )
            buffer.copy_(value)

    def forward(self, feature_NTJR: Tensor) -> tuple[Tensor, Tensor]:
        """Return rotations (N, T, 24, 3, 3) and shapes (N, T, 10) of representations (N, T, J, R)."""
        clips, frames = feature_NTJR.shape[:2]
        feature = feature_NTJR.flatten(2)
        pose = functional.relu(self.bn1(self.fc1(self.dropout(feature.flatten(0, 1)))))
        shape = functional.relu(self.bn2(self.fc2(self.dropout(feature.mean(dim=1)))))
        six = (self.head_pose(pose) + self.init_pose).view(clips, frames, SMPL_JOINTS, 6)
        betas = (self.head_shape(shape) + self.init_shape)[:, None].expand(-1, frames, -1)
        return rot6d_to_matrix(six), betas


class MeshNet(nn.Module):
    """A backbone, a mesh head, and the user's body model.

    Parameters
    ----------
    body_model
        SMPL (24 joints): loaded, or its file, ``.npz`` or the original pickle.
    joint_regressor
        (17, V) from vertices to the joints of h36m17, or its ``.npy`` file.
    mean_params
        ``smpl_mean_params.npz``: what the head starts from; None starts from the rest pose.

    Raises
    ------
    ModelError
        The parts do not belong together, or there is no regressor.
    FormatError
        A file cannot be read.
    """

    joint_regressor: Tensor

    def __init__(
        self,
        backbone: DSTformer,
        body_model: BodyModel | str | Path,
        joint_regressor: NDArray[np.floating] | str | Path | None = None,
        hidden_dim: int = MESH_HIDDEN,
        dropout_ratio: float = 0.0,
        mean_params: str | Path | None = None,
    ) -> None:
        super().__init__()
        model = load_body_model(body_model) if isinstance(body_model, str | Path) else body_model
        if model.joints != SMPL_JOINTS:
            raise ModelError(
                f"{model.path}: found a {model.kind} model of {model.joints} joints, expected SMPL with "
                f"{SMPL_JOINTS}: the head predicts that many rotations"
            )
        self.backbone = backbone
        self.head = MeshHead(backbone.dim_rep, backbone.num_joints, hidden_dim, dropout_ratio)
        if mean_params is not None:
            self.head.start_from(mean_params)
        self.body = Body(model)
        regressor = load_regressor(joint_regressor, model)
        self.register_buffer("joint_regressor", regressor, persistent=False)

    def forward(self, x_NTJ3: Tensor) -> MeshPrediction:
        """Return the bodies of clips (N, T, J, 3) of x, y and confidence."""
        rotations, betas = self.head(self.backbone.get_representation(x_NTJ3))
        vertices, _ = skin(self.body, betas.flatten(0, 1), rotations.flatten(0, 1))
        vertices = MILLIMETRES * vertices.view(*betas.shape[:2], -1, 3)
        return MeshPrediction(
            theta=torch.cat([matrix_to_axis_angle(rotations).flatten(-2), betas], dim=-1),
            rotations=rotations,
            vertices=vertices,
            joints=self.joint_regressor @ vertices,
        )


def build_action_net(backbone: Mapping[str, Any], **settings: Any) -> ActionNet:
    """Build an `ActionNet` on a fresh `DSTformer`; ``backbone`` are its settings, the others those of the
    head.
    """
    return ActionNet(DSTformer(**backbone), **settings)


#: Action classifiers and embeddings, as checkpoints name them.
ACTION_NETS = Family("action_net", build_action_net, lambda model: model.get_submodule("backbone"))


def _pool(feature_NMTJR: Tensor, dropout: nn.Dropout, pooling: Pooling) -> Tensor:
    """Return (N, J R): the mean over frames and persons, dropped before or after it."""
    if feature_NMTJR.ndim != 5:
        raise ModelError(
            f"found a representation of shape {tuple(feature_NMTJR.shape)}, expected (samples, persons, "
            "frames, joints, features)"
        )
    if pooling == "paper":
        return dropout(feature_NMTJR.mean(dim=(1, 2)).flatten(1))
    return dropout(feature_NMTJR).mean(dim=2).flatten(2).mean(dim=1)


def _find_pooling(pooling: str) -> Pooling:
    if pooling == "code":
        return "code"
    if pooling == "paper":
        return "paper"
    raise ModelError(f"found pooling={pooling!r}, expected 'code' or 'paper'")


def _agree(backbone: DSTformer, dim_rep: int | None, num_joints: int | None) -> tuple[int, int]:
    """Return the backbone's sizes; what was asked for must be the same."""
    for name, asked in (("dim_rep", dim_rep), ("num_joints", num_joints)):
        has = getattr(backbone, name)
        if asked is not None and asked != has:
            raise ModelError(f"found {name}={asked} for a backbone with {name}={has}, expected the same")
    return backbone.dim_rep, backbone.num_joints


def load_regressor(source: NDArray[np.floating] | str | Path | None, model: BodyModel) -> Tensor:
    """Return the regressor (17, V) of a body model; raises `ModelError` where there is none that fits."""
    if source is None:
        raise ModelError(
            f"{model.path}: found no joint regressor for this body model, expected one from its "
            f"{len(model.template)} vertices to 17 joints. {WHERE_FROM}"
        )
    array = load_npy(source) if isinstance(source, str | Path) else np.asarray(source)
    if array.dtype.kind != "f" or array.shape != (17, len(model.template)):
        name = source if isinstance(source, str | Path) else "joint regressor"
        raise ModelError(
            f"{name}: found an array of shape {array.shape} and type {array.dtype}, expected "
            f"(17, {len(model.template)}) of numbers, for the vertices of {model.path}. {WHERE_FROM}"
        )
    return torch.tensor(array, dtype=torch.float32)
