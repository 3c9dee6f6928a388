"""``skelconv view``, ``skelconv report``: pictures, animations, pages."""

from __future__ import annotations

from pathlib import Path

import click

from skelconv.cli.command import progress
from skelconv.cli.complete import names_of, offering_of_store
from skelconv.cli.paths import PATH, STORE


@click.command(short_help="A picture, animation or page of one recording.")
@click.argument("store", type=STORE)
@click.option(
    "--sequence",
    "name",
    shell_complete=offering_of_store(names_of),
    help="Sequence, recording or S2I sample.  [default: the first]",
)
@click.option("--out", type=PATH, required=True, help="File to write: .png, .gif, .mp4 or .html.")
@click.option("--video", type=PATH, help="Draw onto this video, or onto this folder's pictures (.gif, .mp4).")
@click.option("--beside", is_flag=True, help="2D poses beside the 3D ones, of the array pixel.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def view(
    store: Path | str, name: str | None, out: Path, video: Path | None, beside: bool, quiet: bool
) -> None:
    """Show a recording with everyone in it, or one sequence, or an encoded image.

    \b
    Example:
        skelconv view out.zarr --sequence S001C001P001R001A001 --out walk.gif
        skelconv view out.zarr --out walk.html       # turn it round in a browser, offline
        skelconv view poses.zarr --out seen.mp4 --video clip.mp4
        skelconv view lifted.zarr --out lifted.html --beside
    """
    from skelconv.view import view as draw

    draw(store, name, out, video, lambda steps, unit, size: progress(steps, unit, size, quiet), beside)
    click.echo(str(out))


@click.command(short_help="One page about a store, its images and its runs.")
@click.argument("store", type=STORE)
@click.option("--s2i", type=PATH, help="S2I store made from it: images by class.")
@click.option("--run", "runs", type=PATH, multiple=True, help="Run folder of skeltrain; may be repeated.")
@click.option("--title", default="", help="Heading of the page.")
@click.option("--out", type=PATH, required=True, help="HTML file to write.")
def report(store: Path | str, s2i: Path | None, runs: tuple[Path, ...], title: str, out: Path) -> None:
    """Write a self-contained page: table, lengths, labels, one moving skeleton, images, losses, accuracies.

    \b
    Example:
        skelconv report out.zarr --s2i s2i.zarr --run runs/pretrain --out report.html
    """
    from skelconv.report.page import write_report

    write_report(out, store, s2i, runs, title)
    click.echo(str(out))
