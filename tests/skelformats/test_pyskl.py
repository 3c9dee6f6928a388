"""The pyskl reader: 2D and 3D pickles, splits, float16, and what is not to be trusted."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelformats.errors import FormatError
from skelformats.pyskl import PYSKL
from skelformats.reader import Clip, Refused


def annotation(name: str = "a", people: int = 2, frames: int = 4, **more: Any) -> dict[str, Any]:
    rng = np.random.default_rng(people)
    return {
        "frame_dir": name,
        "label": 3,
        "img_shape": (1080, 1920),
        "total_frames": frames,
        "keypoint": rng.uniform(1, 1900, (people, frames, 17, 2)).astype(np.float16),
        "keypoint_score": rng.uniform(0.1, 1, (people, frames, 17)).astype(np.float16),
        **more,
    }


def solid(name: str = "a", **more: Any) -> dict[str, Any]:
    keypoint = np.random.default_rng(0).normal(size=(1, 4, 25, 3)).astype(np.float32)
    return {"frame_dir": name, "label": 3, "total_frames": 4, "keypoint": keypoint, **more}


def read(folder: Path, content: Any, name: str = "x_hrnet.pkl", **options: Any) -> list[Clip | Refused]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    asked = PYSKL.options(**options)
    (source,) = PYSKL.scan(folder, asked)
    return list(PYSKL.read(folder, source, asked))


def clip_of(folder: Path, content: dict[str, Any], name: str = "x_hrnet.pkl", **options: Any) -> Clip:
    (clip,) = read(folder, {"split": {}, "annotations": [content]}, name, **options)
    assert isinstance(clip, Clip), clip
    return clip


def test_half_precision_becomes_float32_with_the_same_values(tmp_path: Path) -> None:
    made = annotation()
    clip = clip_of(tmp_path, made)
    assert (clip.length, clip.label, clip.columns) == (4, 3, {"width": 1920, "height": 1080})
    assert [track.body for track in clip.tracks] == ["0", "1"]
    for person, track in enumerate(clip.tracks):
        assert track.position.dtype == np.float32
        np.testing.assert_array_equal(track.position, made["keypoint"][person].astype(np.float32))
        np.testing.assert_array_equal(track.confidence, made["keypoint_score"][person].astype(np.float32))


@pytest.mark.parametrize("form", ["dict", "list", "one"])
def test_a_list_of_annotations_and_a_single_one_are_read_as_a_whole_file_is(
    tmp_path: Path, form: str
) -> None:
    made = annotation()
    content = {"dict": {"annotations": [made]}, "list": [made], "one": made}[form]
    (clip,) = read(tmp_path, content)
    assert isinstance(clip, Clip)
    assert (clip.recording, clip.label, len(clip.tracks)) == ("a", 3, 2)
    assert set(clip.splits.values()) == {""}
    assert len(PYSKL.dataset_of(tmp_path, PYSKL.options()).classes) == 4


def test_a_name_that_is_not_unicode_sets_aside_its_recording_alone(tmp_path: Path) -> None:
    refused, clip = read(tmp_path, [annotation("a\udcff"), annotation("b")])
    assert isinstance(refused, Refused)
    assert "the recording 'a\\udcff', expected text that is valid Unicode" in refused.reason
    assert isinstance(clip, Clip)


@pytest.mark.real
def test_a_real_single_annotation_is_read(shared_data: Path, tmp_path: Path) -> None:
    content = (shared_data / "strangers" / "pyskl_single_annotation.pkl").read_bytes()
    (clip,) = read(tmp_path, content)
    assert isinstance(clip, Clip)
    assert (clip.recording, clip.length, clip.label) == ("12320_GL00003", 101, 2)
    want = pickle.loads(content)
    (track,) = clip.tracks
    np.testing.assert_array_equal(track.position, want["keypoint"][0][track.frame_index])
    np.testing.assert_array_equal(track.confidence, want["keypoint_score"][0][track.frame_index])


def test_frames_of_zeros_are_padding_and_a_joint_of_zeros_is_missing(tmp_path: Path) -> None:
    made = annotation()
    for array in (made["keypoint"], made["keypoint_score"]):
        array[1, [0, 2]] = 0
        array[0, 1, 5] = 0
    first, second = clip_of(tmp_path, made).tracks
    np.testing.assert_array_equal(second.frame_index, [1, 3])
    assert np.argwhere(np.isnan(first.position[..., 0])).tolist() == [[1, 5]]
    made["keypoint"][1], made["keypoint_score"][1] = 0, 0
    assert [track.body for track in clip_of(tmp_path, made).tracks] == ["0"]


def test_splits_are_told_with_their_official_parts(tmp_path: Path) -> None:
    split = {"xsub_train": ["a"], "xsub_val": ["b"], "xview_train": ["a", "b"], "xview_val": []}
    one, two = read(tmp_path, {"split": split, "annotations": [annotation("a"), annotation("b")]})
    assert isinstance(one, Clip)
    assert isinstance(two, Clip)
    assert (one.splits["xsub"], one.splits["xview"], one.splits["xset"]) == ("train", "train", "")
    assert (two.splits["xsub"], two.splits["xview"]) == ("test", "train")
    names = {"train": ["a"], "val": [], "test1": ["a"]}
    (clip,) = read(tmp_path / "b", {"split": names, "annotations": [annotation("a")]})
    assert isinstance(clip, Clip)
    assert (clip.splits["split"], clip.splits["split1"]) == ("train", "test")


def test_3d_files_are_known_by_their_names_and_have_kinect_joints(tmp_path: Path) -> None:
    made = solid("S001C001P001R001A004")
    clip = clip_of(tmp_path, made, "ntu60_3danno.pkl")
    dataset = PYSKL.dataset_of(tmp_path, PYSKL.options())
    assert (dataset.skeleton, dataset.unit, dataset.axes) == ("ntu25", "m", ("x", "y", "z"))
    assert dataset.confidence is None
    assert len(dataset.classes) == 60
    np.testing.assert_array_equal(clip.tracks[0].position, made["keypoint"][0])
    assert clip.tracks[0].confidence is None
    named = clip_of(tmp_path / "b", solid(), "poses.pkl", dimensions="3")
    assert named.tracks[0].position.shape == (4, 25, 3)


def test_classes_without_names_are_called_by_their_numbers(tmp_path: Path) -> None:
    read(tmp_path, {"annotations": [annotation(label=2)]})
    assert PYSKL.dataset_of(tmp_path, PYSKL.options()).classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (annotation(keypoint=None), "'keypoint' of type NoneType"),
        (annotation(keypoint=np.zeros((2, 4, 18, 2))), "'keypoint' of shape (2, 4, 18, 2)"),
        (annotation(keypoint=np.zeros((2, 0, 17, 2))), "'keypoint' of shape (2, 0, 17, 2)"),
        (annotation(total_frames=9), "4 frames, expected 9"),
        (annotation(keypoint_score=np.zeros((2, 4))), "'keypoint_score' (2, 4)"),
        (annotation(label="walk"), "the label 'walk'"),
        (annotation(label=10**6), "the label 1000000"),
        (annotation(img_shape=3), "'img_shape' 3"),
        (solid(), "Add --dimensions 3"),
    ],
)
def test_a_bad_annotation_is_set_aside_alone(tmp_path: Path, broken: dict[str, Any], found: str) -> None:
    good, bad = read(tmp_path, {"annotations": [annotation("good"), {**broken, "frame_dir": "bad"}]})
    assert isinstance(good, Clip)
    assert isinstance(bad, Refused)
    assert bad.recording == "bad"
    assert found in bad.reason
    assert bad.reason.startswith("x_hrnet.pkl: found")


def test_a_name_that_comes_twice_is_kept_once(tmp_path: Path) -> None:
    first, second = read(tmp_path, {"annotations": [annotation("a"), annotation("a")]})
    assert isinstance(first, Clip)
    assert isinstance(second, Refused)


class Hostile:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


def test_a_hostile_pickle_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    target = tmp_path / "touched"
    with pytest.raises(FormatError, match="system"):
        read(tmp_path / "raw", {"annotations": [annotation(label=Hostile(target))]})
    assert not target.exists()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "x_hrnet.pkl"),
        ([], "a list without a list 'annotations'"),
        ({"annotations": 3}, "without a list 'annotations'"),
        ({"annotations": [3]}, "annotation 0 without a 'frame_dir'"),
        ({"annotations": [], "split": 3}, "'split' of type int"),
        ({"annotations": [], "split": {"mine": []}}, "the split 'mine'"),
        ({"annotations": [], "split": {"train": 3}}, "the split 'train' of type int"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: Any, found: str) -> None:
    with pytest.raises(FormatError) as error:
        read(tmp_path, content)
    assert found in str(error.value)
