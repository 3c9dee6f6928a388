"""Writes small Human3.6M files of every distribution, for tests of what reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from cdflib.cdfwrite import CDF

from skelformats.h36m_cameras import Array, builtin_cameras, project, to_camera

CAMERA = 54138969


def pose(frames: int = 5, seed: int = 0) -> Array:
    """(T, 32, 3) world millimetres, around a person in the middle of the room; float32 values."""
    rng = np.random.default_rng(seed)
    values = rng.normal((100.0, 200.0, 900.0), 300.0, (frames, 32, 3))
    return values.astype(np.float32).astype(np.float64)


def seen(world: Array, subject: int, camera: int) -> Array:
    """The poses in a camera's frame."""
    return to_camera(world, builtin_cameras()[subject, camera])


def pixels(world: Array, subject: int, camera: int) -> Array:
    """The poses in a camera's picture."""
    return project(seen(world, subject, camera), builtin_cameras()[subject, camera])


def write_cdf(path: Path, values: Any, data_type: int = 44, compress: int = 0, **spec: Any) -> Path:
    """Write (T, 32, A) as the official files hold it, as the one record of the variable Pose."""
    flat = np.asarray(values).reshape(1, len(values), -1)
    return write_variable(path, flat, data_type, compress, **spec)


def write_variable(path: Path, values: Any, data_type: int = 44, compress: int = 0, **spec: Any) -> Path:
    """Write (records, ...) as the variable Pose of a CDF file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    kind = np.float32 if data_type in (21, 44) else np.float64
    values = np.asarray(values, kind)
    file = CDF(path, cdf_spec={"Majority": "row_major", "Compressed": False, **spec})
    file.write_var(
        {
            "Variable": "Pose",
            "Data_Type": data_type,
            "Num_Elements": 1,
            "Rec_Vary": True,
            "Dim_Sizes": list(values.shape[1:]),
            "Compress": compress,
        },
        var_data=values,
    )
    file.close()
    return path


def write_h5(path: Path, key: str, values: Any, **how: Any) -> Path:
    """Write one array of an HDF5 file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset(key, data=np.asarray(values), **how)
    return path


def write_npz(path: Path, **objects: Any) -> Path:
    """Write objects as VideoPose3D does: each a 0-d object array."""
    np.savez_compressed(path, **{key: np.array(value, object) for key, value in objects.items()})
    return path
