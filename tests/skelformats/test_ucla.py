"""The NW-UCLA reader."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skelformats.errors import FormatError
from skelformats.ucla import UCLA

OPTIONS = UCLA.options()
NAME = "a08_s03_e02_v03.json"
Edit = Callable[[dict[str, Any]], object]


def take(frames: int = 4) -> dict[str, Any]:
    values = np.random.default_rng(0).normal(size=(frames, 20, 3)).round(5)
    return {"file_name": NAME.removesuffix(".json"), "skeletons": values.tolist(), "label": 7}


def read(folder: Path, content: Any, name: str = NAME) -> Any:
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    (source,) = UCLA.scan(folder, OPTIONS)
    return UCLA.read(folder, source, OPTIONS)


def test_a_take_becomes_one_clip_with_one_track(tmp_path: Path) -> None:
    content = take()
    (clip,) = read(tmp_path, content)
    assert clip.recording == "a08_s03_e02_v03"
    assert clip.columns == {"subject": 3, "camera": 3, "take": 2}
    assert clip.label == 6
    assert clip.splits == {"xview": "test"}
    assert clip.length == 4
    np.testing.assert_array_equal(clip.tracks[0].position, np.array(content["skeletons"], np.float32))
    np.testing.assert_array_equal(clip.tracks[0].frame_index, range(4))


def test_views_one_and_two_are_for_training(tmp_path: Path) -> None:
    for view in (1, 2):
        folder = tmp_path / str(view)
        folder.mkdir()
        (clip,) = read(folder, take(), f"a08_s03_e02_v0{view}.json")
        assert clip.splits == {"xview": "train"}


def test_a_joint_at_the_origin_is_missing(tmp_path: Path) -> None:
    content = take()
    content["skeletons"][1][5] = [0, 0, 0]
    (clip,) = read(tmp_path, content)
    missing = np.isnan(clip.tracks[0].position).all(axis=-1)
    assert np.argwhere(missing).tolist() == [[1, 5]]


def test_a_take_of_one_frame_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, take(1))[0].tracks[0].position.shape == (1, 20, 3)


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        (lambda c: c["skeletons"][2].pop(), "in frame 2 a list of 19"),
        (lambda c: c["skeletons"][2][3].pop(), "in frame 2, joint 3 a list of 2"),
        (lambda c: c["skeletons"][2][3].__setitem__(1, "1.0"), "in frame 2, joint 3 the value '1.0'"),
        (lambda c: c["skeletons"][2][3].__setitem__(1, None), "in frame 2, joint 3 the value None"),
        (lambda c: c.update(skeletons=[]), "'skeletons' that is a list of 0"),
        (lambda c: c.update(skeletons={}), "'skeletons' that is of type dict"),
        (lambda c: c.pop("skeletons"), "'skeletons' that is of type NoneType"),
        (lambda c: c.update(label=3), "label 3"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, edit: Edit, found: str) -> None:
    content = take()
    edit(content)
    with pytest.raises(FormatError) as error:
        read(tmp_path, content)
    assert found in str(error.value)
    assert NAME in str(error.value)


@pytest.mark.parametrize("text", ["", "[1, 2", '{"skeletons": [[', "[" * 1_000_000, "\x00\xff"])
def test_text_that_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(FormatError, match="not JSON"):
        read(tmp_path, text)


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray(json.dumps(take(2)).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    (tmp_path / NAME).write_bytes(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    (source,) = UCLA.scan(tmp_path, OPTIONS)
    try:
        (clip,) = UCLA.read(tmp_path, source, OPTIONS)
    except FormatError:
        return
    assert clip.tracks[0].position.shape[1:] == (20, 3)


@pytest.mark.parametrize("name", ["a07_s01_e00_v01.json", "a1_s01_e00_v01.json", "notes.json"])
def test_a_name_outside_the_format_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FormatError, match="expected aAA_sSS_eEE_vVV with an action among a01"):
        read(tmp_path, take(), name)


@pytest.mark.real
def test_the_complete_distribution_reads_as_numpy_reads_it(shared_data: Path) -> None:
    root = shared_data / "ucla" / "all_sqe"
    sources = UCLA.scan(root, OPTIONS)
    assert len(sources) == 1484
    frames = 0
    parts = []
    for source in sources:
        (clip,) = UCLA.read(root, source, OPTIONS)
        want = np.array(json.loads((root / source.path).read_text())["skeletons"], np.float32)
        np.testing.assert_array_equal(np.nan_to_num(clip.tracks[0].position), want)
        frames += len(want)
        parts.append(clip.splits["xview"])
    assert frames == 58_534
    assert (parts.count("train"), parts.count("test")) == (1020, 464)
