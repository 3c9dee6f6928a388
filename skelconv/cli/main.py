"""The command ``skelconv``: parse, call, print. What a verb does stands in the module it calls."""

from __future__ import annotations

import click

from skelconv import __version__
from skelconv.cli.command import NaturalOrderGroup, completion_command, run
from skelconv.cli.crops import crops, draw
from skelconv.cli.encode import s2i
from skelconv.cli.ingest import datasets, ingest, skeletons
from skelconv.cli.look import report, view
from skelconv.cli.out import export, merge, remap
from skelconv.cli.stores import clean, info, verify
from skelconv.cli.synth import synth


@click.group(cls=NaturalOrderGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="skelconv")
def cli() -> None:
    """Human skeleton datasets: raw files to one zarr store, and from there to anything.

    \b
    Example:
        skelconv ingest ntu120 raw/ out.zarr
        skelconv info out.zarr
        skelconv s2i out.zarr s2i.zarr --format ntu25
    """


for verb in (
    datasets,
    synth,
    ingest,
    info,
    verify,
    clean,
    skeletons,
    remap,
    merge,
    export,
    s2i,
    draw,
    crops,
    view,
    report,
):
    cli.add_command(verb)
cli.add_command(completion_command("skelconv"))


def main() -> None:
    """Entry point of the console script."""
    run(cli)
