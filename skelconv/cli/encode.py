"""``skelconv s2i``: the Skeleton-to-Image encoding, of a store or as the plan of a layout."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from skelconv.cli.command import DONE, PROBLEMS, progress
from skelconv.ingest.executors import default_workers

FOLDER = click.Path(path_type=Path)


@click.command(short_help="Encode skeletons as images.")
@click.argument("store", type=FOLDER, required=False)
@click.argument("out", type=FOLDER, required=False)
@click.option(
    "--format", "layout", metavar="LAYOUT", help="Joint layout to encode in.  [default: the store's]"
)
@click.option("--size", type=click.IntRange(1), default=224, show_default=True, help="Rows and columns.")
@click.option(
    "--stream", type=click.Choice(["joint", "bone", "motion"]), default="joint", show_default=True,
    help="What the pixels hold: positions, bones, or motion to the next frame.",
)  # fmt: skip
@click.option(
    "--persons",
    type=click.Choice(["interleave", "concat", "separate", "first"]),
    default="interleave",
    show_default=True,
    help="How two persons become images: rows in turn, one after another, an image each, the main actor.",
)
@click.option("--dtype", type=click.Choice(["float32", "float16"]), default="float32", show_default=True)
@click.option(
    "--clean", "chain", default="auto", show_default=True, help="Cleaning chain (docs/cleaning.md)."
)
@click.option("--align-corners", is_flag=True, help="Put the first and last frame on the image's edge rows.")
@click.option("--threads", type=click.IntRange(1), help="Threads that encode.  [default: one a processor]")
@click.option("--png", type=FOLDER, help="Also write the first images as PNG into this folder.")
@click.option("--png-limit", type=click.IntRange(1), default=20, show_default=True, help="How many PNG.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def s2i(store: Path | None, out: Path | None, layout: str | None, size: int, **options: Any) -> int:
    """Encode the recordings of STORE as images into OUT; with neither, show the plan of --format.

    Rows are time, columns are joints in five body parts, red, green and blue are x, y and z.

    \b
    Example:
        skelconv s2i out.zarr s2i.zarr --format ntu25
        skelconv s2i --format toyota13
    """
    if store is None and layout is not None:
        from skelconv.s2i.plan import make_plan
        from skelformats.skeleton import load_skeleton

        click.echo(make_plan(load_skeleton(layout), size, options["align_corners"]).describe())
        return DONE
    if store is None or out is None:
        raise click.UsageError(
            "give STORE and OUT to encode a store, or --format alone to see a layout's plan"
        )
    return _encode(store, out, layout, size, **options)


def _encode(
    store: Path,
    out: Path,
    layout: str | None,
    size: int,
    threads: int | None,
    png: Path | None,
    png_limit: int,
    quiet: bool,
    **options: Any,
) -> int:
    from skelconv.s2i.picture import save_images
    from skelconv.s2i.write import encode_store, open_s2i
    from skelconv.store.store import open_store

    opened = open_store(store)
    command = shlex.join(["skelconv", *sys.argv[1:]])
    with progress(len(opened.recording_names()), "images", 0, quiet) as advance:
        summary = encode_store(
            opened, out, layout, size, threads=threads or default_workers(), command=command,
            progress=advance, **options,
        )  # fmt: skip
    click.echo(summary.text())
    if png is not None:
        click.echo(f"{len(save_images(open_s2i(out), png, png_limit))} pictures in {png}")
    return PROBLEMS if summary.set_aside else DONE
