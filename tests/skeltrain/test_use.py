"""What comes after training: evaluate, embed, predict, each a verb; and launches on several processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from skelconv.cli.command import run
from skeltrain.checkpoint import load_checkpoint
from skeltrain.cli import cli
from skeltrain.recipe_file import to_yaml
from skeltrain.run import run_recipe
from skeltrain.run_folder import RunFolder
from skeltrain.tasks.pretrain import PretrainRecipe
from tests.skeltrain.conftest import CLASSES, make_dataset, write_tiny

SKELTRAIN = Path(sys.executable).with_name("skeltrain")
QUICK = (
    *("--set", "optim.blr=4.0", "--set", "optim.batch=8", "--set", "optim.epochs=30"),
    *("--set", "optim.warmup=2", "--set", "log.tensorboard=false", "--device", "cpu"),
)


@pytest.fixture(scope="module")
def pretrained(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from skeltrain.recipe import Log, Optim
    from skeltrain.sections import ImageData
    from skeltrain.tasks.pretrain import Model
    from tests.skeltrain.conftest import AUGMENT

    out = tmp_path_factory.mktemp("use") / "pretrained"
    recipe = PretrainRecipe(
        data=ImageData(store=str(tiny_store), protocol="half", image_size=32),
        augment=AUGMENT,
        model=Model(preset="vit_micro", patch_size=8, embed_dim=32, depth=2, num_heads=2, decoder_dim=16),
        optim=Optim(blr=5e-2, batch=8, epochs=6, warmup=1),
        device="cpu",
        log=Log(every=10, tensorboard=False),
    )
    run_recipe(recipe, out=out)
    return out


def skeltrain(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        run(cli, [str(word) for word in words])
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.fixture(scope="module")
def probed(pretrained: Path) -> Path:
    """The folder of a probe that was trained like any other recipe."""
    out = pretrained.with_name("probed")
    encoder = ("--set", f"encoder.run={pretrained}")
    assert skeltrain("train", "linprobe", *encoder, *QUICK, "--out", out) == 0
    return out


def test_a_probe_is_a_run_like_any_other(probed: Path, pretrained: Path) -> None:
    found = json.loads((probed / "evaluation.json").read_text())["test"]
    assert found["top1"] > 0.6
    with np.load(RunFolder(probed).predictions("test"), allow_pickle=False) as kept:
        assert kept["score"].shape == (17, 3)
        np.testing.assert_allclose(kept["score"].sum(axis=1), 1, atol=1e-5)
        assert (kept["score"].argmax(axis=1) == kept["label"]).mean() == pytest.approx(found["top1"])
        assert kept["recording"][0] == "take032"
    content = load_checkpoint(RunFolder(probed).last, ("probe",))
    assert content["metadata"]["model"]["family"] == "linear_probe"
    assert content["metadata"]["model"]["config"]["encoder"]["family"] == "mae"


def test_evaluate_gives_again_what_training_found(
    probed: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = (probed / "evaluation.json").read_text()
    assert skeltrain("evaluate", probed, "--device", "cpu", "--out", tmp_path / "found") == 0
    assert (tmp_path / "found" / "evaluation.json").read_text() == before
    top1 = json.loads(before)["test"]["top1"]
    assert f"test  top1  {top1:.6g}\n" in capsys.readouterr().out


def test_a_pretrained_model_is_evaluated_on_another_store(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_tiny(tmp_path / "other.zarr", 30, make_dataset("other"))
    words = ("evaluate", pretrained, "--device", "cpu", "--out", tmp_path / "found")
    assert skeltrain(*words, "--store", other) == 0
    elsewhere = json.loads((tmp_path / "found" / "evaluation.json").read_text())["reconstruction"][
        "test_loss"
    ]
    assert skeltrain(*words) == 0
    here = json.loads((tmp_path / "found" / "evaluation.json").read_text())["reconstruction"]["test_loss"]
    assert 0 < here != elsewhere > 0
    with np.load(RunFolder(tmp_path / "found").predictions("reconstruction"), allow_pickle=False) as kept:
        assert len(kept["sample"]) == len(kept["batch_loss"]) == 17


def test_features_open_in_xarray_and_pandas_with_the_table_beside_them(
    pretrained: Path, probed: Path, tiny_store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "features.zarr"
    assert skeltrain("embed", pretrained, tiny_store, out, "--device", "cpu") == 0
    found = xr.open_zarr(out)
    assert found["feature"].dims == ("sample", "component")
    assert found["feature"].shape == (49, 32)
    assert found["feature"].dtype == np.float32
    table = found.drop_vars("feature").to_dataframe()
    assert set(table.columns) >= {"recording", "label", "split_half"}
    assert table["label"].tolist() == [n % 3 for n in range(48)] + [0]
    # a leaked recording has the features of the one that it repeats
    np.testing.assert_array_equal(found["feature"][48], found["feature"][0])
    assert found.attrs["skeltrain"]["model"]["family"] == "mae"
    assert found.attrs["skeltrain"]["store"]["dataset"] == "tiny"
    again = tmp_path / "again.zarr"
    assert skeltrain("embed", probed, tiny_store, again, "--device", "cpu") == 0
    np.testing.assert_array_equal(xr.open_zarr(again)["feature"], found["feature"])


def test_features_do_not_replace_anything_unasked(
    pretrained: Path, tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "features.zarr"
    words = ("embed", pretrained, tiny_store, out, "--device", "cpu")
    assert skeltrain(*words) == 0
    assert skeltrain(*words) == 2
    assert "Add --overwrite" in capsys.readouterr().err
    assert skeltrain(*words, "--overwrite") == 0


def test_labels_of_new_recordings_are_predicted(probed: Path, tmp_path: Path) -> None:
    new = write_tiny(tmp_path / "new.zarr", 12, make_dataset("new"))
    assert skeltrain("predict", probed, new, tmp_path / "labels.csv", "--device", "cpu") == 0
    table = pd.read_csv(tmp_path / "labels.csv")
    assert list(table.columns) == ["recording", "label", "class", "probability"]
    assert table["recording"].tolist() == [f"take{n:03d}" for n in range(12)]
    assert [CLASSES[k] for k in table["label"]] == table["class"].tolist()
    assert (table["probability"].between(1 / 3, 1)).all()
    true = np.array([n % 3 for n in range(11)] + [0])
    assert (table["label"] == true).mean() > 0.6


def test_what_a_task_cannot_do_is_said(
    pretrained: Path, tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert skeltrain("predict", pretrained, tiny_store, tmp_path / "x.csv") == 2
    assert "task 'pretrain', whose models predict nothing" in capsys.readouterr().err
    assert skeltrain("train", "linprobe") == 2
    assert "--set encoder.run=RUN" in capsys.readouterr().err
    assert skeltrain("embed", tmp_path, tiny_store, tmp_path / "x.zarr") == 2
    assert "expected checkpoints/last.pt" in capsys.readouterr().err


# Several processes


def launch(recipe: Path, out: Path, folder: Path, *more: str) -> subprocess.Popen[str]:
    words = ("train", str(recipe), "--out", str(out), *more)
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
            *("--no-python", str(SKELTRAIN), *words),
        ],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_launch_beside_files_called_like_our_folders(tiny_recipe: PretrainRecipe, tmp_path: Path) -> None:
    """A user's own train.py and formats.py in the working folder are not run in place of ours."""
    for name in ("train.py", "formats.py", "skeltrain_hooks.py"):
        (tmp_path / name).write_text("raise SystemExit('this is not skelconv')\n")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "__init__.py").write_text("raise SystemExit('nor is this')\n")
    recipe = tmp_path / "recipe.yaml"
    optim = tiny_recipe.optim.model_copy(update={"epochs": 1, "warmup": 0})
    recipe.write_text(to_yaml(tiny_recipe.model_copy(update={"optim": optim}), "two"))
    process = launch(recipe, tmp_path / "run", tmp_path)
    _, told = process.communicate(timeout=180)
    assert process.returncode == 0, told
    assert "cpu, 2 processes" in told
    single = subprocess.run(
        [str(SKELTRAIN), "recipes"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert single.returncode == 0, single.stderr


@pytest.mark.parametrize("batch", [32, pytest.param(8, marks=pytest.mark.slow)])
def test_two_processes_hear_a_request_to_stop(
    tiny_recipe: PretrainRecipe, tmp_path: Path, batch: int
) -> None:
    """With one and with four steps an epoch; both save, and the printed command goes on."""
    optim = tiny_recipe.optim.model_copy(update={"epochs": 100_000, "batch": batch})
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(to_yaml(tiny_recipe.model_copy(update={"optim": optim}), "two"))
    process = launch(recipe, tmp_path / "run", tmp_path)
    metrics = RunFolder(tmp_path / "run").metrics
    until = time.monotonic() + 400
    while not (metrics.exists() and metrics.read_text().count("\n") > 2):
        assert time.monotonic() < until, "the run does not begin"
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.2)
    pids = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    for pid in pids:
        os.kill(int(pid), signal.SIGTERM)
    _, told = process.communicate(timeout=120)
    assert re.search(r"Interrupted after \d+ epochs and \d+ steps; all is saved", told), told
    assert "torchrun --nproc-per-node 2 --no-python skeltrain train" in told
    progress = load_checkpoint(RunFolder(tmp_path / "run").last)["progress"]
    assert progress["epoch"] + progress["step"] > 0
