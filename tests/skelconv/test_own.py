"""Own data from Python: arrays in, the same store as any other out; what does not fit is one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skelconv
from skelconv.own import SequenceData
from skelconv.store.info import StoreError
from skelconv.verify import verify
from skelformats.errors import UnknownNameError
from skelformats.own_data import OwnDataError

JOINTS = 13


def takes(count: int = 4, axes: int = 3) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(0)
    for number in range(count):
        yield {
            "recording": f"take{number}",
            "position": rng.normal(size=(5 + number, JOINTS, axes)).astype(np.float32),
            "label": ("wave", "sit")[number % 2],
            "splits": {"mine": "train" if number < 3 else "test"},
            "columns": {"person": f"p{number}", "trial": number, "weight": 70.5},
        }


def write(path: Path, sequences: Any = None, **more: Any) -> skelconv.Store:
    described = {"skeleton": "toyota13", "classes": ["wave", "sit"], "frame_rate": 30.0, **more}
    skelconv.write_store(path, takes() if sequences is None else sequences, **described)
    return skelconv.open(path)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    store = write(tmp_path / "own.zarr", licence="CC-BY-4.0", citation="me, 2026")
    for given, sequence in zip(takes(), store, strict=True):
        assert np.array_equal(sequence.position, given["position"])
        row = sequence.row
        assert (row["recording"], row["action"]) == (given["recording"], given["label"])
        assert (row["person"], row["trial"], row["weight"]) == tuple(given["columns"].values())
    assert list(store.select("mine", "test")) == [3]
    assert (store.info.dataset.licence, store.info.dataset.citation) == ("CC-BY-4.0", "me, 2026")
    assert verify(tmp_path / "own.zarr").ok


def test_a_store_without_a_licence_claims_none_and_has_no_splits_that_were_not_given(tmp_path: Path) -> None:
    store = write(tmp_path / "own.zarr", [SequenceData("a", np.zeros((2, JOINTS, 2)))], unit="px")
    assert store.info.dataset.licence == "not stated"
    assert not store.info.protocols
    assert store.info.unit == "px"


@pytest.mark.parametrize(
    ("up", "raw", "stored"),
    [("y", (1, 2, 3), (1, 2, 3)), ("z", (1, 2, 3), (1, 3, -2)), ("-y", (1, 2, 3), (1, -2, -3))],
)
def test_axes_and_units_become_metres_with_y_up(
    tmp_path: Path, up: str, raw: tuple[int, ...], stored: tuple[int, ...]
) -> None:
    position = np.broadcast_to(np.array(raw, np.float32) * 1000, (2, JOINTS, 3))
    store = write(tmp_path / "own.zarr", [SequenceData("a", position)], up=up, unit="mm")
    np.testing.assert_allclose(store[0].position[0, 0], stored, rtol=1e-6)
    # turned, never mirrored
    order, sign = store.info.axes.order, store.info.axes.sign
    assert np.linalg.det(np.eye(3)[list(order)] * np.array(sign)[:, None]) == pytest.approx(1)


def test_bodies_gaps_confidences_and_missing_joints(tmp_path: Path) -> None:
    position = np.ones((3, JOINTS, 3), np.float32)
    position[1, 4, 0] = np.nan
    both = [
        SequenceData("a", position, [0, 5, 9], np.full((3, JOINTS), 0.5), "sit", body)
        for body in ("left", "right")
    ]
    store = write(tmp_path / "own.zarr", both)
    recording = store.recording("a")
    assert recording.length == 10
    assert [body.body for body in recording.bodies] == ["left", "right"]
    assert recording.bodies[0].frame_index.tolist() == [0, 5, 9]
    assert np.isnan(recording.bodies[0].position[1, 4]).all()
    assert (recording.bodies[1].confidence == 0.5).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"position": np.zeros((2, 12, 3))}, r"shape \(2, 12, 3\), expected \(frames, 13, 3\)"),
        ({"position": [["a"]]}, "not an array of numbers"),
        ({"frame_index": [0, 0, 1, 2, 3]}, "do not rise"),
        ({"frame_index": [0.0, 1.0, 2.0, 3.0, 4.0]}, "whole numbers"),
        ({"label": "run"}, "the label 'run'"),
        ({"label": 2}, "the label 2"),
        ({"splits": {"mine": "training"}}, "the part 'training'"),
        ({"columns": {"other": 1}}, "the columns"),
        ({"confidence": np.ones((5, JOINTS))}, "unlike in the first sequence"),
        ({"colour": "red"}, "a mapping with recording and position"),
    ],
)
def test_what_does_not_fit_is_one_sentence_and_nothing_is_written(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    first, second = takes(2)
    odd = {**second, "position": np.zeros((5, JOINTS, 3), np.float32), **change}
    with pytest.raises(OwnDataError, match=said):
        write(tmp_path / "own.zarr", [first, odd])
    assert not (tmp_path / "own.zarr").exists()


def test_descriptions_that_cannot_be(tmp_path: Path) -> None:
    for more, kind in (
        ({"skeleton": "nobody99"}, UnknownNameError),
        ({"unit": "px"}, UnknownNameError),
        ({"classes": ["wave", "wave"]}, OwnDataError),
        ({"frame_rate": 0}, OwnDataError),
        ({"license": "MIT"}, OwnDataError),
    ):
        with pytest.raises(kind):
            write(tmp_path / "own.zarr", **more)
    with pytest.raises(OwnDataError, match="no sequence"):
        write(tmp_path / "own.zarr", [])
    write(tmp_path / "own.zarr")
    with pytest.raises(StoreError, match="existing store"):
        write(tmp_path / "own.zarr")


def test_a_recording_that_comes_back_later_is_refused(tmp_path: Path) -> None:
    a, b = (SequenceData(name, np.zeros((2, JOINTS, 3))) for name in "ab")
    with pytest.raises(StoreError, match="again"):
        write(tmp_path / "own.zarr", [a, b, a])
