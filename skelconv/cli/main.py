"""The command ``skelconv``: parse, call, print. What a verb does stands in the module it calls."""

from __future__ import annotations

import click

from skelconv.cli.command import LazyGroup, completion_command, run

VERBS = {
    "doctor": ("skelconv.cli.doctor", "Say what a folder, file or store is, and what fits."),
    "datasets": ("skelconv.cli.ingest", "List the datasets that can be ingested."),
    "synth": ("skelconv.cli.synth", "Generate raw files of a dataset."),
    "ingest": ("skelconv.cli.ingest", "Raw files of a dataset to a store."),
    "cluster": ("skelconv.cli.cluster", "Job scripts for a cluster."),
    "status": ("skelconv.cli.cluster", "How far an ingest has come."),
    "info": ("skelconv.cli.stores", "What a store holds."),
    "verify": ("skelconv.cli.stores", "Check that a store is whole, byte by byte."),
    "clean": ("skelconv.cli.stores", "Run a published cleaning chain over a store."),
    "skeletons": ("skelconv.cli.ingest", "List the joint layouts that --format takes."),
    "remap": ("skelconv.cli.out", "Carry the joints to another layout, by name."),
    "merge": ("skelconv.cli.out", "Merge stores of one joint layout into one."),
    "export": ("skelconv.cli.out", "Write the files that other projects read."),
    "s2i": ("skelconv.cli.encode", "Encode skeletons as images."),
    "draw": ("skelconv.cli.crops", "Draw the people of a store as pictures."),
    "crops": ("skelconv.cli.crops", "Cut people out of pictures."),
    "view": ("skelconv.cli.look", "A picture, animation or page of one recording."),
    "report": ("skelconv.cli.look", "One page about a store, its images and its runs."),
}
"""The module of each verb, and its line in the help; they are imported when they are used."""


@click.group(cls=LazyGroup, verbs=VERBS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="skelconv", prog_name="skelconv")
def cli() -> None:
    """Human skeleton datasets: raw files to one zarr store, and from there to anything.

    \b
    Example:
        skelconv ingest ntu120 raw/ out.zarr
        skelconv info out.zarr
        skelconv s2i out.zarr s2i.zarr --format ntu25
    """


cli.add_command(completion_command("skelconv"))


def main() -> None:
    """Entry point of the console script, and of ``python -m skelconv``."""
    run(cli)
