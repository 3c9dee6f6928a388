"""Checkpoints: written aside and renamed, read with ``weights_only=True``, whole or not at all.

A checkpoint is one dictionary of tensors and plain data. Besides the state of the run (model, optimiser,
random numbers, progress) it carries its card: what is needed to use the model without the run, that is the
recipe, the joint layout with its column order, the statistics of the images, and versions.
"""

from __future__ import annotations

import os
import pickle
import platform
import random
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skelformats.errors import SkelconvError

KIND = "skeltrain checkpoint"
FORMAT = 1
LAST, BEST = "last.pt", "best.pt"

CARD_KEYS = ("task", "recipe", "versions")
"""What every card holds; a task adds what its model needs (layout, statistics, classes, ...)."""


class CheckpointError(SkelconvError):
    """A checkpoint is missing, damaged, or not of the kind that is needed."""


def save_checkpoint(path: Path, card: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write a checkpoint under a name that only ever holds a complete one."""
    missing = [key for key in CARD_KEYS if key not in card]
    if missing:
        raise ValueError(f"the card lacks {missing}")
    aside = path.with_name(path.name + ".partial")
    with aside.open("wb") as file:
        torch.save({"kind": KIND, "format": FORMAT, "card": dict(card), **state}, file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def link_checkpoint(source: Path, name: str) -> None:
    """Give a checkpoint a second name in its folder, without a second copy where the disk can do that."""
    target = source.with_name(name)
    aside = source.with_name(name + ".partial")
    aside.unlink(missing_ok=True)
    aside.hardlink_to(source)
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


def load_checkpoint(path: Path, task: str | None = None) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Parameters
    ----------
    task
        The task it must be of, or None for any.

    Raises
    ------
    CheckpointError
        The file cannot be read, is no checkpoint of ours, of another version, or of another task.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: found no such file, expected a checkpoint") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{path}: found something that is no checkpoint or is damaged ({reason}), expected one made by "
            f"skeltrain. If there is another in the folder, such as {BEST}, give its path instead"
        ) from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise CheckpointError(
            f"{path}: found a file of another program, expected a checkpoint made by skeltrain. Pretrained "
            "weights of others are loaded with --set init.weights=FILE"
        )
    if content["format"] != FORMAT:
        raise CheckpointError(
            f"{path}: found checkpoint format {content['format']}, expected {FORMAT}. It was made by "
            f"skelconv {content['card'].get('versions', {}).get('skelconv', '?')}. Use that, or train again"
        )
    if task is not None and content["card"]["task"] != task:
        raise CheckpointError(
            f"{path}: found a checkpoint of task {content['card']['task']!r}, expected {task!r}"
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
