"""Several processes train as one does."""

from __future__ import annotations

import csv
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from skeltrain.checkpoint import load_checkpoint
from skeltrain.distributed import DeviceError, World, describe_device, join_world, pick_device
from skeltrain.recipe_file import to_yaml
from skeltrain.run_folder import RunFolder
from skeltrain.tasks.pretrain import PretrainRecipe


def torchrun(
    processes: int, recipe: Path, out: Path, *more: str, verb: str = "pretrain"
) -> subprocess.CompletedProcess[str]:
    words = [verb, str(recipe), "--out", str(out), *more]
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
    ]
    return subprocess.run(
        [*launcher, "--no-python", str(Path(sys.executable).with_name("skeltrain")), *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def curve(out: Path) -> list[float]:
    with RunFolder(out).metrics.open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_two_processes_train_as_one_does(tiny_recipe: PretrainRecipe, tmp_path: Path) -> None:
    """The recipe's batch is that of all processes: same samples, masks and noise, so the same losses.

    Steps of 7 are dealt out unevenly, and with two parts each; the run of two goes on in one process.
    """
    from skeltrain.run import run_recipe
    from skeltrain.tasks.pretrain import build_pretraining

    optim = tiny_recipe.optim.model_copy(update={"batch": 7, "accum": 2, "epochs": 2})
    recipe = tiny_recipe.model_copy(update={"optim": optim})
    path = tmp_path / "recipe.yaml"
    path.write_text(to_yaml(recipe, "two"))
    run_recipe(recipe, build_pretraining, tmp_path / "one")
    done = torchrun(2, path, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("cpu, 2 processes") == 1, "only the first process speaks"
    assert len(curve(tmp_path / "two")) == 10
    assert curve(tmp_path / "two") == pytest.approx(curve(tmp_path / "one"), rel=1e-4)

    states = [load_checkpoint(RunFolder(tmp_path / name).last) for name in ("one", "two")]
    for name, value in states[0]["model"].items():
        torch.testing.assert_close(states[1]["model"][name], value, rtol=1e-3, atol=1e-4)
    assert len(states[1]["processes"]) == 2


def test_a_world_of_one() -> None:
    with join_world("cpu") as world:
        assert (world.rank, world.size, world.primary, world.device.type) == (0, 1, True, "cpu")
        task = torch.nn.Linear(2, 2)
        assert world.wrap(task) is task
        assert world.gather("a") == ["a"]
        assert world.any(True)
        assert not world.any(False)
        assert world.mean(torch.tensor(3.0)) == 3.0


def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == "cpu"
    with pytest.raises(DeviceError, match=r"'cuda', but torch sees 0 cards here\. Use --device cpu"):
        pick_device("cuda")
    for name in ("tpu", "cpu:1", "cuda:x"):
        with pytest.raises(DeviceError, match="expected auto, cpu, cuda"):
            pick_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("auto") == "cuda"
    assert pick_device("cuda:1") == "cuda:1"
    with pytest.raises(DeviceError, match="torch sees 2 cards"):
        pick_device("cuda:2")


def test_a_device_is_described() -> None:
    assert describe_device(torch.device("cpu"))["device"] == "cpu"
    assert World(torch.device("cpu"), rank=1, size=2).primary is False


@pytest.mark.slow
@pytest.mark.parametrize("form", ["rendezvous", "ranks"])
def test_two_nodes_train_as_one_process_does(tiny_recipe: PretrainRecipe, tmp_path: Path, form: str) -> None:
    """Two launches that meet at localhost, in a folder with files of the user called like our folders."""
    from skeltrain.run import run_recipe

    (tmp_path / "train.py").write_text("raise SystemExit('this is not skeltrain')\n")
    (tmp_path / "formats").mkdir()
    (tmp_path / "formats" / "__init__.py").write_text("raise SystemExit('nor is this')\n")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(to_yaml(tiny_recipe, "two nodes"))
    run_recipe(tiny_recipe, out=tmp_path / "one")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    meet = ("--rdzv-backend", "c10d", "--rdzv-id", "test", "--rdzv-endpoint", f"127.0.0.1:{port}")
    fixed = ("--master-addr", "127.0.0.1", "--master-port", str(port))
    nodes = [meet if form == "rendezvous" else ("--node-rank", str(rank), *fixed) for rank in range(2)]
    running = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"),
                *(*node, "--no-python", str(Path(sys.executable).with_name("skeltrain"))),
                *("train", str(recipe), "--out", str(tmp_path / "two")),
            ],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for node in nodes
    ]
    told = [process.communicate(timeout=300)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], told
    assert "".join(told).count("cpu, 2 processes") == 1
    assert curve(tmp_path / "two") == pytest.approx(curve(tmp_path / "one"), rel=1e-4)
