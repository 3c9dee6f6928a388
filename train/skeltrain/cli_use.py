"""The verbs that use finished runs, ``embed search predict export ensemble table``: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from skelconv.cli.command import CommaList
from skelconv.extras import need
from skeltrain.cli_options import DEVICE, PATHS, RUN, command_line, tell


@click.command(short_help="Write what a model makes of each sample of a store.")
@RUN
@click.argument("store", shell_complete=PATHS)
@click.argument("out", type=click.Path(path_type=Path))
@DEVICE
@click.option("--overwrite", is_flag=True, help="Replace OUT if it is there.")
def embed(run: Path, store: str, out: Path, device: str | None, overwrite: bool) -> None:
    """Write the features that the model of RUN makes of STORE as OUT, with the table beside them.

    OUT is a zarr group that xarray and pandas open: the array `feature`, a row a sample, and a column of
    each thing that is known of the sample.

    \b
    Example:
        skeltrain embed runs/ntu ucla.zarr features.zarr
    """
    need("torch", "train")
    from skeltrain.features_store import write_features
    from skeltrain.run import embed_run

    features, trained = embed_run(run, store, device, tell)
    write_features(out, features, trained, command_line(), overwrite)
    click.echo(f"{out}: {features.feature.shape[0]:,} samples, {features.feature.shape[1]:,} features each")


@click.command(short_help="Find the nearest poses of a gallery.")
@click.argument("gallery", shell_complete=PATHS)
@click.option("--pose", "store", metavar="STORE", help="Store of the pose to look for, with --row.")
@click.option("--row", metavar="NAME", help="Its sequence.")
@click.option("--frame", type=int, help="Its frame in the recording; the first with a pose by default.")
@click.option("--image", type=click.Path(path_type=Path), help="Picture of a person to look for.")
@click.option(
    "--box",
    nargs=4,
    type=float,
    metavar="LEFT TOP RIGHT BOTTOM",
    help="The person in the picture, pixels; all of it by default.",
)
@click.option(
    "--by",
    metavar="MODALITY",
    help="Look by its pose3d, pose2d or image; 3D where the store has it, by default.",
)
@click.option(
    "--picture",
    nargs=2,
    type=click.IntRange(min=1),
    metavar="WIDTH HEIGHT",
    help="Size of the pictures of 2D poses in pixels; that of the training by default.",
)
@click.option("--k", default=10, show_default=True, help="How many to show.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="HTML page of small skeletons and crops to write."
)
@click.option("--faiss", is_flag=True, help="Choose candidates by an index, kept beside GALLERY.")
@click.option("--run", type=click.Path(path_type=Path), help="Run of the model; the gallery's by default.")
def search(gallery: str, store: str | None, image: Path | None, out: Path | None, **options: Any) -> None:
    """Find the poses of GALLERY nearest to one of a store, or to the person in a picture.

    GALLERY is what skeltrain embed wrote for a run of task align.

    \b
    Example:
        skeltrain embed runs/unihpr3 h36m.zarr gallery.zarr
        skeltrain search gallery.zarr --pose openpose.zarr --row video_b0 --frame 120
        skeltrain search gallery.zarr --image photo.jpg --k 10 --out found.html
    """
    row = options.pop("row")
    if (store is None) == (image is None):
        raise click.UsageError("give what to look for: --pose STORE with --row NAME, or --image FILE")
    if store is not None and row is None:
        raise click.UsageError("--pose needs the sequence to look for: add --row NAME")
    need("torch", "train")
    from skeltrain.gallery import ImageQuery, PoseQuery, describe_found, open_gallery
    from skeltrain.gallery import search as find

    pose = [options.pop(name) for name in ("frame", "by", "picture")]
    box = options.pop("box")
    query = PoseQuery(store, row, *pose) if store is not None else ImageQuery(image or Path(), box or None)
    opened = open_gallery(gallery)
    found = find(opened, query, log=tell, **options)
    click.echo(describe_found(found.table))
    if out is not None:
        from skeltrain.gallery_page import write_found

        click.echo(write_found(out, opened, [found]))


@click.command(short_help="Write what a model predicts for a store.")
@RUN
@click.argument("store", shell_complete=PATHS)
@click.argument("out", type=click.Path(path_type=Path))
@DEVICE
@click.option(
    "--height", type=float, metavar="METRES", help="3D pose: height of the persons; poses in metres."
)
@click.option(
    "--stride",
    type=click.IntRange(min=1),
    metavar="FRAMES",
    help="3D pose: from one window to the next; half a window by default.",
)
@click.option(
    "--vertices",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Meshes: a npz file of vertices a track.",
)
@click.option(
    "--body-model", type=click.Path(path_type=Path), help="Meshes: SMPL's file; the recipe's by default."
)
@click.option(
    "--regressor", type=click.Path(path_type=Path), help="Meshes: joint regressor; the recipe's by default."
)
@click.option(
    "--bvh",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="3D poses and meshes: also BioVision files.",
)
@click.option("--overwrite", is_flag=True, help="Replace OUT if it is a store.")
def predict(run: Path, store: str, out: Path, device: str | None, bvh: Path | None, **options: Any) -> None:
    """Write what the model of RUN predicts for each recording of STORE as OUT.

    OUT is a csv table of classes where RUN is of a classifier (probe, finetune, motion_action,
    motion_oneshot), and a sequence store of 3D poses where its task is pose3d, or of bodies with the pose and
    shape of SMPL where it is mesh; STORE then is any store of 2D poses that have the joints of Human3.6M.

    \b
    Example:
        skeltrain train linprobe --set encoder.run=runs/ntu --out runs/ntu_probe
        skeltrain predict runs/ntu_probe new.zarr labels.csv
        skeltrain predict runs/pose3d openpose.zarr poses.zarr --height 1.75
        skeltrain predict runs/mesh openpose.zarr bodies.zarr --vertices vertices --bvh bvh
    """
    need("torch", "train")
    from skeltrain.run import predict_run
    from skeltrain.tasks.registry import PredictOptions

    chosen = PredictOptions(**options, command=command_line())
    click.echo(predict_run(run, store, out, device, chosen, tell, bvh))


@click.command(short_help="Write the network of a 3D pose run as ONNX.")
@RUN
@click.option("--onnx", "file", type=click.Path(path_type=Path), required=True, help="File to write.")
@click.option("--overwrite", is_flag=True, help="Replace the file if it is there.")
def export(run: Path, file: Path, overwrite: bool) -> None:
    """Write the network of RUN, of task pose3d, as ONNX: clips (batch, time, 17, 3) in, motion of that
    shape out.

    \b
    Example:
        skeltrain export runs/pose3d --onnx pose3d.onnx
    """
    need("torch", "train")
    from skeltrain.onnx_export import export_onnx
    from skeltrain.run import use

    with use(run, (), tell) as (_, _, trained):
        click.echo(export_onnx(trained, file, overwrite))


@click.command(short_help="Fuse the scores of several runs.")
@click.argument("runs", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--weights", type=CommaList(), help="One for each run, such as 0.6,0.6,0.4.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for ensemble.json and the fused scores.")
def ensemble(runs: tuple[Path, ...], weights: tuple[str, ...] | None, out: Path | None) -> None:
    """Add up the logits that RUNS gave for the same test recordings, and score the sum.

    RUNS are folders of probes (skeltrain train) or fine-tunings, in the order joint, bone, motion: then the
    weights are 0.6, 0.6 and 0.4, as published for other models. Equal weights are shown beside them.

    \b
    Example:
        skeltrain ensemble runs/joint_tuned runs/bone_tuned runs/motion_tuned
        skeltrain ensemble runs/a runs/b --weights 1,0.5 --out runs/both
    """
    need("torch", "train")
    from skeltrain.ensemble import describe_ensemble, fuse_runs

    try:
        numbers = None if weights is None else [float(weight) for weight in weights]
    except ValueError as error:
        raise click.BadParameter(f"{error}", param_hint="--weights") from error
    click.echo(describe_ensemble(fuse_runs(runs, numbers, out)))


@click.command(short_help="Gather finished runs in the tables of the S2I paper.")
@click.argument("runs", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for tables.md and tables.csv.")
@click.option("--title", default="Tables of the S2I paper", help="Heading, such as what data it is.")
def table(runs: tuple[Path, ...], out: Path | None, title: str) -> None:
    """Gather what RUNS found in the tables of the S2I paper, with the paper's figures beside them.

    RUNS are folders of pretrainings, probes, fine-tunings and fusions, with all that lies below them. Each
    result goes where its run's own record says; what fits no table is listed with the reason.

    \b
    Example:
        skeltrain table runs/*
        skeltrain table runs/ntu runs/universal --out tables
    """
    need("torch", "train")
    from skeltrain.tables.gather import gather_tables
    from skeltrain.tables.render import to_markdown, write_tables

    tables = gather_tables(runs)
    if out is not None:
        write_tables(tables, out, title)
    click.echo(to_markdown(tables, title), nl=False)
