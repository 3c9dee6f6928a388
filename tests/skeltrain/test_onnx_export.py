"""A 3D pose network as ONNX gives what torch gives, for any number of clips and frames."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from skelconv.extras import MissingExtraError
from skeltrain.models.dstformer import DSTformer
from skeltrain.models.registry import load_model
from skeltrain.onnx_export import INPUT, OPSET, OUTPUT, export_onnx
from skeltrain.run import run_recipe, use
from skeltrain.run_folder import RunError
from skeltrain.tasks.pose3d import Pose3dRecipe, PoseData
from tests.skeltrain import motion_stores
from tests.skeltrain.test_motion_tasks import OPTIM, QUIET, SMALL

NEEDED = ("onnx", "onnxscript", "onnxruntime")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    store = motion_stores.write_3d(folder / "people.zarr")
    data = PoseData(store=str(store), protocol="half", length=9, stride=9)
    optim = OPTIM.model_copy(update={"epochs": 1})
    recipe = Pose3dRecipe(data=data, model=SMALL, optim=optim, device="cpu", log=QUIET)
    run_recipe(recipe, out=folder / "run")
    return folder / "run"


@pytest.mark.skipif(any(find_spec(name) is None for name in NEEDED), reason="the extra onnx is not installed")
@pytest.mark.filterwarnings("ignore")
def test_onnxruntime_gives_what_torch_gives(run: Path, tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    file = tmp_path / "pose3d.onnx"
    with use(run, (), print) as (_, _, trained):
        assert f"opset {OPSET}" in export_onnx(trained, file)
        with pytest.raises(RunError, match="existing file"):
            export_onnx(trained, file)
        model = load_model(trained.checkpoint).eval()
    assert isinstance(model, DSTformer)
    assert not list(tmp_path.glob("*.partial"))
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    assert given.shape == ["batch", "time", 17, 3]
    for batch, frames in ((1, 1), (1, 9), (5, 4)):
        clips = torch.randn(batch, frames, 17, 3, generator=torch.Generator().manual_seed(frames))
        (found,) = session.run([OUTPUT], {INPUT: clips.numpy()})
        np.testing.assert_allclose(found, model(clips).detach(), atol=1e-5)
    about = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    assert about["joints"] == "h36m17"
    assert about["length"] == "9"
    assert about["relative"] == "true"


def test_without_the_extra_a_sentence_says_what_to_install(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skelconv.extras.find_spec", lambda name: None)
    words = r"pip install 'onnx.*the extra 'onnx' of skelconv"
    with use(run, (), print) as (_, _, trained), pytest.raises(MissingExtraError, match=words):
        export_onnx(trained, tmp_path / "a.onnx")
