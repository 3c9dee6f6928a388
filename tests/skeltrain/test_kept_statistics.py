"""Statistics of images are measured once for a store, and never wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import orjson
import pytest
import torch
import zarr

from skelconv.verify.report import verify
from skeltrain.data.images import ImageSet, Statistics
from skeltrain.data.kept_statistics import SUFFIX, place, statistics_of
from skeltrain.data.samples import open_samples
from skeltrain.distributed import World
from skeltrain.sections import ImageData
from skeltrain.tasks.image_data import open_images
from skeltrain.tasks.registry import Context

CPU = torch.device("cpu")


@pytest.fixture
def store(tiny_store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_store, tmp_path / "tiny.zarr"))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of samples of each measurement."""
    calls: list[int] = []
    measure = ImageSet.statistics

    def count(self: ImageSet, index: np.ndarray, batch: int = 256) -> Statistics:
        calls.append(len(index))
        return measure(self, index, batch)

    monkeypatch.setattr(ImageSet, "statistics", count)
    return calls


def statistics(store: Path, **settings: object) -> Statistics:
    data = ImageData.model_validate({"store": str(store), "protocol": "half", "image_size": 16, **settings})
    return open_images(data, Context(World(CPU))).statistics


def image_set(store: Path) -> ImageSet:
    data = ImageData(store=str(store), image_size=16)
    return ImageSet(open_samples(data, CPU), data)


def test_they_are_measured_once_and_come_back_bit_for_bit(store: Path, counted: list[int]) -> None:
    first = statistics(store)
    assert counted == [32]
    assert statistics(store) == first
    assert counted == [32]
    images = image_set(store)
    assert images.statistics(images.samples.part("half", "train")) == first


def test_the_store_stays_as_it_was_and_verifies(store: Path) -> None:
    before = {file: file.read_bytes() for file in store.rglob("*") if file.is_file()}
    statistics(store)
    assert (store.parent / f"tiny.zarr{SUFFIX}").is_file()
    assert {file: file.read_bytes() for file in store.rglob("*") if file.is_file()} == before
    assert verify(store).ok


def test_whatever_they_follow_from_has_them_measured_anew(store: Path, counted: list[int]) -> None:
    first = statistics(store)
    for settings in (
        {"stream": "motion"},
        {"image_size": 24},
        {"align_corners": True},
        {"train": "test"},
        {"clean": "sgn"},
        {"persons": "first"},
    ):
        counted.clear()
        assert statistics(store, **settings) != first, settings
        assert len(counted) == 1, settings
    counted.clear()
    torch.set_num_threads(2)
    statistics(store)
    assert counted == [32], "another number of threads may sum in another order"


def test_a_store_whose_poses_changed_has_them_measured_anew(store: Path) -> None:
    first = statistics(store)
    position = zarr.open_group(str(store), mode="r+")["position"]
    position[0, 0, 0] = float(position[0, 0, 0]) + 0.5
    assert statistics(store) != first


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"KEY": 3}', b'{"KEY": {"mean": [null], "std": []}}'])
def test_a_damaged_file_is_measured_over(store: Path, content: bytes) -> None:
    first = statistics(store)
    path = place(image_set(store))
    assert path is not None
    (key,) = orjson.loads(path.read_bytes())
    path.write_bytes(content.replace(b"KEY", key.encode()))
    assert statistics(store) == first
    assert key in orjson.loads(path.read_bytes())


def test_a_folder_that_takes_no_file_is_no_error(
    store: Path, counted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, data: bytes) -> int:
        raise PermissionError(f"{self}: read-only")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    images = image_set(store)
    index = np.arange(5)
    assert statistics_of(images, index) == statistics_of(images, index)
    assert counted == [5, 5]
    assert [file.name for file in store.parent.iterdir()] == ["tiny.zarr"]


def test_of_several_processes_one_writes(store: Path) -> None:
    images = image_set(store)
    statistics_of(images, np.arange(5), write=False)
    assert [file.name for file in store.parent.iterdir()] == ["tiny.zarr"]
