"""Errors of predicted bodies (MotionBERT, utils_mesh.py), beside those of one mean body for everybody.

F frames of the test part, V vertices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skelformats.smpl import BodyModel
from skeltrain.data.mesh_batches import MeshAugment, MeshBatch, MeshCollator
from skeltrain.data.mesh_sets import MeshSet
from skeltrain.data.motion import flip
from skeltrain.data.sampler import MicroBatch
from skeltrain.distributed import autocast
from skeltrain.engine import Evaluation
from skeltrain.metrics.mesh import mesh_errors
from skeltrain.models.mesh import BodyJoints, Estimate
from skeltrain.models.motion_heads import MILLIMETRES, load_regressor
from skeltrain.models.smpl import Body, flip_rotations, rodrigues, skin
from skeltrain.tasks.mesh_recipe import MeshRecipe
from skeltrain.tasks.registry import Context

EVALUATION_BATCH = 16
"""Clips that are evaluated at once."""

NAMES = ("mpve", "mpjpe", "p_mpjpe")

BASELINE = "constant"
"""Errors of the mean body of the test part in place of every prediction are called so: what any method that
looks at its input has to beat."""


def infer_bodies(
    model: nn.Module, clips: Tensor, estimate: Estimate | None, flip_test: bool
) -> list[Estimate]:
    """Return the rotations and shapes that a mesh network in evaluation mode finds in clips.

    Parameters
    ----------
    flip_test
        Also return what it finds in the mirrored clips, mirrored back.
    """
    found = [model(clips, estimate)]
    if flip_test:
        other = None if estimate is None else (flip_rotations(estimate[0]), estimate[1])
        rotations, betas = model(flip(clips), other)
        found.append((flip_rotations(rotations), betas))
    return [(rotations.float(), betas.float()) for rotations, betas in found]


@dataclass(eq=False)
class _Sum:
    """The mean body so far: vertices (V, 3) and joints (17, 3) relative to the first joint, times frames."""

    vertices: Tensor
    joints: Tensor
    frames: int = 0


class MeshEvaluation:
    """Errors of the test part in millimetres: frame by frame, and their means."""

    def __init__(
        self, recipe: MeshRecipe, data: MeshSet, body: BodyModel, joints: BodyJoints, context: Context
    ) -> None:
        self._recipe = recipe
        self._data = data
        self._device = context.world.device
        self._joints = joints
        self._model = body
        self._whole: tuple[Body, Tensor] | None = None
        self._baseline: dict[str, float] | None = None
        self._collate = MeshCollator(data, MeshAugment(scale=recipe.data.scale))

    def __call__(self, module: nn.Module) -> Evaluation:
        """Evaluate a `MeshTask`: the three errors, those of a constant body, and every frame's."""
        data = self._data
        total = np.zeros((len(NAMES), len(data.frame)))
        count = np.zeros(len(data.frame))
        for rows, errors in self._errors(module):
            for kind, values in enumerate(errors):
                np.add.at(total[kind], rows, values)
            np.add.at(count, rows, 1)
        with np.errstate(invalid="ignore"):
            frames = total / np.where(count, count, np.nan)
        metrics = {name: float(np.nanmean(values)) for name, values in zip(NAMES, frames, strict=True)}
        if self._baseline is None:
            self._baseline = self._constant()
        predictions = {
            "recording": data.table["recording"].to_numpy(object)[data.sequence].astype(str),
            "sequence": data.table.index.to_numpy(object)[data.sequence].astype(str),
            "frame": data.frame,
            **dict(zip(NAMES, frames, strict=True)),
        }
        return Evaluation({**metrics, **self._baseline}, predictions)

    def _errors(self, module: nn.Module) -> Iterator[tuple[NDArray[np.int64], list[NDArray[np.float64]]]]:
        """Yield the rows of some clips, and their three errors."""
        model = module.get_submodule("model")
        for rows, batch in self._batches():
            with torch.no_grad():
                with autocast(self._device, self._recipe.precision):
                    found = infer_bodies(model, batch.input, batch.estimate, self._recipe.test.flip)
                # the mean of the bodies, as in the released code: not the body of the mean pose
                bodies = [self._body(*one) for one in found]
                vertices, joints = (torch.stack(parts).mean(dim=0) for parts in zip(*bodies, strict=True))
                errors = mesh_errors(vertices, joints, *self._body(rodrigues(batch.pose), batch.shape))
            yield rows, [getattr(errors, name).cpu().numpy() for name in NAMES]

    def _constant(self) -> dict[str, float]:
        """Errors of the mean body; each frame counts as often as clips hold it."""
        vertices, regressor = len(self._model.template), self._joints.regressor
        mean = _Sum(regressor.new_zeros((vertices, 3)).double(), regressor.new_zeros((17, 3)).double())
        with torch.no_grad():
            for rows, batch in self._batches():
                place, joints = self._body(rodrigues(batch.pose), batch.shape)
                mean.vertices += (place - joints[:, :1]).double().sum(dim=0)
                mean.joints += (joints - joints[:, :1]).double().sum(dim=0)
                mean.frames += len(rows)
            found: list[list[Tensor]] = [[] for _ in NAMES]
            for _, batch in self._batches():
                truth = self._body(rodrigues(batch.pose), batch.shape)
                guess = [
                    (part / mean.frames).expand(len(truth[0]), -1, -1)
                    for part in (mean.vertices, mean.joints)
                ]
                errors = mesh_errors(guess[0], guess[1], *truth)
                for kind, name in enumerate(NAMES):
                    found[kind].append(getattr(errors, name))
        return {
            f"{BASELINE}_{name}": float(torch.cat(parts).mean())
            for name, parts in zip(NAMES, found, strict=True)
        }

    def _batches(self) -> Iterator[tuple[NDArray[np.int64], MeshBatch]]:
        for start in range(0, len(self._data), EVALUATION_BATCH):
            chunk = np.arange(start, min(start + EVALUATION_BATCH, len(self._data)))
            yield self._data.clips[chunk].reshape(-1), self._collate(MicroBatch(chunk, slice(None)))

    def _body(self, rotations: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
        """Vertices (N T, V, 3) and joints (N T, 17, 3), millimetres."""
        if self._whole is None:
            regressor = load_regressor(self._recipe.body.regressor, self._model).to(self._device)
            self._whole = Body(self._model).to(self._device), regressor
        body, regressor = self._whole
        vertices, _ = skin(body, betas.flatten(0, 1), rotations.flatten(0, 1))
        return MILLIMETRES * vertices, MILLIMETRES * (regressor @ vertices)
