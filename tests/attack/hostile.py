"""Stores whose metadata is made to hurt: each ends in a sentence."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from skelconv.store.store import open_store
from skelformats.errors import SkelconvError
from tests.attack.registry import Outcome, attack
from tests.skelconv.small_store import make_store

CHANGES = 400
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**40, 2**63, 2**70, 0.5, "", "x", "../x", "\ud800", "a" * 9_999, [],
    [None], [[]], [-1, 2], ["x"], {}, {"name": "evil"}, {"name": "bytes", "configuration": None}, "NaN",
)  # fmt: skip


@attack("hostile metadata")
def hostile_metadata(folder: Path, scale: float, seed: int) -> Outcome:
    """Put a strange value at a random place of the metadata, then open the store and read all of it."""
    rng = random.Random(seed)
    store = make_store(folder / "store.zarr")
    root = json.loads((store / "zarr.json").read_text())
    tries, held, refused = max(1, round(CHANGES * scale)), 0, 0
    for _ in range(tries):
        changed = json.loads(json.dumps(root))
        places = list(_places(changed))
        parent, key = rng.choice(places)
        parent[key] = rng.choice(VALUES)
        (store / "zarr.json").write_text(json.dumps(changed))
        try:
            opened = open_store(store)
            opened.to_frame()
            opened.load(opened.arrays)
            for sequence in opened:
                len(sequence)
        except SkelconvError:
            refused += 1
            held += 1
        except Exception as error:  # noqa: BLE001 - whatever else comes is what is looked for
            click.echo(f"    {type(error).__name__} with {parent[key]!r} as {key!r}: {error}")
        else:
            held += 1
    shutil.rmtree(store)
    return Outcome(tries, held, f"{refused} refused with a sentence, the others read as before")


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of parsed JSON."""
    keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for key in keys:
        yield node, key
        yield from _places(node[key])
