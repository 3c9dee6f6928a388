"""Run the attacks and print one table: ``make attack``, or ``python -m tests.attack --only flips``."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import click

from tests.attack.registry import attacks


def main() -> int:
    """Run every attack in a folder of its own, which goes afterwards; returns 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="how often to try, against the usual number")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of the name of the attacks to run")
    options = parser.parse_args()
    rows = [("attack", "tries", "held", "s", "")]
    broken = False
    for attack in attacks():
        if options.only not in attack.name:
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="skelconv-attack-") as folder:
            outcome = attack.run(Path(folder), options.scale, options.seed)
        broken = broken or outcome.held < outcome.tries
        seconds = f"{time.monotonic() - began:.0f}"
        rows.append((attack.name, str(outcome.tries), str(outcome.held), seconds, outcome.note))
        click.echo("  ".join(rows[-1]))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    click.echo()
    for name, *counts, note in rows:
        cells = [name.ljust(widths[0]), *(c.rjust(w) for c, w in zip(counts, widths[1:], strict=True))]
        click.echo("  ".join([*cells, note]))
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
