"""The command ``skeltrain``: parse, call, print. What a verb does stands in the module it calls."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skelconv import __version__
from skelconv.cli.command import (
    INTERRUPTED,
    CommaList,
    NaturalOrderGroup,
    RunInterruptedError,
    completion_command,
    run,
)
from skelconv.extras import need
from skeltrain.allocator import keep_memory
from skeltrain.cli_pages import explain, page, reconstruct

if TYPE_CHECKING:
    # torch takes seconds to import, and --help needs none of it
    from skeltrain.engine import Outcome

SET_HELP = "Change a setting of the recipe, such as optim.batch=64; may stand several times."


@click.group(cls=NaturalOrderGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="skeltrain")
def cli() -> None:
    """Train models on a store that skelconv made.

    \b
    Example:
        skeltrain recipes
        skeltrain pretrain s2i_mae_ntu --store ntu120.zarr --out runs/ntu
        skeltrain probe runs/ntu --untrained --seeds 0,1,2
        torchrun --nproc-per-node 8 --no-python skeltrain train s2i_mae_ntu --store ntu120.zarr
    """


STORE = click.option(
    "--store",
    "stores",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Sequence store to read; several times for several stores.",
)
ONE_STORE = click.option("--store", type=click.Path(path_type=Path), help="Sequence store to read.")
SET = click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help=SET_HELP)
DEVICE = click.option("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N; the recipe's by default.")
OUT = click.option(
    "--out", type=click.Path(path_type=Path), help="Folder of the run; runs/RECIPE by default."
)
RESUME = click.option("--resume", is_flag=True, help="Continue the run in that folder.")
RUN = click.argument("run", type=click.Path(path_type=Path))


def _run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of every verb that runs a recipe."""
    for option in (RESUME, OUT, DEVICE, SET, STORE):
        command = option(command)
    return command


@cli.command(short_help="Train as a recipe of any task says.")
@click.argument("recipe")
@_run_options
def train(recipe: str, **options: Any) -> None:
    """Train as RECIPE says: a shipped recipe or a YAML file, of any task that is installed.

    Ctrl-C finishes the step, saves, and says how to go on. With several cards or machines, start the same
    command through torchrun; the recipe stays as it is.

    \b
    Example:
        skeltrain train s2i_mae_ntu --store ntu120.zarr --out runs/ntu
        skeltrain train my.yaml --store a.zarr --store b.zarr --set optim.epochs=400
        skeltrain train my.yaml --store a.zarr --store b.zarr --resume
    """
    _train(recipe, **options)


@cli.command(short_help="Pretrain a model as a recipe says.")
@click.argument("recipe")
@_run_options
def pretrain(recipe: str, **options: Any) -> None:
    """Pretrain a masked autoencoder. RECIPE is a shipped recipe, a YAML file, or auto to have one chosen.

    Ctrl-C finishes the step, saves, and says how to go on. With several cards or machines, start the same
    command through torchrun; the recipe stays as it is.

    \b
    Example:
        skeltrain pretrain auto --store out.zarr
        skeltrain pretrain demo --store demo/ntu.zarr --out demo/run
        skeltrain pretrain my.yaml --store out.zarr --set optim.epochs=400 --set precision=bf16
        skeltrain pretrain demo --store demo/ntu.zarr --out demo/run --resume
    """
    stores = options["stores"]
    recipe, chosen = _choose(recipe, "pretrain", stores[0] if stores else None, options["device"])
    _train(recipe, chosen, "pretrain", **options)


