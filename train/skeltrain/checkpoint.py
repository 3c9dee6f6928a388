"""Checkpoints: written aside and renamed, read with ``weights_only=True``, whole or not at all.

A checkpoint is one dictionary of tensors and plain data. Besides the state of the run (model, optimiser,
random numbers, progress) it carries its metadata: what is needed to use the model without the run, that is
the recipe, the model's family and settings, the data it was trained on, and versions. The file is a zip
archive that holds a CRC-32 of everything in it, which reading checks.
"""

from __future__ import annotations

import os
import pickle
import platform
import random
import shutil
import zipfile
import zlib
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skelformats.errors import SkelconvError
from skeltrain.checkpoint_upgrade import upgrade

KIND = "skeltrain checkpoint"
FORMAT = 2
LAST, BEST = "last.pt", "best.pt"

METADATA_KEYS = ("task", "recipe", "versions")
"""What the metadata of every task holds; each adds what its model needs (layout, statistics, classes,
...).
"""

Checkpoint = dict[str, Any]


class CheckpointError(SkelconvError):
    """A checkpoint is missing, damaged, not of the kind that is needed, or cannot be written."""


def save_checkpoint(path: Path, metadata: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write a checkpoint under a name that only ever holds a complete one.

    Raises
    ------
    CheckpointError
        It cannot be written; an earlier one of that name is as it was.
    """
    missing = [key for key in METADATA_KEYS if key not in metadata]
    if missing:
        raise ValueError(f"the metadata lacks {missing}")
    aside = path.with_name(path.name + ".partial")
    content = {"kind": KIND, "format": FORMAT, "metadata": dict(metadata), **state}
    try:
        with aside.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except (OSError, RuntimeError) as error:  # torch wraps what a full disk says
        aside.unlink(missing_ok=True)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        kept = "the checkpoint written before is kept" if path.exists() else "there is none yet"
        raise CheckpointError(
            f"{path}: the checkpoint cannot be written ({reason}); {kept}. Make room on the disk, then "
            "continue with --resume"
        ) from error


def link_checkpoint(source: Path, name: str) -> None:
    """Give a checkpoint a second name in its folder, without a second copy where the disk can do that."""
    target = source.with_name(name)
    aside = source.with_name(name + ".partial")
    aside.unlink(missing_ok=True)
    try:
        aside.hardlink_to(source)
    except OSError:  # file systems without hard links: exFAT, some network shares
        shutil.copyfile(source, aside)
    aside.replace(target)


def find_checkpoint(path: str | Path) -> Path:
    """Return the checkpoint that ``path`` means: a file, or the newest one of a run folder.

    Raises
    ------
    CheckpointError
        There is none.
    """
    path = Path(path)
    if path.is_file():
        return path
    last = path / "checkpoints" / LAST
    if last.is_file():
        return last
    if not path.exists():
        raise CheckpointError(f"{path}: found nothing, expected a checkpoint or the folder of a run")
    inside = ", ".join(sorted(entry.name for entry in path.iterdir())[:10]) or "nothing"
    raise CheckpointError(
        f"{path}: found {inside}, expected checkpoints/{LAST} in the folder of a run. Either it has not "
        "finished its first epoch, or this is another folder"
    )


def load_newest(last: Path, log: Callable[[str], None]) -> Checkpoint:
    """Read ``last``, or where it is damaged the newest sound checkpoint beside it, and say so.

    Raises
    ------
    CheckpointError
        None of them is sound; the error is that of ``last``.
    """
    try:
        return load_checkpoint(last)
    except CheckpointError as error:
        others = sorted(set(last.parent.glob("*.pt")) - {last}, key=lambda f: f.stat().st_mtime, reverse=True)
        for other in others:
            try:
                found = load_checkpoint(other)
            except CheckpointError as second:
                log(f"passed over: {second}")
                continue
            log(f"{error}")
            log(f"{other} is sound and goes in its place: what was trained since is trained again")
            return found
        raise


def load_checkpoint(path: Path, tasks: tuple[str, ...] = ()) -> Checkpoint:
    """Read a checkpoint onto the CPU; one of an earlier format is brought to today's.

    Parameters
    ----------
    tasks
        Tasks of which it may be; empty for any.

    Raises
    ------
    CheckpointError
        The file cannot be read, is not a checkpoint of ours, of a later version, or of another task.
    """
    try:
        _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: found no such file, expected a checkpoint") from error
    except (
        *(pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError),
        *(zipfile.BadZipFile, zlib.error, TypeError, AttributeError, NotImplementedError, UnicodeError),
    ) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{path}: found something that is not a checkpoint or is damaged ({reason}), expected one made "
            f"by skeltrain. If there is another in the folder, such as {BEST}, give its path instead"
        ) from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise CheckpointError(
            f"{path}: found a file of another program, expected a checkpoint made by skeltrain. Pretrained "
            "weights of others are loaded with --set init.weights=FILE"
        )
    if content.get("format") not in range(1, FORMAT + 1):
        metadata = content.get("metadata")
        known = metadata.get("versions") if isinstance(metadata, dict) else None
        made_by = known.get("skelconv", "?") if isinstance(known, dict) else "?"
        raise CheckpointError(
            f"{path}: found checkpoint format {content.get('format')}, expected {FORMAT} or below. It was "
            f"made by skelconv {made_by}. Use that, or train again"
        )
    content = _upgraded(path, content)
    if tasks and content["metadata"]["task"] not in tasks:
        raise CheckpointError(
            f"{path}: found a checkpoint of task {content['metadata']['task']!r}, expected "
            f"{' or '.join(map(repr, tasks))}"
        )
    return content


def _check_archive(path: Path) -> None:
    """Read everything once and compare checksums; torch itself does not."""
    with zipfile.ZipFile(path) as archive:
        broken = archive.testzip()
    if broken is not None:
        raise zipfile.BadZipFile(f"the checksum of {broken} is wrong")


def _upgraded(path: Path, content: Checkpoint) -> Checkpoint:
    """Bring to today's format, and check that the metadata is what every checkpoint has."""
    try:
        content = upgrade(content)
        metadata = content["metadata"]
        whole = all(key in metadata for key in METADATA_KEYS) and isinstance(metadata["recipe"], dict)
        whole = whole and isinstance(metadata["task"], str)
        if "progress" in content:
            whole = whole and all(isinstance(content["progress"][key], int) for key in ("epoch", "step"))
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise CheckpointError(
            f"{path}: found metadata that lacks or garbles {error}, expected what skeltrain writes. The file "
            "was edited, or written by another program; train again"
        ) from error
    if not whole:
        raise CheckpointError(
            f"{path}: found metadata or progress that skeltrain did not write, expected "
            f"{', '.join(METADATA_KEYS)} and whole numbers of epochs and steps. The file was edited, or "
            "written by another program; train again"
        )
    return content


def versions() -> dict[str, str]:
    """Return the versions of everything that a result depends on."""
    packages = ("skelconv", "torch", "timm", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def random_state(device: torch.device) -> dict[str, Any]:
    """Return the state of every source of random numbers in this process, as tensors and plain data."""
    numpy = np.random.get_state(legacy=False)
    words = torch.from_numpy(numpy["state"]["key"].astype(np.int64))
    return {
        "python": random.getstate(),
        "numpy": {**numpy, "state": {"key": words, "pos": numpy["state"]["pos"]}},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def restore_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Put every source of random numbers where `random_state` found it."""
    random.setstate(state["python"])
    inner = state["numpy"]["state"]
    words = inner["key"].numpy().astype(np.uint32)
    np.random.set_state({**state["numpy"], "state": {"key": words, "pos": inner["pos"]}})
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)


def seed_everything(seed: int) -> None:
    """Start every source of random numbers from a seed."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
