"""``skelconv cluster``, ``status``: ingest in parts on a cluster, and how far it has come."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from skelconv.cli.command import DONE, PROBLEMS, CommaList, NaturalOrderGroup
from skelconv.cli.ingest import WorkersType
from skelconv.cli.paths import PATH

OURS = ("scheduler", "part", "dry_run", "overwrite", "quiet")
"""Options of an ingest that a part has values of its own for."""


@click.group(cls=NaturalOrderGroup, short_help="Job scripts for a cluster.")
def cluster() -> None:
    """Write job scripts that ingest in parts on many machines.

    \b
    Example:
        skelconv cluster slurm ingest ntu120 raw/ out.zarr --parts 8 --time 4:00:00
        bash out.zarr.parts/submit.sh
        skelconv status out.zarr
    """


@cluster.group(cls=NaturalOrderGroup, short_help="Scripts for Slurm.")
def slurm() -> None:
    """Write scripts for Slurm.

    \b
    Example:
        skelconv cluster slurm ingest ntu120 raw/ out.zarr --parts 8 --time 4:00:00
    """


@slurm.command(
    short_help="Ingest in parts, then merge.",
    context_settings={"ignore_unknown_options": True},
    options_metavar="[OPTIONS]",
)
@click.argument("words", metavar="DATASET RAW OUT", nargs=-1, type=click.UNPROCESSED, required=True)
@click.option("--parts", type=click.IntRange(1), required=True, help="Parts, each a job of the array.")
@click.option("--time", help="Longest time of a job, as sbatch takes it.")
@click.option("--mem", help="Memory of a job, as sbatch takes it.")
@click.option("--cpus", type=click.IntRange(1), default=2, show_default=True, help="Processors of a job.")
@click.option("--account", help="Account to charge.")
@click.option("--partition", help="Partition to run in.")
@click.option("--sbatch", "more", multiple=True, help="A further option of sbatch, such as --qos=long.")
def ingest(words: tuple[str, ...], parts: int, cpus: int, more: tuple[str, ...], **asked: str | None) -> None:
    """Write the scripts of an ingest of RAW into OUT in parts, into the folder OUT.parts.

    Every option of `skelconv ingest DATASET` may be given as well. RAW and OUT must be seen by all machines
    under the same path. submit.sh submits an array of the parts and a merge that waits for it; run again, it
    submits what is not finished.

    \b
    Example:
        skelconv cluster slurm ingest ntu120 raw/ out.zarr --parts 8 --time 4:00:00 --mem 4G
        bash out.zarr.parts/submit.sh
    """
    from skelconv.ingest.slurm import Job, write_scripts

    command, params, options = _parsed(words, parts)
    out = params["out"].absolute()
    raws = params["raw"] if isinstance(params["raw"], tuple) else (params["raw"],)
    job = Job(
        parts,
        ("ingest", str(command.name), *(str(raw.resolve()) for raw in raws)),
        tuple(options),
    )
    directives = [f"--cpus-per-task={cpus}", *(f"--{name}={value}" for name, value in asked.items() if value)]
    submit = write_scripts(job, out, (sys.executable, "-m", "skelconv"), [*directives, *more])
    click.echo(f"{submit.parent}: scripts for {parts} parts\nnext: bash {submit}")


@click.command(short_help="How far an ingest has come.")
@click.argument("out", type=PATH)
def status(out: Path) -> int:
    """Say whether OUT is finished, and what is there of it: by part, where it is ingested in parts.

    \b
    Example:
        skelconv status out.zarr

    Exit codes: 0 finished; 1 not yet; 2 there is nothing.
    """
    from skelconv.ingest.status import status_of

    report = status_of(out)
    click.echo(report.describe())
    return DONE if report.finished else PROBLEMS


def _parsed(words: tuple[str, ...], parts: int) -> tuple[click.Command, dict[str, Any], list[str]]:
    """Check the words of an ingest as itself would, and that as many parts can be made of its sources.

    Returns the ingest, its parameters, and the options that were given, as words.
    """
    from skelconv.cli.ingest import ingest as group

    outer = click.Context(group, info_name="skelconv ingest")
    command = group.get_command(outer, words[0])
    if command is None:
        raise click.UsageError(f"found no dataset {words[0]!r}")
    with command.make_context(words[0], list(words[1:]), parent=outer) as context:
        given = [
            param
            for param in command.params
            if isinstance(param, click.Option)
            and context.get_parameter_source(str(param.name)) is not ParameterSource.DEFAULT
        ]
        params = dict(context.params)
    for param in given:
        if param.name in OURS:
            raise click.UsageError(f"leave out {param.opts[-1]}: the scripts set it themselves")
    click.echo(f"part 1 of {parts}:")
    tried = [*words[1:], "--dry-run", "--part", f"1/{parts}"]
    with command.make_context(words[0], tried, parent=outer) as context:
        command.invoke(context)
    return command, params, [word for param in given for word in _words(param, params[str(param.name)])]


def _words(param: click.Option, value: Any) -> list[str]:
    """Return an option as it was given, paths absolute."""
    if param.is_flag:
        return [param.opts[-1]]
    if isinstance(param.type, CommaList):
        return [param.opts[-1], ",".join(value)]
    if isinstance(param.type, WorkersType):
        return [param.opts[-1], "auto" if value is None else str(value)]
    return [param.opts[-1], str(value.resolve() if isinstance(value, Path) else value)]