@cli.command(short_help="Train a linear classifier on a frozen pretrained encoder.")
@RUN
@click.option(
    "--recipe", default="linprobe", show_default=True, help="Shipped recipe, YAML file, or auto with --store."
)
@ONE_STORE
@SET
@DEVICE
@click.option("--seeds", type=CommaList(), help="Probe under each of these seeds, such as 0,1,2.")
@click.option("--untrained", is_flag=True, help="Also probe random encoders of the same architecture.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for probe.json; that of the run by default."
)
def probe(run: Path, recipe: str, **options: Any) -> None:
    """Train a linear classifier on the features of a frozen encoder, and test it.

    RUN is the folder of a pretraining run, or a checkpoint. The data is what the encoder was pretrained on,
    unless --store names another store, of any layout: each is encoded by its own order of joints.

    \b
    Example:
        skeltrain probe runs/demo --untrained --seeds 0,1,2
        skeltrain probe runs/ntu/checkpoints/best.pt --store ucla.zarr --set data.protocol=xview
    """
    _need_extra()
    from skeltrain.recipe_file import load_recipe
    from skeltrain.tasks.probe import ProbeRecipe
    from skeltrain.tasks.probe_report import describe_probe
    from skeltrain.tasks.probe_seeds import run_probe

    store, seeds = options["store"], options["seeds"]
    recipe, _ = _choose(recipe, "probe", store, options["device"])
    flags = {"seeds": list(seeds) if seeds else None, "untrained": options["untrained"] or None}
    chosen = _overrides(options["settings"], () if store is None else (store,), options["device"], **flags)
    report = run_probe(load_recipe(recipe, ProbeRecipe, chosen), run, options["out"], _log)
    click.echo(describe_probe(report))


@cli.command(short_help="Train a pretrained encoder and a classifier on it.")
@RUN
@click.option("--recipe", default="s2i_finetune", show_default=True, help="Shipped recipe or YAML file.")
@ONE_STORE
@SET
@DEVICE
@click.option("--seeds", type=CommaList(), help="Train under each of these seeds, such as 0,1,2.")
@click.option("--untrained", is_flag=True, help="Also train encoders like it from scratch.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the runs; RUN/RECIPE by default.")
@click.option("--resume", is_flag=True, help="Keep what is finished in that folder, and go on.")
def finetune(run: Path, recipe: str, **options: Any) -> None:
    """Train the encoder of RUN further, with a classifier on it, and test it: once under each seed.

    RUN is the folder of a pretraining run, or a checkpoint. The data is what the encoder was pretrained on,
    unless --store names another store, of any layout: each is encoded by its own order of joints. Each
    training is a run of its own, which evaluate, predict, embed and ensemble take.

    \b
    Example:
        skeltrain finetune runs/ntu --recipe s2i_finetune --untrained
        skeltrain finetune runs/ntu --recipe s2i_semi --seeds 0,1,2,3,4
        skeltrain finetune runs/ntu --recipe s2i_finetune_ucla --store ucla.zarr
    """
    _need_extra()
    from skeltrain.recipe_file import load_recipe
    from skeltrain.run import run_of
    from skeltrain.tasks.finetune import FinetuneRecipe
    from skeltrain.tasks.finetune_seeds import run_finetuning
    from skeltrain.tasks.probe_report import describe_finetuning

    store, seeds = options["store"], options["seeds"]
    flags = {"seeds": list(seeds) if seeds else None, "untrained": options["untrained"] or None}
    chosen = _overrides(options["settings"], () if store is None else (store,), options["device"], **flags)
    loaded = load_recipe(recipe, FinetuneRecipe, chosen)
    out = options["out"] or (run_of(run) if run.is_file() else run) / Path(recipe).stem
    report = run_finetuning(loaded, run, out, options["resume"], _log)
    if report is None:
        again = _command() if options["resume"] else f"{_command()} --resume"
        raise RunInterruptedError(f"Interrupted; all is saved. Continue with\n    {again}")
    click.echo(describe_finetuning(report))


