"""Damaged checkpoints, full disks and hostile recipes: a sentence each, and the last good state is kept."""

from __future__ import annotations

import errno
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skelconv.cli.command import run
from skelconv.store.publish import lock_folder
from skelformats.errors import SkelconvError
from skeltrain.checkpoint import CheckpointError, link_checkpoint, load_checkpoint
from skeltrain.cli import cli
from skeltrain.recipe_file import RecipeError, load_recipe, read_recipe
from skeltrain.run import evaluate_run, run_recipe
from skeltrain.run_folder import LOCK, RunError, RunFolder
from skeltrain.tasks.pretrain import PretrainRecipe

OLD = Path(__file__).parents[1] / "data" / "run-v1"
"""A run folder that skelconv 0.1 left."""


@pytest.fixture(scope="module")
def finished(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs, with a checkpoint after each."""
    folder = tmp_path_factory.mktemp("damage") / "run"
    text = (OLD / "recipe.yaml").read_text().replace("tiny.zarr", str(tiny_store))
    recipe = read_recipe(text.replace("keep_every: 0", "keep_every: 1"), "recipe", PretrainRecipe)
    run_recipe(recipe, out=folder)
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def resume(folder: Path) -> tuple[Any, list[str]]:
    lines: list[str] = []
    recipe = load_recipe(folder / "recipe.yaml", PretrainRecipe)
    return run_recipe(recipe, out=folder, resume=True, log=lines.append), lines


def rewrite(path: Path, change: Any) -> None:
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def test_any_flipped_bit_of_the_weights_is_found(copy: Path) -> None:
    path = RunFolder(copy).last
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if entry.file_size]
    rng = np.random.default_rng(1)
    for entry in rng.choice(np.array(entries, object), 40):
        with zipfile.ZipFile(path) as archive, archive.open(entry) as inner:
            start = inner._orig_compress_start  # type: ignore[attr-defined]
        bit = int(rng.integers(entry.file_size * 8))
        damaged = bytearray(whole)
        damaged[start + bit // 8] ^= 1 << bit % 8
        other = copy / "flipped.pt"
        other.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"flipped\.pt: found something that is not a checkpoint"):
            load_checkpoint(other)


@pytest.mark.parametrize("left", [0, 1000, 100_000])
def test_a_truncated_last_checkpoint_falls_back_to_the_newest_sound_one(copy: Path, left: int) -> None:
    folder = RunFolder(copy)
    before = load_checkpoint(folder.last)
    (folder.checkpoints / "best.pt").unlink()
    (folder.checkpoints / "epoch_0002.pt").unlink()
    folder.last.write_bytes(folder.last.read_bytes()[:left])
    outcome, lines = resume(copy)
    assert outcome.progress.epoch == 2
    assert any("epoch_0001.pt is sound and goes in its place" in line for line in lines)
    after = load_checkpoint(folder.last)
    assert all(torch.equal(after["model"][key], value) for key, value in before["model"].items())


def test_without_a_sound_checkpoint_the_damage_is_named(copy: Path) -> None:
    for path in RunFolder(copy).checkpoints.iterdir():
        path.write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(CheckpointError, match=r"last\.pt: found something that is not a checkpoint"):
        resume(copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["metadata"]["recipe"].update(colour="red"),
        lambda c: c["metadata"].update(recipe=3),
        lambda c: c["metadata"].pop("versions"),
        lambda c: c["metadata"].update(data=7),
        lambda c: c["metadata"]["data"][0].pop("skeleton"),
        lambda c: c["metadata"].pop("statistics"),
        lambda c: c["metadata"].update(task=["pretrain"]),
        lambda c: c["progress"].update(epoch="two"),
        lambda c: c["progress"].pop("epoch"),
        lambda c: c.update(progress=None),
        lambda c: c["model"].popitem(),
        lambda c: c.update(optimizer={}),
        lambda c: c.update(processes=[{}]),
        lambda c: c.update(format=99),
        lambda c: c.update(format=[]),
        lambda c: c.pop("metadata"),
    ],
)
def test_edited_metadata_is_answered_with_a_sentence(copy: Path, change: Any) -> None:
    for name in ("best.pt", "epoch_0001.pt", "epoch_0002.pt"):
        (RunFolder(copy).checkpoints / name).unlink()
    rewrite(RunFolder(copy).last, change)
    with pytest.raises(SkelconvError):
        resume(copy)


def test_a_recipe_nested_without_end(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deep = tmp_path / "deep.yaml"
    deep.write_text("task: pretrain\ndata: " + "[" * 3000 + "]" * 3000)
    with pytest.raises(RecipeError, match="nested without end"):
        load_recipe(deep, PretrainRecipe)
    with pytest.raises(SystemExit) as end:
        run(cli, ["train", str(deep)])
    assert end.value.code == 2
    assert "nested without end" in capsys.readouterr().err
    nested: dict[str, Any] = {}
    for _ in range(300):
        nested = {"a": nested}
    rewrite(RunFolder(copy).last, lambda c: c["metadata"].update(recipe={"task": "pretrain", "data": nested}))
    for name in ("best.pt", "epoch_0001.pt", "epoch_0002.pt"):
        (RunFolder(copy).checkpoints / name).unlink()
    with pytest.raises(SkelconvError):
        resume(copy)


@pytest.mark.parametrize("text", ["seed: -1", "seed: 1.5", "seeds: [0, -1]\ntask: probe"])
def test_a_seed_that_is_none_is_refused_before_anything_happens(text: str, tmp_path: Path) -> None:
    from skeltrain.tasks.probe import ProbeRecipe

    path = tmp_path / "bad.yaml"
    path.write_text(text)
    kind = ProbeRecipe if "probe" in text else PretrainRecipe
    with pytest.raises(RecipeError, match=r"line 1: seed"):
        load_recipe(path, kind)


def test_weights_from_a_file_that_is_none(
    tiny_recipe: PretrainRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in (("a.pt", b"hello"), ("b.pth", b""), ("c.safetensors", b"{}" * 50), ("d.pt", b"PK")):
        path = tmp_path / name
        path.write_bytes(content)
        given = tiny_recipe.model_copy(
            update={"init": tiny_recipe.init.model_copy(update={"weights": str(path)})}
        )
        with pytest.raises(SkelconvError, match=name):
            run_recipe(given, out=tmp_path / f"run_{name}")


def test_a_full_disk_at_a_checkpoint_is_a_sentence(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (RunFolder(copy).checkpoints / "last.pt").write_bytes(
        (RunFolder(copy).checkpoints / "epoch_0001.pt").read_bytes()
    )
    first = RunFolder(copy).last.read_bytes()

    def full(content: object, file: Any) -> None:
        file.write(b"half")
        raise RuntimeError("[enforce fail at inline_container.cc:668] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(
        CheckpointError, match=r"last\.pt: the checkpoint cannot be written.*continue with --resume"
    ):
        resume(copy)
    assert RunFolder(copy).last.read_bytes() == first
    monkeypatch.undo()
    resume(copy)
    assert load_checkpoint(RunFolder(copy).last)["progress"]["epoch"] == 2


def test_a_disk_without_hard_links_gets_a_copy(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    last = RunFolder(copy).last
    link_checkpoint(last, "kept.pt")
    assert (last.with_name("kept.pt")).read_bytes() == last.read_bytes()
    assert last.with_name("kept.pt").stat().st_ino != last.stat().st_ino


# Runs of earlier versions


def test_a_run_of_version_0_1_goes_on_and_is_used(tiny_store: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(OLD, tmp_path / "run"))
    content = load_checkpoint(RunFolder(folder).last, ("pretrain",))
    assert content["metadata"]["model"]["family"] == "mae"
    assert content["metadata"]["versions"]["skelconv"] == "0.1.0"
    recipe = load_recipe(folder / "recipe.yaml", PretrainRecipe)
    moved = recipe.model_copy(update={"data": recipe.data.model_copy(update={"store": str(tiny_store)})})
    assert run_recipe(moved, out=folder, resume=True).metrics == {}, "it was finished"
    from skeltrain.recipe_file import Override

    (found,) = evaluate_run(folder, [Override(("data", "store"), str(tiny_store))]).values()
    assert 0.5 < found.metrics["test_loss"] < 2


def test_a_half_finished_run_of_version_0_1_ends_as_it_would_have(tiny_store: Path, tmp_path: Path) -> None:
    """Interrupted after five of eight steps, by version 0.1 itself; its curve is in the finished run."""
    old = OLD.with_name("run-v1-half")
    folder = Path(shutil.copytree(old, tmp_path / "run"))
    recipe = load_recipe(folder / "recipe.yaml", PretrainRecipe)
    moved = recipe.model_copy(update={"data": recipe.data.model_copy(update={"store": str(tiny_store)})})
    run_recipe(moved, out=folder, resume=True)
    lines = [(path / "metrics.csv").read_text().splitlines() for path in (OLD, folder)]
    losses = [[float(line.split(",")[3]) for line in text[1:]] for text in lines]
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)


def test_a_run_that_another_training_writes_to_is_refused_and_left_alone(copy: Path) -> None:
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    with lock_folder(copy, LOCK), pytest.raises(RunError, match=f"locked by process {os.getpid()} on "):
        resume(copy)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before
    outcome, _ = resume(copy)
    assert not outcome.interrupted
    assert not (copy / LOCK).exists(), "a training that has ended locks nobody out"
    (copy / LOCK).write_text("process 1 on a machine that lost its power")
    resume(copy)


def test_without_locks_a_training_says_so_and_runs(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("skelconv.store.publish.fcntl.flock", refuse)
    _, lines = resume(copy)
    assert "see to it that no other training writes to" in lines[0]


def test_a_folder_that_is_no_run_is_refused_without_a_trace(tiny_store: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "lock").write_text("mine")
    text = (OLD / "recipe.yaml").read_text().replace("tiny.zarr", str(tiny_store))
    recipe = read_recipe(text, "recipe", PretrainRecipe)
    with pytest.raises(RunError, match="found lock, which belongs to no run"):
        run_recipe(recipe, out=foreign)
    assert [(entry.name, entry.read_text()) for entry in foreign.iterdir()] == [("lock", "mine")]
