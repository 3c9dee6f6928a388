"""The loop: resuming is exact, parts add up, and a run ends in good order."""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from skeltrain.checkpoint import load_checkpoint
from skeltrain.data.batch import Batch, Batches
from skeltrain.data.source import open_source
from skeltrain.distributed import World
from skeltrain.engine import Job, Outcome, fit
from skeltrain.loggers import CSVLogger
from skeltrain.models.mae import MaskedAutoencoder
from skeltrain.recipe import PretrainRecipe
from skeltrain.run import run_recipe
from skeltrain.run_folder import RunError, RunFolder
from skeltrain.tasks.pretrain import PretrainTask, build_model, build_pretraining

WORLD = World(torch.device("cpu"))


def change(recipe: PretrainRecipe, **sections: Any) -> PretrainRecipe:
    """Replace settings: a mapping changes a section, anything else a value."""
    updates = {
        name: getattr(recipe, name).model_copy(update=value) if isinstance(value, dict) else value
        for name, value in sections.items()
    }
    return recipe.model_copy(update=updates)


def build(recipe: PretrainRecipe) -> Job:
    source = open_source(recipe.data, WORLD.device)
    return build_pretraining(recipe, source, WORLD, None, lambda line: None)


def train(recipe: PretrainRecipe, out: Path, resume: bool = False) -> Outcome:
    return run_recipe(recipe, build_pretraining, out, resume)


def rows(out: Path) -> list[dict[str, str]]:
    with RunFolder(out).metrics.open() as file:
        return list(csv.DictReader(file))


def curve(out: Path, column: str = "loss") -> list[float]:
    return [float(row[column]) for row in rows(out)]


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def same(left: Any, right: Any) -> bool:
    """Whether two states are equal bit for bit."""
    pairs = zip(leaves(left), leaves(right), strict=True)
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)


class Cut:
    """Batches that send this process a signal while batch ``at`` of the run is being worked on."""

    def __init__(self, inner: Batches, at: int, number: signal.Signals = signal.SIGINT) -> None:
        self._inner = inner
        self._left = at
        self._number = number
        self.steps = inner.steps

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        for batch in self._inner.epoch(epoch, first):
            if self._left == 0:
                os.kill(os.getpid(), self._number)
            self._left -= 1
            yield batch


def cut_at(at: int, number: signal.Signals = signal.SIGINT) -> Callable[..., Job]:
    def build_cut(*given: Any) -> Job:
        job = build_pretraining(*given)
        return replace(job, batches=Cut(job.batches, at, number))

    return build_cut


# Resuming


@pytest.mark.parametrize("at", [1, 3, 6])
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    tiny_recipe: PretrainRecipe, tmp_path: Path, at: int
) -> None:
    """Interrupted within an epoch (1, 6) and at the end of one (3): model, optimiser, metrics, random."""
    recipe = change(tiny_recipe, log={"every": 3})
    train(recipe, tmp_path / "whole")
    first = run_recipe(recipe, cut_at(at), tmp_path / "cut")
    assert first.interrupted
    assert (first.progress.epoch, first.progress.step) != (3, 0)
    second = train(recipe, tmp_path / "cut", resume=True)
    assert (second.interrupted, second.progress.epoch) == (False, 3)

    whole, cut = (load_checkpoint(RunFolder(tmp_path / name).last) for name in ("whole", "cut"))
    for part in ("model", "optimizer"):
        assert same(whole[part], cut[part]), part
    assert same(whole["processes"][0]["random"], cut["processes"][0]["random"])
    assert whole["progress"]["best"] == cut["progress"]["best"]
    for column in ("step", "epoch", "lr", "loss"):
        assert curve(tmp_path / "whole", column) == curve(tmp_path / "cut", column), column


def test_a_run_can_be_resumed_again_and_again(tiny_recipe: PretrainRecipe, tmp_path: Path) -> None:
    train(tiny_recipe, tmp_path / "whole")
    out = tmp_path / "cut"
    for _ in range(5):
        assert run_recipe(tiny_recipe, cut_at(1), out, resume=True).interrupted
    assert not train(tiny_recipe, out, resume=True).interrupted
    whole, cut = (load_checkpoint(RunFolder(p).last) for p in (tmp_path / "whole", out))
    assert same(whole["model"], cut["model"])
    assert curve(tmp_path / "whole") == curve(out)


def test_a_finished_run_is_not_trained_further(tiny_recipe: PretrainRecipe, tmp_path: Path) -> None:
    train(tiny_recipe, tmp_path)
    before = RunFolder(tmp_path).last.read_bytes()
    again = train(tiny_recipe, tmp_path, resume=True)
    assert (again.progress.epoch, again.metrics) == (3, {})
    assert RunFolder(tmp_path).last.read_bytes() == before