@cli.command(short_help="Evaluate the model of a run.")
@RUN
@ONE_STORE
@SET
@DEVICE
@click.option("--out", type=click.Path(path_type=Path), help="Folder for what is found; the run by default.")
def evaluate(
    run: Path, store: Path | None, settings: tuple[str, ...], device: str | None, out: Path | None
) -> None:
    """Evaluate the model of RUN, a run folder or a checkpoint, as its task does.

    Prints the metrics, and writes them as evaluation.json with the predictions beside it.

    \b
    Example:
        skeltrain evaluate runs/ntu
        skeltrain evaluate runs/ntu --store ucla.zarr --set data.protocol=xview --out found
    """
    _need_extra()
    from skeltrain.run import evaluate_run

    stores = () if store is None else (store,)
    for name, found in evaluate_run(run, _overrides(settings, stores, device), out, _log).items():
        for metric, value in found.metrics.items():
            click.echo(f"{name}  {metric}  {value:.6g}")


@cli.command(short_help="Write what a model makes of each sample of a store.")
@RUN
@click.argument("store")
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
    _need_extra()
    from skeltrain.features_store import write_features
    from skeltrain.run import embed_run

    features, trained = embed_run(run, store, device, _log)
    write_features(out, features, trained, _command(), overwrite)
    click.echo(f"{out}: {features.feature.shape[0]:,} samples, {features.feature.shape[1]:,} features each")


@cli.command(short_help="Find the nearest poses of a gallery.")
@click.argument("gallery")
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
    _need_extra()
    from skeltrain.gallery import ImageQuery, PoseQuery, describe_found, open_gallery
    from skeltrain.gallery import search as find

    pose = [options.pop(name) for name in ("frame", "by", "picture")]
    box = options.pop("box")
    query = PoseQuery(store, row, *pose) if store is not None else ImageQuery(image or Path(), box or None)
    opened = open_gallery(gallery)
    found = find(opened, query, log=_log, **options)
    click.echo(describe_found(found.table))
    if out is not None:
        from skeltrain.gallery_page import write_found

        click.echo(write_found(out, opened, [found]))


@cli.command(short_help="Write what a model predicts for a store.")
@RUN
@click.argument("store")
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
    _need_extra()
    from skeltrain.run import predict_run
    from skeltrain.tasks.registry import PredictOptions

    chosen = PredictOptions(**options, command=_command())
    click.echo(predict_run(run, store, out, device, chosen, _log, bvh))


@cli.command(short_help="Write the network of a 3D pose run as ONNX.")
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
    _need_extra()
    from skeltrain.onnx_export import export_onnx
    from skeltrain.run import use

    with use(run, (), _log) as (_, _, trained):
        click.echo(export_onnx(trained, file, overwrite))


cli.add_command(reconstruct)
cli.add_command(explain)
cli.add_command(page)


@cli.command(short_help="Fuse the scores of several runs.")
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
    _need_extra()
    from skeltrain.ensemble import describe_ensemble, fuse_runs

    try:
        numbers = None if weights is None else [float(weight) for weight in weights]
    except ValueError as error:
        raise click.BadParameter(f"{error}", param_hint="--weights") from error
    click.echo(describe_ensemble(fuse_runs(runs, numbers, out)))


@cli.command(short_help="Gather finished runs in the tables of the S2I paper.")
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
    _need_extra()
    from skeltrain.tables.gather import gather_tables
    from skeltrain.tables.render import to_markdown, write_tables

    tables = gather_tables(runs)
    if out is not None:
        write_tables(tables, out, title)
    click.echo(to_markdown(tables, title), nl=False)


@cli.command(short_help="List the shipped recipes, or show one.")
@click.argument("name", required=False)
def recipes(name: str | None) -> None:
    """List the recipes that ship with the package; with NAME, print that one, to copy and change.

    \b
    Example:
        skeltrain recipes
        skeltrain recipes s2i_mae_ntu > my.yaml
    """
    from skeltrain.recipe_file import describe_recipes, recipe_text

    click.echo(recipe_text(name).rstrip("\n") if name else describe_recipes())


cli.add_command(completion_command("skeltrain"))


def _need_extra() -> None:
    """Say which packages are missing where skelconv was installed without its extra ``train``."""
    for package in ("torch", "timm"):
        need(package, "train")


