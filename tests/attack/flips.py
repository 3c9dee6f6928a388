"""Bits flipped in every file of a store: the share that `verify` finds, and that plain reading finds."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from skelconv.store.store import open_store
from skelconv.verify import verify
from skelformats.errors import SkelconvError
from tests.attack.registry import Outcome, attack
from tests.skelconv.small_store import make_store

FLIPS = 4
"""Flips a file at scale 1."""


@attack("bit flips, verify")
def flips_verify(folder: Path, scale: float, seed: int) -> Outcome:
    """Every flip must be found by `verify`, or refused at open."""
    return _flips(folder, scale, seed, _verify_finds, "found by verify")


@attack("bit flips in chunks, reading")
def flips_reading(folder: Path, scale: float, seed: int) -> Outcome:
    """Every flip in a chunk must be found by who reads the array, with any back-end."""
    return _flips(folder, scale, seed, _reading_finds, "found by reading the array", metadata=False)


def _flips(folder: Path, scale: float, seed: int, finds, what: str, metadata: bool = True) -> Outcome:  # type: ignore[no-untyped-def]
    rng = random.Random(seed)
    store = make_store(folder / "store.zarr")
    kept = Path(shutil.copytree(store, folder / "kept.zarr"))
    tries = held = 0
    for file in sorted(f for f in store.rglob("*") if f.is_file() and (metadata or f.name != "zarr.json")):
        content = file.read_bytes()
        for _ in range(max(1, round(FLIPS * scale))):
            damaged = bytearray(content)
            damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            file.write_bytes(damaged)
            tries += 1
            held += finds(store, file)
            file.write_bytes(content)
    if not verify(store).ok or not verify(kept).ok:
        raise RuntimeError("the store was not restored")
    return Outcome(tries, held, f"{100 * held / tries:.1f} % {what}, over every file")


def _verify_finds(store: Path, file: Path) -> bool:
    try:
        return not verify(store).ok
    except SkelconvError:
        return True


def _reading_finds(store: Path, file: Path) -> bool:
    name = file.relative_to(store).parts[0]
    found = []
    for backend in ("direct", "resident", "zarr"):
        try:
            open_store(store, backend).array(name)
        except SkelconvError:
            found.append(True)
        else:
            found.append(False)
    return all(found)
