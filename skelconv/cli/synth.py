"""``skelconv synth``: raw files in a dataset's own format, from a procedural human."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from skelconv.cli.command import CommaList, progress
from skelconv.cli.complete import generators, offering
from skelconv.cli.paths import PATH


@click.command(short_help="Generate raw files of a dataset.")
@click.argument("dataset", shell_complete=offering(generators))
@click.argument("raw", type=PATH)
@click.option("--recordings", type=click.IntRange(1), default=100, show_default=True, help="How many.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--actions", type=CommaList(), default="", help="Only these class numbers: 10,22.  [default: all]"
)
@click.option(
    "--frames", nargs=2, type=click.IntRange(1), default=(30, 120), show_default=True, metavar="MIN MAX",
    help="Lengths of the recordings.",
)  # fmt: skip
@click.option("-j", "--workers", type=click.IntRange(0), default=0, show_default=True, help="Processes.")
@click.option("--overwrite", is_flag=True, help="Replace a folder that was generated before.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def synth(
    dataset: str,
    raw: Path,
    recordings: int,
    seed: int,
    actions: tuple[str, ...],
    frames: tuple[int, int],
    quiet: bool,
    **options: Any,
) -> None:
    """Write RAW, a folder of files in the format of DATASET: its demo, its scale test, its ground truth.

    Recording i depends on the seed and on i alone: a larger folder begins with the files of a smaller one.

    \b
    Example:
        skelconv synth ntu120 raw/ --recordings 200 --seed 0
    """
    from skelconv.synth import Settings, synthesize

    if not all(action.isdecimal() for action in actions):
        raise click.BadParameter(
            f"{','.join(actions)}: expected class numbers, such as 10,22", param_hint="--actions"
        )
    settings = Settings(frames=frames, actions=tuple(map(int, actions)))
    with progress(recordings, "recordings", 0, quiet) as advance:
        summary = synthesize(
            dataset, raw, recordings, seed, settings=settings, advance=advance, **options
        )  # fmt: skip
    click.echo(str(summary))
