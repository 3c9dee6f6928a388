"""Reads what finished runs found: one `Result` for each classifier that was trained and tested, or fused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from skelconv.store.store import open_store
from skelformats.errors import SkelconvError
from skeltrain.ensemble import ENSEMBLE
from skeltrain.run_folder import ABOUT, RunError, RunFolder
from skeltrain.tasks.about import VERSION
from skeltrain.tasks.finetune_seeds import REPORT as FINETUNE
from skeltrain.tasks.probe_seeds import REPORT as PROBE

REPORTS: Mapping[str, str] = {PROBE: "probe", FINETUNE: "finetune"}
"""Files of several seeds, and the task of each."""


class _Part(BaseModel):
    # a later minor version may say more
    model_config = ConfigDict(extra="allow")


class _Store(_Part):
    dataset: str
    digest: str
    layout: str
    protocol: str | None


class _Data(_Store):
    protocol: str
    train: str
    test: str
    streams: Annotated[list[str], Field(min_length=1)]
    train_samples: int
    test_samples: int
    leaked: int
    classes: int
    chance: float
    majority: float


class _Pretraining(_Part):
    checkpoint: str
    recipe: dict[str, Any]
    epochs: int
    stores: list[_Store]


class _About(_Part):
    """What `skeltrain.tasks.about.describe_trial` says, as far as tables need it."""

    version: int
    task: Literal["probe", "finetune"]
    encoder: str
    seed: int
    trained_here: bool
    data: _Data
    recipe: dict[str, Any]
    pretraining: _Pretraining | None


class _Scores(_Part):
    top1: float
    mean_class: float


@dataclass(frozen=True)
class Result:
    """What one classifier, or the sum of several, scored on a test part.

    Attributes
    ----------
    where
        The file that says so.
    scores
        Accuracies by name, between 0 and 1.
    members
        What the evaluation says of itself (`skeltrain.tasks.about.describe_trial`); of a fusion, of each run.
    weights
        Of the members of a fusion; empty for a single classifier.
    """

    where: Path
    scores: Mapping[str, float]
    members: tuple[Mapping[str, Any], ...]
    weights: tuple[float, ...] = ()

    @property
    def about(self) -> Mapping[str, Any]:
        """The account of the first member."""
        return self.members[0]

    @property
    def fused(self) -> bool:
        """Whether scores of several runs were added up."""
        return bool(self.weights)


@dataclass(frozen=True)
class Left:
    """Something that stands in no table, and why."""

    where: Path
    reason: str


def read_results(runs: Sequence[Path]) -> tuple[list[Result], list[Left]]:
    """Read all that lies in and below the folders of runs; nothing is read twice.

    Returns
    -------
    The results, and what is there but says too little of itself.

    Raises
    ------
    RunError
        One of ``runs`` is not a folder, or holds nothing that is finished, or a file is damaged.
    """
    results: dict[Path, list[Result]] = {}
    left: dict[Path, Left] = {}
    for run in runs:
        if not run.is_dir():
            raise RunError(f"{run}: found no folder, expected that of a run. Check the name")
        paths = sorted(
            path.resolve()
            for name in (RunFolder(run).evaluation.name, ENSEMBLE, *REPORTS)
            for path in run.rglob(name)
        )
        unfinished = [Left(path, reason) for path, reason in _unfinished(run)]
        if not any(path not in {one.where for one in unfinished} for path in paths):
            raise RunError(f"{run}: {_nothing(run, unfinished)}")
        for path in paths:
            if path in results or path in left:
                continue
            try:
                results[path] = list(_read(path))
            except _UnusableError as error:
                left[path] = Left(path, str(error))
        for one in unfinished:
            left.setdefault(one.where, one)
    return [one for found in results.values() for one in found], list(left.values())


class _UnusableError(Exception):
    """A file is sound, but stands for nothing that a table could hold."""


def _nothing(run: Path, unfinished: Sequence[Left]) -> str:
    """Say what a folder without results is."""
    expected = "expected a finished run with what `skeltrain probe`, finetune, ensemble or evaluate writes"
    if unfinished:
        return f"found a run that is not finished ({unfinished[0].reason}), {expected}. Go on with --resume"
    if RunFolder(run).recipe.exists():
        return f"found a run without evaluations, {expected}. Probe or fine-tune it"
    return f"found no run, {expected}"


def _unfinished(run: Path) -> Iterator[tuple[Path, str]]:
    """Yield runs of classifiers that were stopped on their way."""
    for recipe in sorted(run.rglob(RunFolder(run).recipe.name)):
        folder = RunFolder(recipe.parent)
        text = recipe.read_text(encoding="utf-8", errors="replace")
        if not folder.evaluation.exists() and ("\ntask: finetune" in text or "\ntask: probe" in text):
            yield folder.path.resolve(), f"{folder.path.name}: stopped before its last evaluation"


def _read(path: Path) -> Iterator[Result]:
    """Read one file; raises `_UnusableError`, or `RunError` where it is damaged."""
    try:
        content = orjson.loads(path.read_bytes())
        if path.name == ENSEMBLE:
            yield _read_fusion(path, content)
        elif path.name in REPORTS:
            yield from _read_report(path, content)
        else:
            yield from _read_evaluation(path, content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{path}: found a damaged file ({error}), expected what skeltrain wrote. Run the evaluation again"
        ) from error


def _read_evaluation(path: Path, content: Mapping[str, Any]) -> Iterator[Result]:
    about = content.get(ABOUT)
    if about is not None:
        members = (_known(about),)
        yield Result(path, _scored(content["test"]), members)
    elif "top1" in content.get("test", {}) and not _listed(path):
        raise _UnusableError("was written by an earlier version: run `skeltrain evaluate` on it")


def _listed(path: Path) -> bool:
    """Whether the scores also stand in a file of several seeds beside the run's folder."""
    return any((path.parents[1] / name).exists() for name in REPORTS)


