"""How far predicted bodies are from the true ones, frame by frame, in millimetres (MotionBERT,
utils_mesh.py).

Bodies are compared relative to the first joint that the regressor finds in each. N frames, V vertices.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from skeltrain.metrics.pose import JOINTS_14, mpjpe, p_mpjpe, root_relative


@dataclass(frozen=True, eq=False)
class MeshErrors:
    """Errors (N,) float64 of bodies, mm.

    Attributes
    ----------
    mpve
        Mean distance of the vertices.
    mpjpe
        Mean distance of 14 joints.
    p_mpjpe
        The same after the similarity that fits best.
    """

    mpve: Tensor
    mpjpe: Tensor
    p_mpjpe: Tensor


def mesh_errors(vertices: Tensor, joints: Tensor, true_vertices: Tensor, true_joints: Tensor) -> MeshErrors:
    """Compare bodies: vertices (N, V, 3) and joints (N, 17, 3) in the order of h36m17, millimetres."""
    local = [part.double() - root.double()[:, :1] for part, root in (
        (vertices, joints), (true_vertices, true_joints)
    )]  # fmt: skip
    chosen = [root_relative(part.double())[:, list(JOINTS_14)] for part in (joints, true_joints)]
    return MeshErrors(
        mpve=(local[0] - local[1]).norm(dim=-1).mean(dim=-1),
        mpjpe=mpjpe(chosen[0], chosen[1]),
        p_mpjpe=p_mpjpe(chosen[0], chosen[1]),
    )
