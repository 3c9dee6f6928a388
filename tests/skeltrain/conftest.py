"""A small store of moving people, and recipes small enough to train on it in a second."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from skelconv.store.info import Provenance
from skelconv.store.writer import write_store
from skelformats.reader import Clip, Dataset, Protocol, Track
from skelformats.skeleton import load_skeleton
from skeltrain.recipe import Log, Optim
from skeltrain.sections import Augment, ImageData
from skeltrain.tasks.pretrain import Model, PretrainRecipe

CLASSES = ("left arm", "right arm", "both legs")
AUGMENT = Augment(flip=0.5, rotate=(0.3, 0.3, 0.3), scale=(0.9, 1.1), translate=0.1, noise=0.01)


def make_dataset(name: str = "tiny", skeleton: str = "ntu25") -> Dataset:
    return Dataset(
        name=name,
        title="people who move one part of the body",
        skeleton=skeleton,
        licence="none",
        citation="none",
        homepage="none",
        frame_rate=30.0,
        classes=CLASSES,
        columns=(),
        protocols=(Protocol("half", "the first half trains"),),
        missing="none",
    )


def make_motion(rng: np.random.Generator, label: int, frames: int, skeleton: str = "ntu25") -> np.ndarray:
    layout = load_skeleton(skeleton)
    body = np.random.default_rng(7).normal(0, 0.5, (len(layout), 3))
    position = body[None] + rng.normal(0, 0.02, (frames, len(layout), 3)) + rng.normal(0, 1, 3)
    moving = {0: layout.parts[1], 1: layout.parts[2], 2: layout.parts[3] + layout.parts[4]}[label]
    swing = 2.0 * np.sin(np.arange(frames) * rng.uniform(0.2, 0.4) + rng.uniform(0, 6))
    position[:, list(moving), 1] += swing[:, None]
    return position.astype(np.float32)


def make_clips(count: int, skeleton: str = "ntu25") -> list[tuple[str, Clip]]:
    """Every fourth recording shows two people; the last one repeats the first, so it is leaked."""
    rng = np.random.default_rng(3)
    clips = []
    for i in range(count):
        frames = int(rng.integers(8, 40))
        label = i % len(CLASSES)
        tracks = []
        for person in range(2 if i % 4 == 3 else 1):
            index = np.arange(frames - 3 * person, dtype=np.int32)
            tracks.append(Track(str(person), index, make_motion(rng, label, len(index), skeleton)))
        part = "train" if i < count * 2 // 3 else "test"
        clips.append((f"{i}.txt", Clip(f"take{i:03d}", frames, tuple(tracks), label, {}, {"half": part})))
    name, last = clips[-1]
    clips[-1] = (name, Clip(last.recording, clips[0][1].length, clips[0][1].tracks, 0, {}, last.splits))
    return clips


def write_tiny(path: Path, count: int = 49, dataset: Dataset | None = None) -> Path:
    dataset = dataset or make_dataset()
    provenance = Provenance(tool="tests", command="tests", digest=f"of {count}")
    write_store(path, dataset, make_clips(count, dataset.skeleton), provenance)
    return path


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 training and 17 test recordings of three classes; one test recording is leaked."""
    return write_tiny(tmp_path_factory.mktemp("stores") / "tiny.zarr")


@pytest.fixture(scope="session")
def unit_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose chain scales each sample to [-1, 1] at the end."""
    dataset = replace(make_dataset("ucla", "ucla20"), cleaning="ucla")
    return write_tiny(tmp_path_factory.mktemp("stores") / "unit.zarr", 13, dataset)


@pytest.fixture
def tiny_recipe(tiny_store: Path) -> PretrainRecipe:
    """Four optimiser steps an epoch, three epochs, everything random switched on."""
    return PretrainRecipe(
        data=ImageData(store=str(tiny_store), protocol="half", image_size=32),
        augment=AUGMENT,
        model=Model(
            preset="vit_micro",
            patch_size=8,
            embed_dim=16,
            depth=1,
            num_heads=2,
            decoder_dim=16,
            decoder_depth=1,
        ),
        optim=Optim(blr=1e-2, batch=8, epochs=3, warmup=1),
        device="cpu",
        log=Log(every=1, tensorboard=False),
    )


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Tiny tensors gain nothing from threads, and lose much on a busy machine."""
    torch.set_num_threads(1)
