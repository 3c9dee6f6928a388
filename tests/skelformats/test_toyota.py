"""The Toyota Smarthome reader: coordinate-major poses, nobody or several people, three protocols, and TSU."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from skelformats.errors import FormatError
from skelformats.reader import Clip, Refused
from skelformats.skeleton import load_skeleton
from skelformats.toyota import TOYOTA
from tests.fuzzing import examples

CLIP_NAME = "Drink.Fromcup_p20_r02_v02_c05"
V12_FILE = f"{CLIP_NAME}_pose3d.json"
VIDEO_FILE = "results_P17T07C02_lcrnet+v3d.json"
HEAD, RIGHT_ANKLE, LEFT_ANKLE = 12, 0, 1


def person(seed: int = 0, **changes: Any) -> dict[str, Any]:
    """One person, upright: the head is the highest joint, the ankles the lowest."""
    rng = np.random.default_rng(seed)
    position = rng.normal(0, 0.1, (13, 3)).round(4)
    position[:, 1] = np.linspace(-0.9, 0.6, 13).round(4)
    pixel = rng.uniform(0, 480, (13, 2)).round(2)
    # written by hand as the format has it: all x, all y, all z
    numbers = [*position[:, 0], *position[:, 1], *position[:, 2]]
    return {"pose2d": [*pixel[:, 0], *pixel[:, 1]], "pose3d": numbers, **changes}


def content(frames: list[Any], **changes: Any) -> dict[str, Any]:
    return {"K": 5, "njts": 13, "frames": frames, **changes}


def write(root: Path, file: str = V12_FILE, frames: list[Any] | None = None, **changes: Any) -> None:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    found = content([[person(0)], [person(1)]] if frames is None else frames, **changes)
    path.write_bytes(orjson.dumps(found, option=orjson.OPT_SERIALIZE_NUMPY))


def read(root: Path, extras: tuple[str, ...] = (), **options: Any) -> list[Clip | Refused]:
    how = TOYOTA.options(extras, **options)
    return [item for source in TOYOTA.scan(root, how) for item in TOYOTA.read(root, source, how)]


def one(root: Path, extras: tuple[str, ...] = (), **options: Any) -> Clip:
    (clip,) = read(root, extras, **options)
    assert isinstance(clip, Clip)
    return clip


def test_numbers_are_coordinate_major(tmp_path: Path) -> None:
    write(tmp_path, frames=[[{"pose3d": list(range(1, 40)), "pose2d": list(range(26))}]])
    track = one(tmp_path, ("pose2d",)).tracks[0]
    # joint 4 has the fifth x, the fifth y and the fifth z
    assert track.position[0, 4].tolist() == [5, 18, 31]
    assert track.extras["pose2d"][0, 4].tolist() == [4, 17]
    assert load_skeleton("toyota13").joints[4].official == "Rhip"


def test_the_name_gives_activity_subject_repetition_video_and_camera(tmp_path: Path) -> None:
    write(tmp_path)
    clip = one(tmp_path)
    assert clip.recording == CLIP_NAME
    assert clip.label == 8
    assert clip.columns == {"subject": 20, "repetition": 2, "video": 2, "camera": 5, "label_cv": 3}
    assert clip.splits == {"cs": "test", "cv1": "val", "cv2": "val"}


def test_frames_have_nobody_or_several_people(tmp_path: Path) -> None:
    frames = [[], [person(1)], [person(2), person(3)], [], [person(4), person(5), person(6)]]
    write(tmp_path, frames=frames)
    clip = one(tmp_path)
    assert clip.length == 5
    assert [track.body for track in clip.tracks] == ["0", "1", "2"]
    assert [track.frame_index.tolist() for track in clip.tracks] == [[1, 2, 4], [2, 4], [4]]
    want = np.reshape(person(5)["pose3d"], (3, 13)).T.astype(np.float32)
    np.testing.assert_array_equal(clip.tracks[1].position[1], want)


def test_a_clip_without_anybody_has_no_tracks(tmp_path: Path) -> None:
    write(tmp_path, frames=[[], []])
    clip = one(tmp_path)
    assert (clip.length, clip.tracks) == (2, ())


def test_placeholders_of_people_who_were_not_found_are_left_out(tmp_path: Path) -> None:
    nowhere = person(pose3d=[0] * 39)
    unseen = person(pose2d=[-1] * 26)
    lost_joint = person(3)
    for axis in range(3):
        lost_joint["pose3d"][13 * axis + 6] = 0
    lost_joint["pose2d"][7] = lost_joint["pose2d"][20] = -1
    write(tmp_path, frames=[[nowhere], [unseen], [lost_joint]])
    (track,) = one(tmp_path, ("pose2d",)).tracks
    assert track.frame_index.tolist() == [2]
    assert np.argwhere(np.isnan(track.position).all(axis=-1)).tolist() == [[0, 6]]
    assert np.argwhere(np.isnan(track.extras["pose2d"]).all(axis=-1)).tolist() == [[0, 7]]


def test_scores_of_v11_are_an_optional_array(tmp_path: Path) -> None:
    write(tmp_path, f"{CLIP_NAME}.json", [[person(0, cumscore=3.5), person(1)], []], K=20)
    first, second = one(tmp_path, ("cumscore",)).tracks
    assert first.extras["cumscore"].tolist() == [3.5]
    assert np.isnan(second.extras["cumscore"]).all()
    assert one(tmp_path).tracks[0].extras == {}


def test_poses_of_both_versions_are_not_mixed(tmp_path: Path) -> None:
    write(tmp_path, f"json/{CLIP_NAME}.json")
    write(tmp_path, f"skeletonv12/{V12_FILE}")
    with pytest.raises(FormatError, match=r"--poses v1\.1 or --poses v1\.2"):
        read(tmp_path)
    for poses, path in (("v1.1", f"json/{CLIP_NAME}.json"), ("v1.2", f"skeletonv12/{V12_FILE}")):
        how = TOYOTA.options(poses=poses)
        assert [source.path for source in TOYOTA.scan(tmp_path, how)] == [path]
        assert TOYOTA.dataset_of(tmp_path, how).title == f"Toyota Smarthome, poses {poses.upper()}"
        assert one(tmp_path, poses=poses).recording == CLIP_NAME


def test_y_points_up_in_the_store_whatever_the_files_do(tmp_path: Path) -> None:
    for sign, folder in ((1, tmp_path / "up"), (-1, tmp_path / "down")):
        turned = person(0)
        turned["pose3d"] = [sign * v for v in turned["pose3d"][:26]] + turned["pose3d"][26:]
        write(folder, frames=[[turned]])
        write(folder, "Walk_p02_r00_v01_c01_pose3d.json", [[]])
        (folder / "Walk_p02_r01_v01_c01_pose3d.json").write_text("[")
        axis_map = TOYOTA.dataset_of(folder, TOYOTA.options()).axis_map
        raw = np.reshape(turned["pose3d"], (1, 3, 13)).transpose(0, 2, 1).astype(np.float32)
        position = axis_map.to_canonical(raw)
        assert position[0, HEAD, 1] > position[0, [LEFT_ANKLE, RIGHT_ANKLE], 1].max()
        np.testing.assert_array_equal(position, axis_map.to_canonical(axis_map.to_raw(position)))
        # turned, never mirrored
        assert np.prod(axis_map.sign) == 1
    assert TOYOTA.dataset_of(tmp_path / "down", TOYOTA.options(y_axis="up")).axis_map.sign == (1, 1, 1)
    assert TOYOTA.dataset_of(tmp_path / "up", TOYOTA.options(y_axis="down")).axis_map.sign == (-1, -1, 1)


@pytest.mark.parametrize(
    ("name", "label", "label_cv", "splits"),
    [
        ("Walk_p03_r00_v01_c01", 29, 18, ("train", "train", "train")),
        ("Walk_p25_r00_v01_c07", 29, 18, ("val", "", "train")),
        ("Walk_p02_r00_v01_c02", 29, 18, ("test", "test", "test")),
        ("Usetablet_p02_r00_v01_c05", 28, 16, ("test", "val", "val")),
        ("Usetelephone_p02_r00_v01_c05", 27, 17, ("test", "val", "val")),
        ("WatchTV_p03_r00_v01_c01", 30, -1, ("train", "", "")),
        ("Pour.Fromcup_p03_r00_v01_c01", -1, -1, ("", "", "")),
    ],
)
def test_classes_and_parts(
    tmp_path: Path, name: str, label: int, label_cv: int, splits: tuple[str, str, str]
) -> None:
    write(tmp_path, f"{name}_pose3d.json")
    clip = one(tmp_path)
    assert (clip.label, clip.columns["label_cv"]) == (label, label_cv)
    assert tuple(clip.splits[protocol] for protocol in ("cs", "cv1", "cv2")) == splits


def test_lists_in_the_raw_folder_win_over_the_built_in_parts(tmp_path: Path) -> None:
    for name in ("Walk_p03_r00_v01_c01", "Walk_p03_r01_v01_c01", "Walk_p03_r02_v01_c01"):
        write(tmp_path, f"{name}_pose3d.json")
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "train_CS.txt").write_text("Walk_p03_r00_v01_c01.mp4\n")
    with pytest.raises(FormatError, match=r"no test list of cs.*expected test_CS\.txt"):
        TOYOTA.dataset_of(tmp_path, TOYOTA.options())
    (tmp_path / "splits" / "test_CS.txt").write_text("Walk_p03_r01_v01_c01, Walk_p09_r00_v01_c01,\n")
    assert [clip.splits["cs"] for clip in read(tmp_path) if isinstance(clip, Clip)] == ["train", "test", ""]
    assert {clip.splits["cv1"] for clip in read(tmp_path) if isinstance(clip, Clip)} == {"train"}
    dataset = TOYOTA.dataset_of(tmp_path, TOYOTA.options())
    assert "test_CS.txt" in dataset.protocols[0].description
    (tmp_path / "test_CS.txt").write_text("Walk_p03_r01_v01_c01")
    with pytest.raises(FormatError, match="the test list of cs again"):
        TOYOTA.dataset_of(tmp_path, TOYOTA.options())


@pytest.mark.parametrize(
    ("frames", "found"),
    [
        ([], "'frames' that is a list of 0"),
        ({}, "'frames' that is of type dict"),
        ([None], "in frame 0 of type NoneType"),
        ([[], [3]], "in frame 1 a list of 1"),
        ([[{}]], "in frame 0 a 'pose3d' that is of type NoneType"),
        ([[], [person(pose3d=[0.5] * 38)]], "in frame 1 a 'pose3d' that is a list of 38, expected 39"),
        ([[person(pose3d=["0.5"] * 39)]], "in frame 0 a 'pose3d' with the value '0.5'"),
        ([[person(pose3d=[None] * 39)]], "with the value None"),
        ([[person(pose2d=[0.5] * 39)]], "a 'pose2d' that is a list of 39, expected 26"),
        ([[person(cumscore="high")]], "the cumscore 'high'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, frames: Any, found: str) -> None:
    write(tmp_path, frames=frames)
    with pytest.raises(FormatError) as error:
        read(tmp_path)
    assert found in str(error.value)
    assert V12_FILE in str(error.value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "not JSON"),
        ("[" * 1_000_000, "not JSON"),
        ("[]", "a JSON list"),
        ('{"njts": 17, "frames": [[]]}', "'njts' 17, expected 13 joints"),
        ('{"njts": 13}', "'frames' that is of type NoneType"),
    ],
)
def test_text_of_another_form_is_refused(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / V12_FILE).write_text(text)
    with pytest.raises(FormatError, match=re.escape(found)):
        read(tmp_path)


def test_an_unknown_activity_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    write(tmp_path, "Dance_p03_r00_v01_c01_pose3d.json")
    with pytest.raises(FormatError, match=r"the activity 'Dance', expected one of the 31 classes: Cook\."):
        read(tmp_path)


def test_numbers_beyond_float32_are_missing_joints(tmp_path: Path) -> None:
    huge = person(0)
    huge["pose3d"][5] = 1e300
    write(tmp_path, frames=[[huge]])
    assert np.argwhere(np.isnan(one(tmp_path).tracks[0].position).any(axis=-1)).tolist() == [[0, 5]]


def write_video(root: Path, annotations: str | None) -> None:
    write(root, f"poses/{VIDEO_FILE}", [[person(k)] for k in range(30)])
    if annotations is not None:
        (root / "Annotation" / "P17").mkdir(parents=True, exist_ok=True)
        (root / "Annotation" / "P17" / "P17T07C02.csv").write_text(annotations)


def test_an_untrimmed_video_keeps_its_intervals_as_a_table(tmp_path: Path) -> None:
    write_video(tmp_path, "event,start_frame,end_frame\nEnter,0,12\nMake_coffee.Get_water,5,30\nWalk,28,33\n")
    clip = one(tmp_path, untrimmed=True)
    assert (clip.recording, clip.label, clip.length) == ("P17T07C02", -1, 30)
    assert clip.columns == {"subject": 17, "video": 7, "camera": 2, "intervals": 3}
    assert clip.splits == {"cs": "train", "cv": "test"}
    rows = clip.tables["interval"]
    assert [(row["start"], row["stop"], row["cut_frames"]) for row in rows] == [
        (0, 12, 0), (5, 30, 0), (28, 30, 3),
    ]  # fmt: skip
    # the authors ask to merge this name into Get_water; as it stood is kept
    assert [(row["label"], row["action"]) for row in rows][1] == (3, "Make_coffee.Get_water")
    dataset = TOYOTA.dataset_of(tmp_path, TOYOTA.options(untrimmed=True))
    assert len(dataset.classes) == 51
    assert dataset.frame_rate == 25
    assert {column.name for column in dataset.tables[0].columns} == set(rows[0])


def test_a_bad_annotation_is_set_aside_alone(tmp_path: Path) -> None:
    header = "event,start_frame,end_frame"
    lines = ["Enter,1,9", "Dance,1,9", "Walk,9,9", "Walk,9", "Walk,a,b", "Leave,30,40", "", "Leave,3,8"]
    write_video(tmp_path, "\r\n".join([header, *lines]))
    clip, *bad = read(tmp_path, untrimmed=True)
    assert isinstance(clip, Clip)
    assert [row["name"] for row in clip.tables["interval"]] == ["P17T07C02_i002", "P17T07C02_i009"]
    refused = [item for item in bad if isinstance(item, Refused)]
    assert [item.line for item in refused] == [3, 4, 5, 6, 7]
    assert "the event 'Dance', expected one of the 51 classes" in refused[0].reason
    assert all(item.reason.startswith("Annotation/P17/P17T07C02.csv, line ") for item in refused)


def test_a_video_without_annotations_is_kept_and_says_so(tmp_path: Path) -> None:
    write_video(tmp_path, None)
    assert one(tmp_path, untrimmed=True).columns["intervals"] == -1
    write_video(tmp_path, "Enter,1,9\n")
    _, refused = read(tmp_path, untrimmed=True)
    assert isinstance(refused, Refused)
    assert "the header event,start_frame,end_frame" in refused.reason


def test_files_of_the_other_kind_are_answered_with_the_option_to_use(tmp_path: Path) -> None:
    write_video(tmp_path / "tsu", None)
    write(tmp_path / "trimmed")
    with pytest.raises(FormatError, match="Add --untrimmed"):
        read(tmp_path / "tsu")
    with pytest.raises(FormatError, match="Omit --untrimmed"):
        read(tmp_path / "trimmed", untrimmed=True)
    assert one(tmp_path).recording == CLIP_NAME
    assert one(tmp_path, untrimmed=True).recording == "P17T07C02"


@given(st.data())
@hypothesis_settings(max_examples=examples(200))
def test_mutated_files_parse_or_raise_a_format_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("fuzz")
    text = bytearray(orjson.dumps(content([[person(0)], []]), option=orjson.OPT_SERIALIZE_NUMPY))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at] = data.draw(st.sampled_from(b'[]{},:"0.-e9n\x00\xff '))
    (root / V12_FILE).write_bytes(bytes(text))
    try:
        clip = one(root)
    except FormatError:
        return
    assert all(track.position.shape[1:] == (13, 3) for track in clip.tracks)
