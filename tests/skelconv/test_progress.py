"""Every verb that takes long shows on a terminal how far it is, of how much."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest

from skelconv.cli.command import progress
from skelconv.cli.main import cli
from tests.skelconv.scenes import body, recording
from tests.skelconv.stores import dataset, store_of


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    takes = [recording(body(range(9 + n), n), name=f"take{n}") for n in range(5)]
    return Path(store_of(tmp_path_factory.mktemp("bars") / "a.zarr", takes, dataset()).path)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    takes = [recording(body(range(9 + n), n), name=f"more{n}") for n in range(5)]
    return Path(store_of(tmp_path_factory.mktemp("bars") / "b.zarr", takes, dataset()).path)


def bars(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What the terminal shows in the end of each bar."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    cli.main(arguments, standalone_mode=False)
    return re.sub(r"[^\r\n]*\r(?!\n)", "", screen.getvalue())


@pytest.mark.parametrize(
    ("verb", "total", "unit"),
    [
        ("clean STORE OUT --chain sgn", 55, "frames"),
        ("remap STORE OUT --format toyota13", 55, "frames"),
        ("merge OUT STORE OTHER", 110, "frames"),
        ("export STORE OUT --to csv", 55, "frames"),
        ("export STORE OUT --to pyskl", 55, "frames"),
        ("export STORE OUT --to ctrgcn", 55, "frames"),
        ("export STORE OUT --to bvh", 55, "frames"),
        ("s2i STORE OUT --size 16", 5, "recordings cleaned"),
        ("s2i STORE OUT --size 16 --persons separate", 5, "images"),
        ("synth ntu60 OUT --recordings 2 --frames 5 6", 2, "recordings"),
        ("view STORE --out OUT.gif", 5, "pictures"),
    ],
)
def test_bars_have_totals_and_reach_them(
    verb: str,
    total: int,
    unit: str,
    store: Path,
    other: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places = {
        "STORE": str(store),
        "OTHER": str(other),
        "OUT": str(tmp_path / "out"),
        "OUT.gif": str(tmp_path / "o.gif"),
    }
    shown = bars([places.get(word, word) for word in verb.split()], monkeypatch)
    assert "100%" in shown
    assert f" {total}/{total} [" in shown
    assert f" {unit}/s" in shown or f"s/ {unit}" in shown


def test_bytes_are_counted_where_they_are_known(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = bars(["verify", str(store)], monkeypatch)
    assert "5/5 sequences" in shown
    assert re.search(r"100%.*B/s", shown)


def test_without_a_terminal_a_line_tells_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(4, "frames", 0) as advance:
        advance(4, 0)
    with progress(2, "sources", 8_000_000) as advance:
        advance(2, 8_000_000)
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"4/4 frames, \S+ a second", first)
    assert re.fullmatch(r"2/2 sources, \d+ MB/s", second)
