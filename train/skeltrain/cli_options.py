"""What the verbs of ``skeltrain`` share: options, the command line itself, and who speaks."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from skelconv.cli.complete import offering


def _recipes() -> Iterable[str]:
    from skeltrain.recipe_file import recipe_names

    return recipe_names()


RECIPES = offering(_recipes, files=True)
"""Offers shipped recipes, and files."""

PATHS = offering(tuple, files=True)
"""Offers paths, for what may also be a URL."""

RUN = click.argument("run", type=click.Path(path_type=Path))
ONE_STORE = click.option("--store", type=click.Path(path_type=Path), help="Sequence store to read.")
DEVICE = click.option("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N; the recipe's by default.")


def command_line() -> str:
    """Return the command line of this process, as a user would type it."""
    arguments = shlex.join(sys.argv[1:])
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return f"skeltrain {arguments}"
    nodes = os.environ.get("GROUP_WORLD_SIZE", "1")
    # where the machines meet is each user's own
    several = "" if nodes == "1" else f"--nnodes {nodes} "
    processes = f"--nproc-per-node {os.environ['LOCAL_WORLD_SIZE']}"
    return f"torchrun {several}{processes} --no-python skeltrain {arguments}"


def tell(line: str) -> None:
    """Say a line beside what a verb prints; of several processes the first alone."""
    if speaks():
        click.echo(line, err=True)


def speaks() -> bool:
    """Whether this process speaks; those that torchrun started beside the first keep quiet."""
    return os.environ.get("RANK", "0") == "0"
