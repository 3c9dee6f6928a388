"""The cameras of Human3.6M: where they stand, what they see, and the dataset's own lens model.

World points are millimetres, right-handed, +z up; camera points millimetres with +x to the right of the
picture, +y down, +z ahead. The numbers come from ``metadata.xml`` of the dataset, or from the table that
ships with skelconv (``protocols/h36m_cameras.toml``), which is equal to it. The size of the picture always
comes from the table.
"""

from __future__ import annotations

import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelformats.errors import FormatError, UnknownNameError
from skelformats.reader import Column, SideTable

Array = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]

CAMERAS = (54138969, 55011271, 58860488, 60457274)
"""Ids of the four cameras, in the order that every distribution lists them."""

SUBJECTS = tuple(range(1, 12))
"""The eleven subjects; the poses of 2, 3, 4 and 10 are not released."""

CAMERA_TABLE = SideTable(
    name="calibration",
    description=(
        "the cameras, by subject: R (X - centre) is the camera point of a raw world point X in millimetres, "
        "and skelformats.h36m_cameras.project gives its pixel"
    ),
    columns=(
        Column("subject", "i4", "subject whose sessions the camera stood so for"),
        Column("camera", "i4", "id of the camera"),
        Column("rotation", "f8", "R, from world to camera axes", (3, 3), ("camera_axis", "world_axis"), "1"),
        Column("centre", "f8", "where the camera stands in the world", (3,), ("world_axis",), "mm"),
        Column("focal", "f8", "focal lengths fx, fy", (2,), ("pixel_axis",), "px"),
        Column("principal", "f8", "principal point cx, cy", (2,), ("pixel_axis",), "px"),
        Column("radial", "f8", "radial distortion k1, k2, k3", (3,), ("radial_term",), "1"),
        Column("tangential", "f8", "tangential distortion p1, p2", (2,), ("tangential_term",), "1"),
        Column("width", "i4", "columns of the picture", unit="px"),
        Column("height", "i4", "rows of the picture", unit="px"),
    ),
    key=("subject", "camera"),
)
"""How a store keeps the cameras."""

_W0_LENGTH, _MAX_METADATA = 300, 500_000
_LENS_START, _PER_SUBJECT, _PER_LENS = 264, 6, 9


@dataclass(frozen=True, eq=False)
class Camera:
    """One camera as it stood for one subject.

    Attributes
    ----------
    rotation
        (3, 3) from world to camera axes.
    centre
        (3,) where it stands, millimetres.
    focal, principal
        (2,) pixels.
    radial, tangential
        (3,) and (2,) coefficients k1, k2, k3 and p1, p2 in the order of ``metadata.xml``.
    width, height
        Pixels of the picture.
    """

    subject: int
    camera: int
    rotation: Array
    centre: Array
    focal: Array
    principal: Array
    radial: Array
    tangential: Array
    width: int
    height: int

    def row(self) -> dict[str, Any]:
        """Return the camera as a row of `CAMERA_TABLE`."""
        return {column.name: getattr(self, column.name) for column in CAMERA_TABLE.columns}


Cameras = Mapping[tuple[int, int], Camera]
"""Cameras by subject and id."""


def find_camera(cameras: Cameras, subject: int, camera: int) -> Camera:
    """Return one camera; raises `UnknownNameError`."""
    if (subject, camera) not in cameras:
        known = tuple(f"S{s} {c}" for s, c in cameras)
        raise UnknownNameError("camera of Human3.6M", f"S{subject} {camera}", known)
    return cameras[subject, camera]


def to_camera(world: Floats, camera: Camera, unit: float = 1.0) -> Array:
    """Map world points to the camera's frame.

    Parameters
    ----------
    world
        (..., 3) points.
    unit
        Millimetres in one unit of the points: 1000 where they are metres.

    Returns
    -------
    (..., 3) float64 in the unit of ``world``.
    """
    return (np.asarray(world, np.float64) - camera.centre / unit) @ camera.rotation.T


def to_world(points: Floats, camera: Camera, unit: float = 1.0) -> Array:
    """Invert `to_camera`."""
    return np.asarray(points, np.float64) @ camera.rotation + camera.centre / unit


