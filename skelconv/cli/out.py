"""``skelconv merge``, ``remap``, ``export``: from stores to other stores, and to other projects' files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from skelconv.cli.command import DONE, PROBLEMS
from skelconv.cli.complete import chains, forms, layouts, offering, offering_of_store, splits_of
from skelconv.cli.paths import PATH, STORE


@click.command(short_help="Merge stores of one joint layout into one.")
@click.argument("out", type=PATH)
@click.argument("stores", type=STORE, nargs=-1, required=True)
@click.option("--prefix", is_flag=True, help="Put the dataset's name in front of every recording's.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def merge(out: Path, stores: tuple[Path | str, ...], prefix: bool, overwrite: bool, quiet: bool) -> None:
    """Write the sequences of all STORES as one store, OUT; their order does not matter.

    The parts of one ingest (`--part i/n`) give the store that one run would have given, byte for byte.

    Classes, columns and side tables are united by name. Layout, axes and unit must be the same: `skelconv
    remap` brings stores to one layout.

    \b
    Example:
        skelconv merge all.zarr ntu60.zarr pku1.zarr
        skelconv merge ntu60.zarr part-*.zarr
    """
    from skelconv.cli.watched import watched
    from skelconv.derive.merge import merge_stores
    from skelconv.derive.merge_parts import merge_parts, part_record

    with watched(stores, quiet) as opened:
        if any(map(part_record, opened)):
            if prefix:
                raise click.UsageError("parts of one ingest are merged as they are: leave out --prefix")
            merged = merge_parts(opened, out, overwrite)
        else:
            merged = merge_stores(opened, out, prefix, overwrite)
    click.echo(f"{out}: {merged.info.provenance.describe()}")
    for line in merged.left_out:
        click.echo(f"left out: {line}")


@click.command(short_help="Carry the joints to another layout, by name.")
@click.argument("store", type=STORE)
@click.argument("out", type=PATH)
@click.option(
    "--format",
    "layout",
    metavar="LAYOUT",
    shell_complete=offering(layouts),
    required=True,
    help="Joint layout to carry them to.",
)
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def remap(store: Path | str, out: Path, layout: str, overwrite: bool, quiet: bool) -> None:
    """Write STORE in another joint layout as OUT: each joint is the one of that name.

    \b
    Example:
        skelconv remap ntu60.zarr ntu60_13.zarr --format toyota13
    """
    from skelconv.cli.watched import watched
    from skelconv.derive.remap import remap_store

    with watched([store], quiet) as (opened,):
        info = remap_store(opened, out, layout, overwrite)
    click.echo(f"{out}: {info.provenance.describe()}")


@click.command(short_help="Write the files that other projects read.")
@click.argument("store", type=STORE)
@click.argument("out", type=PATH)
@click.option(
    "--to",
    "form",
    metavar="FORM",
    shell_complete=offering(forms),
    required=True,
    help="pyskl, ctrgcn, parquet, csv, bvh, or an installed one.",
)
@click.option(
    "--protocol",
    shell_complete=offering_of_store(splits_of),
    help="Official split of a ctrgcn file.  [default: the store's first]",
)
@click.option(
    "--clean",
    "chain",
    default="auto",
    show_default=True,
    shell_complete=offering(chains),
    help="Cleaning chain of pyskl and ctrgcn files.",
)
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def export(store: Path | str, out: Path, form: str, quiet: bool, **options: Any) -> int:
    """Write STORE as a pyskl pickle, a CTR-GCN npz file, or a folder of Parquet, CSV or BioVision files.

    \b
    Example:
        skelconv export ntu60.zarr ntu60_3danno.pkl --to pyskl
        skelconv export ntu60.zarr NTU60_CS.npz --to ctrgcn --protocol xsub
        skelconv export ntu60.zarr tables/ --to parquet
        skelconv export poses.zarr motion/ --to bvh

    docs/export.md says what stands in each. Exit codes as those of ingest.
    """
    from skelconv.cli.watched import watched
    from skelconv.export import ExportOptions, export_store

    with watched([store], quiet) as (opened,):
        done = export_store(opened, out, form, ExportOptions(**options))
    click.echo(done.describe())
    return PROBLEMS if done.set_aside else DONE
