"""``skelconv info``, ``verify``, ``clean``: what a store holds, whether it is sound, and cleaning it."""

from __future__ import annotations

from pathlib import Path

import click
import orjson

from skelconv.cli.command import DONE, PROBLEMS, progress
from skelconv.cli.complete import chains, offering
from skelconv.cli.paths import PATH, STORE


@click.command(short_help="What a store holds.")
@click.argument("store", type=STORE)
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
def info(store: Path | str, as_json: bool) -> None:
    """Say what a store holds, where it came from, what was set aside, and what leaks between its splits.

    \b
    Example:
        skelconv info out.zarr
        skelconv info out.zarr --json | jq .set_aside
    """
    from skelconv.report.summary import describe, to_json
    from skelconv.store.store import open_store

    opened = open_store(store)
    if as_json:
        click.echo(orjson.dumps(to_json(opened), option=orjson.OPT_INDENT_2).decode())
    else:
        click.echo(describe(opened))


@click.command(short_help="Check that a store is whole, byte by byte.")
@click.argument("store", type=STORE)
@click.option(
    "--raw",
    type=PATH,
    multiple=True,
    help="Also read the raw files here again, and compare. May be repeated.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def verify(store: Path | str, raw: tuple[Path, ...], quiet: bool) -> int:
    """Check every chunk's checksum, the table, the values; with --raw, that the sources still say the same.

    \b
    Example:
        skelconv verify out.zarr
        skelconv verify out.zarr --raw raw/

    Exit codes: 0 sound; 1 problems, which are listed; 2 not checked.
    """
    from skelconv.verify import verify as check

    report = check(store, raw, lambda steps, unit, size: progress(steps, unit, size, quiet))
    click.echo(report.describe())
    return DONE if report.ok else PROBLEMS


@click.command(short_help="Run a published cleaning chain over a store.")
@click.argument("store", type=STORE)
@click.argument("out", type=PATH)
@click.option(
    "--chain",
    default="auto",
    show_default=True,
    shell_complete=offering(chains),
    help="Name of the chain; docs/cleaning.md lists them.",
)
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def clean(store: Path | str, out: Path, chain: str, overwrite: bool, quiet: bool) -> int:
    """Write a store of the persons that a cleaning chain makes of STORE's bodies.

    \b
    Example:
        skelconv clean out.zarr clean.zarr --chain ctrgcn

    `auto` is the chain published for the dataset. Exit codes as those of ingest.
    """
    from skelconv.clean.samples import chain_for
    from skelconv.cli.watched import watched
    from skelconv.derive.clean import clean_store

    with watched([store], quiet) as (opened,):
        made = clean_store(opened, out, chain_for(opened.info) if chain == "auto" else chain, overwrite)
    click.echo(f"{out}: {made.provenance.describe()}")
    return PROBLEMS if made.provenance.set_aside else DONE
