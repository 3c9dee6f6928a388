"""``skelconv crops``: the people of a store, cut out of their pictures."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from skelconv.cli.command import DONE, PROBLEMS, RunInterruptedError, progress
from skelconv.cli.complete import arrays_of, offering_of_store
from skelconv.cli.paths import PATH, STORE
from skelconv.ingest.executors import default_workers, open_executor

PATTERN = "{recording}/{frame:06d}.jpg"


@click.command(short_help="Cut people out of pictures.")
@click.argument("store", type=STORE)
@click.argument("images", type=PATH)
@click.argument("out", type=PATH)
@click.option(
    "--pattern",
    default=PATTERN,
    show_default=True,
    help="Path of a frame's picture below IMAGES, of the table's columns and `frame`; or of a video.",
)
@click.option("--every", type=click.IntRange(1), default=1, show_default=True, help="Take every N-th frame.")
@click.option(
    "--pixels",
    metavar="ARRAY",
    shell_complete=offering_of_store(arrays_of),
    help="Array of the joints in the picture.  [default: found]",
)
@click.option(
    "-j",
    "--workers",
    type=click.IntRange(0),
    help="Processes that cut; 0: this one.  [default: one a processor]",
)
@click.option("--overwrite", is_flag=True, help="Replace OUT, or unfinished crops of other pictures.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def crops(store: Path | str, images: Path, out: Path, pattern: str, quiet: bool, **options: Any) -> int:
    """Cut every person of STORE out of the pictures below IMAGES into OUT, 192 x 256 pixels, with the poses.

    Interrupted or killed, the same command goes on where it stopped.

    \b
    Example:
        skelconv crops coco.zarr val2017/ crops.zarr --pattern "{image}"
        skelconv crops h36m.zarr frames/ crops.zarr --every 5
        skelconv crops h36m.zarr videos/ crops.zarr --every 5 --pattern "{recording}.mp4"

    Exit codes as those of ingest. docs/crops.md says what stands in OUT.
    """
    from skelconv.crops import pictures_of, write_crops
    from skelconv.store.store import open_store

    opened = open_store(store)
    every, workers = options["every"], options["workers"]
    total = sum(-(-length // every) for length in opened.array("length").tolist())
    try:
        with (
            open_executor(default_workers() if workers is None else workers) as executor,
            progress(total, "frames", 0, quiet) as advance,
        ):
            frames = pictures_of(images, pattern)
            pixels, overwrite = options["pixels"], options["overwrite"]
            summary = write_crops(opened, frames, out, every, pixels, executor, overwrite, advance)
    except KeyboardInterrupt:
        raise RunInterruptedError(
            "Interrupted. What was written is kept; to go on, run the same command again:\n"
            f"    {shlex.join(['skelconv', *sys.argv[1:]])}"
        ) from None
    click.echo(summary.describe())
    return PROBLEMS if summary.set_aside else DONE


@click.command(short_help="Draw the people of a store as pictures.")
@click.argument("store", type=STORE)
@click.argument("images", type=PATH)
@click.option(
    "--size",
    nargs=2,
    type=click.IntRange(8),
    required=True,
    metavar="WIDTH HEIGHT",
    help="Of a picture, pixels.",
)
@click.option(
    "--pattern",
    default=PATTERN,
    show_default=True,
    help="Path of a frame's picture below IMAGES, as for crops.",
)
@click.option("--every", type=click.IntRange(1), default=1, show_default=True, help="Take every N-th frame.")
@click.option("-j", "--workers", type=click.IntRange(0), default=0, show_default=True, help="Processes.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def draw(
    store: Path | str, images: Path, size: tuple[int, int], pattern: str, quiet: bool, **options: Any
) -> None:
    """Draw everybody of STORE as shaded figures, a JPEG file a frame below IMAGES, for crops to cut.

    STORE has 3D poses in the axes of a camera and the same joints in pixels, from which that camera follows:
    picture, 2D and 3D pose agree. What is there already stays, so the same command goes on.

    \b
    Example:
        skelconv draw h36m.zarr pictures/ --size 1000 1002 --every 5
        skelconv crops h36m.zarr pictures/ crops.zarr --every 5
    """
    from skelconv.crops import ImageFolder
    from skelconv.store.store import open_store
    from skelconv.view.filming import draw_store

    opened = open_store(store)
    recordings = opened.to_frame()["recording"].nunique()
    with (
        open_executor(options["workers"]) as executor,
        progress(recordings, "recordings", 0, quiet) as advance,
    ):
        summary = draw_store(opened, ImageFolder(images, pattern), size, options["every"], executor, advance)
    click.echo(summary.describe())
