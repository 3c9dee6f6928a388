"""Learning rate, parameter groups and optimiser, as MAE has them (S2I, tables 10 to 13)."""

from __future__ import annotations

from typing import Any

from timm.optim import param_groups_weight_decay  # type: ignore[attr-defined]
from timm.scheduler.cosine_lr import CosineLRScheduler
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from skelformats.errors import SkelconvError, UnknownNameError

OPTIMIZERS = ("adamw", "sgd")


class ScheduleError(SkelconvError, ValueError):
    """Settings of a run that make no schedule."""


def make_scheduler(
    optimizer: Optimizer,
    epochs: int,
    iterations_per_epoch: int,
    warmup_epochs: float = 0,
    min_lr: float = 0.0,
) -> CosineLRScheduler:
    """Return MAE's schedule: linear warm-up from 0, then half a cosine down to ``min_lr``.

    With e = n / iterations_per_epoch, counting iterations n from 0 through the whole run:
    ``lr * e / warmup`` during warm-up, then
    ``min_lr + (lr - min_lr) * (1 + cos(pi * (e - warmup) / (epochs - warmup))) / 2``, times the parameter
    group's ``lr_scale`` where it has one.

    Call ``scheduler.step_update(n)`` *before* iteration n, so that the very first iteration has learning rate
    0 when there is a warm-up. An iteration is one optimiser step, whatever number of forward passes is
    accumulated for it. The value depends on n alone: resuming needs no saved state.

    Parameters
    ----------
    optimizer
        Its groups' ``lr`` (``initial_lr`` after resuming) is the highest learning rate.
    epochs, iterations_per_epoch, warmup_epochs
        Length of the run and of its warm-up, which may be a fraction of an epoch. A warm-up as long as the
        run never reaches the cosine.
    min_lr
        Learning rate at the end of the run, and after it.

    Raises
    ------
    ScheduleError
        If the run has no iterations, or the warm-up is longer than the run.
    """
    if epochs < 1 or iterations_per_epoch < 1:
        raise ScheduleError(
            f"found a run of {epochs} epochs of {iterations_per_epoch} iterations, "
            "expected at least one of each. Check that the training split holds a whole batch"
        )
    if not 0 <= warmup_epochs <= epochs:
        raise ScheduleError(
            f"found {warmup_epochs:g} warm-up epochs in a run of {epochs}, expected from 0 to {epochs}. "
            "Set optim.warmup"
        )
    decay = (epochs - warmup_epochs) * iterations_per_epoch
    return CosineLRScheduler(
        optimizer,
        # timm wants a cosine, also where the warm-up leaves none. It declares whole numbers, but works with
        # fractions just as well, which a warm-up of half an epoch may lead to.
        t_initial=decay or iterations_per_epoch,  # type: ignore[arg-type]
        lr_min=min_lr,
        warmup_t=warmup_epochs * iterations_per_epoch,  # type: ignore[arg-type]
        warmup_lr_init=0.0,
        warmup_prefix=True,
        t_in_epochs=False,
    )


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split the trainable parameters of ``model`` into those that decay and those that do not.

    Vectors (biases, normalisations) do not decay; matrices do, and so do the class and mask tokens, which are
    stored with three dimensions: so it is in MAE's pretraining.
    """
    return param_groups_weight_decay(model, weight_decay)


def make_optimizer(
    model: nn.Module,
    name: str,
    lr: float,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.95),
    momentum: float = 0.9,
    layer_decay: float | None = None,
    fused: bool = False,
) -> Optimizer:
    """Return an optimiser over the trainable parameters of ``model``.

    They are grouped by `parameter_groups`, or with ``layer_decay`` by `layer_decay_groups`.

    Parameters
    ----------
    name
        ``adamw`` (with ``betas``; S2I, tables 10 to 12) or ``sgd`` (Nesterov, with ``momentum``; S2I,
        section 4.2 and table 13).
    lr
        The highest learning rate (`skeltrain.recipe.Optim.peak_lr`).

    Raises
    ------
    UnknownNameError
        If there is no such optimiser.
    """
    if layer_decay is None:
        groups = parameter_groups(model, weight_decay)
    else:
        groups = layer_decay_groups(model, weight_decay, layer_decay)
    if name == "adamw":
        return AdamW(groups, lr=lr, betas=betas, fused=fused or None)
    if name == "sgd":
        return SGD(groups, lr=lr, momentum=momentum, nesterov=True, fused=fused or None)
    raise UnknownNameError("optimizer", name, OPTIMIZERS)


def layer_decay_groups(vit: nn.Module, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """Split the trainable parameters of a vision transformer by layer, later layers learning faster.

    As in MAE's fine-tuning (He et al. 2022, section A.1; Clark et al. 2020): of B blocks, class token,
    positions and patch embedding are layer 0, block b (from 0) is layer b + 1, and everything behind the
    blocks, final normalisation and heads, is layer B + 1. A layer's learning rate is ``layer_decay`` to the
    number of layers behind it. Vectors, class token and positions do not decay, unlike in `parameter_groups`,
    where the class token does: so it is in MAE.

    Parameters
    ----------
    vit
        A timm vision transformer, or a module that has one as its attribute ``encoder``; whatever else that
        module has lies behind the blocks.
    weight_decay
        Of the parameters that decay.
    layer_decay
        Above 0, at most 1; 1 gives every layer the same rate.

    Returns
    -------
    list of dict
        Groups for an optimiser, by layer: ``params``, their ``names``, ``weight_decay``, and ``lr_scale``, a
        factor that `make_scheduler` honours.

    Raises
    ------
    ScheduleError
        If ``layer_decay`` is out of range, or there are no blocks to tell layers by.
    """
    if not 0 < layer_decay <= 1:
        raise ScheduleError(f"found a layer decay of {layer_decay:g}, expected a factor above 0, at most 1")
    prefix = "encoder." if hasattr(vit, "encoder") else ""
    blocks = getattr(getattr(vit, "encoder", vit), "blocks", None)
    if not isinstance(blocks, nn.Sequential | nn.ModuleList) or not len(blocks):
        raise ScheduleError(
            f"found a {type(vit).__name__} without transformer blocks, expected a vision transformer. "
            "Use no layer decay for this model"
        )
    last = len(blocks) + 1
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, value in vit.named_parameters():
        if not value.requires_grad:
            continue
        own = name.removeprefix(prefix) if name.startswith(prefix) else ""
        layer = _layer(own, last)
        decays = value.ndim > 1 and own not in ("cls_token", "pos_embed")
        group = groups.setdefault(
            (layer, decays),
            {
                "params": [],
                "names": [],
                "weight_decay": weight_decay if decays else 0.0,
                "lr_scale": layer_decay ** (last - layer),
            },
        )
        group["params"].append(value)
        group["names"].append(name)
    return [groups[key] for key in sorted(groups)]


def _layer(name: str, last: int) -> int:
    """Return the layer of a parameter of a vision transformer, which calls it ``name``."""
    if name in ("cls_token", "pos_embed") or name.startswith("patch_embed."):
        return 0
    parts = name.split(".")
    return int(parts[1]) + 1 if parts[0] == "blocks" else last
