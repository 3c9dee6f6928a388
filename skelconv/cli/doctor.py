"""``skelconv doctor``: what something is, and what to do with it."""

from __future__ import annotations

from pathlib import Path

import click

from skelconv.cli.command import DONE, PROBLEMS
from skelconv.cli.paths import STORE


@click.command(short_help="Say what a folder, file or store is, and what fits.")
@click.argument("path", type=STORE, required=False)
def doctor(path: Path | str | None) -> int:
    """Say what PATH is, which command fits, and what is odd about it; without PATH, what this machine has.

    PATH may be any folder of raw files, a file, a store, a run. Nothing is written.

    \b
    Example:
        skelconv doctor
        skelconv doctor downloads/ntu/
        skelconv doctor out.zarr

    Exit codes: 0 nothing odd; 1 something is odd, and is named; 2 there is nothing to look at.
    """
    from skelconv.doctor import examine_machine, look

    finding = examine_machine() if path is None else look(path)
    click.echo(finding.describe())
    return PROBLEMS if finding.odd else DONE
