"""Windows of a store through torch's DataLoader, in this process and in workers."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from skelconv.store.store import open_store
from skeltrain.data.windows import WindowDataset
from tests.skelconv.small_store import make_store


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("windows") / "small.zarr")


def test_what_was_not_observed_is_filled_and_marked(path: Path) -> None:
    store = open_store(path)
    data = WindowDataset(store.windows(64, 64), missing=-7.0)
    for number, item in enumerate(data[place] for place in range(len(data))):
        window = data.windows[number]
        missing = np.isnan(window.position).any(-1)
        np.testing.assert_array_equal(item["valid"], ~missing)
        assert (item["position"][torch.from_numpy(missing)] == -7).all()
        np.testing.assert_array_equal(item["position"][item["valid"]], window.position[~missing])
        assert item["label"] == window.row["label"]
        assert (item["sequence"], item["start"]) == (window.number, window.start)
    assert not data[len(data) - 1]["valid"].all()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("way", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_give_what_this_process_gives(path: Path, way: Any) -> None:
    data = WindowDataset(open_store(path)[[0, 4, 5]].windows(64, 16))
    assert len(pickle.dumps(data)) < 4000 + len(str(path))
    here = list(DataLoader(data, batch_size=8))
    there = list(DataLoader(data, batch_size=8, num_workers=1, multiprocessing_context=way))
    assert len(here) == len(there) > 3
    for one, other in zip(here, there, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
