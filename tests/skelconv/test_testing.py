"""`skelconv.testing.check_reader`: every reader that ships passes, and each fault is found by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelconv.synth import SYNTHESIZERS, Settings, synthesize
from skelconv.testing import ReaderError, check_reader
from skelformats.errors import FormatError, SkelconvError
from skelformats.files import list_sources
from skelformats.reader import (
    Clip,
    Column,
    Dataset,
    Protocol,
    Reader,
    ReadOptions,
    Source,
    Track,
    find_reader,
)

SMALL = Settings(frames=(3, 4))

DATASET = Dataset(
    name="six",
    title="Six",
    skeleton="toyota13",
    licence="CC0",
    citation="nobody",
    homepage="https://example.org",
    frame_rate=None,
    classes=("a", "b"),
    columns=(Column("subject", "i4", "number of the subject"),),
    protocols=(Protocol("xsub", "odd subjects train"),),
    missing="nan",
)
POSITION = np.arange(4 * 13 * 3, dtype=np.float32).reshape(4, 13, 3)
TRACK = Track("0", np.arange(4, dtype=np.int32), POSITION)
CLIP = Clip("x", 4, (TRACK,), 1, {"subject": 3}, {"xsub": "train"})

Scan = Callable[[Path, ReadOptions], list[Source]]


def scan(root: Path, options: ReadOptions) -> list[Source]:
    return list_sources(root, ".bin")


def read(root: Path, source: Source, options: ReadOptions) -> Sequence[Clip]:
    if (root / source.path).read_bytes() != b"sound":
        raise FormatError(root / source.path, "something else", "'sound'")
    return [replace(CLIP, recording=source.path)]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    for name in ("b.bin", "a.bin"):
        (tmp_path / name).write_bytes(b"sound")
    return tmp_path


def check(raw: Path, clip: Clip | None = None, **changes: Any) -> None:
    """Check the reader above, with another recording, or other parts of it or of its dataset."""
    parts = {"scan": scan, "read": read if clip is None else (lambda root, source, options: [clip])}
    parts |= {name: changes.pop(name) for name in ("scan", "read") if name in changes}
    check_reader(Reader(replace(DATASET, **changes), **parts), raw)  # type: ignore[arg-type]


@pytest.mark.parametrize("dataset", sorted(SYNTHESIZERS))
def test_a_reader_that_ships_passes_on_generated_files(dataset: str, tmp_path: Path) -> None:
    synthesize(dataset, tmp_path, 3, settings=SMALL)
    done = check_reader(find_reader(dataset), tmp_path, damaged=12)
    assert done.recordings > 0
    assert done.frames > 0
    assert done.damaged == 12


def test_a_sound_reader_passes_and_is_counted(raw: Path) -> None:
    done = check_reader(Reader(DATASET, scan, read), raw)
    assert (done.sources, done.recordings, done.tracks, done.frames, done.damaged) == (2, 2, 2, 8, 100)


@pytest.mark.parametrize(
    ("clip", "found"),
    [
        (replace(CLIP, recording=""), "recording ''"),
        (CLIP, "recording 'x': found this name, expected a new one"),
        (replace(CLIP, label=2), "the label 2"),
        (replace(CLIP, splits={}), r"splits \[\]"),
        (replace(CLIP, splits={"xsub": "training"}), "training"),
        (replace(CLIP, columns={}), r"the columns \[\]"),
        (replace(CLIP, columns={"subject": "3"}), "subject '3'"),
        (replace(CLIP, tables={"t": []}), r"tables \['t'\]"),
        (replace(CLIP, length=3), "frames to 3, expected 0 to 2"),
        (replace(CLIP, tracks=(TRACK, TRACK)), "the bodies"),
        (replace(CLIP, tracks=(replace(TRACK, position=POSITION[:, :12]),)), "position of"),
        (replace(CLIP, tracks=(replace(TRACK, position=POSITION.astype("f8")),)), "position of .* float64"),
        (
            replace(CLIP, tracks=(replace(TRACK, frame_index=np.arange(4).astype(np.int64)),)),
            "frame_index of",
        ),
        (
            replace(CLIP, tracks=(replace(TRACK, frame_index=np.array([0, 1, 1, 2], np.int32)),)),
            "do not increase",
        ),
        (
            replace(CLIP, tracks=(replace(TRACK, position=np.where(POSITION == 4, np.nan, POSITION)),)),
            "NaN in some axes",
        ),
        (replace(CLIP, tracks=(replace(TRACK, position=POSITION + np.float32(np.inf)),)), "infinite"),
        (replace(CLIP, tracks=(replace(TRACK, confidence=np.ones((4, 13))),)), "a confidence"),
        (replace(CLIP, tracks=(replace(TRACK, extras={"box": np.ones(4)}),)), r"arrays \['box'\]"),
    ],
)
def test_what_is_wrong_with_a_recording_is_said(raw: Path, clip: Clip, found: str) -> None:
    with pytest.raises(ReaderError, match=found):
        check(raw, clip)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"scan": lambda root, options: scan(root, options)[::-1]}, "sorted by path"),
        ({"scan": lambda root, options: []}, "no source"),
        ({"scan": lambda root, options: [Source("../secret", 5)]}, "a path that leaves the folder"),
        ({"scan": lambda root, options: [Source("absent", 5)]}, "no such file"),
        ({"scan": lambda root, options: [Source("a.bin", 6)]}, "6 bytes"),
        (
            {
                "scan": lambda root, options: [
                    s for s in scan(root, options) if b"s" in (root / s.path).read_bytes()
                ]
            },
            "by names and sizes",
        ),
        ({"columns": (Column("label", "i4", "x"),)}, r"\['label'\] twice"),
        ({"classes": ("a", "a")}, "a class name twice"),
        ({"cleaning": "sng"}, "cleaning chain"),
        ({"skeleton": "toyota31"}, "skeleton"),
        ({"axes": ("x",)}, "two or three axes"),
    ],
)
def test_what_is_wrong_with_a_scan_or_a_dataset_is_said(
    raw: Path, change: dict[str, Any], found: str
) -> None:
    with pytest.raises(SkelconvError, match=found):
        check(raw, **change)


def test_a_reader_that_gives_something_else_each_time_is_found(raw: Path) -> None:
    rng = np.random.default_rng(0)

    def moody(root: Path, source: Source, options: ReadOptions) -> list[Clip]:
        position = rng.normal(size=(4, 13, 3)).astype(np.float32)
        return [replace(CLIP, recording=source.path, tracks=(replace(TRACK, position=position),))]

    with pytest.raises(ReaderError, match="another result at the second reading"):
        check(raw, read=moody)


def test_a_reader_that_fails_on_damage_with_another_error_is_found(raw: Path) -> None:
    def careless(root: Path, source: Source, options: ReadOptions) -> list[Clip]:
        number = {b"sound": 1}[(root / source.path).read_bytes()]
        return [replace(CLIP, recording=source.path, columns={"subject": number})]

    with pytest.raises(ReaderError, match=r"found KeyError .*, expected FormatError"):
        check(raw, read=careless)
