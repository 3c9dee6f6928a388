"""MotionBERT's pickle of Human3.6M: what is read of a generated file of its structure, and what is not
trusted.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelformats.errors import FormatError
from skelformats.human36m_25d import H36M25D
from skelformats.reader import Clip, Refused

FILE = "h36m_sh_conf_cam_source_final.pkl"
ALL = ("detection", "detection_score", "factor", "truth")


def part(names: list[tuple[str, str, str]], frames: int = 5, test: bool = False) -> dict[str, Any]:
    """The arrays of a part: videos of these sources, cameras and actions, one after another."""
    count = frames * len(names)
    rng = np.random.default_rng(count)
    made: dict[str, Any] = {
        "joint_2d": rng.uniform(100, 900, (count, 17, 2)),
        "confidence": rng.uniform(0, 1, (count, 17, 1)).astype(np.float32),
        "joint3d_image": rng.uniform(100, 900, (count, 17, 3)),
        "camera_name": np.repeat([camera for _, camera, _ in names], frames),
        "source": [source for source, _, _ in names for _ in range(frames)],
    }
    if test:
        made["action"] = np.repeat([action for _, _, action in names], frames)
        made["2.5d_factor"] = rng.uniform(3, 5, count)
        made["joints_2.5d_image"] = made["joint3d_image"] * made["2.5d_factor"][:, None, None]
    return made


def content() -> dict[str, Any]:
    return {
        "train": part([("s_01_act_02_subact_01_ca_01", "54138969", "")]),
        "test": part(
            [
                ("s_09_act_05_subact_02_ca_02", "55011271", "Greeting"),
                ("s_11_act_16_subact_01_ca_04", "60457274", "WalkingTogether"),
            ],
            test=True,
        ),
    }


def read(folder: Path, made: Any, extras: tuple[str, ...] = ALL) -> list[Clip | Refused]:
    folder.mkdir(exist_ok=True)
    (folder / FILE).write_bytes(made if isinstance(made, bytes) else pickle.dumps(made, protocol=4))
    options = H36M25D.options(extras)
    (source,) = H36M25D.scan(folder, options)
    return list(H36M25D.read(folder, source, options))


def test_every_video_is_a_recording_with_all_that_the_file_holds(tmp_path: Path) -> None:
    made = content()
    train, greeting, walking = read(tmp_path, made)
    assert isinstance(train, Clip)
    assert isinstance(greeting, Clip)
    assert isinstance(walking, Clip)
    assert [clip.recording[:4] for clip in (train, greeting, walking)] == ["s_01", "s_09", "s_11"]
    assert [clip.splits["xsub"] for clip in (train, greeting, walking)] == ["train", "test", "test"]
    classes = H36M25D.dataset.classes
    assert [classes[clip.label] for clip in (train, greeting, walking)] == [
        "Directions", "Greeting", "WalkTogether"
    ]  # fmt: skip
    assert greeting.columns == {
        "subject": 9, "camera": 55011271, "subaction": 2, "width": 1000, "height": 1000, "flaw": "drift"
    }  # fmt: skip
    assert (walking.columns["height"], walking.columns["flaw"]) == (1002, "")
    (track,), test = walking.tracks, made["test"]
    np.testing.assert_array_equal(track.position, test["joint3d_image"][5:].astype(np.float32))
    np.testing.assert_array_equal(track.extras["detection"], test["joint_2d"][5:].astype(np.float32))
    np.testing.assert_array_equal(track.extras["detection_score"], test["confidence"][5:, :, 0])
    np.testing.assert_array_equal(track.extras["factor"], test["2.5d_factor"][5:].astype(np.float32))
    np.testing.assert_array_equal(track.extras["truth"], test["joints_2.5d_image"][5:].astype(np.float32))
    assert np.isnan(train.tracks[0].extras["factor"]).all(), "the training part has none"
    assert not read(tmp_path, made, ())[0].tracks[0].extras  # type: ignore[union-attr]


def test_texts_may_be_bytes(tmp_path: Path) -> None:
    made = content()
    for key in ("source", "camera_name"):
        made["train"][key] = np.array(made["train"][key], dtype="S")
    assert [clip.recording for clip in read(tmp_path, made)] == [
        clip.recording for clip in read(tmp_path, content())
    ]


def test_a_video_that_is_not_of_the_dataset_is_set_aside_alone(tmp_path: Path) -> None:
    made = content()
    made["test"]["source"][0:5] = ["elsewhere"] * 5
    made["test"]["camera_name"][5:] = "1"
    good, name, camera = read(tmp_path, made)
    assert isinstance(good, Clip)
    assert isinstance(name, Refused)
    assert "the source 'elsewhere'" in name.reason
    assert isinstance(camera, Refused)
    assert "in the camera '1'" in camera.reason
    made = content()
    made["test"]["source"][5:] = made["train"]["source"]
    assert isinstance(read(tmp_path, made)[2], Refused), "the same video in both parts"


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("joint3d_image", None, "train/joint3d_image NoneType"),
        ("joint3d_image", np.zeros((5, 16, 3)), r"train/joint3d_image of shape \(5, 16, 3\)"),
        ("joint_2d", np.zeros((4, 17, 2)), r"train/joint_2d of shape \(4, 17, 2\)"),
        ("camera_name", ["1"], r"train/camera_name of shape \(1,\), expected 5 texts"),
        ("source", 3, "train/source of type int"),
        ("source", [], r"train/camera_name of shape \(5,\), expected 0 texts"),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(
    tmp_path: Path, key: str, value: Any, found: str
) -> None:
    made = content()
    made["train"][key] = value
    with pytest.raises(FormatError, match=found):
        read(tmp_path, made)


def test_other_pickles_are_refused_and_nothing_in_them_is_run(tmp_path: Path) -> None:
    others: list[Any] = [[1], {"train": {}}, {"split": {}, "annotations": []}]
    for made in others:
        with pytest.raises(FormatError, match="without the dicts 'train' and 'test'"):
            read(tmp_path, made)
    target = tmp_path / "touched"

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {target}",)

    with pytest.raises(FormatError, match="system"):
        read(tmp_path / "raw", {**content(), "more": Hostile()})
    assert not target.exists()
    whole = pickle.dumps(content())
    for end in range(0, len(whole), 997):
        with pytest.raises(FormatError):
            read(tmp_path / "raw", whole[:end])


def test_a_generated_file_holds_the_truth_bit_for_bit(tmp_path: Path) -> None:
    from skelconv.synth import SYNTHESIZERS, Settings, synthesize

    settings = Settings(frames=(4, 6))
    synthesize("h36m25d", tmp_path, 8, 5, settings=settings)
    options = H36M25D.options(ALL)
    (source,) = H36M25D.scan(tmp_path, options)
    clips = {clip.recording: clip for clip in H36M25D.read(tmp_path, source, options)}
    assert len(clips) == 8
    for index in range(8):
        truth, _ = SYNTHESIZERS["h36m25d"].make(5, index, settings)
        clip = clips[truth.name]
        assert isinstance(clip, Clip)
        assert (clip.label, clip.length) == (truth.label, truth.length)
        (track,) = clip.tracks
        np.testing.assert_array_equal(track.position, truth.tracks[0].position)
        apart = np.linalg.norm(track.extras["detection"] - track.position[..., :2], axis=-1)
        assert 0.5 < apart.mean() < 10, "a detector's error and the lens's distortion"
        if clip.splits["xsub"] == "test":
            expected = track.position * track.extras["factor"][:, None, None]
            np.testing.assert_allclose(track.extras["truth"], expected, rtol=1e-5, atol=1e-3)
