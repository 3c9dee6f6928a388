"""The command line: pretrain, interrupt, resume, probe; and mistakes answered in one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from skelconv.cli.command import run
from skeltrain.checkpoint import load_checkpoint
from skeltrain.cli import cli
from skeltrain.recipe_file import recipe_names, to_yaml
from skeltrain.run_folder import RunFolder
from skeltrain.tasks.pretrain import PretrainRecipe
from tests import command_line


@pytest.fixture
def recipe_path(tiny_recipe: PretrainRecipe, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(to_yaml(tiny_recipe, "made for tests"))
    return path


def skeltrain(*words: object) -> int:
    """Run the command line in this process; returns the exit code."""
    with pytest.raises(SystemExit) as end:
        run(cli, [str(word) for word in words])
    assert isinstance(end.value.code, int)
    return end.value.code


def test_from_a_recipe_to_accuracies(
    recipe_path: Path, tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert (
        skeltrain("pretrain", recipe_path, "--store", tiny_store, "--out", out, "--set", "optim.epochs=2")
        == 0
    )
    told = capsys.readouterr()
    assert told.out == ""
    assert "data: 49 samples of tiny (ntu25), chain metric" in told.err
    assert "done: 2 epochs" in told.err
    assert load_checkpoint(RunFolder(out).last)["metadata"]["recipe"]["optim"]["epochs"] == 2
    quick = ("--set", "optim.epochs=2", "--set", "optim.warmup=0", "--set", "optim.batch=8")
    assert skeltrain("probe", out, *quick, "--seeds", "0,1", "--untrained", "--device", "cpu") == 0
    told = capsys.readouterr()
    assert "top-1, last epoch" in told.out
    assert "untrained" in told.out
    assert (out / "probe.json").exists()


def test_a_run_goes_into_a_folder_named_after_its_recipe(
    recipe_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert skeltrain("pretrain", recipe_path, "--set", "optim.epochs=1") == 0
    assert (tmp_path / "runs" / "tiny" / "checkpoints" / "last.pt").exists()


def test_the_same_command_twice_needs_resume(
    recipe_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("pretrain", recipe_path, "--out", tmp_path / "run")
    assert skeltrain(*words) == 0
    assert skeltrain(*words) == 2
    assert "Error: " in (error := capsys.readouterr().err)
    assert "--resume" in error
    assert skeltrain(*words, "--resume", "--set", "seed=4") == 2
    assert "    seed: 0 there, 4 here" in capsys.readouterr().err
    assert skeltrain(*words, "--resume") == 0
    assert "it was finished before" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pretrain", "dmo"], "Error: no recipe named 'dmo'. Did you mean 'demo'?"),
        (["pretrain", "demo"], "Error: found no store, expected the folder of one. Give it with --store"),
        (["pretrain", "demo", "--store", "none.zarr"], "Error: none.zarr"),
        (["pretrain", "demo", "--set", "optim.epoch=3"], "Did you mean 'optim.epochs'?"),
        (["pretrain", "demo", "--device", "cuda:99"], "Error: found device 'cuda:99'"),
        (["pretrain", "demo", "--device", "tpu"], "Error: found device 'tpu', expected auto, cpu, cuda"),
        (["pretrain", "s2i_linprobe"], "Run it with `skeltrain probe`"),
        (["probe", "nowhere"], "Error: nowhere: found nothing, expected a checkpoint"),
        (["probe", "nowhere", "--seeds", "a"], "seeds.0: found 'a', expected integer"),
        (["recipes", "nothing"], "Error: no recipe named 'nothing'"),
        (["pretrian"], "No such command 'pretrian'"),
    ],
)
def test_mistakes_are_answered_without_a_traceback(
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert skeltrain(*words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_recipes_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert skeltrain("recipes") == 0
    listed = capsys.readouterr().out
    assert [line.split()[0] for line in listed.splitlines()] == list(recipe_names())
    assert skeltrain("recipes", "demo") == 0
    assert "skeltrain pretrain demo" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["", *cli.commands])
def test_every_verb_shows_an_example(name: str) -> None:
    command: click.Command = cli.commands[name] if name else cli
    assert "Example" in (command.help or "")


def test_help_needs_no_torch() -> None:
    """Torch takes seconds to import."""
    code = "import sys; from skeltrain.cli import cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert skeltrain("--version") == 0
    assert capsys.readouterr().out.startswith("skeltrain, version ")


def test_ctrl_c_saves_and_says_how_to_go_on(recipe_path: Path, tmp_path: Path) -> None:
    """A real process, a real signal: exit code 130, and the command it prints finishes the run."""
    out = tmp_path / "run"
    words = ["pretrain", str(recipe_path), "--out", str(out), "--set", "optim.epochs=2000"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        [sys.executable, "-m", "skeltrain.cli", *words], stderr=subprocess.PIPE, text=True, env=environment
    )
    metrics = RunFolder(out).metrics
    while child.poll() is None and not (metrics.exists() and len(metrics.read_text().splitlines()) > 2):
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, error = child.communicate(timeout=60)
    assert child.returncode == 130, error
    assert f"    skeltrain {' '.join(words)} --resume" in error
    assert "Traceback" not in error
    progress = load_checkpoint(RunFolder(out).last)["progress"]
    assert 0 < 4 * progress["epoch"] + progress["step"] < 8000


@pytest.mark.parametrize("words", [["pretrain", "demo"], ["probe", "runs/demo"]])
def test_without_torch_the_extra_is_named(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("skelconv.extras.find_spec", lambda package: None)
    with pytest.raises(SystemExit) as stop:
        run(cli, words)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "pip install 'torch>=" in said
    assert "the extra 'train'" in said


def test_verbs_options_and_defaults_change_on_purpose_only() -> None:
    command_line.check(cli, "skeltrain", Path(__file__).with_name("command_line.txt"))
