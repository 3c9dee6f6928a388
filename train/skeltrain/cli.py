"""The command ``skeltrain``: parse, call, print. What a verb does stands in the module it calls."""

from __future__ import annotations

import os
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
from skeltrain.cli_options import DEVICE, ONE_STORE, RECIPES, RUN, command_line, speaks, tell
from skeltrain.cli_pages import explain, page, reconstruct
from skeltrain.cli_use import embed, ensemble, export, predict, search, table

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
SET = click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help=SET_HELP)
OUT = click.option(
    "--out", type=click.Path(path_type=Path), help="Folder of the run; runs/RECIPE by default."
)
RESUME = click.option("--resume", is_flag=True, help="Continue the run in that folder.")


def _run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of every verb that runs a recipe."""
    for option in (RESUME, OUT, DEVICE, SET, STORE):
        command = option(command)
    return command


@cli.command(short_help="Train as a recipe of any task says.")
@click.argument("recipe", shell_complete=RECIPES)
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
@click.argument("recipe", shell_complete=RECIPES)
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
    "--recipe",
    shell_complete=RECIPES,
    default="linprobe",
    show_default=True,
    help="Shipped recipe, YAML file, or auto with --store.",
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
    report = run_probe(load_recipe(recipe, ProbeRecipe, chosen), run, options["out"], tell)
    click.echo(describe_probe(report))


@cli.command(short_help="Train a pretrained encoder and a classifier on it.")
@RUN
@click.option(
    "--recipe",
    shell_complete=RECIPES,
    default="s2i_finetune",
    show_default=True,
    help="Shipped recipe or YAML file.",
)
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
    report = run_finetuning(loaded, run, out, options["resume"], tell)
    if report is None:
        again = command_line() if options["resume"] else f"{command_line()} --resume"
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
    for name, found in evaluate_run(run, _overrides(settings, stores, device), out, tell).items():
        for metric, value in found.metrics.items():
            click.echo(f"{name}  {metric}  {value:.6g}")


for verb in (embed, search, predict, export, reconstruct, explain, page, ensemble, table):
    cli.add_command(verb)


@cli.command(short_help="List the shipped recipes, or show one.")
@click.argument("name", required=False, shell_complete=RECIPES)
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
    heading = f"made by: {command_line()}"
    _conclude(run_recipe(loaded, task.build, folder, options["resume"], heading, tell), folder)


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
    tell(f"recipe: {name}")
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
        tell(
            f"done: {progress.epoch} epochs in {progress.seconds:.0f} s ({progress.waited:.0f} s of it for "
            f"batches), {loss}; {folder}/checkpoints/last.pt"
        )
        return
    if not speaks():
        sys.exit(INTERRUPTED)
    again = command_line() if "--resume" in sys.argv else f"{command_line()} --resume"
    raise RunInterruptedError(
        f"Interrupted after {progress.epoch} epochs and {progress.step} steps; all is saved. "
        f"Continue with\n    {again}"
    )


def main() -> None:
    """Run the command line and exit."""
    # Threads that wait for each other by spinning are ten times slower on a machine that others use too, and
    # no faster on one of our own. Must be said before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_memory()
    run(cli)


if __name__ == "__main__":
    main()