def _read_fusion(path: Path, content: Mapping[str, Any]) -> Result:
    members = [one.get(ABOUT) for one in content["runs"]]
    if any(about is None for about in members):
        raise _UnusableError("fuses runs that say nothing of themselves: evaluate them, and fuse again")
    weights = tuple(float(one["weight"]) for one in content["runs"])
    return Result(path, _scored(content["fused"]), tuple(_known(about) for about in members), weights)


def _read_report(path: Path, content: Mapping[str, Any]) -> Iterator[Result]:
    """Read a file of several seeds, but for the trials that say all of it themselves."""
    for arm, encoder in content["encoders"].items():
        for scores in encoder["seeds"]:
            name = f"{arm}_seed{scores['seed']}"
            own = path.parent / ("probe" if path.name == PROBE else "") / name
            if _says_all(RunFolder(own).evaluation):
                continue
            about = _rebuilt(path, content, arm, int(scores["seed"]))
            yield Result(path, _scored({k: v for k, v in scores.items() if k != "seed"}), (_known(about),))


def _says_all(path: Path) -> bool:
    return path.exists() and ABOUT in orjson.loads(path.read_bytes())


def _rebuilt(path: Path, content: Mapping[str, Any], arm: str, seed: int) -> dict[str, Any]:
    """Make of a report of an earlier version what an evaluation says today; its store must still be there."""
    data, before = content["data"], content["pretrain_recipe"]
    try:
        stores = before["data"].get("stores") or [{}]
        sources = []
        for own in stores:
            known = {**before["data"], **{k: v for k, v in own.items() if v is not None}}
            sources.append({**_identity(known["store"]), "protocol": known["protocol"]})
        here = _identity(data["store"])
    except SkelconvError as error:
        raise _UnusableError(
            f"is of an earlier version, which did not write down the dataset, and its store is gone ({error})"
        ) from error
    stream = data["stream"]
    labelled = data.get("labelled", {"used": data.get("train_samples")})
    return {
        "version": VERSION,
        "task": REPORTS[path.name],
        "encoder": "pretrained" if arm == "trained" else "random",
        "seed": seed,
        "trained_here": True,
        "data": {
            **data,
            **here,
            "streams": list(stream) if isinstance(stream, list) else str(stream).split("+"),
            "train_samples": labelled.get("of", labelled["used"]),
            "used_samples": labelled["used"],
        },
        "recipe": content["recipe"],
        "pretraining": {
            "checkpoint": content["checkpoint"],
            "recipe": before,
            "epochs": content["pretrained_epochs"],
            "stores": sources,
        },
    }


def _identity(store: str) -> dict[str, str]:
    found = open_store(store)
    info = found.info
    return {
        "dataset": info.dataset.name,
        "digest": info.provenance.digest,
        "layout": found.skeleton.name,
    }


def _known(about: Mapping[str, Any]) -> Mapping[str, Any]:
    """Check an account; raises `_UnusableError` for one of a later version, ValueError for one with gaps."""
    if about["version"] > VERSION:
        raise _UnusableError(f"is of a later version of skeltrain ({about['version']}, known is {VERSION})")
    _check(_About, about)
    return about


def _scored(scores: Mapping[str, float]) -> Mapping[str, float]:
    """Check scores; raises ValueError."""
    _check(_Scores, scores)
    return scores


def _check(kind: type[_Part], values: Any) -> None:
    """Raise ValueError with the first thing that is wrong."""
    try:
        kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise ValueError(f"{name}: {first['msg'].lower()}") from error
