"""A trained 3D pose network as ONNX, for runtimes without torch.

What stands in the file is the network alone: clips (batch, time, joint, 3) of x, y and confidence in, motion
(batch, time, joint, 3) out, with any number of clips and of frames up to the network's. Scaling, windows
and the mean with the mirrored clip are the caller's (docs/motionbert.md).
"""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path

import torch
from torch import nn

from skelconv import __version__
from skelconv.extras import need
from skeltrain.models.dstformer import DSTformer
from skeltrain.models.registry import load_model
from skeltrain.run_folder import RunError
from skeltrain.tasks.registry import Trained

OPSET = 18
"""Version of ONNX's operators, which runtimes of 2023 and later have."""

INPUT, OUTPUT = "clips", "motion"


def export_onnx(trained: Trained, file: Path, overwrite: bool = False) -> str:
    """Write the network of a 3D pose run as ONNX; returns a line about the file.

    Raises
    ------
    RunError
        The run is of another task, its network prunes frames, or ``file`` exists and is not to be replaced.
    MissingExtraError
        onnx or onnxscript is not installed.
    """
    for package in ("onnx", "onnxscript"):
        need(package, "onnx")
    if trained.metadata["task"] != "pose3d":
        raise RunError(
            f"{trained.path}: found a run of task {trained.metadata['task']!r}, expected one of pose3d"
        )
    if file.exists() and not overwrite:
        raise RunError(f"{file}: found an existing file, expected none. Add --overwrite to replace it")
    model = load_model(trained.checkpoint).eval()
    assert isinstance(model, DSTformer)
    if model.prune is not None:
        raise RunError(
            f"{trained.path}: found a network that prunes frames (model.prune), expected one that does not: "
            "which path it takes depends on the number of frames. Train without model.prune to export"
        )
    recipe = trained.metadata["recipe"]
    length = int(recipe["data"]["length"])
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(file.name + ".partial")
    write_onnx(model, aside, length)
    _describe(
        aside,
        {
            "joints": "h36m17",
            "length": str(length),
            "relative": json.dumps(trained.metadata["relative"]),
            "input": str(trained.metadata["input"]),
            "made_by": f"skelconv {__version__}",
        },
    )
    aside.replace(file)
    size = file.stat().st_size / 1e6
    return f"{file}: opset {OPSET}, {INPUT} (batch, time, {model.num_joints}, {model.dim_in}), {size:.1f} MB"


def write_onnx(model: DSTformer, file: Path, length: int) -> None:
    """Write a network; batch and time are dynamic, time up to ``maxlen``. All weights are in the one file."""
    # two sizes that occur nowhere else, so that the tracer cannot take one axis for another
    example = torch.zeros(3, max(2, min(length, model.maxlen) - 1), model.num_joints, model.dim_in)
    shapes = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("time", min=1, max=model.maxlen)}
    with warnings.catch_warnings(), torch.no_grad():
        # the exporter warns of what its own parts have deprecated
        warnings.simplefilter("ignore")
        logging.getLogger("onnxscript").setLevel(logging.ERROR)
        program = torch.onnx.export(
            nn.Sequential(model),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=(shapes,),
            verbose=False,
        )
    assert program is not None
    program.save(file, external_data=False)


def _describe(file: Path, about: dict[str, str]) -> None:
    """Put plain text into the file's metadata."""
    import onnx

    model = onnx.load(file)
    onnx.helper.set_model_props(model, about)
    onnx.save(model, file)
