"""Bodies from 2D motion without the body model: MotionBERT's mesh network, and the refiner of estimates.

A checkpoint holds these alone: the body model is the user's file (`BodyJoints` and `skeltrain.models.smpl`
make joints and vertices of what they return). W. Zhu et al., MotionBERT (ICCV 2023), section 3.4; the refiner
is that of the released code's branch ``refine`` (model_mesh_refine.py).

N clips, T frames, J joints, R features of the representation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from skelformats.smpl import BodyModel
from skeltrain.models.dstformer import DSTformer
from skeltrain.models.errors import ModelError
from skeltrain.models.motion_heads import (
    MESH_HIDDEN,
    MILLIMETRES,
    SMPL_BETAS,
    SMPL_JOINTS,
    MeshHead,
    load_regressor,
)
from skeltrain.models.registry import Family
from skeltrain.models.registry import build as build_family
from skeltrain.models.shared_norm import SharedBatchNorm
from skeltrain.models.smpl import Body, matrix_to_rot6d, rot6d_to_matrix, skin

Layout = Literal["columns", "rows"]
"""How the refiner is given a rotation as 6 numbers: the first two columns, row by row, which is what its
answer is read as; or the first two rows, as the released code has it, so that adding nothing to an estimate
turns it by 18 to 152 degrees."""

REFINER_HIDDEN = 512
"""Width of the refiner's hidden layer (MotionBERT, MB_ft_pw3d_refine_hybrik.yaml)."""

#: Frames that the refiner's convolutions see (MotionBERT, model_mesh_refine.py).
_KERNEL = 5

Estimate = tuple[Tensor, Tensor]
"""Rotations (N, T, 24, 3, 3) and shapes (N, T, 10)."""


