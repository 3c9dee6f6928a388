"""Which shipped recipe fits a store and a machine: what ``auto`` stands for on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from skelconv.store.store import open_store
from skeltrain.recipe_file import Override

AUTO = "auto"


@dataclass(frozen=True)
class Choice:
    """Names of a pretraining recipe and of the probe that goes with it."""

    pretrain: str
    probe: str


_ON_CARD = Choice("s2i_mae_ntu", "s2i_linprobe")
_WITHOUT = Choice("s2i_small_cpu", "linprobe")
_OF_DATASET: Mapping[tuple[str, bool], Choice] = MappingProxyType(
    {
        ("ucla", True): Choice("ucla_vits_gpu", "s2i_linprobe_ucla"),
        ("ucla", False): Choice("ucla_small_cpu", "ucla_small_linprobe"),
    }
)


def choose_recipe(store: Path, card: bool) -> tuple[Choice, list[Override]]:
    """Return the recipes for a store, on a machine with or without a card, and what to set in the first.

    Set is the protocol, for a store whose splits have other names than the recipe's.

    Raises
    ------
    StoreError
        The store cannot be opened.
    """
    info = open_store(store).info
    choice = _OF_DATASET.get((info.dataset.name, card))
    if choice is not None:
        return choice, []
    protocol = next(iter(info.protocols), None)
    return _ON_CARD if card else _WITHOUT, [Override(("data", "protocol"), protocol)]
