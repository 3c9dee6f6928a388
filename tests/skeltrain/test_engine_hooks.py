"""What a job may ask of the engine: averaged weights, hooks after a step, metrics that come and go,
evaluations.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from skeltrain.checkpoint import load_checkpoint, versions
from skeltrain.data.loader import ByEpoch, Loader, OneAfterTheOther, SampleLoader
from skeltrain.data.sampler import EpochSampler, MicroBatch
from skeltrain.distributed import World
from skeltrain.engine import Evaluation, Evaluator, Job, build_optimizer, evaluate, fit
from skeltrain.recipe import EMA, Log, Optim, Recipe
from skeltrain.recipe_file import to_plain
from skeltrain.run import run_recipe
from skeltrain.run_folder import RunFolder
from skeltrain.tasks.registry import Context

WORLD = World(torch.device("cpu"))


@dataclass(frozen=True, eq=False)
class Number:
    """A batch of one number, of kind a or b."""

    kind: str
    value: Tensor
    micro: MicroBatch


class Quadratic(nn.Module):
    """Drives one weight to the number; a batch of kind b reports a metric of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.model.weight)

    def forward(self, batch: Number) -> dict[str, Tensor]:
        loss = (self.model.weight.squeeze() - batch.value).square()
        return {"loss": loss, **({"of_b": batch.value} if batch.kind == "b" else {})}


def loader(kind: str, value: float, count: int = 8) -> Loader:
    sampler = EpochSampler(np.arange(count), 4)
    return SampleLoader(sampler, lambda micro: Number(kind, torch.tensor(value), micro))


def recipe(**settings: Any) -> Recipe:
    optim = Optim(
        name="sgd", blr=0.1, lr_scale_rule="none", momentum=0.5, weight_decay=0.0, batch=4, epochs=3, warmup=0
    )
    given = {"optim": optim, "device": "cpu", "log": Log(every=100, tensorboard=False), **settings}
    return Recipe(task="quadratic", **given)


def job(given: Recipe, data: Loader, **more: Any) -> Job:
    module = Quadratic()
    metadata = {"task": "quadratic", "recipe": to_plain(given), "versions": versions()}
    return Job(module, data, build_optimizer(module, given.optim), given, metadata, **more)


class Rows:
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def log(self, step: int, metrics: Any) -> None:
        self.rows.append({"step": step, **metrics})

    def close(self) -> None: ...


def test_metrics_are_averaged_over_the_batches_that_report_them() -> None:
    """Two kinds of batches, one after the other, from the second epoch on; rates and rows go with the
    steps.
    """
    data = ByEpoch([(0, loader("a", 1.0)), (1, OneAfterTheOther([loader("a", 1.0), loader("b", 5.0, 4)]))])
    rows = Rows()
    outcome = fit(job(recipe(), data), WORLD, [rows])
    assert [row["step"] for row in rows.rows] == [2, 5, 8]
    assert [row["epoch"] for row in rows.rows] == [1, 2, 3]
    assert "of_b" not in rows.rows[0]
    assert [row["of_b"] for row in rows.rows[1:]] == [5.0, 5.0]
    assert outcome.metrics["of_b"] == 5.0


def test_hooks_run_after_every_step_and_see_the_new_weights() -> None:
    seen: list[float] = []
    made = job(recipe(), loader("a", 10.0))
    weight = made.module.get_parameter("model.weight")

    def clamp() -> None:
        with torch.no_grad():
            weight.clamp_(max=1.5)
        seen.append(float(weight.detach()))

    fit(replace(made, after_step=[clamp]), WORLD)
    assert seen == [1.5] * 6


