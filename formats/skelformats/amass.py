"""AMASS: motion capture as SMPL+H parameters (``*_poses.npz``) or SMPL-X ones (``*_stageii.npz``).

A file is one take of one person: axis-angle rotations of 52 or 55 joints, the translation, the shape and a
frame rate of its own. Joints come from forward kinematics with a body model (`skelformats.smpl`), which every
user has to fetch: its licence forbids passing it on. Raw axes: right-handed, metres, +z up, the floor at
z = 0; canonical (x, y, z) = raw (x, z, -y).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from skelformats.amass_file import BETAS, Take, read_take, resampled
from skelformats.body_folder import WHERE_FROM, BodyModelError, body_model
from skelformats.errors import FormatError
from skelformats.files import find_files
from skelformats.protocols import load_facts
from skelformats.raw_root import folder_name
from skelformats.reader import (
    AxisMap,
    Clip,
    Column,
    Dataset,
    Extra,
    Option,
    Reader,
    ReadOptions,
    Source,
    Track,
)
from skelformats.rotation import Array
from skelformats.safe_npz import load_npy
from skelformats.skeleton import load_skeleton
from skelformats.smpl import KINDS, SMPL_FROM_SMPLH, BodyModel, body_joints, regress_joints

BODY = "0"
"""A file has one person and no body ids."""

MODEL_FOLDER = "body_models"
"""Folder in the raw folder that is looked into where ``--body-model`` is not given."""

_FACTS = load_facts("amass")
_SUBSET_OF = {alias: name for name, others in _FACTS.others["subset"].items() for alias in (name, *others)}

_SMPLX_HANDS = tuple(range(25, 55))
_ROWS: Mapping[str, Mapping[int, tuple[int, ...]]] = {
    "smpl22": dict.fromkeys(KINDS, tuple(range(22))),
    # the first index joints stand for the hands where the model has fingers, as in VIBE
    "smpl24": {24: tuple(range(24)), 52: SMPL_FROM_SMPLH, 55: (*range(22), 25, 40)},
    "smplh52": {52: tuple(range(52)), 55: (*range(22), *_SMPLX_HANDS)},
    "smplx55": {55: tuple(range(55))},
}
"""Which joints of a model of so many make up a layout."""

LAYOUTS = (*_ROWS, "h36m17")


def scan(root: Path, options: ReadOptions) -> list[Source]:
    """List every ``.npz`` below ``root`` but shapes (``shape.npz``, ``*_stagei.npz``) and body models."""
    models = _model_place(root, options)
    base, inside = root.resolve(), ""
    if models is not None and models.resolve().is_relative_to(base):
        inside = models.resolve().relative_to(base).as_posix()
    return [
        Source(path, size)
        for path, size in find_files(root, ".npz")
        if not path.endswith("_stagei.npz")
        and PurePosixPath(path).name != "shape.npz"
        and not (inside and (path == inside or path.startswith(f"{inside}/")))
    ]


def configure(root: Path, options: ReadOptions) -> Dataset:
    """Return the dataset under these options: its layout, frame rate, and names of the pose's joints.

    Raises
    ------
    BodyModelError
        There is no body model, or no regressor for ``h36m17``.
    """
    if _model_place(root, options) is None:
        raise BodyModelError(
            f"{root}: AMASS holds parameters of a body model, found none to compute joints with, expected "
            f"--body-model FILE-OR-FOLDER. {WHERE_FROM}"
        )
    if options.values["joints"] == "h36m17" and options.values["regressor"] is None:
        raise BodyModelError(
            "the layout h36m17 is regressed from the vertices of the body, found no regressor, expected "
            "--regressor J_regressor_h36m_correct.npy (17, 6890), which comes with Pose2Mesh and MotionBERT"
        )
    fps = options.values["fps"]
    if fps is not None and not 0 < fps < float("inf"):
        raise FormatError("--fps", f"{fps}", "a number of frames a second above 0")
    expressive = any(source.path.endswith("_stageii.npz") for source in scan(root, options))
    extras = tuple(
        replace(extra, labels={**extra.labels, "pose_joint": load_skeleton("smplx55").names})
        if expressive and extra.name == "pose"
        else extra
        for extra in _DATASET.extras
    )
    return replace(_DATASET, skeleton=options.values["joints"], frame_rate=fps, extras=extras)


def read(root: Path, source: Source, options: ReadOptions) -> list[Clip]:
    """Compute the joints of one take.

    Raises
    ------
    FormatError
        The file is not of this format, or the body model does not fit it.
    BodyModelError
        There is no body model for its kind and gender.
    """
    path = root / source.path
    take = read_take(path)
    missing = options.extras & {"dmpls"} if take.motion.dmpls is None else set()
    if missing or (options.values["dmpls"] and take.motion.dmpls is None):
        raise FormatError(path, "no array dmpls", "soft-tissue coefficients, which only SMPL+H files have")
    rate = options.values["fps"]
    motion = take.motion if rate is None else resampled(path, take, rate)
    position = _positions(path, replace(take, motion=motion), _model_place(root, options), options.values)
    extras = {"pose": motion.pose, "translation": motion.translation, "dmpls": motion.dmpls}
    track = Track(
        BODY,
        np.arange(len(position), dtype=np.int32),
        position.astype(np.float32),
        extras={
            name: values.astype(np.float32)
            for name, values in extras.items()
            if name in options.extras and values is not None
        },
    )
    betas = np.zeros(BETAS)
    betas[: len(motion.betas)] = motion.betas
    subset, subject = _place(root, source.path)
    columns: dict[str, Any] = {
        "subset": subset,
        "subject": subject,
        "gender": take.gender,
        "model": take.kind,
        "frame_rate": take.frame_rate if rate is None else float(rate),
        "source_frame_rate": take.frame_rate,
        "betas": betas,
    }
    recording = source.path.removesuffix(".npz").replace("/", "__")
    return [Clip(recording, len(position), (track,), -1, columns, _FACTS.splits(recording, columns))]


def _positions(path: Path, take: Take, place: Path | None, values: Mapping[str, Any]) -> Array:
    if place is None:
        raise BodyModelError(f"{path}: found no body model, expected --body-model. {WHERE_FROM}")
    model = body_model(place, take.kind, take.gender, bool(values["dmpls"]))
    motion = replace(take.motion, pose=_pose_for(path, model, take.motion.pose))
    if not values["dmpls"]:
        motion = replace(motion, dmpls=None)
    layout = values["joints"]
    if layout == "h36m17":
        regressor = load_npy(values["regressor"])
        if regressor.dtype.kind != "f" or regressor.shape[:1] != (17,):
            raise FormatError(
                values["regressor"], f"an array of shape {regressor.shape}", "(17, V) of numbers"
            )
        return regress_joints(model, motion, regressor.astype(np.float64))
    rows = _ROWS[layout].get(model.joints)
    if rows is None:
        raise FormatError(
            path,
            f"poses that a {model.kind} model of {model.joints} joints moves",
            f"a model with the joints of {layout}",
            action="Choose another layout with --joints, or another --body-model",
        )
    return body_joints(model, motion)[:, rows]


def _pose_for(path: Path, model: BodyModel, pose: Array) -> Array:
    """Return the pose in the joints of the model; SMPL's can be taken from those of SMPL+H."""
    if pose.shape[1] == 52 and model.joints == 24:
        return pose[:, SMPL_FROM_SMPLH]
    if pose.shape[1] != model.joints:
        raise FormatError(
            path,
            f"poses of {KINDS[pose.shape[1]]}, for which {model.path}, a {model.kind} model, was given",
            f"a {KINDS[pose.shape[1]]} model; shapes and poses of one do not fit the other",
            action="Name the other model with --body-model, or a folder with both",
        )
    return pose


