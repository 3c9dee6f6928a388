"""``skelconv s2i``: the Skeleton-to-Image encoding, of a store or as the plan of a layout."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skelconv.cli.command import DONE, PROBLEMS, progress
from skelconv.cli.complete import chains, layouts, offering
from skelconv.cli.paths import PATH, STORE
from skelconv.ingest.executors import default_workers

if TYPE_CHECKING:
    from skelconv.s2i.options import EncodeOptions


@click.command(short_help="Encode skeletons as images.")
@click.argument("store", type=STORE, required=False)
@click.argument("out", type=PATH, required=False)
@click.option(
    "--format",
    "layout",
    metavar="LAYOUT",
    shell_complete=offering(layouts),
    help="Joint layout to encode in.  [default: the store's]",
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
@click.option(
    "--third", type=click.Choice(["confidence"]), help="Third channel of a store of two axes (2D poses)."
)
@click.option("--dtype", type=click.Choice(["float32", "float16"]), default="float32", show_default=True)
@click.option(
    "--clean",
    "chain",
    default="auto",
    show_default=True,
    shell_complete=offering(chains),
    help="Cleaning chain (docs/cleaning.md).",
)
@click.option("--align-corners", is_flag=True, help="Put the first and last frame on the image's edge rows.")
@click.option("--threads", type=click.IntRange(1), help="Threads that encode.  [default: one a processor]")
@click.option("--png", type=PATH, help="Also write the first images into this folder as PNG, labelled.")
@click.option("--png-limit", type=click.IntRange(1), default=20, show_default=True, help="How many PNG.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def s2i(
    store: Path | str | None,
    out: Path | None,
    layout: str | None,
    size: int,
    threads: int | None,
    png: Path | None,
    png_limit: int,
    quiet: bool,
    **options: Any,
) -> int:
    """Encode the recordings of STORE as images into OUT; with neither, show the plan of --format.

    Rows are time, columns are joints in five body parts, red, green and blue are x, y and z; of 2D poses x, y
    and, with --third confidence, each joint's confidence.

    \b
    Example:
        skelconv s2i out.zarr s2i.zarr --format ntu25
        skelconv s2i --format toyota13
        skelconv s2i coco.zarr s2i.zarr --third confidence
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
    from skelconv.s2i.options import EncodeOptions

    how = EncodeOptions(
        layout=layout,
        size=size,
        threads=threads or default_workers(),
        command=shlex.join(["skelconv", *sys.argv[1:]]),
        **options,
    )
    return _encode(store, out, how, png, png_limit, quiet)


def _encode(
    store: Path | str,
    out: Path,
    options: EncodeOptions,
    png: Path | None,
    png_limit: int,
    quiet: bool,
) -> int:
    from skelconv.s2i.write import encode_store, open_s2i
    from skelconv.store.store import open_store

    opened = open_store(store)
    summary = encode_store(opened, out, options, lambda steps, unit, size: progress(steps, unit, size, quiet))
    click.echo(summary.text())
    if png is not None:
        from skelconv.view.encoded import save_samples

        click.echo(f"{len(save_samples(open_s2i(out), png, png_limit))} pictures in {png}")
    return PROBLEMS if summary.set_aside else DONE
