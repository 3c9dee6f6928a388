"""The register of attacks: adding one is adding a function to a module that `MODULES` names."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MODULES = (
    "tests.attack.kills",
    "tests.attack.writers",
    "tests.attack.partials",
    "tests.attack.flips",
    "tests.attack.hostile",
    "tests.attack.training",
    "tests.attack.readers",
)
"""Modules that register attacks."""


@dataclass(frozen=True)
class Outcome:
    """What an attack found.

    Attributes
    ----------
    tries
        How often it was tried; 0 where it could not be, and ``note`` says why.
    held
        How often what is promised held.
    note
        What the promise is, or the shares that were measured.
    """

    tries: int
    held: int
    note: str


@dataclass(frozen=True)
class Attack:
    """A kind of attack; ``run(folder, scale, seed)`` tries it about ``scale`` times as often as usual."""

    name: str
    run: Callable[[Path, float, int], Outcome]


_ATTACKS: list[Attack] = []


def attack(
    name: str,
) -> Callable[[Callable[[Path, float, int], Outcome]], Callable[[Path, float, int], Outcome]]:
    """Register the function below as the attack ``name``."""

    def register(run: Callable[[Path, float, int], Outcome]) -> Callable[[Path, float, int], Outcome]:
        _ATTACKS.append(Attack(name, run))
        return run

    return register


def attacks() -> list[Attack]:
    """Every attack, in the order of `MODULES`."""
    for module in MODULES:
        importlib.import_module(module)
    return list(_ATTACKS)
