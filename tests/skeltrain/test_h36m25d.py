"""MotionBERT's pickle of Human3.6M, from file to the released code's own figures."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from skelconv.ingest.ingest import ingest
from skelconv.ingest.plan import make_plan
from skelconv.store.store import open_store
from skeltrain.data.loader import DataError
from skeltrain.data.motion_sets import Clips, open_motion
from skeltrain.distributed import World
from skeltrain.models.dstformer import DSTformer
from skeltrain.tasks.motion_common import Network
from skeltrain.tasks.pose3d import Pose3dRecipe, PoseData, PoseErrors, build_pose3d
from skeltrain.tasks.registry import Context
from tests.skelformats.test_human36m_25d import ALL, FILE, content

CPU = torch.device("cpu")
SMALL = Network(dim_feat=16, dim_rep=16, depth=1, num_heads=2, maxlen=9)


def ingested(folder: Path, made: dict[str, Any], extras: tuple[str, ...] = ALL) -> Path:
    raw = folder / "raw"
    raw.mkdir()
    (raw / FILE).write_bytes(pickle.dumps(made, protocol=4))
    out = folder / "h36m.zarr"
    ingest(make_plan("h36m25d", raw, "tests", extras), out)
    return out


class Holder(nn.Module):
    """What an evaluation is given: a module with the network as its attribute ``model``."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


class Half(nn.Module):
    """The network of the stored figures: 0.05 of a DSTformer, and half of the input's places."""

    def __init__(self, inner: DSTformer) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return 0.05 * self.inner(x) + 0.5 * x * x.new_tensor([1, 1, 0])


@pytest.mark.real
def test_the_released_codes_evaluation_gives_the_same_errors(golden: Path, tmp_path: Path) -> None:
    """Its data set in, clips as it cut them (a short video at random): both protocols, to the figure."""
    with np.load(golden / "motionbert" / "evaluation.npz", allow_pickle=False) as kept:
        figures = dict(kept)
    made = {
        part: {
            key.split("/")[2]: value for key, value in figures.items() if key.startswith(f"dataset/{part}/")
        }
        for part in ("train", "test")
    }
    store = ingested(tmp_path, made)
    length = int(figures["clip_len"])
    rules = Clips(length=length, stride=length)
    parts = {}
    for part in ("train", "test"):
        data = open_motion(open_store(store), rules, CPU, "xsub", part, detections=True)
        parts[part] = data = replace(data, clips=figures[f"rootrel_True/split_id_{part}"])
        assert data.detection is not None
        inputs = data.detection[torch.from_numpy(data.clips)].numpy()
        np.testing.assert_allclose(inputs, figures[f"rootrel_True/{part}_input"], atol=1e-6)
        label = data.pose[torch.from_numpy(data.clips)].numpy()
        np.testing.assert_allclose(label, figures[f"rootrel_True/{part}_label"], atol=1e-6)
    name = "rootrel_True/model_state_dict/"
    state = {key.removeprefix(name): torch.from_numpy(value) for key, value in figures.items() if name in key}
    inner = DSTformer(dim_feat=32, dim_rep=16, depth=2, num_heads=4, mlp_ratio=2, maxlen=27)
    inner.load_state_dict(state)
    recipe = Pose3dRecipe(data=PoseData(input="detection", length=length))
    found = PoseErrors(recipe, parts["test"], Context(World(CPU)))(Holder(Half(inner).eval()))
    assert found.metrics["mpjpe"] == pytest.approx(float(figures["rootrel_True/e1_mpjpe"]), rel=1e-5)
    assert found.metrics["p_mpjpe"] == pytest.approx(float(figures["rootrel_True/e2_pmpjpe"]), rel=1e-5)


def test_it_is_trained_on_with_detections_and_their_scores(tmp_path: Path) -> None:
    made = content()
    store = ingested(tmp_path, made)
    data = PoseData(store=str(store), input="detection", length=5, stride=5)
    recipe = Pose3dRecipe(data=data, model=SMALL, device="cpu")
    job = build_pose3d(recipe, Context(World(CPU)))
    batch = next(iter(job.loader.epoch(0)))
    score = np.sort(made["train"]["confidence"].ravel())
    np.testing.assert_allclose(np.sort(batch.input[..., 2].numpy().ravel()), score, atol=1e-6)
    loss = job.module(batch)["loss"]
    loss.backward()
    assert loss.isfinite()
    errors = job.evaluators[0].run(job.module)
    assert np.isfinite(list(errors.metrics.values())).all()
    assert set(errors.metrics) >= {"mpjpe", "mpjpe/WalkTogether"}
    assert "mpjpe/Greeting" not in errors.metrics, "its poses drift"


def test_without_its_factors_there_are_no_millimetres(tmp_path: Path) -> None:
    store = ingested(tmp_path, content(), ())
    recipe = Pose3dRecipe(data=PoseData(store=str(store), length=5, stride=5), model=SMALL, device="cpu")
    with pytest.raises(DataError, match="Ingest with --with factor,truth"):
        build_pose3d(recipe, Context(World(CPU)))
