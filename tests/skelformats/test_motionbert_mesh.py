"""MotionBERT's mesh files: what the generator writes is read back, and what is wrong is named."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelconv.synth import SYNTHESIZERS, Settings
from skelformats.errors import FormatError
from skelformats.motionbert_mesh import MOTIONBERT_MESH
from skelformats.reader import Clip

HOW = Settings(frames=(6, 9))
EXTRAS = ("pose", "shape", "estimate_pose", "estimate_shape")
MAKER = SYNTHESIZERS["motionbert_mesh"]


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    assert MAKER.shared is not None
    return pickle.loads(MAKER.shared(0, 5, HOW)["mesh_det_pw3d.pkl"])  # type: ignore[no-any-return]


def read(folder: Path, content: Any, name: str = "mesh_det_pw3d.pkl", extras: Any = EXTRAS) -> list[Clip]:
    (folder / name).write_bytes(pickle.dumps(content))
    options = MOTIONBERT_MESH.options(extras)
    (source,) = MOTIONBERT_MESH.scan(folder, options)
    clips = MOTIONBERT_MESH.read(folder, source, options)
    assert all(isinstance(clip, Clip) for clip in clips)
    return list(clips)  # type: ignore[arg-type]


def test_every_video_is_a_recording_with_its_bodies(tmp_path: Path, content: dict[str, Any]) -> None:
    clips = {clip.recording: clip for clip in read(tmp_path, content)}
    assert len(clips) == 5
    train = np.concatenate(
        [c.tracks[0].extras["pose"] for c in clips.values() if c.splits["official"] == "train"]
    )
    np.testing.assert_array_equal(train.reshape(-1, 72), content["train"]["smpl_pose"])
    for index in range(5):
        truth, _ = MAKER.make(0, index, HOW)
        clip = clips[truth.name]
        assert clip.length == truth.length
        assert clip.splits["official"] == ("test" if index == 3 else "train")
        np.testing.assert_array_equal(clip.tracks[0].position, truth.tracks[0].position)
        assert (clip.columns["width"], clip.columns["height"]) == (1920, 1920)
        assert clip.tracks[0].extras["estimate_shape"].shape == (truth.length, 10)


def test_sizes_are_those_that_the_released_code_divides_by(tmp_path: Path, content: dict[str, Any]) -> None:
    frames = len(content["train"]["source"])
    cameras = ["54138969"] * (frames // 2) + ["55011271"] * (frames - frames // 2)
    of_h36m = {"train": content["train"] | {"camera_name": cameras, "source": cameras}}
    assert [c.columns["height"] for c in read(tmp_path, of_h36m, "mesh_det_h36m.pkl")] == [1002, 1000]
    (tmp_path / "mesh_det_h36m.pkl").unlink()
    assert read(tmp_path, content, "mesh_det_coco.pkl")[0].columns["width"] == 640
    (tmp_path / "mesh_det_coco.pkl").unlink()
    sized = {"train": content["train"] | {"img_hw": np.tile([480, 720], (frames, 1))}}
    columns = read(tmp_path, sized, "mine.pkl")[0].columns
    assert (columns["width"], columns["height"]) == (720, 480)
    with pytest.raises(FormatError, match="neither 'camera_name' nor 'img_hw'"):
        read(tmp_path, content, "mine.pkl")


def test_a_video_that_comes_back_is_a_recording_of_its_own(tmp_path: Path, content: dict[str, Any]) -> None:
    frames = len(content["train"]["source"])
    source = ["a/0"] * 4 + ["b"] * 3 + ["a/0"] * (frames - 7)
    clips = read(tmp_path, {"train": content["train"] | {"source": source}})
    assert [clip.recording for clip in clips] == ["a__0", "b", "a__0_2"]
    assert [clip.length for clip in clips] == [4, 3, frames - 7]


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        (lambda part: part.pop("joint_2d"), "no frames of 'joint_2d'"),
        (lambda part: part.update(smpl_pose=np.zeros((3, 72))), "'smpl_pose' of shape (3, 72)"),
        (lambda part: part.pop("smpl_shape"), "'smpl_shape' of type NoneType"),
        (lambda part: part.pop("pred_smpl_pose"), "'pred_smpl_pose' of type NoneType"),
        (lambda part: part.update(source=["a"]), "'source' that is not a name a frame"),
        (lambda part: part["smpl_pose"].__setitem__((0, 0), np.nan), "values beyond"),
        (lambda part: part.update(confidence="high"), "'confidence' of type str"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, content: dict[str, Any], edit: Callable[[dict[str, Any]], object], found: str
) -> None:
    part = {key: value.copy() for key, value in content["train"].items()}
    edit(part)
    with pytest.raises(FormatError) as error:
        read(tmp_path, {"train": part})
    assert found in str(error.value)


def test_other_pickles_are_refused_and_nothing_in_them_is_run(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="without 'train' and 'test'"):
        read(tmp_path, [1, 2])

    class Run:
        def __reduce__(self) -> Any:
            return (print, ("run",))

    with pytest.raises(FormatError, match="Nothing in it was run"):
        read(tmp_path, {"train": Run()})