def test_a_store_of_other_data_is_refused(tiny_recipe: PretrainRecipe, tmp_path: Path) -> None:
    from tests.skeltrain.conftest import write_tiny

    train(tiny_recipe, tmp_path / "run")
    other = change(tiny_recipe, data={"store": str(write_tiny(tmp_path / "other.zarr", 40))})
    with pytest.raises(RunError, match=r"found a run on other data \(digest: 'of 49' there, 'of 40' here"):
        train(other, tmp_path / "run", resume=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_its_step(
    tiny_recipe: PretrainRecipe, tmp_path: Path, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    outcome = run_recipe(tiny_recipe, cut_at(5, number), tmp_path)
    assert (outcome.interrupted, outcome.progress.epoch, outcome.progress.step) == (True, 1, 2)
    saved = load_checkpoint(RunFolder(tmp_path).last)["progress"]
    assert (saved["epoch"], saved["step"]) == (1, 2)
    assert signal.getsignal(number) == before


# Steps


def test_equal_seeds_give_equal_runs_and_others_do_not(tiny_recipe: PretrainRecipe, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(change(tiny_recipe, seed=seed), tmp_path / name)
    assert curve(tmp_path / "a") == curve(tmp_path / "b")
    assert curve(tmp_path / "a") != curve(tmp_path / "c")


@pytest.mark.parametrize("accum", [2, 3])
def test_accumulated_parts_give_the_whole_batch(
    tiny_recipe: PretrainRecipe, tmp_path: Path, accum: int
) -> None:
    """Also where the parts are unequal (8 in 3), and in a last step that is smaller than the others."""
    recipe = change(tiny_recipe, optim={"batch": 9})
    train(recipe, tmp_path / "whole")
    train(change(recipe, optim={"accum": accum}), tmp_path / "parts")
    assert len(curve(tmp_path / "whole")) == 12
    assert curve(tmp_path / "parts") == pytest.approx(curve(tmp_path / "whole"), rel=1e-4)


def test_the_learning_rate_of_every_step(tiny_recipe: PretrainRecipe, tmp_path: Path) -> None:
    """One epoch of warm-up from 0 in four steps, then a cosine over two epochs."""
    train(tiny_recipe, tmp_path)
    peak = 1e-2 * 8 / 256
    rates = curve(tmp_path, "lr")
    assert rates[:4] == pytest.approx([0, peak / 4, peak / 2, 3 * peak / 4])
    assert rates[4] == pytest.approx(peak)
    assert rates[8] == pytest.approx(peak / 2)
    assert rates == sorted(rates[:5]) + sorted(rates[5:], reverse=True)


def test_the_loss_falls(tiny_recipe: PretrainRecipe, tmp_path: Path) -> None:
    train(change(tiny_recipe, optim={"epochs": 15, "blr": 0.1}, log={"every": 100}), tmp_path)
    losses = curve(tmp_path)
    assert len(losses) == 15
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_nearly_alike(
    tiny_recipe: PretrainRecipe, tmp_path: Path, precision: str
) -> None:
    train(tiny_recipe, tmp_path / "fp32")
    train(change(tiny_recipe, precision=precision), tmp_path / precision)
    assert curve(tmp_path / precision) == pytest.approx(curve(tmp_path / "fp32"), rel=0.02)
    state = load_checkpoint(RunFolder(tmp_path / precision).last)
    assert all(value.dtype == torch.float32 for value in state["model"].values())
    assert bool(state["scaler"]) == (precision == "fp16")


def test_gradients_are_clipped(tiny_recipe: PretrainRecipe) -> None:
    job = build(
        change(tiny_recipe, optim={"clip_grad": 1e-12, "weight_decay": 0.0, "name": "sgd", "epochs": 1})
    )
    before = {name: value.clone() for name, value in job.task.state_dict().items()}
    fit(job, WORLD)
    after = job.task.state_dict()
    assert max(float((after[name] - before[name]).abs().max()) for name in before) < 1e-9


def test_a_compiled_model_trains_alike_and_keeps_its_names(tiny_recipe: PretrainRecipe) -> None:
    plain, compiled = (PretrainTask(build_model(tiny_recipe)) for _ in range(2))
    compiled.load_state_dict(plain.state_dict())
    compiled.compile(backend="eager")
    assert list(plain.state_dict()) == list(compiled.state_dict())
    job = build(tiny_recipe)
    batch = next(job.batches.epoch(0))
    assert compiled(batch)["loss"].item() == pytest.approx(plain(batch)["loss"].item(), rel=1e-6)


# What is kept


def test_what_a_run_leaves_behind(tiny_recipe: PretrainRecipe, tmp_path: Path) -> None:
    recipe = change(tiny_recipe, log={"keep_every": 2, "tensorboard": True})
    run_recipe(recipe, build_pretraining, tmp_path, heading="made by: hand")
    found = sorted(p.relative_to(tmp_path).parts[:2] for p in tmp_path.rglob("*") if p.is_file())
    names = [f"{a}/{b}" if a == "checkpoints" else a for a, b in [(*p, "")[:2] for p in found]]
    kept = ["checkpoints/best.pt", "checkpoints/epoch_0002.pt", "checkpoints/last.pt"]
    assert names == [*kept, "metrics.csv", "recipe.yaml", "tensorboard"]
    assert RunFolder(tmp_path).recipe.read_text().startswith("# made by: hand\n")

    from skeltrain.recipe_file import load_recipe

    assert load_recipe(RunFolder(tmp_path).recipe, PretrainRecipe) == recipe


def test_a_checkpoint_carries_what_its_model_needs(tiny_recipe: PretrainRecipe, tmp_path: Path) -> None:
    train(tiny_recipe, tmp_path)
    content = load_checkpoint(RunFolder(tmp_path).last, "pretrain")
    card = content["card"]
    source = open_source(tiny_recipe.data, WORLD.device)
    assert PretrainRecipe.model_validate(card["recipe"]) == tiny_recipe
    assert card["column_order"] == list(source.data.skeleton.column_order)
    assert card["skeleton"] == source.data.skeleton.to_dict()
    assert card["classes"] == ["left arm", "right arm", "both legs"]
    measured = source.data.statistics(source.data.part("half", "train"))
    assert card["statistics"] == measured.to_dict()
    model: MaskedAutoencoder = build_model(PretrainRecipe.model_validate(card["recipe"]))
    PretrainTask(model).load_state_dict(content["model"])


def test_checkpoints_are_written_when_they_are_due(tiny_recipe: PretrainRecipe, tmp_path: Path) -> None:
    recipe = change(tiny_recipe, log={"checkpoint_every": 2})
    seen: list[int] = []

    class Watch:
        def log(self, step: int, metrics: Any) -> None:
            last = RunFolder(tmp_path).last
            seen.append(load_checkpoint(last)["progress"]["epoch"] if last.exists() else 0)

        def close(self) -> None: ...

    RunFolder(tmp_path).start(recipe, "")
    fit(build(recipe), WORLD, [Watch()], RunFolder(tmp_path))
    # epochs of four rows each: the one after the second epoch finds it saved
    assert seen == [0] * 8 + [2] * 4
    assert load_checkpoint(RunFolder(tmp_path).last)["progress"]["epoch"] == 3


def test_the_best_checkpoint_is_the_one_of_lowest_loss(tiny_recipe: PretrainRecipe, tmp_path: Path) -> None:
    job = build(tiny_recipe)
    scores = iter([3.0, 1.0, 2.0])
    RunFolder(tmp_path).start(tiny_recipe, "")
    job = replace(job, evaluate=lambda: {"score": next(scores)}, monitor=("score", True))
    fit(job, WORLD, folder=RunFolder(tmp_path))
    assert load_checkpoint(RunFolder(tmp_path).checkpoints / "best.pt")["progress"]["epoch"] == 2
    assert load_checkpoint(RunFolder(tmp_path).last)["progress"]["epoch"] == 3


# What cannot go on


class Breaking(nn.Module):
    """A task whose loss is no number from the ``at``-th batch on."""

    def __init__(self, inner: nn.Module, at: int) -> None:
        super().__init__()
        self.inner = inner
        self.left = at

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        self.left -= 1
        loss: Tensor = self.inner(batch)["loss"]
        return {"loss": loss * float("nan") if self.left < 0 else loss}


def test_a_loss_that_is_no_number_is_named_with_its_step(tiny_recipe: PretrainRecipe, tmp_path: Path) -> None:
    """Even when rows are written rarely; and no checkpoint is ever made of it."""
    recipe = change(tiny_recipe, log={"every": 100})
    job = build(recipe)
    job = replace(job, task=Breaking(job.task, 6))
    folder = RunFolder(tmp_path)
    folder.start(recipe, "")
    with pytest.raises(RunError, match=r"not a finite number in step 6 of the run.*lower optim\.blr"):
        fit(job, WORLD, [CSVLogger(folder.metrics)], folder)
    assert load_checkpoint(folder.last)["progress"]["epoch"] == 1
    assert curve(tmp_path, "step") == [4]


def test_fewer_samples_than_a_batch(tiny_recipe: PretrainRecipe) -> None:
    recipe = change(tiny_recipe, optim={"batch": 64, "drop_last": True})
    with pytest.raises(RunError, match=r"fewer training samples than one batch of 64.*drop_last"):
        fit(build(recipe), WORLD)


def test_pretrained_weights_are_loaded_and_accounted_for(tiny_recipe: PretrainRecipe, tmp_path: Path) -> None:
    train(tiny_recipe, tmp_path / "first")
    source = RunFolder(tmp_path / "first").last
    told: list[str] = []
    recipe = change(tiny_recipe, seed=9, init={"weights": str(source)})
    job = build_pretraining(recipe, open_source(recipe.data, WORLD.device), WORLD, None, told.append)
    assert same(job.task.state_dict(), load_checkpoint(source)["model"])
    assert any("every key of the source was used" in line for line in told)
