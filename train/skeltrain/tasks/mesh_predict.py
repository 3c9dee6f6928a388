"""Bodies of the tracks of any 2D store: joints, pose and shape of SMPL in a sequence store, vertices
beside it.

T frames of a track, V vertices.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skelconv.store.recording import Sequence
from skelconv.store.store import Store
from skelconv.store.writer import write_store
from skelformats.reader import Column, Confidence, Dataset, Extra, Track
from skelformats.skeleton import load_skeleton
from skelformats.smpl import BodyModel
from skeltrain.models.mesh import BodyJoints, MeshRefiner
from skeltrain.models.motion_heads import MILLIMETRES, SMPL_BETAS, SMPL_JOINTS
from skeltrain.models.registry import load_model
from skeltrain.models.smpl import Body, matrix_to_axis_angle, mean_rotation, skin
from skeltrain.run_folder import RunError
from skeltrain.tasks.mesh_evaluation import infer_bodies
from skeltrain.tasks.mesh_recipe import BodyFiles, load_body
from skeltrain.tasks.pose3d_predict import (
    NETWORK_AXES,
    chosen_stride,
    open_2d,
    provenance,
    ramp,
    scaled_track,
    tracks_of,
    window_starts,
)
from skeltrain.tasks.registry import PredictOptions, Trained

Array = NDArray[np.float32]

_VERTEX_FRAMES = 256


@dataclass(frozen=True)
class BodyLifter:
    """A mesh network and how it is run over tracks.

    Attributes
    ----------
    length, stride
        Frames of a window, and from one to the next.
    """

    model: nn.Module
    joints: BodyJoints
    device: torch.device
    length: int
    stride: int
    flip: bool

    def lift(self, points: Array) -> tuple[Tensor, Tensor, int]:
        """Return rotations (T, 24, 3, 3), the sum of the shapes of all windows (10,), and their number.

        Windows overlap, and rotations are means with weights that fall towards the windows' ends.
        """
        length = min(self.length, len(points))
        total = torch.zeros((len(points), SMPL_JOINTS, 3, 3), device=self.device)
        share = torch.from_numpy(ramp(length)).float().to(self.device)[:, None, None, None]
        betas, starts = (
            torch.zeros(SMPL_BETAS, device=self.device),
            window_starts(len(points), length, self.stride),
        )
        for start in starts:
            clip = torch.from_numpy(points[start : start + length])[None].to(self.device)
            with torch.no_grad():
                found = infer_bodies(self.model, clip, None, self.flip)
            rotations = mean_rotation(torch.stack([turns[0] for turns, _ in found]))
            total[start : start + length] += rotations * share
            betas += torch.stack([shape.mean(dim=(0, 1)) for _, shape in found]).mean(dim=0)
        return mean_rotation(total[None]), betas, len(starts)


def predict_meshes(trained: Trained, where: str, out: Path, options: PredictOptions) -> str:
    """Write the bodies that a network predicts for the tracks of a 2D store; returns a line about them.

    Joints are in metres, relative to the root; poses in radians. One shape is predicted for each track.

    Raises
    ------
    DataError
        The store is not one of 2D poses, has joints that make no h36m17, or no track with joints enough.
    RunError
        An option that cannot be used, or a refiner, which needs estimates.
    ModelError, BodyModelError
        There is no body model, or no regressor for it.
    StoreError
        A store cannot be read or written.
    """
    if options.height is not None:
        raise RunError(
            "found --height for bodies, whose size is that of their shape coefficients. Leave it out"
        )
    files = body_files(trained, options)
    body, joints = load_body(files)
    lifter = build_lifter(trained, joints, options)
    store = open_2d(where)
    if options.vertices is not None:
        _claim(options.vertices, options.overwrite)
    writer = None if options.vertices is None else VertexWriter(body, trained.world.device, options.vertices)
    left: list[str] = []
    info = write_store(
        out,
        described(store),
        tracks_of(store, lambda sequence: body_track(store, sequence, lifter, writer), left),
        provenance(
            store,
            trained,
            "mesh",
            options.command,
            {
                "length": lifter.length,
                "stride": lifter.stride,
                "flip": lifter.flip,
                "body_model": body.path,
            },
        ),
        ("pose",),
        overwrite=options.overwrite,
    )
    for line in left:
        trained.log(line)
    made = info.provenance
    beside = "" if writer is None else f"; vertices in {options.vertices}"
    return (
        f"{out}: {made.sequences:,} bodies of {made.recordings:,} recordings, {made.frames:,} frames{beside}"
    )


def body_files(trained: Trained, options: PredictOptions) -> BodyFiles:
    """Return the files of the body model: those of the recipe, unless the user names others."""
    named = BodyFiles(**trained.metadata["recipe"]["body"])
    other = {"model": options.body_model, "regressor": options.regressor}
    return named.model_copy(update={name: str(path) for name, path in other.items() if path is not None})


def build_lifter(trained: Trained, joints: BodyJoints, options: PredictOptions) -> BodyLifter:
    """Return the network of a checkpoint, ready to run; raises `RunError`, `ModelError`."""
    recipe, device = trained.metadata["recipe"], trained.world.device
    model = load_model(trained.checkpoint).to(device).eval()
    if isinstance(model, MeshRefiner) and model.first is None:
        raise RunError(
            f"{trained.path}: found a refiner of another method's estimates, which a 2D store does not have, "
            "expected a run that makes bodies of 2D poses, or one that refines such a run's (refine.run)"
        )
    length = int(recipe["data"]["length"])
    stride = chosen_stride(length, options.stride)
    return BodyLifter(model, joints.to(device), device, length, stride, bool(recipe["test"]["flip"]))


def body_track(
    store: Store, sequence: Sequence, lifter: BodyLifter, writer: VertexWriter | None
) -> Track | None:
    """Predict the body of one track; None where it has fewer than four joints, or no extent."""
    track = scaled_track(store, sequence, lifter.length)
    if track is None:
        return None
    parts = [lifter.lift(points) for points in track.parts()]
    rotations = torch.cat([turns for turns, _, _ in parts])
    windows = float(sum(count for _, _, count in parts))
    betas = torch.stack([total for _, total, _ in parts]).sum(dim=0) / windows
    with torch.no_grad():
        joints = lifter.joints(rotations, betas.expand(len(rotations), -1)) / MILLIMETRES
    place = joints - joints[:, :1]
    pose = matrix_to_axis_angle(rotations).cpu().numpy().astype(np.float32)
    if writer is not None:
        writer.write(sequence.name, track.frame, rotations, betas, joints[:, :1])
    return Track(
        sequence.body,
        track.frame,
        place.cpu().numpy().astype(np.float32),
        track.points[..., 2],
        {"pose": pose},
        {"betas": betas.cpu().numpy().astype(np.float32)},
    )


class VertexWriter:
    """Writes the vertices of each track as a file ``NAME.npz`` in a folder.

    Of T frames: ``vertices`` (T, V, 3) float32 metres in the network's axes (x to the right, y down, z
    away from the camera), relative to the root that the store's joints are relative to; ``frame`` (T,);
    ``pose`` (T, 24, 3) and ``betas`` (10,); and ``faces`` (F, 3) where the body model has them.
    """

    def __init__(self, model: BodyModel, device: torch.device, folder: Path) -> None:
        self._body = Body(model).to(device)
        self._faces = model.faces
        self._folder = folder

    def write(
        self, name: str, frame: NDArray[np.int32], rotations: Tensor, betas: Tensor, root: Tensor
    ) -> None:
        """Write one track; ``root`` (T, 1, 3) is subtracted."""
        parts = []
        for start in range(0, len(rotations), _VERTEX_FRAMES):
            turns = rotations[start : start + _VERTEX_FRAMES]
            with torch.no_grad():
                vertices, _ = skin(self._body, betas.expand(len(turns), -1), turns)
            parts.append((vertices - root[start : start + _VERTEX_FRAMES]).cpu().numpy())
        arrays: dict[str, NDArray[Any]] = {
            "vertices": np.concatenate(parts).astype(np.float32),
            "frame": frame,
            "pose": matrix_to_axis_angle(rotations).cpu().numpy(),
            "betas": betas.cpu().numpy(),
        }
        if self._faces is not None:
            arrays["faces"] = self._faces
        # ids may hold what a file's name must not
        safe = re.sub(r"[^\w.-]", "_", name)
        aside = self._folder / f"{safe}.npz.partial"
        with aside.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        aside.replace(self._folder / f"{safe}.npz")


def described(store: Store) -> Dataset:
    """Describe the store of predictions of a store."""
    about = store.info.dataset
    return Dataset(
        name=f"{about.name}_mesh",
        title=f"bodies predicted of {about.title}",
        skeleton="h36m17",
        licence=about.licence,
        citation=about.citation,
        homepage=about.homepage,
        frame_rate=store.info.frame_rate,
        classes=store.info.classes,
        columns=(Column("betas", "f4", "shape coefficients of SMPL", (SMPL_BETAS,), ("beta",), "1"),),
        protocols=(),
        missing="never: frames without a detection are interpolated",
        axis_map=NETWORK_AXES,
        confidence=Confidence("f4", "score of the 2D joint; 0 where it was interpolated"),
        extras=(
            Extra(
                "pose",
                ("pose_joint", "rotation"),
                {"pose_joint": load_skeleton("smpl24").names, "rotation": ("x", "y", "z")},
                "f4",
                "rad",
                "axis-angle of each joint of SMPL against its parent, the root's in the camera's axes (x to "
                "the right, y down, z ahead)",
            ),
        ),
    )


def _claim(folder: Path, overwrite: bool) -> None:
    """Make the folder of the vertices; raises `RunError` where one with files is not to be written into."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not overwrite:
        raise RunError(
            f"{folder}: found files, expected an empty folder, or none, for the vertices. Add --overwrite, "
            "or choose another"
        )
    folder.mkdir(parents=True, exist_ok=True)
