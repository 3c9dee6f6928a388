"""Two processes train on meshes as one does: BatchNorm sees the samples of both."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from skeltrain.checkpoint import load_checkpoint
from skeltrain.recipe import Log
from skeltrain.recipe_file import to_yaml
from skeltrain.run import run_recipe
from skeltrain.run_folder import RunFolder
from skeltrain.tasks.mesh_recipe import MeshData, MeshRecipe
from tests.skeltrain import mesh_stores
from tests.skeltrain.test_engine import curve
from tests.skeltrain.test_mesh import OPTIM, SMALL

NO_EFFECT = ("qkv.bias", "head.fc1.bias", "head.fc2.bias", "running_mean")


@pytest.mark.slow
def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    """Steps of 5 clips are dealt out unevenly; dropout, whose draws are each process's own, is off."""
    store = mesh_stores.write(tmp_path, "pw3d", 5)
    recipe = MeshRecipe(
        data=MeshData(store=str(store), length=8, stride=8),
        body=mesh_stores.body_files(tmp_path),
        model=SMALL.model_copy(update={"dropout_ratio": 0.0}),
        optim=OPTIM.model_copy(update={"batch": 5}),
        backbone_rate=1.0,
        device="cpu",
        log=Log(every=1, tensorboard=False),
    )
    path = tmp_path / "recipe.yaml"
    path.write_text(to_yaml(recipe, "two"))
    run_recipe(recipe, out=tmp_path / "one")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
            *("--no-python", str(Path(sys.executable).with_name("skeltrain"))),
            *("train", str(path), "--out", str(tmp_path / "two")),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    one, two = (load_checkpoint(RunFolder(tmp_path / name).last)["model"] for name in ("one", "two"))
    for name, value in one.items():
        # what has no effect has a gradient of rounding alone: the keys' bias, and a bias that is normalised
        # away, which the mean of that normalisation follows
        if not name.endswith(NO_EFFECT):
            torch.testing.assert_close(two[name], value, atol=2e-4, rtol=1e-3, msg=name)
    assert len(curve(tmp_path / "one")) == len(curve(tmp_path / "two"))
