"""The verbs ``reconstruct``, ``explain`` and ``page``: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from skelconv.extras import need
from skeltrain.cli_options import DEVICE, ONE_STORE, PATHS, RUN, tell


@click.command(short_help="Show what a model makes of what it does not see.")
@RUN
@ONE_STORE
@click.option(
    "--row", "rows", metavar="NAME", multiple=True, help="Sample or recording; several times for several."
)
@click.option(
    "--steps", type=click.IntRange(min=1), default=20, show_default=True, help="Sampling steps of DiffMAE."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write: .html or .png.")
@DEVICE
def reconstruct(run: Path, store: Path | None, rows: tuple[str, ...], out: Path, **options: Any) -> None:
    """Mask samples, let the model of a pretraining RUN fill them in, and draw what comes out.

    As pictures (.png), or as a page that also shows the images decoded back to moving skeletons. The samples
    are some of the test part unless --row names others.

    \b
    Example:
        skeltrain reconstruct runs/ntu --out filled.html
        skeltrain reconstruct runs/ntu --store ucla.zarr --row a01_s01_e01_v03 --out filled.png
    """
    need("torch", "train")
    from skeltrain.pages.reconstruct import reconstruct_run
    from skeltrain.pages.reconstruct_page import check_suffix, write_reconstructions

    check_suffix(out)
    found = reconstruct_run(run, None if store is None else str(store), rows, log=tell, **options)
    write_reconstructions(out, found, f"Reconstructions by {run}")
    click.echo(str(out))


@click.command(short_help="Show on the skeleton where a model looks.")
@RUN
@click.argument("store", shell_complete=PATHS)
@click.option(
    "--row", "rows", metavar="NAME", multiple=True, help="Sample or recording; several times for several."
)
@click.option(
    "--method",
    type=click.Choice(["rollout", "last"]),
    default="rollout",
    show_default=True,
    help="Attention through all blocks, or that of the last.",
)
@click.option(
    "--out",
    "outs",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="File to write: .html, .csv or .npz; several times for several.",
)
@DEVICE
def explain(run: Path, store: str, rows: tuple[str, ...], outs: tuple[Path, ...], **options: Any) -> None:
    """Carry the attention of the model of RUN back to the frames and joints of samples of STORE.

    RUN is of task pretrain, probe or finetune. The page shows skeletons whose joints are coloured by
    attention, and attention by frame and joint; csv and npz hold the numbers.

    \b
    Example:
        skeltrain explain runs/tuned ntu60.zarr --row S001C001P001R001A010 --out look.html
        skeltrain explain runs/tuned ntu60.zarr --row S001C001P001R001A010 --out look.csv --method last
    """
    need("torch", "train")
    from skeltrain.pages.explain import explain_run
    from skeltrain.pages.explain_page import check_suffix, write_explained

    for out in outs:
        check_suffix(out)
    found = explain_run(run, store, rows, log=tell, **options)
    for out in outs:
        write_explained(out, found, f"Attention of {run}", options["method"])
        click.echo(str(out))


@click.command(short_help="One page about a run.")
@RUN
@ONE_STORE
@click.option(
    "--points",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Most samples on the map of features.",
)
@click.option("--out", type=click.Path(path_type=Path), help="HTML file to write; RUN/page.html by default.")
@DEVICE
def page(run: Path, store: Path | None, out: Path | None, **options: Any) -> None:
    """Write a page about RUN that opens from disk: curves, scores, confusions, features, reconstructions.

    A run of any task has curves, scores and settings. Of tasks on S2I images (pretrain, probe, finetune) it
    also shows which classes are confused, with the recordings side by side, and t-SNE of the features.

    \b
    Example:
        skeltrain page runs/tuned
        skeltrain page runs/tuned --store moved/ntu60.zarr --out tuned.html
    """
    need("torch", "train")
    from skeltrain.pages.run_page import write_run_page
    from skeltrain.run import run_of

    out = out or (run_of(run) if run.is_file() else run) / "page.html"
    write_run_page(run, out, None if store is None else str(store), log=tell, **options)
    click.echo(str(out))
