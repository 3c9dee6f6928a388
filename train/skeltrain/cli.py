"""The command ``skeltrain``: parse, call, print. What a verb does stands in the module it calls."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
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
        torchrun --nproc-per-node 8 -m skeltrain.cli pretrain s2i_mae_ntu --store ntu120.zarr
    """


def _common(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that every verb that runs a recipe has."""
    options = (
        click.option("--store", type=click.Path(path_type=Path), help="Sequence store to read."),
        click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help=SET_HELP),
        click.option("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N; the recipe's by default."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@cli.command(short_help="Pretrain a model as a recipe says.")
@click.argument("recipe")
@_common
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run; runs/RECIPE by default.")
@click.option("--resume", is_flag=True, help="Continue the run in that folder.")
def pretrain(
    recipe: str,
    store: Path | None,
    settings: tuple[str, ...],
    device: str | None,
    out: Path | None,
    resume: bool,
) -> None:
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
    _need_extra()
    from skeltrain.recipe import PretrainRecipe
    from skeltrain.recipe_file import load_recipe
    from skeltrain.run import run_recipe
    from skeltrain.tasks.pretrain import build_pretraining

    recipe, chosen = _choose(recipe, "pretrain", store, device)
    loaded = load_recipe(recipe, PretrainRecipe, [*chosen, *_overrides(settings, store, device)])
    folder = out if out is not None else Path("runs") / Path(recipe).stem
    _conclude(run_recipe(loaded, build_pretraining, folder, resume, f"made by: {_command()}", _say), folder)


@cli.command(short_help="Train a linear classifier on a frozen pretrained encoder.")
@click.argument("run", metavar="RUN")
@click.option(
    "--recipe", default="linprobe", show_default=True, help="Shipped recipe, YAML file, or auto with --store."
)
@_common
@click.option("--seeds", type=CommaList(), help="Probe under each of these seeds, such as 0,1,2.")
@click.option("--untrained", is_flag=True, help="Also probe random encoders of the same architecture.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for probe.json; that of the run by default."
)
def probe(
    run: str,
    recipe: str,
    store: Path | None,
    settings: tuple[str, ...],
    device: str | None,
    seeds: tuple[str, ...] | None,
    untrained: bool,
    out: Path | None,
) -> None:
    """Train a linear classifier on the features of a frozen encoder, and test it.

    RUN is the folder of a pretraining run, or a checkpoint. The data is what the encoder was pretrained on,
    unless --store names another store, of any layout that has the encoder's joints.

    \b
    Example:
        skeltrain probe runs/demo --untrained --seeds 0,1,2
        skeltrain probe runs/ntu/checkpoints/best.pt --store ucla.zarr --set data.protocol=xview
    """
    _need_extra()
    from skeltrain.probe_report import describe_probe
    from skeltrain.recipe import ProbeRecipe
    from skeltrain.recipe_file import load_recipe
    from skeltrain.tasks.probe import run_probe

    recipe, _ = _choose(recipe, "probe", store, device)
    chosen = _overrides(
        settings, store, device, seeds=list(seeds) if seeds else None, untrained=untrained or None
    )
    report = run_probe(load_recipe(recipe, ProbeRecipe, chosen), Path(run), out, _say)
    click.echo(describe_probe(report))


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


def _choose(recipe: str, task: str, store: Path | None, device: str | None) -> tuple[str, list[Any]]:
    """Replace ``auto`` by the shipped recipe that fits; returns its name and what to set in it."""
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
    _say(f"recipe: {name}")
    return name, settings


def _overrides(settings: tuple[str, ...], store: Path | None, device: str | None, **keys: Any) -> list[Any]:
    """Turn ``--set``, and the flags that stand for a setting, into overrides; a flag wins."""
    from skeltrain.recipe_file import Override

    flags = {"data.store": None if store is None else str(store), "device": device, **keys}
    given = [Override.parse(text) for text in settings]
    return given + [Override(tuple(k.split(".")), v) for k, v in flags.items() if v is not None]


def _conclude(outcome: Outcome, folder: Path) -> None:
    """Say how a run ended; one that was interrupted ends the program with the command that continues it."""
    progress = outcome.progress
    if not outcome.interrupted:
        loss = f"loss {outcome.metrics['loss']:.4f}" if outcome.metrics else "it was finished before"
        _say(
            f"done: {progress.epoch} epochs in {progress.seconds:.0f} s, {loss}; {folder}/checkpoints/last.pt"
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
    return f"torchrun --nproc-per-node {os.environ['LOCAL_WORLD_SIZE']} -m skeltrain.cli {arguments}"


def _say(line: str) -> None:
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
    run(cli)


if __name__ == "__main__":
    main()
