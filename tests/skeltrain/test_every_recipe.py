"""Every shipped recipe starts, is stopped half-way, goes on, and ends as the unbroken run does, bit for bit.

Networks, images and runs are made small by settings; what a recipe trains, by which objective and
schedule, from which augmentation, stays its own. Compilation is left out: it takes minutes and is no part
of what is learned.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from skeltrain.checkpoint import load_checkpoint
from skeltrain.recipe import Log, Optim, Recipe
from skeltrain.recipe_file import Override, load_recipe, recipe_names, recipe_task
from skeltrain.run import run_recipe
from skeltrain.run_folder import RunFolder
from skeltrain.sections import ImageData
from skeltrain.tasks.pretrain import Model, PretrainRecipe
from skeltrain.tasks.registry import find_task
from tests.skeltrain.conftest import make_dataset, write_tiny
from tests.skeltrain.test_engine import Cut, curve, same

OF_IMAGES = ("pretrain", "probe", "finetune")
"""Tasks whose recipes are tried here."""

ELSEWHERE = {
    "motion_pretrain": "test_motion_tasks.py",
    "pose3d": "test_motion_tasks.py",
    "align": "test_align.py",
    "motion_action": "test_motion_action.py",
    "motion_oneshot": "test_motion_action.py",
    "mesh": "test_mesh.py",
}
"""Tasks whose own tests stop and resume their recipes."""

EPOCHS = 2
SHORT: dict[str, Any] = {
    "optim.epochs": EPOCHS,
    "optim.warmup": 0.5,
    "optim.accum": 1,
    "optim.iterations": None,
    "compile": False,
    "device": "cpu",
    "log": {"every": 1, "evaluate_every": 2, "checkpoint_every": 1, "tensorboard": False},
}


def tasks(names: tuple[str, ...]) -> dict[str, str]:
    return {name: recipe_task(name) for name in names}


SHIPPED = tasks(recipe_names())
QUICK = ("s2i_diffmae_ntu", "s2i_universal", "s2i_linprobe", "s2i_semi")
"""One of each protocol, tried with every run of the tests; the rest are tried by `make test-slow`."""
OTHERS = [name for name, task in SHIPPED.items() if task in OF_IMAGES and name not in QUICK]


def test_every_shipped_recipe_is_tried_somewhere() -> None:
    assert set(QUICK) | set(OTHERS) == {name for name, task in SHIPPED.items() if task in OF_IMAGES}
    for name, task in SHIPPED.items():
        where = ELSEWHERE.get(task)
        assert task in OF_IMAGES or where is not None, f"{name}: no test stops and resumes task {task}"
        if where is not None:
            assert "resume" in (Path(__file__).parent / where).read_text()


@pytest.fixture(scope="module")
def stores(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A store that is cleaned as NTU's are, or not at all, and one of NW-UCLA's kind: 16 training samples
    each.
    """
    folder = tmp_path_factory.mktemp("recipes")
    ucla = replace(make_dataset("ucla", "ucla20"), cleaning="ucla")
    return {
        "auto": write_tiny(folder / "ntu.zarr", 25),
        "ucla": write_tiny(folder / "ucla.zarr", 25, ucla),
    }


@pytest.fixture(scope="module")
def pretrained(stores: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each store for probes and fine-tunings to start from."""
    folder = tmp_path_factory.mktemp("pretrained")
    for name, store in stores.items():
        recipe = PretrainRecipe(
            data=ImageData(store=str(store), protocol="half", image_size=16),
            model=Model(preset="vit_micro", patch_size=8, embed_dim=16, depth=2, num_heads=2, decoder_dim=16),
            optim=Optim(blr=5e-2, batch=8, epochs=1, warmup=0),
            device="cpu",
            log=Log(every=10, tensorboard=False),
        )
        run_recipe(recipe, out=folder / name)
    return {name: folder / name for name in stores}


def shrunk(name: str, stores: dict[str, Path], pretrained: dict[str, Path]) -> Recipe:
    """Return a shipped recipe on small data, with a small network."""
    kind = find_task(SHIPPED[name]).recipe
    recipe = load_recipe(name, kind)
    ucla = getattr(recipe.data, "clean", None) == "ucla" or name.split("_")[-1] == "ucla"
    which = "ucla" if ucla else "auto"
    settings = {**SHORT, "optim.batch": 4, "data.protocol": "half", "data.store": str(stores[which])}
    network = recipe.model if SHIPPED[name] != "probe" else None
    if network is not None:
        settings |= {"model.embed_dim": 16, "model.depth": 2, "model.num_heads": 2}
        if isinstance(recipe.data.image_size, int):
            side = network.patch_size or 16
            settings["data.image_size"] = 2 * side if isinstance(side, int) else [2 * n for n in side]
    else:
        settings["encoder.run"] = str(pretrained[which])
    if SHIPPED[name] == "finetune" and recipe.labels.share < 1:
        # 1 % of so few is no more than a step
        settings["labels.share"] = 0.5
    if isinstance(recipe, PretrainRecipe):
        settings |= {"model.decoder_dim": 16, "model.decoder_heads": 2}
        if recipe.model.objective != "features":
            settings["model.decoder_depth"] = 1
    if name == "s2i_universal":
        del settings["data.store"]
        settings["data.stores"] = [{"store": str(store)} for store in stores.values()]
    return load_recipe(name, kind, [Override(tuple(k.split(".")), value) for k, value in settings.items()])


def try_recipe(name: str, stores: dict[str, Path], pretrained: dict[str, Path], out: Path) -> None:
    recipe = shrunk(name, stores, pretrained)
    build = find_task(recipe.task).build

    def cut(*given: Any) -> Any:
        job = build(*given)
        steps = job.loader.steps(0)
        assert steps > 1
        return replace(job, loader=Cut(job.loader, steps + steps // 2 - 1))

    assert not run_recipe(recipe, out=out / "whole").interrupted
    stopped = run_recipe(recipe, cut, out / "cut")
    assert stopped.interrupted
    assert stopped.progress.epoch == 1
    assert not run_recipe(recipe, out=out / "cut", resume=True).interrupted
    losses = curve(out / "whole")
    assert len(set(losses)) > len(losses) / 2, "it learns nothing, so there is nothing to compare"
    assert losses == curve(out / "cut")
    whole, again = (load_checkpoint(RunFolder(out / part).last) for part in ("whole", "cut"))
    assert same(whole["model"], again["model"])
    assert same(whole["optimizer"], again["optimizer"])


@pytest.mark.parametrize("name", QUICK)
def test_a_recipe_of_each_protocol_goes_on_bit_for_bit(
    name: str, stores: dict[str, Path], pretrained: dict[str, Path], tmp_path: Path
) -> None:
    try_recipe(name, stores, pretrained, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_any_other_recipe_goes_on_bit_for_bit(
    name: str, stores: dict[str, Path], pretrained: dict[str, Path], tmp_path: Path
) -> None:
    try_recipe(name, stores, pretrained, tmp_path)
