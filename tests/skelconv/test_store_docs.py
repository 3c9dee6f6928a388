"""The examples of docs/store.md run, and what they read is what skelconv reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelconv.store.schema import BASE_COLUMNS
from skelconv.store.store import open_store
from tests.skelconv.small_store import make_store

PAGE = (Path(__file__).parents[2] / "docs" / "store.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_store(tmp_path / "out.zarr")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(number: int) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(EXAMPLES[number], f"docs/store.md, example {number}", "exec"), names)
    return names


def test_there_are_four_examples() -> None:
    assert len(EXAMPLES) == 4


def test_xarray(folder: Path) -> None:
    names = run(0)
    first = open_store("out.zarr")[0]
    np.testing.assert_array_equal(
        names["head"], first.position[:, open_store("out.zarr").skeleton.index("head")]
    )
    assert names["table"].index[0] == first.name


def test_plain_zarr(folder: Path) -> None:
    names = run(1)
    np.testing.assert_array_equal(names["position"], open_store("out.zarr")[0].position)
    assert names["about"]["skeleton"]["name"] == "toyota13"


def test_skelconv(folder: Path) -> None:
    names = run(2)
    assert names["recording"].bodies[0].name == names["sequence"].name
    assert names["test"].tolist() == [1, 2, 4]
    assert names["leaked"].sum() == 1


def test_a_chunk_by_hand(folder: Path) -> None:
    by_hand = run(3)["by_hand"]
    np.testing.assert_array_equal(by_hand, open_store("out.zarr").read(0, len(by_hand)))
    assert len(by_hand) == 512


def test_every_column_of_the_format_is_described() -> None:
    for column in BASE_COLUMNS:
        assert re.search(
            rf"^\| `{column.name}` \| {column.dtype.replace('i4', 'int32').replace('i8', 'int64')} ",
            PAGE,
            re.M,
        )
