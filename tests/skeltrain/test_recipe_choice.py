"""`auto`: the shipped recipe that fits a store and a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from skelconv.cli.command import run
from skeltrain.cli import cli
from skeltrain.recipe_choice import choose_recipe
from skeltrain.recipe_file import load_recipe
from skeltrain.tasks.pretrain import PretrainRecipe
from skeltrain.tasks.probe import ProbeRecipe
from tests.skeltrain.conftest import make_dataset, write_tiny


@pytest.mark.parametrize("card", [False, True])
def test_a_known_dataset_has_its_own_recipes(tmp_path: Path, card: bool) -> None:
    store = write_tiny(tmp_path / "ucla.zarr", 4, make_dataset("ucla", "ucla20"))
    choice, settings = choose_recipe(store, card)
    assert choice.pretrain.startswith("ucla")
    assert settings == []
    assert load_recipe(choice.pretrain, PretrainRecipe).data.protocol == "xview"
    assert load_recipe(choice.probe, ProbeRecipe).task == "probe"


@pytest.mark.parametrize("card", [False, True])
def test_any_other_store_gets_its_first_protocol(tiny_store: Path, card: bool) -> None:
    choice, settings = choose_recipe(tiny_store, card)
    recipe = load_recipe(choice.pretrain, PretrainRecipe, settings)
    assert recipe.data.protocol == "half"
    assert (recipe.model.preset == "vit_base") is card


def test_the_command_runs_what_was_chosen(
    tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("optim.epochs=1", "optim.warmup=0", "model.depth=1", "data.image_size=32", "optim.batch=16")
    words = [
        "pretrain",
        "auto",
        "--store",
        str(tiny_store),
        "--out",
        str(tmp_path / "run"),
        "--device",
        "cpu",
    ]
    with pytest.raises(SystemExit) as stop:
        run(cli, [*words, *(word for setting in small for word in ("--set", setting))])
    assert stop.value.code == 0
    assert "recipe: s2i_small_cpu" in capsys.readouterr().err


def test_without_a_store_nothing_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(cli, ["pretrain", "auto"])
    assert stop.value.code == 2
    assert "--store" in capsys.readouterr().err
