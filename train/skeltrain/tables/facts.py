"""What of a result decides its place in a table, and what else it was made with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

from skeltrain.tables.results import Result

KINDS = {"probe": "LP", "finetune": "FT"}
"""The paper's abbreviations: linear probe, fine-tuning."""

OBJECTIVES = {"mae": "MAE", "diffmae": "DiffMAE", "features": "features"}

FREE = (
    "seed",
    "seeds",
    "untrained",
    "device",
    "log.*",
    "encoder.run",
    "encoder.random",
    "data.store",
    "data.stores.*",
    "labels.seed",
)
"""Settings in which trials of one experiment may differ: seeds, and where things lie."""

ENCODER = ("preset", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "attention")
"""Settings of a pretraining's model that are its encoder's."""


@dataclass(frozen=True)
class Source:
    """A store that an encoder was pretrained on: dataset, layout, and the split whose training part it
    saw.
    """

    dataset: str
    layout: str
    protocol: str | None


@dataclass(frozen=True)
class Facts:
    """What of a `Result` decides its place."""

    result: Result

    @property
    def _about(self) -> Mapping[str, Any]:
        return self.result.about

    @property
    def kind(self) -> str:
        """``LP`` or ``FT``."""
        return KINDS[self._about["task"]]

    @property
    def dataset(self) -> str:
        """Name of the dataset that was trained and tested on."""
        return str(self._about["data"]["dataset"])

    @property
    def generated(self) -> bool:
        """Whether its files were generated, and nobody was recorded; False where the record does not say."""
        return bool(self._about["data"].get("generated"))

    @property
    def layout(self) -> str:
        """Joint layout of its store."""
        return str(self._about["data"]["layout"])

    @property
    def protocol(self) -> str:
        """Its split."""
        return str(self._about["data"]["protocol"])

    @property
    def place(self) -> str:
        """Dataset and split."""
        return f"{self.dataset} {self.protocol}"

    @property
    def streams(self) -> tuple[str, ...]:
        """Streams of an image; of a fusion, of each run one after another."""
        return tuple(name for about in self.result.members for name in about["data"]["streams"])

    @property
    def stream(self) -> str:
        """``joint``, ..., or ``3s`` for a fusion."""
        return "3s" if self.result.fused else self.streams[0]

    @property
    def encoder(self) -> str:
        """Where the encoder came from (`skeltrain.tasks.about.ENCODERS`)."""
        return str(self._about["encoder"])

    @property
    def fresh(self) -> bool:
        """Whether the encoder started from random weights."""
        return self.encoder in ("random", "scratch")

    @property
    def share(self) -> float:
        """Part of the training samples whose labels were used."""
        return float(self._about["recipe"].get("labels", {}).get("share", 1.0))

    @cached_property
    def pretraining(self) -> Mapping[str, Any]:
        """The recipe of the pretraining; empty without any."""
        before = self._about.get("pretraining")
        return before["recipe"] if before else {}

    @property
    def objective(self) -> str:
        """Name of the objective in the tables."""
        name = str(self.pretraining.get("model", {}).get("objective", "mae"))
        return OBJECTIVES.get(name, name)

    @property
    def masking(self) -> str:
        """How patches were masked."""
        return str(self.pretraining.get("model", {}).get("masking", "random"))

    @property
    def masked_otherwise(self) -> bool:
        """Whether masks are not the paper's usual ones; the prediction of features has its own."""
        return not self.fresh and self.objective != "features" and self.masking != "random"

    @property
    def mask_ratio(self) -> float:
        """Which part of them."""
        return float(self.pretraining.get("model", {}).get("mask_ratio", 0.75))

    @property
    def start(self) -> str:
        """Row of the paper's Table 1."""
        if self.fresh:
            return "none"
        if self.encoder == "weights":
            return "image only"
        images = (self.pretraining.get("init") or {}).get("weights") is not None
        # a rate of 0 leaves the weights as they were loaded
        learned = self.pretraining.get("optim", {}).get("blr", 1) > 0
        named = {
            (False, True): "skeleton only",
            (True, True): "image and skeleton",
            (True, False): "image only",
        }
        return named.get((images, learned), "none")

    @property
    def sources(self) -> tuple[Source, ...]:
        """The stores of the pretraining."""
        before = self._about.get("pretraining")
        entries = before["stores"] if before else []
        return tuple(Source(e["dataset"], e["layout"], e["protocol"]) for e in entries)

    @property
    def trial(self) -> tuple[Any, ...]:
        """What tells trials of one experiment apart: seeds of the classifiers, and the pretrainings."""
        return tuple(
            (about["seed"], None if self.fresh else _pretrained(about)) for about in self.result.members
        )

    @property
    def pretrainings(self) -> tuple[Any, ...]:
        """The pretrainings alone, each by its seed and place."""
        return () if self.fresh else tuple(_pretrained(about) for about in self.result.members)

    @cached_property
    def settings(self) -> dict[str, str]:
        """Everything else that it was made with, by name: equal for the trials of one experiment."""
        found: dict[str, str] = {}
        for about in self.result.members:
            # members of a fusion differ in their stream, which their order tells
            found.update(_settings(about, self.fresh))
        if self.result.fused:
            found["weights"] = json.dumps(self.result.weights)
            found.pop("pretrain.data.stream", None)
            found.pop("data.stream", None)
        return found


def _pretrained(about: Mapping[str, Any]) -> tuple[Any, ...] | None:
    before = about.get("pretraining")
    return None if before is None else (before["recipe"].get("seed", 0), str(before["checkpoint"]))


def _settings(about: Mapping[str, Any], fresh: bool) -> dict[str, str]:
    found = dict(_flat(about["recipe"]))
    found["data"] = str(about["data"]["digest"])
    for name in ("clean", "persons", "format", "train", "test"):
        found[f"data.{name}"] = json.dumps(about["data"].get(name))
    before = about.get("pretraining")
    if before is not None:
        for name, value in _flat(before["recipe"]):
            section, _, key = name.partition(".")
            if not fresh or section == "data" or (section == "model" and key in ENCODER):
                found[f"pretrain.{name}"] = value
        # statistics come from it, so even a random encoder depends on it
        found["pretrain.data"] = json.dumps([store["digest"] for store in before["stores"]])
        if not fresh:
            found["pretrained epochs"] = str(before["epochs"])
    return found


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if any(fnmatchcase(name, free) for free in FREE) or name == "data.stores":
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        else:
            yield name, json.dumps(value)
