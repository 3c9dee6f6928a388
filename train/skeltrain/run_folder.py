"""The folder of a run: recipe.yaml, metrics.csv, tensorboard/, checkpoints/. Who may start or continue it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skelconv.store.publish import NoLocksError, StoreLockedError, lock_folder
from skelformats.errors import SkelconvError
from skeltrain.checkpoint import LAST, Checkpoint, load_newest
from skeltrain.distributed import World
from skeltrain.recipe import Recipe
from skeltrain.recipe_file import differences, from_plain, to_plain, to_yaml

ABOUT = "about"
"""Key of a job's metadata, and of ``evaluation.json``: what a task says of its evaluations, if anything."""


LOCK = "skeltrain-lock"
"""File of a run's folder that its training holds locked."""


class RunError(SkelconvError):
    """A run cannot start here, cannot be continued, or had to stop."""


@dataclass(frozen=True)
class RunFolder:
    """Names of what a run leaves behind."""

    path: Path

    @property
    def recipe(self) -> Path:
        """Every setting of the run, defaults included."""
        return self.path / "recipe.yaml"

    @property
    def metrics(self) -> Path:
        """The table of metrics."""
        return self.path / "metrics.csv"

    @property
    def tensorboard(self) -> Path:
        """Event files."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.checkpoints / LAST

    @property
    def evaluation(self) -> Path:
        """The metrics of the evaluations after the last epoch."""
        return self.path / "evaluation.json"

    @property
    def reconstructions(self) -> Path:
        """Folder of the reconstructions that were drawn while pretraining."""
        return self.path / "reconstructions"

    def predictions(self, name: str) -> Path:
        """Arrays of what an evaluation predicted."""
        return self.path / f"predictions_{name}.npz"

    def start(self, recipe: Recipe, heading: str) -> None:
        """Make the folder and write the recipe into it."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        aside = self.recipe.with_name("recipe.yaml.partial")
        aside.write_text(to_yaml(recipe, heading), encoding="utf-8")
        aside.replace(self.recipe)


@contextmanager
def lock_run(path: Path, world: World, log: Callable[[str], None] = lambda line: None) -> Iterator[None]:
    """Keep other trainings out of a run's folder; the first process holds the lock for all of its training.

    On a file system without locks that is said, and nobody is kept out.

    Raises
    ------
    RunError
        Another training writes there; in every process of this one.
    """
    refused = ""
    with ExitStack() as stack:
        # a path that is no folder is refused by `claim_run`
        if world.primary and (path.is_dir() or not path.exists()):
            try:
                stack.enter_context(lock_folder(path, LOCK))
            except StoreLockedError as error:
                refused = str(error)
            except NoLocksError as error:
                log(f"{error}. Until then see to it that no other training writes to {path}")
        said = next(filter(None, world.gather(refused)), "")
        if said:
            raise RunError(said)
        yield


def claim_run(
    path: Path, recipe: Recipe, resume: bool, log: Callable[[str], None] = lambda line: None
) -> Checkpoint | None:
    """Decide whether a run may use a folder; changes nothing.

    Parameters
    ----------
    log
        Takes a line for the user where a damaged checkpoint is passed over.

    Returns
    -------
    The checkpoint to go on from, or None for a fresh run.

    Raises
    ------
    RunError
        The folder holds a run and ``resume`` is false, or its recipe differs; the differences are listed.
    CheckpointError
        The checkpoint cannot be read.
    """
    folder = RunFolder(path)
    if path.exists() and not path.is_dir():
        raise RunError(f"{path}: found a file, expected the name of a folder. Choose another --out")
    if folder.last.exists():
        if not resume:
            raise RunError(
                f"{path}: found a run, expected an empty or new folder. Add --resume to continue it, "
                "or choose another --out"
            )
        checkpoint = load_newest(folder.last, log)
        check_same(path, checkpoint["metadata"]["recipe"], recipe)
        return checkpoint
    foreign = [entry for entry in path.iterdir() if not _ours(entry)] if path.exists() else []
    if foreign:
        raise RunError(
            f"{path}: found {foreign[0].name}, which belongs to no run, expected an empty or new folder. "
            "Choose another --out"
        )
    return None


def check_same(path: Path, old: Mapping[str, Any], recipe: Recipe) -> None:
    """Raise `RunError` with the differences unless a run's recipe agrees with the one that continues it."""
    # a setting that came later than the run has the value that it had unsaid
    began = to_plain(from_plain(old, f"the recipe of the run in {path}", type(recipe)))
    changed = differences(began, to_plain(recipe), recipe.FREE)
    if changed:
        listed = "\n".join(f"    {line}" for line in changed)
        raise RunError(
            f"{path}: found a run with another recipe, expected the same one. Take the settings back, or "
            f"choose another --out:\n{listed}"
        )


def _ours(entry: Path) -> bool:
    """Whether a run that stopped before its first checkpoint may have left this."""
    names = {
        "recipe.yaml",
        "metrics.csv",
        "tensorboard",
        "checkpoints",
        "evaluation.json",
        "reconstructions",
        LOCK,
    }
    name = entry.name.removesuffix(".partial")
    return name in names or (name.startswith("predictions_") and name.endswith(".npz"))
