"""Checkpoints of earlier formats, brought to the one of today.

Format 1 (skelconv 0.1) knew one task family, masked autoencoding of the images of one store. Its metadata was
called ``card`` and described one store at the top; the model was only in the recipe.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OF_A_STORE = ("skeleton", "column_order", "plan", "classes", "chain", "store")


def upgrade(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a checkpoint file in format 2; raises KeyError or TypeError for a damaged one."""
    if content["format"] != 1:
        return content
    rest = {key: value for key, value in content.items() if key not in ("card", "format")}
    return {
        **rest,
        "format": 2,
        "metadata": _metadata(content["card"]),
        **({"processes": [_process(own) for own in content["processes"]]} if "processes" in content else {}),
    }


def _metadata(card: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in card.items() if key not in _OF_A_STORE}
    recipe = card["recipe"]
    if "model" in recipe:
        settings = {name: value for name, value in recipe["model"].items() if value is not None}
        kept["model"] = {
            "family": "mae",
            "config": {"image_size": recipe["data"]["image_size"], **settings},
        }
        kept["images"] = dict(recipe["data"])
    return {**kept, "data": [{key: card[key] for key in _OF_A_STORE if key in card}]}


def _process(own: Mapping[str, Any]) -> dict[str, Any]:
    """Bring the sums of metrics, which were in lists along ``names``, to sums by name."""
    meter = own["meter"]
    steps, of_epoch, samples = meter["counts"]
    return {
        **own,
        "meter": {
            "sum": dict(zip(meter["names"], meter["row"], strict=True)),
            "weight": {name: float(steps) for name in meter["names"]},
            "epoch": {name: [total, float(of_epoch)] for name, total in meter["epoch"].items()},
            "samples": samples,
            "since": meter["since"],
        },
    }