def _train(recipe: str, chosen: Sequence[Any] = (), only: str | None = None, **options: Any) -> None:
    """Run a recipe of a task with the options of `_run_options`; with ``only``, of that task and no other."""
    _need_extra()
    from skeltrain.recipe_file import load_recipe, recipe_task
    from skeltrain.run import run_recipe
    from skeltrain.tasks.registry import find_task

    task = find_task(only or recipe_task(recipe))
    overrides = _overrides(options["settings"], options["stores"], options["device"])
    loaded = load_recipe(recipe, task.recipe, [*chosen, *overrides])
    folder = options["out"] if options["out"] is not None else Path("runs") / Path(recipe).stem
    heading = f"made by: {_command()}"
    _conclude(run_recipe(loaded, task.build, folder, options["resume"], heading, _log), folder)


def _choose(recipe: str, task: str, store: Path | None, device: str | None) -> tuple[str, list[Any]]:
    """Replace ``auto`` by the shipped recipe that fits; returns its name and what to set in it."""
    _need_extra()
    from skeltrain.distributed import pick_device
    from skeltrain.recipe_choice import AUTO, choose_recipe

    if recipe != AUTO:
        return recipe, []
    if store is None:
        raise click.UsageError(
            "a recipe can only be chosen for a store: add --store STORE, or name the recipe"
        )
    choice, settings = choose_recipe(store, pick_device(device or "auto").startswith("cuda"))
    name = choice.pretrain if task == "pretrain" else choice.probe
    _log(f"recipe: {name}")
    return name, settings


def _overrides(
    settings: tuple[str, ...], stores: tuple[Path, ...], device: str | None, **keys: Any
) -> list[Any]:
    """Turn ``--set``, and the flags that stand for a setting, into overrides; a flag wins."""
    from skeltrain.recipe_file import Override

    paths = [str(path) for path in stores]
    flags = {
        "data.store": paths[0] if len(paths) == 1 else None,
        "data.stores": [{"store": path} for path in paths] if len(paths) > 1 else None,
        "device": device,
        **keys,
    }
    given = [Override.parse(text) for text in settings]
    return given + [Override(tuple(k.split(".")), v) for k, v in flags.items() if v is not None]


def _conclude(outcome: Outcome, folder: Path) -> None:
    """Say how a run ended; one that was interrupted ends the program with the command that continues it."""
    progress = outcome.progress
    if not outcome.interrupted:
        loss = f"loss {outcome.metrics['loss']:.4f}" if outcome.metrics else "it was finished before"
        _log(
            f"done: {progress.epoch} epochs in {progress.seconds:.0f} s ({progress.waited:.0f} s of it for "
            f"batches), {loss}; {folder}/checkpoints/last.pt"
        )
        return
    if not _first():
        sys.exit(INTERRUPTED)
    again = _command() if "--resume" in sys.argv else f"{_command()} --resume"
    raise RunInterruptedError(
        f"Interrupted after {progress.epoch} epochs and {progress.step} steps; all is saved. "
        f"Continue with\n    {again}"
    )


def _command() -> str:
    """Return the command line of this process, as a user would type it."""
    arguments = shlex.join(sys.argv[1:])
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return f"skeltrain {arguments}"
    nodes = os.environ.get("GROUP_WORLD_SIZE", "1")
    # where the machines meet is each user's own
    several = "" if nodes == "1" else f"--nnodes {nodes} "
    processes = f"--nproc-per-node {os.environ['LOCAL_WORLD_SIZE']}"
    return f"torchrun {several}{processes} --no-python skeltrain {arguments}"


def _log(line: str) -> None:
    if _first():
        click.echo(line, err=True)


def _first() -> bool:
    """Whether this process speaks; those that torchrun started beside the first keep quiet."""
    return os.environ.get("RANK", "0") == "0"


def main() -> None:
    """Run the command line and exit."""
    # Threads that wait for each other by spinning are ten times slower on a machine that others use too, and
    # no faster on one of our own. Must be said before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_memory()
    run(cli)


if __name__ == "__main__":
    main()
