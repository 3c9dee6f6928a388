from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.optim import SGD

from skelformats.errors import UnknownNameError
from skeltrain.models.classifier import LinearProbe
from skeltrain.models.mae import build_mae
from skeltrain.schedule import (
    ScheduleError,
    make_optimizer,
    make_scheduler,
    parameter_groups,
    scaled_learning_rate,
)


def formula(n: int, lr: float, epochs: int, per_epoch: int, warmup: float, min_lr: float) -> float:
    """Learning rate of iteration n as MAE's `adjust_learning_rate` is specified (specs/s2i.md, 2.2)."""
    e = n / per_epoch
    if e < warmup:
        return lr * e / warmup
    return min_lr + (lr - min_lr) * 0.5 * (1 + math.cos(math.pi * (e - warmup) / (epochs - warmup)))


def optimizer_with_groups(lr: float) -> SGD:
    first, second = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    return SGD([{"params": [first]}, {"params": [second], "lr_scale": 0.25}], lr=lr)


@pytest.mark.parametrize(
    ("epochs", "per_epoch", "warmup", "min_lr"),
    [
        (20, 7, 4, 0.0),
        (10, 13, 0, 1e-6),
        (5, 1, 1, 1e-3),
        (3, 4, 3, 0.0),
        (1, 5, 0, 0.0),
        (6, 7, 1.5, 0.0),
        (4, 9, 0.1, 0.0),
    ],
)
def test_each_iteration_has_the_learning_rate_of_the_formula(
    epochs: int, per_epoch: int, warmup: float, min_lr: float
) -> None:
    lr = 0.3
    optimizer = optimizer_with_groups(lr)
    scheduler = make_scheduler(optimizer, epochs, per_epoch, warmup, min_lr)
    for n in range(epochs * per_epoch):
        scheduler.step_update(n)
        expected = formula(n, lr, epochs, per_epoch, warmup, min_lr)
        full, scaled = (group["lr"] for group in optimizer.param_groups)
        assert full == pytest.approx(expected, rel=1e-13, abs=1e-16)
        assert scaled == pytest.approx(0.25 * expected, rel=1e-13, abs=1e-16)


def test_the_first_iteration_has_learning_rate_zero() -> None:
    optimizer = optimizer_with_groups(0.3)
    scheduler = make_scheduler(optimizer, 10, 5, warmup_epochs=2)
    scheduler.step_update(0)
    assert [group["lr"] for group in optimizer.param_groups] == [0.0, 0.0]


def test_after_the_run_the_smallest_rate_stays() -> None:
    optimizer = optimizer_with_groups(0.3)
    scheduler = make_scheduler(optimizer, 10, 5, 2, min_lr=0.01)
    for n in (50, 51, 500):
        scheduler.step_update(n)
        assert optimizer.param_groups[0]["lr"] == 0.01


def test_a_resumed_run_goes_on_where_it_stopped() -> None:
    straight = optimizer_with_groups(0.3)
    make_scheduler(straight, 10, 5, 2).step_update(31)
    stopped = optimizer_with_groups(0.3)
    make_scheduler(stopped, 10, 5, 2).step_update(17)
    resumed = optimizer_with_groups(0.3)
    resumed.load_state_dict(stopped.state_dict())
    make_scheduler(resumed, 10, 5, 2).step_update(31)
    assert [g["lr"] for g in resumed.param_groups] == [g["lr"] for g in straight.param_groups]


@pytest.mark.parametrize(("epochs", "per_epoch"), [(0, 5), (5, 0)])
def test_a_run_without_iterations_is_refused(epochs: int, per_epoch: int) -> None:
    with pytest.raises(ScheduleError, match=f"{epochs} epochs of {per_epoch} iterations"):
        make_scheduler(optimizer_with_groups(0.3), epochs, per_epoch)


@pytest.mark.parametrize("warmup", [-1, 11])
def test_a_warmup_longer_than_the_run_is_refused(warmup: float) -> None:
    with pytest.raises(ScheduleError, match=f"{warmup} warm-up epochs in a run of 10"):
        make_scheduler(optimizer_with_groups(0.3), 10, 5, warmup)


def test_an_unknown_rule_names_those_that_exist() -> None:
    with pytest.raises(UnknownNameError, match=r"no learning rate rule named 'sqrt'\. Known: linear, none"):
        scaled_learning_rate(0.2, 128, rule="sqrt")


def test_vectors_do_not_decay_and_the_tokens_do() -> None:
    model = build_mae("vit_micro", image_size=32, patch_size=8)
    names = {id(value): name for name, value in model.named_parameters()}
    groups = {
        group["weight_decay"]: {names[id(value)] for value in group["params"]}
        for group in parameter_groups(model, 0.05)
    }
    assert set(groups) == {0.0, 0.05}
    trainable = {name for name, value in model.named_parameters() if value.requires_grad}
    vectors = {name for name in trainable if name.endswith(".bias") or model.get_parameter(name).ndim == 1}
    assert groups[0.0] == vectors
    assert groups[0.05] == trainable - vectors
    assert {"encoder.cls_token", "decoder.mask_token", "encoder.patch_embed.proj.weight"} <= groups[0.05]
    assert {"encoder.norm.weight", "decoder.pred.bias"} <= groups[0.0]


def test_sgd_is_nesterovs_and_holds_the_head_alone() -> None:
    probe = LinearProbe(build_mae("vit_micro", image_size=32, patch_size=8).encoder, classes=5)
    optimizer = make_optimizer(probe, "sgd", lr=0.1)
    assert isinstance(optimizer, SGD)
    assert all(group["nesterov"] and group["momentum"] == 0.9 for group in optimizer.param_groups)
    held = {id(value) for group in optimizer.param_groups for value in group["params"]}
    assert held == {id(probe.head.weight), id(probe.head.bias)}


def test_an_unknown_optimizer_names_those_that_exist() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'adamw'\? Known: adamw, sgd"):
        make_optimizer(nn.Linear(2, 2), "adam", lr=0.1)
