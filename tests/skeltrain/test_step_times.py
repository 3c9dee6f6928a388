"""Time for batches and time for steps are told apart; what is chosen by rule stays within rounding."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from skeltrain import distributed
from skeltrain.data.loader import Loader
from skeltrain.distributed import autocast, precision_on
from skeltrain.engine import Job
from skeltrain.run import run_recipe
from skeltrain.tasks.pretrain import PretrainRecipe, build_pretraining
from tests.skeltrain.test_engine import change, curve, train

CPU = torch.device("cpu")
PAUSE = 0.05


class Slow:
    """A loader whose batches take their time."""

    def __init__(self, inner: Loader) -> None:
        self._inner = inner

    def steps(self, epoch: int) -> int:
        return self._inner.steps(epoch)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Any]:
        for batch in self._inner.epoch(epoch, first):
            time.sleep(PAUSE)
            yield batch


def build_slow(*given: Any) -> Job:
    job = build_pretraining(*given)
    return replace(job, loader=Slow(job.loader))


@pytest.mark.parametrize("accum", [1, 2])
def test_waiting_for_batches_is_told_apart_from_the_steps(
    tiny_recipe: PretrainRecipe, tmp_path: Path, accum: int
) -> None:
    recipe = change(tiny_recipe, optim={"accum": accum}, log={"every": 2})
    outcome = run_recipe(recipe, build_slow, tmp_path)
    data, steps, seconds = (curve(tmp_path, f"{name}seconds") for name in ("data_", "step_", ""))
    assert len(data) == 6, "two rows an epoch"
    assert all(value >= 2 * accum * PAUSE for value in data), "two steps a row"
    assert sum(data) + sum(steps) == pytest.approx(seconds[-1], rel=1e-3)
    assert outcome.progress.waited == pytest.approx(sum(data), rel=1e-6)
    # the loop without the pauses does not wait for as long as one
    train(change(recipe, log={"every": 2}), tmp_path / "fast")
    assert min(curve(tmp_path / "fast", "data_seconds")) < 2 * accum * PAUSE


def test_precision_auto_is_bf16_where_the_processor_multiplies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for told, expected in (
        ({}, "fp32"),
        ({"avx512_f": True, "avx512_bf16": False}, "fp32"),
        ({"avx512_bf16": True}, "bf16"),
        ({"amx_bf16": True}, "bf16"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda told=told: told)
        distributed._has_bf16.cache_clear()
        assert precision_on(CPU, "auto") == expected
        with autocast(CPU, "auto"):
            assert torch.is_autocast_enabled("cpu") == (expected == "bf16")
    distributed._has_bf16.cache_clear()
    assert [precision_on(CPU, name) for name in ("fp32", "bf16", "fp16")] == ["fp32", "bf16", "fp16"]


def test_faster_ways_change_a_curve_by_rounding_alone(tiny_recipe: PretrainRecipe, tmp_path: Path) -> None:
    train(tiny_recipe, tmp_path / "plain")
    fast = change(tiny_recipe, optim={"fused": True}, model={"attention": "auto"})
    train(fast, tmp_path / "fast")
    assert curve(tmp_path / "fast") == pytest.approx(curve(tmp_path / "plain"), rel=1e-4)