def _model_place(root: Path, options: ReadOptions) -> Path | None:
    """Return the file or folder of the body models, or None."""
    named = options.values["body_model"]
    if named is not None:
        return Path(named)
    beside = root / MODEL_FOLDER
    return beside if beside.is_dir() else None


def _place(root: Path, path: str) -> tuple[str, str]:
    """Return sub-dataset and subject, by the folders; empty where they do not tell."""
    folders = PurePosixPath(path).parts[:-1]
    for at, folder in enumerate(folders):
        if folder in _SUBSET_OF:
            return _SUBSET_OF[folder], folders[-1] if len(folders) > at + 1 else ""
    # the raw folder may be one sub-dataset
    return _SUBSET_OF.get(folder_name(root, path), ""), folders[-1] if folders else ""


_DATASET = Dataset(
    name="amass",
    title="AMASS, motion capture as SMPL+H and SMPL-X bodies",
    skeleton="smpl22",
    licence=(
        "non-commercial scientific research (licences of AMASS and of the body models); each sub-dataset has "
        "terms of its own"
    ),
    citation=(
        "N. Mahmood, N. Ghorbani, N. F. Troje, G. Pons-Moll, M. J. Black. AMASS: Archive of Motion Capture "
        "as Surface Shapes. ICCV 2019"
    ),
    homepage="https://amass.is.tue.mpg.de",
    # every file has its own
    frame_rate=None,
    classes=_FACTS.classes,
    columns=(
        Column("subset", "string", "sub-dataset, by the name that the split uses; empty if unknown"),
        Column("subject", "string", "folder of the subject"),
        Column("gender", "string", "of the body model: male, female or neutral"),
        Column("model", "string", "body model that the parameters are for: smplh, smplx or smpl"),
        Column("frame_rate", "f8", "frames a second, as stored", unit="Hz"),
        Column("source_frame_rate", "f8", "frames a second in the source", unit="Hz"),
        Column("betas", "f8", "body shape coefficients, zero beyond those given", (BETAS,), ("beta",)),
    ),
    protocols=_FACTS.protocols,
    missing="nothing is ever missing: joints are computed from the fitted body",
    # (x, y, z) with +z up becomes (x, z, -y) with +y up
    axis_map=AxisMap(order=(0, 2, 1), sign=(1, 1, -1)),
    extras=(
        Extra(
            "pose",
            ("pose_joint", "rotation"),
            {"pose_joint": load_skeleton("smplh52").names, "rotation": ("x", "y", "z")},
            "f4",
            "rad",
            "axis-angle of each joint against its parent, the root's in the raw axes (+z up)",
        ),
        Extra(
            "translation",
            ("translation_axis",),
            {"translation_axis": ("x", "y", "z")},
            "f4",
            "m",
            "of the body model, in the raw axes (+z up)",
        ),
        Extra(
            "dmpls",
            ("dmpl",),
            {"dmpl": tuple(str(number) for number in range(8))},
            "f4",
            "1",
            "soft-tissue coefficients (SMPL+H files only)",
        ),
    ),
    options=(
        Option("body_model", Path, None, "Body model file, or folder with gender sub-models (npz or pkl)."),
        Option("joints", str, "smpl22", "Layout to compute.", LAYOUTS),
        Option("regressor", Path, None, "Joint regressor (17, V) as .npy, for --joints h36m17."),
        Option("fps", float, None, "Resample to this frame rate, by time.  [default: as recorded]"),
        Option(
            "dmpls", bool, False, "Move vertices by the soft-tissue coefficients, which needs a DMPL model."
        ),
    ),
)

AMASS = Reader(_DATASET, scan, read, configure, own=("*_poses.npz", "*_stageii.npz"))