def test_averaged_weights_are_the_mean_that_was_asked_for_and_are_what_is_evaluated(tmp_path: Path) -> None:
    found: list[float] = []

    def run(module: nn.Module) -> Evaluation:
        found.append(float(module.get_parameter("model.weight").detach()))
        return Evaluation({"weight": found[-1]})

    given = recipe(ema=EMA(decay=0.5))
    weights: list[float] = []
    made = job(given, loader("a", 1.0), evaluators=[Evaluator("weight", run)])
    live = made.module.get_parameter("model.weight")
    made = replace(made, after_step=[lambda: weights.append(float(live.detach()))])
    RunFolder(tmp_path).start(given, "")
    fit(made, WORLD, folder=RunFolder(tmp_path))
    average = weights[0]
    for weight in weights[1:]:
        average = 0.5 * average + 0.5 * weight
    assert found[-1] == pytest.approx(average)
    assert found[-1] < weights[-1]
    checkpoint = load_checkpoint(RunFolder(tmp_path).last)
    assert float(checkpoint["ema"]["model.weight"]) == pytest.approx(average)
    assert float(checkpoint["model"]["model.weight"]) == pytest.approx(weights[-1])
    again = job(given, loader("a", 1.0), evaluators=[Evaluator("weight", run)])
    assert evaluate(again, WORLD, checkpoint)["weight"].metrics["weight"] == pytest.approx(average)


def test_averaged_weights_and_hooks_resume_bit_for_bit(tmp_path: Path) -> None:
    given = recipe(ema=EMA(decay=0.9, warmup=True))

    def build(_: Recipe, context: Context) -> Job:
        return job(given, loader("a", 1.0))

    def cut(_: Recipe, context: Context) -> Job:
        return job(given, Signalling(loader("a", 1.0), 3))

    run_recipe(given, build, tmp_path / "whole")
    assert run_recipe(given, cut, tmp_path / "cut").interrupted
    run_recipe(given, build, tmp_path / "cut", resume=True)
    whole, parts = (load_checkpoint(RunFolder(tmp_path / name).last) for name in ("whole", "cut"))
    for kind in ("model", "ema"):
        assert torch.equal(whole[kind]["model.weight"], parts[kind]["model.weight"]), kind


class Signalling:
    """A loader that asks this process to stop while batch ``at`` is worked on."""

    def __init__(self, inner: Loader, at: int) -> None:
        self._inner = inner
        self._left = at

    def steps(self, epoch: int) -> int:
        return self._inner.steps(epoch)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Any]:
        for batch in self._inner.epoch(epoch, first):
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGINT)
            self._left -= 1
            yield batch


@pytest.mark.parametrize("samples", [4, 8])
def test_a_request_to_stop_is_heard_with_few_steps_an_epoch(samples: int, tmp_path: Path) -> None:
    """One or two steps an epoch; asked in the last step of the first epoch."""
    steps = samples // 4
    RunFolder(tmp_path).start(recipe(), "")
    made = job(recipe(), Signalling(loader("a", 1.0, samples), steps - 1))
    outcome = fit(made, WORLD, folder=RunFolder(tmp_path))
    assert (outcome.interrupted, outcome.progress.epoch, outcome.progress.step) == (True, 1, 0)
    assert load_checkpoint(RunFolder(tmp_path).last)["progress"]["epoch"] == 1


def test_a_request_in_the_very_last_step_leaves_a_finished_run() -> None:
    outcome = fit(job(recipe(), Signalling(loader("a", 1.0, 4), 2)), WORLD)
    assert (outcome.interrupted, outcome.progress.epoch) == (False, 3)


def test_evaluations_come_when_due_and_leave_their_predictions(tmp_path: Path) -> None:
    asked: list[str] = []

    def evaluator(name: str, in_training: bool) -> Evaluator:
        def run(module: nn.Module) -> Evaluation:
            asked.append(name)
            assert not module.training
            assert not torch.is_grad_enabled()
            return Evaluation(
                {name: float(len(asked))}, {"label": np.arange(3), "name": np.array(["a", "b", "c"])}
            )

        return Evaluator(name, run, in_training)

    given = recipe(log=Log(every=100, evaluate_every=2, tensorboard=False))
    evaluators = [evaluator("often", True), evaluator("asked", False)]
    run_recipe(given, lambda _, context: job(given, loader("a", 1.0), evaluators=evaluators), tmp_path)
    assert asked == ["often", "often"], "after the second epoch and at the end"
    with np.load(RunFolder(tmp_path).predictions("often"), allow_pickle=False) as kept:
        assert kept["label"].tolist() == [0, 1, 2]
        assert kept["name"].tolist() == ["a", "b", "c"]
    assert RunFolder(tmp_path).evaluation.read_text().replace(" ", "") == '{\n"often":{\n"often":2.0\n}\n}'
