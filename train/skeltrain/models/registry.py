"""Families of models: a checkpoint keeps family and settings, so that any task can take another's backbone.

Families are found through the entry-point group ``skeltrain.models``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor, nn

from skelformats.registry import Registry
from skeltrain.models.errors import ModelError

ENTRY_POINT_GROUP = "skeltrain.models"


@dataclass(frozen=True)
class Family:
    """Models that are built alike.

    Attributes
    ----------
    name
        As checkpoints and the entry point name it.
    build
        Makes a model, freshly initialised, from settings that are plain data.
    backbone
        The part of a model that other tasks can use.
    """

    name: str
    build: Callable[..., nn.Module]
    backbone: Callable[[nn.Module], nn.Module]


def describe(family: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the metadata of a checkpoint says of its model, under the key ``model``."""
    return {"family": family, "config": dict(config)}


def build(family: str, config: Mapping[str, Any]) -> nn.Module:
    """Build a model of a family.

    Raises
    ------
    UnknownNameError
        There is no such family.
    ModelError
        The settings make no model of it.
    """
    found = find_family(family)
    try:
        return found.build(**config)
    except TypeError as error:
        raise ModelError(
            f"found settings {', '.join(map(str, config))} for a model of family {family!r} ({error}), "
            "expected those that this version of skelconv knows"
        ) from error


def load_model(checkpoint: Mapping[str, Any]) -> nn.Module:
    """Build the model of a checkpoint with its weights, the averaged ones where it has any.

    Raises
    ------
    UnknownNameError, ModelError
        As `build`; or the weights do not fit the model.
    """
    described = checkpoint["metadata"].get("model")
    if not isinstance(described, Mapping) or not {"family", "config"} <= set(described):
        raise ModelError(
            "found a checkpoint that does not say what its model is, expected family and settings"
        )
    model = build(described["family"], described["config"])
    state: Mapping[str, Tensor] = checkpoint.get("ema") or checkpoint["model"]
    own = {key.removeprefix("model."): value for key, value in state.items() if key.startswith("model.")}
    try:
        model.load_state_dict(own)
    except RuntimeError as error:
        raise ModelError(
            f"found weights that do not fit the model of the checkpoint "
            f"({str(error).splitlines()[-1].strip()}), expected what skeltrain wrote"
        ) from error
    return model


def load_backbone(checkpoint: Mapping[str, Any]) -> nn.Module:
    """Return the backbone of a checkpoint's model, with its weights; errors as for `load_model`."""
    model = load_model(checkpoint)
    return find_family(checkpoint["metadata"]["model"]["family"]).backbone(model)


def build_backbone(checkpoint: Mapping[str, Any]) -> nn.Module:
    """Return a backbone like that of a checkpoint's model, freshly initialised; errors as for `build`."""
    described = checkpoint["metadata"]["model"]
    return find_family(described["family"]).backbone(build(described["family"], described["config"]))


@cache
def find_family(name: str) -> Family:
    """Return the family called ``name``; raises `UnknownNameError`, or `SkelconvError` for a broken
    package.
    """
    return FAMILIES.find(name)


FAMILIES = Registry(ENTRY_POINT_GROUP, "model family", Family)
"""Every installed family of models."""
