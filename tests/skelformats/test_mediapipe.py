"""The MediaPipe reader: the forms that people write landmarks in give the same poses; what is odd is
named.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from skelconv.synth import Settings, synthesize
from skelconv.testing import check_reader
from skelformats.errors import FormatError, SkelconvError
from skelformats.mediapipe import MEDIAPIPE
from skelformats.reader import Clip
from skelformats.skeleton import load_skeleton

NAMES = [joint.official for joint in load_skeleton("mediapipe33").joints]
POINT = ("x", "y", "z", "visibility", "presence")


def values(frames: int = 3, world: bool = False) -> NDArray[np.float64]:
    """(T, 33, 5): fractions of a picture, or metres from the middle of the hips."""
    rng = np.random.default_rng(world)
    made = rng.uniform(0.2, 0.8, (frames, 33, 5)).round(6)
    if world:
        made[..., :3] -= made[:, 23:25, :3].mean(axis=1, keepdims=True)
    return made


def points(rows: NDArray[np.float64], names: tuple[str, ...] = POINT) -> list[dict[str, float]]:
    return [dict(zip(names, row, strict=False)) for row in rows.tolist()]


def read(
    folder: Path, content: Any, name: str = "walk.json", extras: tuple[str, ...] = (), **options: Any
) -> list[Clip]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    asked = MEDIAPIPE.options(extras, **options)
    clips = [c for s in MEDIAPIPE.scan(folder, asked) for c in MEDIAPIPE.read(folder, s, asked)]
    return [clip for clip in clips if isinstance(clip, Clip)]


def csv(head: list[str], rows: list[list[Any]]) -> str:
    return "\n".join(",".join(map(str, row)) for row in [head, *rows])


def wide(pattern: str, fields: tuple[str, ...] = POINT, told: list[Any] | None = None) -> str:
    head = [pattern.format(j=j, f=f) for j in (told or range(33)) for f in fields]
    rows = values()[:, : len(told or range(33)), : len(fields)].reshape(3, -1).tolist()
    return csv(["frame", *head], [[frame, *row] for frame, row in enumerate(rows)])


FORMS: dict[str, Any] = {
    "tasks": [{"pose_landmarks": [points(rows)]} for rows in values()],
    "javascript": [{"landmarks": [points(rows)], "worldLandmarks": []} for rows in values()],
    "one person": {"frames": [{"frame": n, "landmarks": points(rows)} for n, rows in enumerate(values())]},
    "protobuf": [{"poseLandmarks": {"landmark": points(rows)}} for rows in values()],
    "by name": [{"landmarks": dict(zip(NAMES, points(rows), strict=True))} for rows in values()],
    "frames by number": {str(n): {"pose_landmarks": points(rows)} for n, rows in enumerate(values())},
    "lists": [points(rows) for rows in values()],
    "rows": [{"landmarks": rows.tolist()} for rows in values()],
    "flat": [rows.ravel().tolist() for rows in values()],
    "people": [{"people": [{"id": 0, "landmarks": points(rows)}]} for rows in values()],
}
TABLES = {
    "x0": wide("{f}{j}"),
    "x_0": wide("{f}_{j}"),
    "0_x": wide("{j}_{f}"),
    "x1": wide("{f}{j}", told=list(range(1, 34))),
    "landmark_0_x": wide("landmark_{j}_{f}"),
    "lm0.x": wide("lm{j}.{f}"),
    "LEFT_WRIST_x": wide("{j}_{f}", told=NAMES),
    "left wrist X": wide("{j} {f}", told=[name.lower().replace("_", " ") for name in NAMES]),
    "short names": wide("{f}{j}", ("x", "y", "z", "v", "p")),
    "long by number": csv(
        ["frame", "landmark_id", *POINT],
        [[t, j, *row] for t, rows in enumerate(values().tolist()) for j, row in enumerate(rows)],
    ),
    "long by name": csv(
        ["frame", "landmark", *POINT],
        [[t, NAMES[j], *rows[j]] for t, rows in enumerate(values().tolist()) for j in reversed(range(33))],
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_json_gives_the_same_poses(tmp_path: Path, form: str) -> None:
    (clip,) = read(tmp_path, FORMS[form])
    check(clip)


@pytest.mark.parametrize("form", TABLES)
def test_every_form_of_csv_gives_the_same_poses(tmp_path: Path, form: str) -> None:
    (clip,) = read(tmp_path, TABLES[form], "walk.csv")
    check(clip)


def check(clip: Clip) -> None:
    (track,) = clip.tracks
    assert (clip.recording, clip.length, track.body) == ("walk", 3, "0")
    assert track.frame_index.tolist() == [0, 1, 2]
    assert track.confidence is not None
    np.testing.assert_array_equal(track.position, values()[..., :2].astype(np.float32))
    np.testing.assert_array_equal(track.confidence, values()[..., 3].astype(np.float32))


class TestUnits:
    def test_fractions_become_pixels_where_the_file_or_an_option_has_the_size(self, tmp_path: Path) -> None:
        (clip,) = read(tmp_path / "option", FORMS["tasks"], size="640x480")
        about = {"metadata": {"image_width": 640, "image_height": 480, "fps": 25}}
        (told,) = read(tmp_path / "file", {**about, "frames": FORMS["tasks"]})
        table = csv(["frame", "width", "height"], [[0, 640, 480]]).splitlines()
        joined = [
            f"{a},{b}" for a, b in zip(TABLES["x0"].splitlines(), [table[0], *[table[1]] * 3], strict=True)
        ]
        joined[0] = joined[0].replace(",frame,width", ",number,width")
        (row,) = read(tmp_path / "csv", "\n".join(joined), "walk.csv")
        expected = (values()[..., :2] * [640, 480]).astype(np.float32)
        for found in (clip, told, row):
            np.testing.assert_array_equal(found.tracks[0].position, expected)
            assert found.columns == {"width": 640, "height": 480}
        dataset = MEDIAPIPE.dataset_of(tmp_path / "file", MEDIAPIPE.options())
        assert (dataset.unit, dataset.frame_rate) == ("px", 25.0)

    def test_without_a_size_they_stay_fractions_and_say_so(self, tmp_path: Path) -> None:
        (clip,) = read(tmp_path, FORMS["tasks"])
        dataset = MEDIAPIPE.dataset_of(tmp_path, MEDIAPIPE.options())
        assert (dataset.unit, clip.columns) == ("1", {"width": -1, "height": -1})
        assert "fractions" in dataset.axis_convention

    def test_world_landmarks_are_metres_with_y_up(self, tmp_path: Path) -> None:
        world = values(world=True)
        both = [
            {"pose_landmarks": [points(a)], "pose_world_landmarks": [points(b)]}
            for a, b in zip(values(), world, strict=True)
        ]
        (clip,) = read(tmp_path / "both", both, landmarks="world")
        dataset = MEDIAPIPE.dataset_of(tmp_path / "both", MEDIAPIPE.options(landmarks="world"))
        assert (dataset.unit, len(dataset.axes)) == ("m", 3)
        raw = clip.tracks[0].position
        np.testing.assert_array_equal(raw, world[..., :3].astype(np.float32))
        np.testing.assert_array_equal(dataset.axis_map.to_canonical(raw), raw * np.float32([1, -1, -1]))
        (clip,) = read(tmp_path / "both", both, extras=("world",))
        np.testing.assert_array_equal(clip.tracks[0].extras["world"], raw)
        assert clip.tracks[0].position.shape == (3, 33, 2)

    def test_world_landmarks_of_a_table_that_has_no_others(self, tmp_path: Path) -> None:
        rows = values(world=True)[..., :3].reshape(3, -1).tolist()
        head = [f"{name}_{axis}" for name in NAMES for axis in "xyz"]
        (clip,) = read(tmp_path, csv(head, rows), "a.csv", landmarks="world")
        np.testing.assert_array_equal(clip.tracks[0].position, values(world=True)[..., :3].astype(np.float32))
        assert clip.tracks[0].confidence is None

    def test_further_arrays(self, tmp_path: Path) -> None:
        frames = [{**frame, "timestamp_ms": 40 * n} for n, frame in enumerate(FORMS["tasks"])]
        (clip,) = read(tmp_path, frames, extras=("depth", "presence", "time", "world"))
        extras = clip.tracks[0].extras
        np.testing.assert_array_equal(extras["depth"], values()[..., 2].astype(np.float32))
        np.testing.assert_array_equal(extras["presence"], values()[..., 4].astype(np.float32))
        np.testing.assert_allclose(extras["time"], [0, 0.04, 0.08])
        assert np.isnan(extras["world"]).all()


class TestPeople:
    def test_frames_without_anybody_are_counted(self, tmp_path: Path) -> None:
        frames = [{"pose_landmarks": None}, *FORMS["tasks"], {"pose_landmarks": []}]
        (clip,) = read(tmp_path, frames)
        assert clip.length == 5
        assert clip.tracks[0].frame_index.tolist() == [1, 2, 3]

    def test_several_have_no_ids_unless_they_are_written_or_linked(self, tmp_path: Path) -> None:
        other = values() + 0.001
        frames = [{"pose_landmarks": [points(a), points(b)]} for a, b in zip(values(), other, strict=True)]
        (clip,) = read(tmp_path / "a", frames)
        assert [track.body for track in clip.tracks] == ["0.0", "0.1", "1.0", "1.1", "2.0", "2.1"]
        still = [frames[0]] * 3
        (clip,) = read(tmp_path / "b", still, track=2)
        assert [(track.body, len(track.frame_index)) for track in clip.tracks] == [("0", 3), ("1", 3)]
        people = [
            {"people": [{"id": 7, "landmarks": points(a)}, {"id": 9, "landmarks": points(b)}]}
            for a, b in zip(values(), other, strict=True)
        ]
        (clip,) = read(tmp_path / "c", people)
        assert [(track.body, len(track.frame_index)) for track in clip.tracks] == [("7", 3), ("9", 3)]

    def test_people_and_videos_of_a_table(self, tmp_path: Path) -> None:
        head, *rows = TABLES["long by number"].splitlines()
        lines = [f"video,person,{head}"]
        lines += [f"{video},{person},{row}" for video in "ab" for person in (0, 1) for row in rows]
        first, second = read(tmp_path, "\n".join(lines), "all.csv")
        assert (first.recording, second.recording) == ("a", "b")
        assert [track.body for track in first.tracks] == ["0", "1"]

    def test_a_landmark_of_zeros_or_null_is_missing(self, tmp_path: Path) -> None:
        content = json.loads(json.dumps(FORMS["tasks"]))
        content[0]["pose_landmarks"][0][4] = {"x": 0, "y": 0, "z": 0, "visibility": 0}
        content[1]["pose_landmarks"][0][5] = {"x": None, "y": None}
        (clip,) = read(tmp_path, content)
        missing = np.isnan(clip.tracks[0].position[..., 0])
        assert np.argwhere(missing).tolist() == [[0, 4], [1, 5]]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("[NaN]", "not JSON"),
        ({}, "the keys of nothing"),
        ({"keypoints": []}, "the keys keypoints"),
        ([{}], "no frame with landmarks"),
        ([3], "in frame 0 a value of type int"),
        ([[points(values()[0])[:21]]], "21 landmarks, those of a hand"),
        ([{"landmarks": [[0.5, 0.5]] * 32 + ["x"]}], "in frame 0 landmarks 32 of type str"),
        ([{"landmarks": [{"x": "1", "y": 0.5}] * 33}], "a value that is not a number"),
        ([{"landmarks": {"TAIL": {"x": 0.1, "y": 0.1}}}], "the landmark 'TAIL'"),
        ([{"frame": 1, "landmarks": []}, {"landmarks": []}], "no number in frame 1"),
        ([{"frame": 0.5, "landmarks": []}], "in frame 0 the number 0.5"),
        ({"pose_landmarks": [points(values()[0])] * 30}, "30 poses"),
        ({"fps": "fast", "frames": FORMS["tasks"]}, "a frame rate with a value that is not a number"),
        ([points(values()[0] * 640)], "fractions of the picture's width and height"),
        ([points(values(world=True)[0])], "Add --landmarks world"),
    ],
)
def test_what_is_wrong_with_json_is_named(tmp_path: Path, content: Any, found: str) -> None:
    with pytest.raises(FormatError) as error:
        read(tmp_path, content)
    assert found in str(error.value)
    assert "walk.json" in str(error.value)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("", "no table"),
        ("a,b\n1,2", "the columns a, b"),
        ("landmark,x,y\n0,1,2", "no column 'frame'"),
        ("frame,x,y\n0,1,2", "no column 'landmark'"),
        (wide("{f}{j}", told=list(range(21))), "21 landmarks, those of a hand"),
        (wide("{j}_{f}", told=["TAIL", *NAMES[1:]]), "the landmark 'tail'"),
        (TABLES["x0"].replace("0.2", "high", 1), "'high"),
        (TABLES["x0"].replace("\n1,", "\n1.5,"), "the frame 1.5 in row 2"),
        (TABLES["x0"] + ",0.5", "no table"),
        (TABLES["long by number"] + "\n" + TABLES["long by number"].splitlines()[-1], "twice in a frame"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path: Path, content: str, found: str) -> None:
    with pytest.raises(FormatError) as error:
        read(tmp_path, content, "walk.csv")
    assert found in str(error.value)


def test_files_are_like_the_first_one(tmp_path: Path) -> None:
    read(tmp_path / "size", {"width": 640, "height": 480, "fps": 25, "frames": FORMS["tasks"]}, "a.json")
    with pytest.raises(FormatError, match="--size 1920x1080"):
        read(tmp_path / "size", FORMS["tasks"], "b.json")
    with pytest.raises(FormatError, match=r"30 frames a second, expected 25, as in the first file"):
        read(tmp_path / "size", {"width": 1, "height": 1, "fps": 30, "frames": FORMS["tasks"]}, "b.json")
    read(tmp_path / "seen", FORMS["tasks"], "a.json")
    with pytest.raises(FormatError, match="no visibility, expected a visibility, as in the first file"):
        read(tmp_path / "seen", [{"landmarks": values()[0, :, :2].tolist()}], "b.json")


def test_options_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(SkelconvError, match="--size big: expected the picture's width and height"):
        read(tmp_path, FORMS["tasks"], size="big")
    with pytest.raises(FormatError, match="no world landmarks"):
        read(tmp_path, FORMS["tasks"], landmarks="world")


def test_generated_files_keep_every_promise_of_a_reader(tmp_path: Path) -> None:
    synthesize("mediapipe", tmp_path / "raw", 4, settings=Settings(frames=(2, 3)))
    extras = ("world", "depth", "presence", "time")
    for options in ({}, {"landmarks": "world"}):
        done = check_reader(MEDIAPIPE, tmp_path / "raw", MEDIAPIPE.options(extras, **options), damaged=20)
        assert (done.recordings, done.refused) == (4, 0)
