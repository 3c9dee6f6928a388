"""``skelconv merge``, ``remap``, ``export``: from stores to other stores, and to other projects' files."""

from __future__ import annotations

from pathlib import Path

import click

from skelconv.cli.command import DONE, PROBLEMS
from skelconv.cli.paths import PATH, STORE


@click.command(short_help="Merge stores of one joint layout into one.")
@click.argument("out", type=PATH)
@click.argument("stores", type=STORE, nargs=-1, required=True)
@click.option("--prefix", is_flag=True, help="Put the dataset's name in front of every recording's.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
def merge(out: Path, stores: tuple[Path | str, ...], prefix: bool, overwrite: bool) -> None:
    """Write the sequences of all STORES as one store, OUT; their order does not matter.

    The parts of one ingest (`--part i/n`) give the store that one run would have given, byte for byte.

    Classes, columns and side tables are united by name. Layout, axes and unit must be the same: `skelconv
    remap` brings stores to one layout.

    \b
    Example:
        skelconv merge all.zarr ntu60.zarr pku1.zarr
        skelconv merge ntu60.zarr part-*.zarr
    """
    from skelconv.derive.merge import merge_stores
    from skelconv.derive.merge_parts import merge_parts, part_record
    from skelconv.store.store import open_store

    opened = [open_store(store) for store in stores]
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
@click.option("--format", "layout", metavar="LAYOUT", required=True, help="Joint layout to carry them to.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
def remap(store: Path | str, out: Path, layout: str, overwrite: bool) -> None:
    """Write STORE in another joint layout as OUT: each joint is the one of that name.

    \b
    Example:
        skelconv remap ntu60.zarr ntu60_13.zarr --format toyota13
    """
    from skelconv.derive.remap import remap_store
    from skelconv.store.store import open_store

    info = remap_store(open_store(store), out, layout, overwrite)
    click.echo(f"{out}: {info.provenance.describe()}")


@click.command(short_help="Write the files that other projects read.")
@click.argument("store", type=STORE)
@click.argument("out", type=PATH)
@click.option(
    "--to",
    "form",
    metavar="FORM",
    required=True,
    help="pyskl, ctrgcn, parquet, csv, bvh, or an installed one.",
)
@click.option("--protocol", help="Official split of a ctrgcn file.  [default: the store's first]")
@click.option(
    "--clean", "chain", default="auto", show_default=True, help="Cleaning chain of pyskl and ctrgcn files."
)
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
def export(store: Path | str, out: Path, form: str, protocol: str | None, chain: str, overwrite: bool) -> int:
    """Write STORE as a pyskl pickle, a CTR-GCN npz file, or a folder of Parquet, CSV or BioVision files.

    \b
    Example:
        skelconv export ntu60.zarr ntu60_3danno.pkl --to pyskl
        skelconv export ntu60.zarr NTU60_CS.npz --to ctrgcn --protocol xsub
        skelconv export ntu60.zarr tables/ --to parquet
        skelconv export poses.zarr motion/ --to bvh

    docs/export.md says what stands in each. Exit codes as those of ingest.
    """
    from skelconv.export import ExportOptions, export_store
    from skelconv.store.store import open_store

    done = export_store(open_store(store), out, form, ExportOptions(protocol, chain, overwrite))
    click.echo(done.describe())
    return PROBLEMS if done.set_aside else DONE
