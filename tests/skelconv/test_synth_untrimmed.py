"""Generated PKU-MMD and Toyota Smarthome folders: what the readers find in them is what was made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelconv.human.performance import ACTIONS
from skelconv.ingest.ingest import ingest
from skelconv.ingest.plan import make_plan
from skelconv.store.store import open_store
from skelconv.synth import SYNTHESIZERS, GroundTruth, Settings, SynthError, TrueTrack, synthesize
from skelconv.synth.pku import PKU_ACTIONS
from skelconv.synth.toyota import TOYOTA_ACTIONS, TSU_ACTIONS, make_video
from skelconv.verify import verify
from skelformats.reader import Clip, Track, find_reader

FAULTY = Settings(frames=(12, 20), faults=6.0)
CLEAN = Settings(frames=(10, 14), noise=0.0, faults=0.0)
PKU = ("pku1", "pku2")


def files(dataset: str, index: int, how: Settings, seed: int = 0) -> tuple[GroundTruth, Mapping[str, bytes]]:
    synthesizer = SYNTHESIZERS[dataset]
    truth, content = synthesizer.make(seed, index, how)
    return truth, synthesizer.files(truth, content)


def read(root: Path, dataset: str, contents: Mapping[str, bytes], **options: Any) -> list[Clip]:
    for path, content in contents.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    reader = find_reader(dataset)
    how = reader.options(**options)
    clips = [clip for source in reader.scan(root, how) for clip in reader.read(root, source, how)]
    assert all(isinstance(clip, Clip) for clip in clips)
    return [clip for clip in clips if isinstance(clip, Clip)]


def assert_equal_tracks(found: tuple[Track, ...], made: tuple[TrueTrack, ...], start: int, stop: int) -> None:
    """The tracks found are those made, in frames ``start`` to ``stop`` - 1."""
    kept = {track.body: (track.frame_index >= start) & (track.frame_index < stop) for track in made}
    expected = {track.body: track for track in made if kept[track.body].any()}
    assert {track.body for track in found} == set(expected)
    for track in found:
        rows = kept[track.body]
        np.testing.assert_array_equal(track.frame_index, expected[track.body].frame_index[rows] - start)
        np.testing.assert_array_equal(track.position, expected[track.body].position[rows])


@pytest.mark.parametrize("dataset", PKU)
@pytest.mark.parametrize("index", range(10))
def test_the_pku_reader_finds_the_truth_bit_for_bit(tmp_path: Path, dataset: str, index: int) -> None:
    truth, contents = files(dataset, index, FAULTY, seed=3)
    clips = read(tmp_path, dataset, contents)
    assert [clip.label for clip in clips] == [interval.label for interval in truth.intervals]
    for clip, interval in zip(clips, truth.intervals, strict=True):
        assert clip.length == interval.stop - interval.start
        assert_equal_tracks(clip.tracks, truth.tracks, interval.start, interval.stop)
    (video,) = read(tmp_path, dataset, contents, untrimmed=True)
    assert (video.recording, video.length, video.label) == (truth.name, truth.length, -1)
    assert [track.body for track in video.tracks] == [track.body for track in truth.tracks]
    assert_equal_tracks(video.tracks, truth.tracks, 0, truth.length)
    rows = video.tables["interval"]
    assert [(row["start"], row["stop"], row["label"]) for row in rows] == [
        (interval.start, interval.stop, interval.label) for interval in truth.intervals
    ]


@pytest.mark.parametrize("index", range(24))
def test_the_toyota_reader_finds_the_truth_bit_for_bit(tmp_path: Path, index: int) -> None:
    truth, contents = files("toyota", index, FAULTY, seed=3)
    (clip,) = read(tmp_path, "toyota", contents)
    assert (clip.recording, clip.length, clip.label) == (truth.name, truth.length, truth.label)
    assert_equal_tracks(clip.tracks, truth.tracks, 0, truth.length)


@pytest.mark.parametrize("number", range(4))
def test_the_reader_finds_the_truth_of_untrimmed_toyota_videos(tmp_path: Path, number: int) -> None:
    truth, contents = make_video(0, number, FAULTY)
    (clip,) = read(tmp_path, "toyota", contents, untrimmed=True)
    assert (clip.recording, clip.length) == (truth.name, truth.length)
    assert_equal_tracks(clip.tracks, truth.tracks, 0, truth.length)
    rows = clip.tables["interval"]
    assert [(row["start"], row["stop"], row["label"]) for row in rows] == [
        (interval.start, interval.stop, interval.label) for interval in truth.intervals
    ]


@pytest.mark.parametrize("dataset", [*PKU, "toyota"])
def test_a_generated_folder_ingests_whole_and_has_every_part(tmp_path: Path, dataset: str) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out.zarr"
    synthesize(dataset, raw, 12, settings=Settings(frames=(10, 20)))
    summary = ingest(make_plan(dataset, raw, "test"), out)
    assert summary.set_aside == ()
    assert verify(out, raw=raw).ok
    table = open_store(out).to_frame()
    for protocol in summary.info.protocols:
        assert {"train", "test"} <= set(table[f"split_{protocol}"])
    assert all("as in" in text or protocol == "cv" for protocol, text in summary.info.protocols.items()), (
        "the lists in the folder were read"
    )


@pytest.mark.parametrize("dataset", PKU)
def test_lists_in_the_folder_say_what_is_built_in(tmp_path: Path, dataset: str) -> None:
    how = Settings(frames=(3, 4))
    synthesize(dataset, tmp_path / "with", 12, settings=how)
    synthesize(dataset, tmp_path / "without", 12, settings=how)
    for path in (tmp_path / "without" / "Split").iterdir():
        path.unlink()
    assert "Validataion videos: " in next((tmp_path / "with" / "Split").iterdir()).read_text()
    listed, built_in = (
        {clip.recording: clip.splits for clip in read(tmp_path / folder, dataset, {})}
        for folder in ("with", "without")
    )
    assert listed == built_in


@pytest.mark.parametrize("dataset", PKU)
def test_names_are_unique_and_actions_of_two_have_two_bodies(dataset: str) -> None:
    truths = [files(dataset, index, CLEAN)[0] for index in range(0, 66, 3)]
    assert len({truth.name for truth in truths}) == len(truths)
    labels = set()
    for truth in truths:
        bodies = np.zeros(truth.length, int)
        for track in truth.tracks:
            bodies[track.frame_index] += 1
        for interval in truth.intervals:
            assert set(bodies[interval.start : interval.stop]) == {ACTIONS[interval.action].persons}
            assert PKU_ACTIONS[interval.label + 1] == interval.action
            labels.add(interval.label)
    assert len(labels) == len(PKU_ACTIONS)


def test_every_action_is_one_that_can_be_played() -> None:
    for table in (PKU_ACTIONS, TOYOTA_ACTIONS, TSU_ACTIONS):
        assert set(table.values()) <= set(ACTIONS)


def test_toyota_poses_are_about_the_chest_and_pixels_in_the_picture() -> None:
    truth, contents = files("toyota", 0, CLEAN)
    (track,) = truth.tracks
    middle = track.position[:, [4, 5, 10, 11]].mean(axis=1)
    np.testing.assert_allclose(middle, 0, atol=2e-6)
    assert (track.position[:, 12, 1] > track.position[:, :2, 1].max(axis=1)).all()
    assert contents.keys() == {f"skeletonv12/{truth.name}_pose3d.json"}


@pytest.mark.parametrize(("dataset", "number"), [("pku1", 2), ("pku2", 2), ("toyota", 1)])
def test_what_cannot_be_generated_is_refused(tmp_path: Path, dataset: str, number: int) -> None:
    with pytest.raises(SynthError, match="expected 1 to "):
        synthesize(dataset, tmp_path / "a", 10**6)
    with pytest.raises(SynthError, match=rf"classes \[{number}\], expected some of"):
        synthesize(dataset, tmp_path / "a", 1, settings=Settings(actions=(number,)))
    with pytest.raises(SynthError, match="no more"):
        SYNTHESIZERS[dataset].make(0, 10**6, CLEAN)
