"""Damaged 2D pose files: every reader either reads them or raises `FormatError`."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skelconv.synth import SYNTHESIZERS, Settings
from skelformats.errors import FormatError
from skelformats.reader import Clip, Refused, find_reader
from tests.fuzzing import examples

DATASETS = ("coco", "alphapose", "openpose", "mediapipe", "posetrack", "instavariety", "pyskl")
SMALL = Settings(frames=(2, 2))

Edit = tuple[int, int, bytes]
edits = st.lists(
    st.tuples(
        st.integers(0, 10**6),
        st.integers(0, 12),
        st.one_of(
            st.binary(max_size=6),
            st.sampled_from(
                [b"null", b"-1", b"1e999", b"[", b"]", b"{}", b'""', b"0,", b"true", b"99999999999"]
            ),
        ),
    ),
    min_size=1,
    max_size=4,
)


@cache
def genuine(dataset: str) -> Mapping[str, bytes]:
    synthesizer = SYNTHESIZERS[dataset]
    shared = synthesizer.shared(0, 1, SMALL) if synthesizer.shared else {}
    truth, content = synthesizer.make(0, 0, SMALL)
    return {**shared, **synthesizer.files(truth, content)}


def damaged(content: bytes, changes: list[Edit]) -> bytes:
    for place, length, new in changes:
        start = place % (len(content) + 1)
        content = content[:start] + new + content[start + length :]
    return content


@pytest.mark.parametrize("dataset", DATASETS)
@settings(max_examples=examples(150))
@given(changes=edits)
def test_a_damaged_file_is_read_or_refused(dataset: str, changes: list[Edit]) -> None:
    reader = find_reader(dataset)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for path, content in genuine(dataset).items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(damaged(content, changes))
        options = reader.options([extra.name for extra in reader.dataset.extras])
        made = reader.dataset_of(root, options)
        for source in reader.scan(root, options):
            try:
                clips = reader.read(root, source, options)
            except FormatError:
                continue
            for clip in clips:
                assert isinstance(clip, Clip | Refused)
                for track in clip.tracks if isinstance(clip, Clip) else ():
                    assert track.position.shape[-1] == len(made.axes)
                    assert (track.frame_index[1:] > track.frame_index[:-1]).all()
                    assert isinstance(clip, Clip)
                    assert track.frame_index[0] >= 0
                    assert track.frame_index[-1] < clip.length
