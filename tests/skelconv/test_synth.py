"""Generated raw files: the truth is what a reader finds, and every file is made the same way every time."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skelconv.human.performance import ACTIONS
from skelconv.synth import MARKER, SYNTHESIZERS, GroundTruth, Settings, SynthError, synthesize
from skelconv.synth.ntu import NTU_ACTIONS
from skelconv.synth.text import as_written, skeleton_text
from skelconv.synth.ucla import UCLA_ACTIONS
from skelformats.errors import UnknownNameError
from skelformats.protocols import load_facts
from skelformats.reader import Clip, Source, find_reader
from skelformats.skeleton import load_skeleton
from tests.skelconv.ntu_text import read_recording

CLEAN = Settings(frames=(20, 30), noise=0.0, faults=0.0)
FAULTY = Settings(frames=(20, 30), faults=6.0)
LEAVES = (3, 15, 19, 21, 22, 23, 24)


def make(dataset: str, index: int, how: Settings = CLEAN, seed: int = 0) -> tuple[GroundTruth, bytes]:
    return SYNTHESIZERS[dataset].make(seed, index, how)


def read(dataset: str, folder: Path, truth: GroundTruth, content: bytes, extras: tuple[str, ...]) -> Clip:
    path = truth.name + SYNTHESIZERS[dataset].suffix
    (folder / path).write_bytes(content)
    reader = find_reader(dataset)
    (clip,) = reader.read(folder, Source(path, len(content)), reader.options(extras))
    return clip


@pytest.mark.parametrize("index", range(40))
def test_the_ntu_reader_finds_the_truth_bit_for_bit(tmp_path: Path, index: int) -> None:
    truth, content = make("ntu120", index, FAULTY, seed=2)
    clip = read("ntu120", tmp_path, truth, content, ("color", "depth", "orientation", "body"))
    assert (clip.recording, clip.length, clip.label) == (truth.name, truth.length, truth.label)
    assert [track.body for track in clip.tracks] == [track.body for track in truth.tracks]
    for found, made in zip(clip.tracks, truth.tracks, strict=True):
        np.testing.assert_array_equal(found.frame_index, made.frame_index)
        np.testing.assert_array_equal(found.position, made.position)
        np.testing.assert_array_equal(found.confidence, made.state)
        np.testing.assert_array_equal(found.extras["color"], made.color)
        np.testing.assert_array_equal(found.extras["depth"], made.depth)
        np.testing.assert_array_equal(found.extras["orientation"], made.orientation)
        np.testing.assert_array_equal(found.extras["body"], made.header)


@pytest.mark.parametrize("index", range(6))
def test_a_plain_reader_of_the_text_finds_the_same(tmp_path: Path, index: int) -> None:
    truth, content = make("ntu60", index, Settings(frames=(8, 12)))
    path = tmp_path / f"{truth.name}.skeleton"
    path.write_bytes(content)
    recording = read_recording(path)
    assert recording.length == truth.length
    for found, made in zip(recording.bodies, truth.tracks, strict=True):
        assert found.body == made.body
        np.testing.assert_array_equal(found.frame_index, made.frame_index)
        np.testing.assert_array_equal(found.position, np.nan_to_num(made.position))


@pytest.mark.parametrize("index", range(12))
def test_the_ucla_reader_finds_the_truth_bit_for_bit(tmp_path: Path, index: int) -> None:
    truth, content = make("ucla", index, FAULTY)
    clip = read("ucla", tmp_path, truth, content, ())
    assert (clip.recording, clip.length, clip.label) == (truth.name, truth.length, truth.label)
    np.testing.assert_array_equal(clip.tracks[0].position, truth.tracks[0].position)


def test_the_text_is_laid_out_as_the_recorder_lays_it_out() -> None:
    truth, content = make("ntu120", 0)
    lines = content.decode("ascii").split("\r\n")
    assert "\n" not in content.decode("ascii").replace("\r\n", "")
    assert lines[-1] == ""
    assert len(lines) == 2 + truth.length * (1 + 2 + 25)
    assert lines[0] == str(truth.length)
    header = lines[2].split(" ")
    assert len(header) == 10
    assert re.fullmatch(r"720575940379\d{5}", header[0])
    joints = np.array([line.split(" ") for line in lines[4:29]], float)
    assert joints.shape == (25, 12)
    np.testing.assert_array_equal(joints[list(LEAVES), 7:11], 0)
    others = [j for j in range(25) if j not in LEAVES]
    np.testing.assert_allclose(np.linalg.norm(joints[others, 7:11], axis=1), 1, atol=1e-6)
    # the pinhole model of genuine recordings
    np.testing.assert_allclose(joints[:, 3], 366.5 * joints[:, 0] / joints[:, 2] + 256, atol=1e-3)
    np.testing.assert_allclose(joints[:, 4], -366.5 * joints[:, 1] / joints[:, 2] + 208.5, atol=1e-3)
    assert set(joints[:, 11]) == {2}


@given(st.floats(-5000, 5000) | st.floats(-1e-3, 1e-3))
@settings(max_examples=300, deadline=None)
def test_a_number_has_seven_digits_and_reads_back_as_promised(value: float) -> None:
    cells = np.full((1, 1, 11), value)
    one = np.ones(1, np.int64)
    flags, state = np.zeros((1, 6), np.int64), np.ones((1, 1), np.uint8)
    text = skeleton_text(one, one, flags, np.zeros((1, 2)), cells, state).decode().split("\r\n")[-2]
    number = text.split(" ")[0]
    assert np.float32(number) == as_written(np.array([value]))[0]
    assert len(re.sub(r"E.*|[-.]", "", number).lstrip("0")) <= 7
    expected = f"{value:.7G}"
    if abs(value) > 1e-14 and float(number) != float(expected):
        # an exact tie in binary may round the other way: one unit of the seventh digit
        assert float(number) == pytest.approx(float(expected), rel=1.1e-6)


def test_lost_joints_are_zeros_in_the_file_and_nan_in_the_truth() -> None:
    lost = 0
    for index in range(60):
        truth, content = make("ntu120", index, Settings(frames=(20, 20), faults=10.0))
        zeros = content.count(b"\r\n0 0 0 0 0 0 0 ")
        missing = sum(int((np.isnan(t.position).all(-1) & (t.state == 0)).sum()) for t in truth.tracks)
        assert zeros == missing
        lost += missing
    assert lost > 0


@pytest.mark.parametrize("dataset", ["ntu60", "ntu120"])
def test_names_are_unique_and_every_class_is_in_both_parts_of_every_split(dataset: str) -> None:
    how = Settings(frames=(2, 2), faults=0.0)
    classes = [a for a in NTU_ACTIONS if dataset == "ntu120" or a <= 60]
    truths = [make(dataset, index, how)[0] for index in range(3 * 4 * len(classes))]
    names = [truth.name for truth in truths]
    assert len(set(names)) == len(names)
    facts = load_facts(dataset)
    assert not facts.left_out.intersection(names)
    seen: dict[tuple[str, int], set[str]] = {}
    for truth in truths:
        found = re.fullmatch(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})", truth.name)
        assert found
        setup, camera, person, replication, action = map(int, found.groups())
        assert camera in (1, 2, 3)
        assert replication in (1, 2)
        assert truth.label == action - 1
        assert (1 <= setup <= 17 and person <= 40) if action <= 60 else (18 <= setup <= 32 and person <= 106)
        columns = {"subject": person, "camera": camera, "setup": setup}
        for protocol, part in facts.splits(truth.name, columns).items():
            seen.setdefault((protocol, truth.label), set()).add(part)
    for label in {truth.label for truth in truths}:
        assert seen["xsub", label] == {"train", "test"}
    other = "xview" if dataset == "ntu60" else "xset"
    assert {part for (protocol, _), parts in seen.items() for part in parts if protocol == other} == {
        "train",
        "test",
    }


def test_three_cameras_show_one_motion_from_different_sides() -> None:
    for first in (0, 3, 57):
        tracks = [make("ntu60", first + camera)[0].tracks for camera in range(3)]
        assert len({len(found) for found in tracks}) == 1
        for views in zip(*tracks, strict=True):
            shapes = [np.linalg.norm(v.position[:, :, None] - v.position[:, None], axis=-1) for v in views]
            np.testing.assert_allclose(shapes[1], shapes[0], atol=2e-6)
            np.testing.assert_allclose(shapes[2], shapes[0], atol=2e-6)
            across = [v.position[0, 8] - v.position[0, 4] for v in views]
            yaw = np.degrees([np.arctan2(a[2], a[0]) for a in across])
            assert np.ptp(np.unwrap(yaw, period=360)) > 30


def test_people_stand_where_a_kinect_sees_them_and_face_it_more_or_less() -> None:
    yaw, depth = [], []
    for index in range(0, 200, 3):
        truth = make("ntu120", index + index // 3 % 3)[0]
        for track in truth.tracks:
            depth.append(float(track.position[..., 2].mean()))
            if len(truth.tracks) == 1:
                # the left shoulder of somebody who faces the camera has the smaller x
                across = track.position[0, 8] - track.position[0, 4]
                yaw.append(float(np.degrees(np.arctan2(across[2], across[0]))))
    assert 2.0 < min(depth) < 3.0 < max(depth) < 4.5
    assert np.abs(yaw).max() < 100
    assert np.quantile(np.abs(yaw), 0.9) > 40


def test_noise_is_of_the_size_that_genuine_recordings_have() -> None:
    joint = load_skeleton("ntu25").index
    errors, sure = [], []
    for index in range(0, 90, 3):
        for track in make("ntu120", index, Settings(frames=(30, 60), faults=0.0))[0].tracks:
            errors.append(np.abs(track.position - track.noiseless).max(axis=-1))
            sure.append(track.state == 2)
    error, tracked = np.concatenate(errors), np.concatenate(sure)
    trunk, tip = joint("spine_mid"), joint("left_hand_tip")
    assert np.median(error[:, trunk]) < 0.004
    assert 0.005 < np.median(error[:, tip]) < 0.05
    assert np.median(error[~tracked]) > 1.5 * np.median(error[tracked])
    assert 0.02 < 1 - tracked.mean() < 0.3


def test_everything_that_goes_wrong_in_genuine_files_goes_wrong_sometimes_and_can_be_switched_off() -> None:
    seen: dict[str, int] = dict.fromkeys(("gap", "late", "two ids", "ghost", "lost", "nan", "nobody"), 0)
    for index in range(0, 400):
        truth, content = make("ntu120", index, Settings(frames=(12, 16), faults=5.0))
        frames = {int(f) for track in truth.tracks for f in track.frame_index}
        people = [track.person for track in truth.tracks]
        seen["nobody"] += not frames
        seen["late"] += bool(frames) and min(frames) > 0
        seen["gap"] += bool(frames) and len(frames) < max(frames) - min(frames) + 1
        seen["ghost"] += -1 in people
        seen["two ids"] += any(people.count(person) > 1 for person in (0, 1))
        seen["nan"] += b"NaN NaN NaN" in content
        seen["lost"] += any((track.state == 0).any() for track in truth.tracks)
    assert all(seen.values()), seen
    for index in range(0, 100, 3):
        truth, content = make("ntu120", index, CLEAN)
        persons = ACTIONS[truth.action].persons
        assert [len(track.frame_index) for track in truth.tracks] == [truth.length] * persons
        assert b"NaN" not in content


def test_ids_of_two_people_are_so_near_that_float64_may_confuse_them() -> None:
    nearby = [
        abs(int(truth.tracks[0].body) - int(truth.tracks[1].body))
        for truth in (make("ntu120", index)[0] for index in range(0, 600, 3))
        if len(truth.tracks) == 2
    ]
    assert min(nearby) > 0
    assert min(nearby) < 16


def test_a_recording_does_not_depend_on_how_many_are_made_nor_on_the_number_of_workers(
    tmp_path: Path,
) -> None:
    how = Settings(frames=(5, 9))
    few = synthesize("ntu120", tmp_path / "few", 4, seed=3, settings=how)
    many = synthesize("ntu120", tmp_path / "many", 62, seed=3, settings=how)
    pooled = synthesize("ntu120", tmp_path / "pooled", 62, seed=3, settings=how, workers=2)
    for path in (tmp_path / "few").glob("*.skeleton"):
        assert path.read_bytes() == (tmp_path / "many" / path.name).read_bytes()
    assert {path.name: path.read_bytes() for path in (tmp_path / "many").iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "pooled").iterdir()
    }
    assert (few.recordings, many.recordings) == (4, 62)
    assert many.size == sum(path.stat().st_size for path in (tmp_path / "many").glob("*.skeleton"))
    assert (many.frames, many.bodies, many.size) == (pooled.frames, pooled.bodies, pooled.size)


def test_seeds_make_different_motions_under_possibly_equal_names() -> None:
    assert make("ntu120", 0, seed=1)[1] != make("ntu120", 0, seed=2)[1]
    assert make("ntu120", 7, seed=1)[1] == make("ntu120", 7, seed=1)[1]


def test_lengths_and_classes_are_as_asked_for() -> None:
    how = Settings(frames=(40, 42), actions=(23, 10), faults=0.0)
    truths = [make("ntu60", index, how)[0] for index in range(12)]
    assert {truth.length for truth in truths} <= {40, 41, 42}
    assert [truth.label + 1 for truth in truths] == [23] * 3 + [10] * 3 + [23] * 3 + [10] * 3


@pytest.mark.parametrize("dataset", ["ntu120", "ntu60", "ucla"])
def test_every_class_names_an_action_and_at_least_ten_can_be_made(dataset: str) -> None:
    table = UCLA_ACTIONS if dataset == "ucla" else NTU_ACTIONS
    assert set(table.values()) <= set(ACTIONS)
    assert len({make(dataset, 3 * k)[0].label for k in range(10)}) == 10


def test_progress_is_told_as_it_is_made(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    made = synthesize(
        "ucla", tmp_path / "raw", 40, settings=CLEAN, advance=lambda count, size: steps.append((count, size))
    )
    assert sum(count for count, _ in steps) == 40
    assert sum(size for _, size in steps) == made.size
    assert len(steps) == 2


def test_only_generated_folders_are_replaced(tmp_path: Path) -> None:
    out = tmp_path / "raw"
    out.mkdir()
    synthesize("ucla", out, 3, settings=CLEAN)
    assert "generated" in (out / MARKER).read_text()
    with pytest.raises(SynthError, match="--overwrite"):
        synthesize("ucla", out, 3, settings=CLEAN)
    synthesize("ucla", out, 6, settings=CLEAN, overwrite=True)
    assert len(list(out.glob("*.json"))) == 6
    (out / MARKER).unlink()
    with pytest.raises(SynthError, match="not generated"):
        synthesize("ucla", out, 3, settings=CLEAN, overwrite=True)
    assert len(list(out.glob("*.json"))) == 6
    (tmp_path / "mine.partial").mkdir()
    (tmp_path / "mine.partial" / "thesis.tex").touch()
    with pytest.raises(SynthError, match="not generated"):
        synthesize("ucla", tmp_path / "mine", 3, settings=CLEAN)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SynthError, match="Choose another one"):
        synthesize("ucla", tmp_path / "file", 3, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine.partial", "raw"]


def test_what_cannot_be_generated_is_refused_with_what_can(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="ntu120"):
        synthesize("ntu12", tmp_path / "a", 1)
    with pytest.raises(SynthError, match="expected 1 to "):
        synthesize("ucla", tmp_path / "a", 100_000)
    with pytest.raises(SynthError, match="expected 1 to "):
        synthesize("ucla", tmp_path / "a", 0)
    with pytest.raises(SynthError, match="seed"):
        synthesize("ucla", tmp_path / "a", 1, seed=-1)
    with pytest.raises(SynthError, match="80"):
        synthesize("ntu60", tmp_path / "a", 1, settings=Settings(actions=(80,)))
    with pytest.raises(SynthError, match="7"):
        synthesize("ucla", tmp_path / "a", 1, settings=Settings(actions=(7,)))
    with pytest.raises(SynthError, match="no more names"):
        make("ntu60", 10**6)
    with pytest.raises(SynthError, match="shortest"):
        Settings(frames=(5, 4))
    with pytest.raises(SynthError, match="noise"):
        Settings(noise=-1.0)
    assert list(tmp_path.iterdir()) == []
