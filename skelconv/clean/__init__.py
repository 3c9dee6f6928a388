"""Cleaning: the published preprocessing chains, and running one on a recording (docs/cleaning.md)."""

from skelconv.clean.candidates import Actors, CleaningError, gather_extra
from skelconv.clean.chains import CHAINS, Chain, chain_names, clean, default_chain, find_chain, run_steps

__all__ = [
    "CHAINS",
    "Actors",
    "Chain",
    "CleaningError",
    "chain_names",
    "clean",
    "default_chain",
    "find_chain",
    "gather_extra",
    "run_steps",
]
