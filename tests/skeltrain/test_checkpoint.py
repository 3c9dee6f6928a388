"""A checkpoint is whole or absent, says what it is, and brings random numbers back."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skeltrain.checkpoint import (
    CheckpointError,
    find_checkpoint,
    link_checkpoint,
    load_checkpoint,
    random_state,
    restore_random_state,
    save_checkpoint,
    seed_everything,
    versions,
)
from skeltrain.loggers import CSVLogger
from skeltrain.recipe_file import to_plain
from skeltrain.run_folder import RunError, RunFolder, claim_run
from skeltrain.tasks.pretrain import PretrainRecipe

CPU = torch.device("cpu")


def metadata(**more: Any) -> dict[str, Any]:
    return {"task": "pretrain", "recipe": to_plain(PretrainRecipe()), "versions": versions(), **more}


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(
        path,
        metadata(column_order=[3, 2]),
        {"model": {"a": torch.arange(3)}, "progress": {"epoch": 2, "step": 0}},
    )
    found = load_checkpoint(path, ("pretrain",))
    assert found["model"]["a"].tolist() == [0, 1, 2]
    assert found["metadata"]["column_order"] == [3, 2]
    assert set(found["metadata"]["versions"]) == {"python", "skelconv", "torch", "timm", "numpy"}
    assert [f.name for f in tmp_path.iterdir()] == ["last.pt"]


def test_a_failed_write_leaves_the_earlier_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, metadata(), {"step": 1})

    def fail(content: object, file: Any) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(CheckpointError, match=r"No space left.*written before is kept. Make room"):
        save_checkpoint(path, metadata(), {"step": 2})
    assert [f.name for f in tmp_path.iterdir()] == ["last.pt"]
    assert load_checkpoint(path)["step"] == 1


def test_nothing_but_plain_data_is_unpickled(tmp_path: Path) -> None:
    """``weights_only``: a file cannot run code."""

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path(tmp_path / "sprung").touch, ())

    torch.save({"kind": "skeltrain checkpoint", "trap": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint or is damaged"):
        load_checkpoint(tmp_path / "trap.pt")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("cut", [0, 10, 1000])
def test_a_damaged_file_is_named(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, metadata(), {"model": {"a": torch.arange(1000)}})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(
        CheckpointError, match=r"last\.pt: found something that is not a checkpoint.*best\.pt"
    ):
        load_checkpoint(path)


def test_files_of_others_versions_and_tasks(tmp_path: Path) -> None:
    torch.save({"model": {}}, tmp_path / "mae.pth")
    with pytest.raises(CheckpointError, match=r"another program.*init\.weights=FILE"):
        load_checkpoint(tmp_path / "mae.pth")
    torch.save({"kind": "skeltrain checkpoint", "format": 9, "metadata": metadata()}, tmp_path / "new.pt")
    with pytest.raises(CheckpointError, match=r"format 9, expected 2 or below"):
        load_checkpoint(tmp_path / "new.pt")
    save_checkpoint(tmp_path / "other.pt", metadata(task="finetune"), {})
    with pytest.raises(CheckpointError, match="task 'finetune', expected 'pretrain'"):
        load_checkpoint(tmp_path / "other.pt", ("pretrain",))
    with pytest.raises(CheckpointError, match="no such file"):
        load_checkpoint(tmp_path / "absent.pt")


def test_a_checkpoint_is_found_by_file_or_run_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(CheckpointError, match="found nothing"):
        find_checkpoint(folder.path)
    folder.start(PretrainRecipe(), "by hand")
    with pytest.raises(
        CheckpointError, match=r"found checkpoints, recipe\.yaml, expected checkpoints/last\.pt"
    ):
        find_checkpoint(folder.path)
    save_checkpoint(folder.last, metadata(), {})
    assert find_checkpoint(folder.path) == folder.last
    assert find_checkpoint(str(folder.last)) == folder.last


def test_a_link_keeps_what_the_checkpoint_was(tmp_path: Path) -> None:
    last = tmp_path / "last.pt"
    for step in (1, 2):
        save_checkpoint(last, metadata(), {"step": step})
        link_checkpoint(last, "best.pt")
    save_checkpoint(last, metadata(), {"step": 3})
    assert load_checkpoint(tmp_path / "best.pt")["step"] == 2
    assert load_checkpoint(last)["step"] == 3


def test_random_numbers_go_on_where_they_were(tmp_path: Path) -> None:
    def numbers() -> list[float]:
        return [random.random(), float(np.random.rand()), float(torch.rand(1))]

    seed_everything(5)
    first = numbers()
    save_checkpoint(tmp_path / "a.pt", metadata(), {"random": random_state(CPU)})
    expected = numbers()
    seed_everything(6)
    assert numbers() != first
    restore_random_state(load_checkpoint(tmp_path / "a.pt")["random"], CPU)
    assert numbers() == expected
    seed_everything(5)
    assert numbers() == first


# Who may use a run folder


def test_a_new_or_empty_folder_may_be_used(tmp_path: Path) -> None:
    assert claim_run(tmp_path / "new", PretrainRecipe(), resume=False) is None
    assert claim_run(tmp_path, PretrainRecipe(), resume=True) is None


def test_a_run_that_left_no_checkpoint_may_begin_again(tmp_path: Path) -> None:
    RunFolder(tmp_path).start(PretrainRecipe(), "")
    CSVLogger(RunFolder(tmp_path).metrics).close()
    assert claim_run(tmp_path, PretrainRecipe(), resume=False) is None


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RunError, match=r"found thesis\.tex, which belongs to no run"):
        claim_run(tmp_path, PretrainRecipe(), resume=False)
    with pytest.raises(RunError, match="found a file"):
        claim_run(tmp_path / "thesis.tex", PretrainRecipe(), resume=False)


def test_a_run_is_continued_only_on_request_and_by_its_own_recipe(tmp_path: Path) -> None:
    recipe = PretrainRecipe()
    RunFolder(tmp_path).start(recipe, "")
    save_checkpoint(RunFolder(tmp_path).last, metadata(), {"step": 1})
    with pytest.raises(RunError, match="Add --resume"):
        claim_run(tmp_path, recipe, resume=False)
    found = claim_run(tmp_path, recipe, resume=True)
    assert found is not None
    assert found["step"] == 1
    moved = recipe.model_copy(
        update={"device": "cpu", "data": recipe.data.model_copy(update={"store": "b.zarr"})}
    )
    assert claim_run(tmp_path, moved, resume=True) is not None
    other = recipe.model_copy(update={"seed": 1, "precision": "bf16"})
    with pytest.raises(RunError) as caught:
        claim_run(tmp_path, other, resume=True)
    assert "    seed: 0 there, 1 here\n    precision: 'fp32' there, 'bf16' here" in str(caught.value)


# The table of metrics


def test_the_table_of_metrics(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    logger = CSVLogger(path)
    logger.log(1, {"loss": 2.0})
    logger.log(2, {"loss": 1.0, "top1": 0.5})
    assert path.read_text().splitlines() == ["step,loss,top1", "1,2,", "2,1,0.5"]
    again = CSVLogger(path, step=1)
    again.log(2, {"loss": 0.25})
    assert path.read_text().splitlines() == ["step,loss,top1", "1,2,", "2,0.25,"]
    CSVLogger(path)
    assert path.read_text().splitlines() == ["step"]
