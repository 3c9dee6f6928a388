"""Small stores of bodies: generated 3DPW, AMASS and MotionBERT's mesh files, and their body model."""

from __future__ import annotations

from pathlib import Path

from skelconv.ingest.ingest import ingest
from skelconv.ingest.plan import make_plan
from skelconv.synth import Settings, synthesize
from skeltrain.tasks.mesh_recipe import BodyFiles

EXTRAS = {
    "pw3d": ("pose", "translation", "camera", "keypoints"),
    "amass": ("pose", "translation"),
    "motionbert_mesh": ("pose", "shape", "estimate_pose", "estimate_shape"),
}


def write(
    folder: Path, dataset: str, count: int, frames: tuple[int, int] = (20, 24), faults: float = 0.0
) -> Path:
    """Generate and ingest recordings of a dataset; returns the store."""
    settings = Settings(frames=frames, faults=faults, noise=0.5)
    synthesize(dataset, folder / dataset, count, settings=settings)
    out = folder / f"{dataset}.zarr"
    summary = ingest(make_plan(dataset, folder / dataset, "test", extras=EXTRAS[dataset]), out)
    assert not summary.set_aside
    return out


def body_files(folder: Path, dataset: str = "pw3d") -> BodyFiles:
    """The body model that lies beside the generated files."""
    models = folder / dataset / "body_models"
    return BodyFiles(model=str(models), regressor=str(models / "J_regressor_h36m.npy"))
