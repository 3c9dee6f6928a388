"""Generated 2D pose files: every reader finds the truth bit for bit in what `synthesize` writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skelconv.ingest.ingest import ingest
from skelconv.ingest.plan import make_plan
from skelconv.store.store import open_store
from skelconv.synth import SYNTHESIZERS, Settings, SynthError, synthesize
from skelconv.synth.video import HEIGHT, WIDTH, ScoredTrack, film
from skelformats.reader import Clip, find_reader
from skelformats.skeleton import load_skeleton

DATASETS = ("coco", "alphapose", "openpose", "mediapipe", "posetrack", "instavariety", "pyskl")
FAULTY = Settings(frames=(12, 24), faults=3.0)
COUNT = 10


def read_all(dataset: str, folder: Path) -> dict[str, Clip]:
    reader = find_reader(dataset)
    options = reader.options()
    clips = [clip for source in reader.scan(folder, options) for clip in reader.read(folder, source, options)]
    assert all(isinstance(clip, Clip) for clip in clips)
    return {clip.recording: clip for clip in clips if isinstance(clip, Clip)}


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_reader_finds_the_truth_bit_for_bit(tmp_path: Path, dataset: str) -> None:
    synthesize(dataset, tmp_path / "raw", COUNT, 5, settings=FAULTY)
    clips = read_all(dataset, tmp_path / "raw")
    scored = find_reader(dataset).dataset.confidence
    assert scored is not None
    for index in range(COUNT):
        truth, _ = SYNTHESIZERS[dataset].make(5, index, FAULTY)
        clip = clips.pop(truth.name)
        assert (clip.length, clip.label) == (truth.length, truth.label)
        assert [track.body for track in clip.tracks] == [track.body for track in truth.tracks]
        for found, made in zip(clip.tracks, truth.tracks, strict=True):
            assert isinstance(made, ScoredTrack)
            np.testing.assert_array_equal(found.frame_index, made.frame_index)
            np.testing.assert_array_equal(found.position, made.position)
            np.testing.assert_array_equal(found.confidence, made.state if made.score is None else made.score)
    assert not clips


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_generated_folder_becomes_a_store(tmp_path: Path, dataset: str) -> None:
    synthesize(dataset, tmp_path / "raw", COUNT, settings=Settings(frames=(8, 12)))
    summary = ingest(make_plan(dataset, tmp_path / "raw", "test"), tmp_path / "out.zarr")
    assert not summary.set_aside
    store = open_store(tmp_path / "out.zarr")
    assert store.info.provenance.recordings == COUNT
    assert store.skeleton.names == load_skeleton(find_reader(dataset).dataset.skeleton).names
    assert store.read(0, 5).shape[2] == 2


@pytest.mark.parametrize("dataset", DATASETS)
def test_files_are_the_same_every_time_and_for_any_number_of_recordings(tmp_path: Path, dataset: str) -> None:
    for name, count in (("a", 4), ("b", 4)):
        synthesize(dataset, tmp_path / name, count, 1, settings=FAULTY)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert len(files) > 1
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_people_are_in_the_picture_and_upright() -> None:
    skeleton = load_skeleton("openpose25")
    head, foot = skeleton.index("nose"), skeleton.index("left_big_toe")
    inside, upright = [], []
    for index in range(24):
        for person in film("openpose25", 0, 0, index, Settings(frames=(10, 10), noise=0.0)).people:
            x, y = person.noiseless[..., 0], person.noiseless[..., 1]
            inside.append(((x >= 0) & (x < WIDTH) & (y >= 0) & (y < HEIGHT)).mean())
            upright.append((y[:, head] < y[:, foot]).mean())
    assert np.mean(inside) > 0.9
    assert np.mean(upright) > 0.95


def test_the_left_of_somebody_who_faces_the_camera_is_on_the_right_of_the_picture() -> None:
    skeleton = load_skeleton("coco17")
    nose, ears = skeleton.index("nose"), [skeleton.index("left_ear"), skeleton.index("right_ear")]
    left, right = skeleton.index("left_shoulder"), skeleton.index("right_shoulder")
    agree = []
    for index in range(0, 48, 12):  # waving
        person = film("coco17", 0, 3, index, Settings(frames=(10, 10), noise=0.0)).people[0].noiseless[0]
        facing = person[ears[0], 0] > person[nose, 0] > person[ears[1], 0]
        if facing:
            agree.append(person[left, 0] > person[right, 0])
    assert agree
    assert all(agree)


def test_a_class_that_no_video_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SynthError, match=r"\[99\]"):
        synthesize("alphapose", tmp_path / "raw", 1, settings=Settings(actions=(99,)))