def project(points: Floats, camera: Camera) -> Array:
    """Project points of the camera's frame to pixels, with the lens model of the dataset's own code.

    It is not that of OpenCV, whose tangential cross terms are twice as large (0.05 to 0.19 px apart).

    Parameters
    ----------
    points
        (..., 3) in the camera's frame, any unit.

    Returns
    -------
    (..., 2) float64 pixels, x to the right, y down; meaningless or not finite for points that are not ahead
    of the camera.
    """
    place = np.asarray(points, np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        xy = place[..., :2] / place[..., 2:]
        r2 = (xy**2).sum(axis=-1, keepdims=True)
        k1, k2, k3 = camera.radial
        p1, p2 = camera.tangential
        scale = 1 + r2 * (k1 + r2 * (k2 + r2 * k3)) + p2 * xy[..., :1] + p1 * xy[..., 1:]
        bent = xy * scale + np.array([p2, p1]) * r2
    return bent * camera.focal + camera.principal


def project_linear(points: Floats, camera: Camera) -> Array:
    """Project as `project`, without distortion: what MotionBERT's ``joint3d_image`` holds."""
    place = np.asarray(points, np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return place[..., :2] / place[..., 2:] * camera.focal + camera.principal


@cache
def builtin_cameras() -> Cameras:
    """Return the 44 cameras of the table that ships with skelconv."""
    text = (files("skelformats") / "protocols" / "h36m_cameras.toml").read_text(encoding="utf-8")
    table = tomllib.loads(text)
    cameras = {}
    for subject in SUBJECTS:
        for camera in CAMERAS:
            placed = table["placed"][str(subject)][str(camera)]
            lens = dict(table["lens"][str(camera)])
            if subject in table["tall_subjects"]:
                lens["size"] = max(other["size"] for other in table["lens"].values())
            cameras[subject, camera] = _camera(subject, camera, placed["angles"], placed["centre"], lens)
    return cameras


@lru_cache(maxsize=4)
def read_metadata(path: Path) -> Cameras:
    """Read the 44 cameras of the dataset's ``metadata.xml`` (element ``w0``).

    Raises
    ------
    FormatError
        It is not that file, or the numbers are not 300 finite ones.
    """
    expected = "metadata.xml of Human3.6M, with the 300 numbers of the cameras in <w0>"
    if path.stat().st_size > _MAX_METADATA:
        raise FormatError(path, f"{path.stat().st_size} bytes", f"{expected}, at most {_MAX_METADATA} bytes")
    text = path.read_bytes()
    if b"<!" in text.replace(b"<!--", b""):
        # an entity can name other files, or expand to gigabytes; the real file declares none
        raise FormatError(path, "an XML declaration (<!DOCTYPE or the like)", expected)
    try:
        root = ElementTree.fromstring(text)
        values = [float(word) for word in (root.findtext("w0") or "").strip().strip("[]").split()]
    except (ElementTree.ParseError, ValueError) as error:
        raise FormatError(path, f"text that cannot be read ({error})", expected) from error
    if len(values) != _W0_LENGTH or not np.isfinite(values).all():
        raise FormatError(path, f"{len(values)} numbers in <w0>", expected)
    builtin = builtin_cameras()
    cameras = {}
    for c, camera in enumerate(CAMERAS):
        lens = values[_LENS_START + c * _PER_LENS :][:_PER_LENS]
        for s, subject in enumerate(SUBJECTS):
            placed = values[(c * len(SUBJECTS) + s) * _PER_SUBJECT :][:_PER_SUBJECT]
            cameras[subject, camera] = _camera(
                subject,
                camera,
                placed[:3],
                placed[3:],
                {
                    "focal": lens[:2],
                    "principal": lens[2:4],
                    "radial": lens[4:7],
                    "tangential": lens[7:],
                    "size": (builtin[subject, camera].width, builtin[subject, camera].height),
                },
            )
    return cameras


def _camera(
    subject: int, camera: int, angles: list[float], centre: list[float], lens: Mapping[str, Any]
) -> Camera:
    return Camera(
        subject=subject,
        camera=camera,
        rotation=_rotation(*angles),
        centre=np.array(centre),
        focal=np.array(lens["focal"]),
        principal=np.array(lens["principal"]),
        radial=np.array(lens["radial"]),
        tangential=np.array(lens["tangential"]),
        width=lens["size"][0],
        height=lens["size"][1],
    )


def _rotation(a: float, b: float, c: float) -> Array:
    """Rx(a) Ry(b) Rz(c), each turning right-handedly by an angle in radians."""
    ca, sa, cb, sb, cc, sc = np.cos(a), np.sin(a), np.cos(b), np.sin(b), np.cos(c), np.sin(c)
    rx = np.array([[1, 0, 0], [0, ca, -sa], [0, sa, ca]])
    ry = np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    rz = np.array([[cc, -sc, 0], [sc, cc, 0], [0, 0, 1]])
    return rx @ ry @ rz
