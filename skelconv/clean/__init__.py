"""Cleaning: the published preprocessing chains, and running one on a recording (docs/cleaning.md)."""

from skelconv.clean.chains import CHAINS, Chain, clean, default_chain, find_chain, run_steps
from skelconv.clean.scene import Actors, CleaningError, gather_extra

__all__ = [
    "CHAINS",
    "Actors",
    "Chain",
    "CleaningError",
    "clean",
    "default_chain",
    "find_chain",
    "gather_extra",
    "run_steps",
]