class MeshEstimator(nn.Module):
    """A backbone and a mesh head: rotations and shapes of SMPL from clips.

    Parameters
    ----------
    settings
        Of `MeshHead`.
    """

    def __init__(self, backbone: DSTformer, **settings: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = MeshHead(backbone.dim_rep, backbone.num_joints, **settings)

    def forward(self, x_NTJ3: Tensor, estimate: Estimate | None = None) -> Estimate:
        """Return rotations (N, T, 24, 3, 3) and shapes (N, T, 10) of clips (N, T, J, 3); no estimate is
        used.
        """
        rotations, betas = self.head(self.backbone.get_representation(x_NTJ3))
        return rotations, betas


class RefinerHead(nn.Module):
    """Corrections of estimated rotations, from the representation and the estimate around each frame.

    Parameters
    ----------
    layout
        See `Layout`; weights of the released refiner need ``rows``.
    """

    def __init__(
        self,
        dim_rep: int = 512,
        num_joints: int = 17,
        hidden_dim: int = REFINER_HIDDEN,
        dropout_ratio: float = 0.5,
        layout: Layout = "columns",
    ) -> None:
        super().__init__()
        if layout not in ("columns", "rows"):
            raise ModelError(f"RefinerHead: found layout={layout!r}, expected 'columns' or 'rows'")
        self.layout = layout
        width = 6 * SMPL_JOINTS
        self.dropout = nn.Dropout(dropout_ratio)
        self.fc1 = nn.Linear(num_joints * dim_rep, hidden_dim)
        self.fc2 = nn.Conv1d(width, hidden_dim, _KERNEL, padding=_KERNEL // 2)
        self.bn1, self.bn2 = SharedBatchNorm(hidden_dim), SharedBatchNorm(hidden_dim)
        self.head_pose = nn.Conv1d(2 * hidden_dim, width, _KERNEL, padding=_KERNEL // 2)

    def forward(self, feature_NTJR: Tensor, rotations: Tensor) -> Tensor:
        """Return rotations (N, T, 24, 3, 3) for estimates of that shape."""
        clips, frames = feature_NTJR.shape[:2]
        rows = rotations[..., :2, :].flatten(-2)
        six_NDT = (
            (matrix_to_rot6d(rotations) if self.layout == "columns" else rows).flatten(2).transpose(1, 2)
        )
        seen = functional.relu(self.bn1(self.fc1(self.dropout(feature_NTJR.flatten(2).flatten(0, 1)))))
        seen_NHT = seen.view(clips, frames, -1).transpose(1, 2)
        given_NHT = functional.relu(self.bn2(self.fc2(six_NDT)))
        better_NDT = self.head_pose(torch.cat([seen_NHT, given_NHT], dim=1)) + six_NDT
        return rot6d_to_matrix(better_NDT.transpose(1, 2).reshape(clips, frames, SMPL_JOINTS, 6))


class MeshRefiner(nn.Module):
    """A backbone and a refiner of estimates: rotations are corrected, shapes are passed on.

    Parameters
    ----------
    first
        Makes the estimates, frozen; None where they are given, of another method.
    settings
        Of `RefinerHead`.
    """

    def __init__(self, backbone: DSTformer, first: MeshEstimator | None = None, **settings: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = RefinerHead(backbone.dim_rep, backbone.num_joints, **settings)
        self.first = first
        if first is not None:
            first.requires_grad_(False)

    def train(self, mode: bool = True) -> MeshRefiner:
        """Switch to training or evaluation; what makes the estimates stays in evaluation."""
        super().train(mode)
        if self.first is not None:
            self.first.eval()
        return self

    def forward(self, x_NTJ3: Tensor, estimate: Estimate | None = None) -> Estimate:
        """Return better rotations (N, T, 24, 3, 3) and the shapes (N, T, 10) of the estimates.

        Raises
        ------
        ModelError
            There is no estimate, and nothing that makes one.
        """
        if self.first is not None:
            with torch.no_grad():
                estimate = self.first(x_NTJ3)
        if estimate is None:
            raise ModelError(
                "found a refiner without estimates to refine, expected those of another method along with "
                "the 2D poses, or a run of task mesh that makes them (refine.run)"
            )
        rotations, betas = estimate
        return self.head(self.backbone.get_representation(x_NTJ3), rotations), betas


class BodyJoints(nn.Module):
    """The 17 joints of bodies, of the few vertices that a regressor uses.

    Parameters
    ----------
    model
        SMPL.
    regressor
        (17, V) to the joints of h36m17, or its ``.npy`` file.

    Raises
    ------
    ModelError
        The model is not SMPL, or there is no regressor for its vertices.
    """

    regressor: Tensor

    def __init__(self, model: BodyModel, regressor: NDArray[np.floating] | str | None) -> None:
        super().__init__()
        check_smpl(model)
        matrix = load_regressor(regressor, model)
        which = np.flatnonzero((matrix != 0).any(dim=0).numpy())
        self.body = Body(model, which=which)
        self.register_buffer("regressor", matrix[:, torch.from_numpy(which)], persistent=False)

    def forward(self, rotations: Tensor, betas: Tensor) -> Tensor:
        """Return joints (..., 17, 3) in millimetres for rotations (..., 24, 3, 3) and shapes (..., 10)."""
        places = betas.shape[:-1]
        vertices, _ = skin(self.body, betas.reshape(-1, SMPL_BETAS), rotations.reshape(-1, SMPL_JOINTS, 3, 3))
        return (MILLIMETRES * (self.regressor @ vertices)).view(*places, -1, 3)


def check_smpl(model: BodyModel) -> None:
    """Raise `ModelError` unless a body model is SMPL."""
    if model.joints != SMPL_JOINTS:
        raise ModelError(
            f"{model.path}: found a {model.kind} model of {model.joints} joints, expected SMPL with "
            f"{SMPL_JOINTS}: the head predicts that many rotations"
        )


def build_mesh(
    network: Mapping[str, Any],
    hidden_dim: int = MESH_HIDDEN,
    dropout_ratio: float = 0.1,
    refine: Layout | None = None,
    first: Mapping[str, Any] | None = None,
) -> MeshEstimator | MeshRefiner:
    """Build a mesh network from plain settings; with ``refine`` a refiner, of the estimates of ``first``."""
    backbone = DSTformer(**network)
    settings: dict[str, Any] = {"hidden_dim": hidden_dim, "dropout_ratio": dropout_ratio}
    if refine is None:
        return MeshEstimator(backbone, **settings)
    estimator = None if first is None else build_family(FAMILY.name, first)
    assert estimator is None or isinstance(estimator, MeshEstimator)
    return MeshRefiner(backbone, estimator, layout=refine, **settings)


def _backbone(model: nn.Module) -> nn.Module:
    return model.get_submodule("backbone")


FAMILY = Family("mesh", build_mesh, _backbone)
