"""The Human3.6M reader: every distribution gives the same recordings, what does not fit is refused."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skelformats.errors import FormatError, SkelconvError, UnknownNameError
from skelformats.h36m_cameras import CAMERAS, builtin_cameras, project
from skelformats.human36m import H36M
from skelformats.human36m_files import named_take, parse_take
from skelformats.human36m_takes import flaw, splits, subaction
from skelformats.protocols import load_facts
from skelformats.reader import Clip, Refused
from skelformats.skeleton import PARTS, load_skeleton, match_joints
from tests.fuzzing import examples
from tests.skelformats.raw_h36m import CAMERA, pixels, pose, seen, write_cdf, write_h5, write_npz

TO_17 = [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]
MONO, WORLD, PIXEL = "D3_Positions_mono", "D3_Positions", "D2_Positions"


def read(root: Path, extras: tuple[str, ...] = (), **values: Any) -> list[Clip]:
    """Scan and read everything below ``root``."""
    options = H36M.options(extras, **values)
    found = [item for s in H36M.scan(root, options) for item in H36M.read(root, s, options)]
    assert all(isinstance(item, Clip) for item in found)
    return [item for item in found if isinstance(item, Clip)]


def official(root: Path, name: str, subject: int = 1, kinds: tuple[str, ...] = (WORLD, MONO, PIXEL)) -> None:
    folder = root / f"S{subject}" / "MyPoseFeatures"
    if WORLD in kinds:
        write_cdf(folder / WORLD / f"{name}.cdf", pose())
    for camera in CAMERAS:
        if MONO in kinds:
            write_cdf(folder / MONO / f"{name}.{camera}.cdf", seen(pose(), subject, camera))
        if PIXEL in kinds:
            write_cdf(folder / PIXEL / f"{name}.{camera}.cdf", pixels(pose(), subject, camera))


def martinez(root: Path, name: str = "Posing 1", subject: int = 5) -> None:
    folder = root / "h36m" / f"S{subject}"
    write_h5(folder / f"MyPoses/3D_positions/{name}.h5", "3D_positions", pose().reshape(5, 96).T)
    for camera in CAMERAS[:3]:
        path = folder / f"StackedHourglass/{name.replace(' ', '_')}.{camera}.h5"
        write_h5(path, "poses", np.full((7, 16, 2), camera % 1000, float))


def test_the_17_joints_are_those_of_the_literature() -> None:
    assert match_joints(load_skeleton("h36m32"), load_skeleton("h36m17")).tolist() == TO_17


@pytest.mark.parametrize("name", ["h36m17", "h36m32"])
def test_a_layout_is_that_of_the_survey(golden_numbers: Path, name: str) -> None:
    table = json.loads((golden_numbers / "skeletons.json").read_text())[name]
    skeleton = load_skeleton(name)
    assert [joint.official for joint in skeleton.joints] == table["names"]
    assert list(skeleton.parents) == table["parents"]
    pairs = sorted(sorted(pair) for pair in table["left_right_pairs"])
    assert sorted([i, other] for i, other in enumerate(skeleton.mirror) if i < other) == pairs
    assert dict(zip(PARTS, map(list, skeleton.parts), strict=True)) == table["s2i_parts"]


def test_an_official_file_of_a_camera_becomes_one_recording(tmp_path: Path) -> None:
    official(tmp_path, "Directions 1", kinds=(MONO,))
    clips = read(tmp_path)
    assert [clip.recording for clip in clips] == [f"S1_Directions_1.{camera}" for camera in sorted(CAMERAS)]
    clip = clips[0]
    assert clip.columns == {"subject": 1, "camera": CAMERA, "take": 1, "subaction": 1, "flaw": ""}
    assert (clip.label, clip.length) == (0, 5)
    assert clip.splits == {"xsub": "train", "official": "train", "frontal": "train"}
    assert clip.tracks[0].position.dtype == np.float32
    np.testing.assert_array_equal(clip.tracks[0].position, seen(pose(), 1, CAMERA).astype(np.float32))
    np.testing.assert_array_equal(clip.tracks[0].frame_index, range(5))


@pytest.mark.parametrize("joints", ["32", "17"])
def test_world_positions_come_from_the_world_files(tmp_path: Path, joints: str) -> None:
    official(tmp_path, "Directions 1")
    (clip,) = read(tmp_path, space="world", joints=joints)
    assert clip.recording == "S1_Directions_1"
    assert clip.columns["camera"] == 0
    assert clip.splits == {"xsub": "train", "official": "train"}
    want = pose()[:, TO_17] if joints == "17" else pose()
    np.testing.assert_array_equal(clip.tracks[0].position, want)
    assert [row["camera"] for row in clip.tables["calibration"]] == list(CAMERAS)


def test_without_files_of_the_cameras_their_frames_follow_from_the_world(tmp_path: Path) -> None:
    official(tmp_path / "both", "Eating 2")
    official(tmp_path / "world", "Eating 2", kinds=(WORLD,))
    given = {clip.recording: clip for clip in read(tmp_path / "both")}
    derived = {clip.recording: clip for clip in read(tmp_path / "world")}
    assert list(derived) == [f"S1_Eating_2.{camera}" for camera in CAMERAS]
    for name, clip in derived.items():
        np.testing.assert_array_equal(clip.tracks[0].position, given[name].tracks[0].position)
        assert clip.splits == given[name].splits


def test_axes_are_metres_with_y_up_and_the_raw_values_come_back(tmp_path: Path) -> None:
    official(tmp_path, "Directions 1")
    options = {space: H36M.options(space=space) for space in ("world", "camera")}
    maps = {space: H36M.dataset_of(tmp_path, chosen).axis_map for space, chosen in options.items()}
    up = np.array([0.0, 0.0, 1500.0], np.float32)
    np.testing.assert_allclose(maps["world"].to_canonical(up), [0, 1.5, 0], atol=1e-6)
    camera = builtin_cameras()[1, CAMERA]
    lifted = (camera.rotation @ up).astype(np.float32)
    assert maps["camera"].to_canonical(lifted)[1] > 1.4
    ahead = np.array([0, 0, 4000], np.float32)
    np.testing.assert_allclose(maps["camera"].to_canonical(ahead), [0, 0, 4], atol=1e-6)
    for axis_map in maps.values():
        turned = np.zeros((3, 3))
        turned[range(3), axis_map.order] = axis_map.sign
        assert np.linalg.det(turned) == pytest.approx(1)
        raw = pose().astype(np.float32)
        np.testing.assert_allclose(axis_map.to_raw(axis_map.to_canonical(raw)), raw, rtol=2e-7)


def test_every_distribution_gives_the_same_recordings(tmp_path: Path) -> None:
    for folder in ("cdf", "h5", "npz"):
        (tmp_path / folder).mkdir()
    official(tmp_path / "cdf", "Posing 1", subject=5)
    martinez(tmp_path / "h5")
    metres = (pose() / 1000).astype(np.float32)
    write_npz(tmp_path / "npz" / "data_3d_h36m.npz", positions_3d={"S5": {"Posing 1": metres}})
    kinds = {}
    for folder in ("cdf", "h5", "npz"):
        root = tmp_path / folder
        axis_map = H36M.dataset_of(root, H36M.options()).axis_map
        kinds[folder] = {c.recording: (c, axis_map.to_canonical(c.tracks[0].position)) for c in read(root)}
    assert sorted(kinds["cdf"]) == sorted(kinds["h5"]) == sorted(kinds["npz"])
    for name, (clip, position) in kinds["cdf"].items():
        for other in ("h5", "npz"):
            found, there = kinds[other][name]
            np.testing.assert_allclose(there, position, atol=2e-6)
            assert (found.columns, found.splits, found.label) == (clip.columns, clip.splits, clip.label)


def test_true_pixels_are_the_files_own_or_else_projected(tmp_path: Path) -> None:
    official(tmp_path / "own", "Walking", subject=9, kinds=(MONO,))
    for camera in CAMERAS:
        marked = np.full((5, 32, 2), camera % 1000)
        write_cdf(tmp_path / f"own/S9/MyPoseFeatures/{PIXEL}/Walking.{camera}.cdf", marked)
    for clip in read(tmp_path / "own", ("pixel",), joints="17"):
        assert clip.tracks[0].extras["pixel"].shape == (5, 17, 2)
        assert (clip.tracks[0].extras["pixel"] == clip.columns["camera"] % 1000).all()
    official(tmp_path / "none", "Walking", subject=9, kinds=(WORLD,))
    for clip in read(tmp_path / "none", ("pixel",)):
        want = pixels(pose(), 9, clip.columns["camera"])
        np.testing.assert_allclose(clip.tracks[0].extras["pixel"], want, rtol=1e-5)


def test_detections_of_3d_pose_baseline_are_cut_or_missing(tmp_path: Path) -> None:
    """Detections are two frames longer than the poses; those of the fourth camera do not exist."""
    martinez(tmp_path)
    by_camera = {clip.columns["camera"]: clip for clip in read(tmp_path, ("detection",))}
    for camera in CAMERAS[:3]:
        found = by_camera[camera].tracks[0].extras["detection"]
        assert found.shape == (5, 16, 2)
        assert (found == camera % 1000).all()
    assert np.isnan(by_camera[CAMERAS[3]].tracks[0].extras["detection"]).all()
    dataset = H36M.dataset_of(tmp_path, H36M.options(("detection",)))
    assert dataset.extra("detection").labels["detection_joint"] == load_skeleton("mpii16").names


def detections(joints: int, frames: int = 5) -> dict[str, Any]:
    views = [np.full((frames, joints, 2), camera % 1000, np.float32) for camera in CAMERAS]
    return {"S1": {"Photo 1": views}}


@pytest.mark.parametrize(
    ("name", "joints", "layout"),
    [
        ("gt", 17, "h36m17"),
        ("cpn_ft_h36m_dbb", 17, "h36m17"),
        ("detectron_pt_coco", 17, "coco17"),
        ("sh_pt_mpii", 16, "mpii16"),
    ],
)
def test_detections_of_videopose3d_belong_to_any_poses(
    tmp_path: Path, name: str, joints: int, layout: str
) -> None:
    official(tmp_path, "TakingPhoto 1", kinds=(MONO,))
    write_npz(tmp_path / f"data_2d_h36m_{name}.npz", positions_2d=detections(joints, 3), metadata={})
    for clip in read(tmp_path, ("detection",)):
        found = clip.tracks[0].extras["detection"]
        assert (found[:3] == clip.columns["camera"] % 1000).all()
        assert np.isnan(found[3:]).all()
    dataset = H36M.dataset_of(tmp_path, H36M.options(("detection",)))
    assert dataset.extra("detection").labels["detection_joint"] == load_skeleton(layout).names


def test_of_several_sets_of_detections_one_must_be_named(tmp_path: Path) -> None:
    official(tmp_path, "Photo 1", kinds=(MONO,))
    for name in ("gt", "cpn_ft_h36m_dbb"):
        write_npz(tmp_path / f"data_2d_h36m_{name}.npz", positions_2d=detections(17))
    with pytest.raises(FormatError, match="2D detections of cpn_ft_h36m_dbb, gt, expected one set"):
        read(tmp_path, ("detection",))
    with pytest.raises(UnknownNameError, match=r"no set of 2D detections named 'gd'\. Known: cpn_ft"):
        read(tmp_path, ("detection",), detections="gd")
    assert len(read(tmp_path, ("detection",), detections="gt")) == 4


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"S1": {"Photo 1": [np.zeros((3, 17, 2))]}}, "expected a list of the four cameras"),
        ({"S1": {"Photo 1": [np.zeros((3, 16, 2))] * 4}}, r"an array of shape \(3, 16, 2\)"),
        ({"S1": {"Photo 1": ["x"] * 4}}, "the value 'x'"),
        ({"S1": []}, "expected 'positions_2d' as VideoPose3D writes it"),
        (np.zeros(3), "expected 'positions_2d' as VideoPose3D writes it"),
    ],
)
def test_bad_detections_are_refused_by_their_own_name(tmp_path: Path, content: Any, found: str) -> None:
    official(tmp_path, "TakingPhoto 1", kinds=(MONO,))
    write_npz(tmp_path / "data_2d_h36m_gt.npz", positions_2d=content)
    with pytest.raises(FormatError, match=found) as error:
        read(tmp_path, ("detection",))
    assert "data_2d_h36m_gt.npz" in str(error.value)


@pytest.mark.parametrize(
    ("name", "action", "number"),
    [
        ("TakingPhoto 1", "Photo", 1),
        ("WalkingDog", "WalkDog", 0),
        ("WalkingTogether 1", "WalkTogether", 1),
        ("Sitting 2", "Sitting", 2),
        ("SittingDown 2", "SittingDown", 2),
        ("Walking", "Walking", 0),
        ("Directions_1", "Directions", 1),
    ],
)
def test_names_of_subject_1_and_of_folders_are_made_one(name: str, action: str, number: int) -> None:
    take = parse_take(f"S1/MyPoseFeatures/{MONO}/{name}.{CAMERA}.cdf")
    assert (take.subject, take.action, take.number, take.camera) == (1, action, number, CAMERA)
    assert named_take(1, name, "").name == f"S1_{action}" + (f"_{number}" if number else "")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (f"S1/{MONO}/Dancing.cdf", "the name 'Dancing'"),
        (f"S1/{MONO}/Directions 1.12345678.cdf", "the name 'Directions 1.12345678'"),
        (f"S1/{MONO}/Directions 11.cdf", "the name 'Directions 11'"),
        (f"S12/{MONO}/Directions.cdf", "no subject's folder"),
        (f"{MONO}/Directions.cdf", "no subject's folder"),
    ],
)
def test_a_path_outside_the_format_is_refused(path: str, found: str) -> None:
    with pytest.raises(FormatError) as error:
        parse_take(path)
    assert found in str(error.value)


def test_the_official_number_of_a_take_is_not_that_of_its_name() -> None:
    """Appendix A of the survey, from metadata.xml."""
    assert subaction(named_take(5, "SittingDown", "")) == 1
    assert subaction(named_take(6, "SittingDown", "")) == 2
    assert subaction(named_take(1, "SittingDown 2", "")) == 1
    assert subaction(named_take(11, "Phoning 2", "")) == 2
    assert subaction(named_take(1, "Phoning 7", "")) == 0


def test_the_table_of_takes_has_two_for_each_class_and_subject() -> None:
    facts = load_facts("h36m")
    assert set(facts.others["takes"]) == set(facts.classes)
    for numbers in facts.others["takes"].values():
        assert len(numbers) == 11
        assert all(len(set(pair)) == 2 for pair in numbers)


def test_takes_with_known_flaws_are_marked_and_one_is_left_out_of_the_usual_split() -> None:
    corrupt = named_take(11, f"Directions.{CAMERA}", "")
    assert flaw(corrupt) == "video"
    assert flaw(named_take(11, "Directions.55011271", "")) == ""
    assert splits(corrupt)["xsub"] == ""
    assert splits(named_take(11, "Directions.55011271", ""))["xsub"] == ""
    assert splits(named_take(11, f"Directions 1.{CAMERA}", ""))["xsub"] == "test"
    drifting = ("Greeting", "SittingDown 1", "Waiting 1")
    for name in drifting:
        take = named_take(9, f"{name}.{CAMERA}", "")
        assert (flaw(take), splits(take)["xsub"]) == ("drift", "test")


def test_splits_have_the_published_numbers_of_takes() -> None:
    facts = load_facts("h36m")
    counts: dict[tuple[str, str], int] = {}
    for action, subjects in facts.others["takes"].items():
        for subject in (1, 5, 6, 7, 8, 9, 11):
            for number in subjects[subject - 1]:
                for camera in CAMERAS:
                    name = f"{action} {number}" if number else action
                    take = named_take(subject, f"{name}.{camera}", "")
                    for protocol, part in splits(take).items():
                        counts[protocol, part] = counts.get((protocol, part), 0) + 1
    assert counts == {
        ("xsub", "train"): 600,
        ("xsub", "test"): 236,
        ("xsub", ""): 4,
        ("official", "train"): 600,
        ("official", "val"): 240,
        ("frontal", "train"): 600,
        ("frontal", "test"): 60,
        ("frontal", ""): 180,
    }


def test_folders_are_told_whatever_their_case_and_others_are_left_alone(tmp_path: Path) -> None:
    official(tmp_path, "Directions", kinds=(MONO, PIXEL))
    features = tmp_path / "S1" / "MyPoseFeatures"
    (features / MONO).rename(features / "Poses_D3_Positions_Mono")
    write_cdf(features / "D3_Positions_mono_universal" / f"Directions.{CAMERA}.cdf", pose())
    write_cdf(features / "D3_Positions_mono" / f"_ALL 1.{CAMERA}.cdf", pose())
    assert len(H36M.scan(tmp_path, H36M.options())) == 4


def test_the_metadata_of_the_folder_wins_over_the_table(tmp_path: Path) -> None:
    numbers = np.arange(300) / 100
    (tmp_path / "metadata.xml").write_text(f"<a><w0>[{' '.join(map(str, numbers))}]</w0></a>")
    official(tmp_path, "Directions", kinds=(WORLD,))
    (row,) = read(tmp_path)[0].tables["calibration"]
    np.testing.assert_allclose(row["centre"], numbers[3:6])
    np.testing.assert_allclose(row["tangential"], numbers[264 + 7 : 264 + 9])


def test_what_the_options_need_must_be_there(tmp_path: Path) -> None:
    official(tmp_path / "mono", "Directions", kinds=(MONO,))
    with pytest.raises(FormatError, match=r"found D3_Positions_mono only.*use --space camera"):
        read(tmp_path / "mono", space="world")
    with pytest.raises(FormatError, match="found no pose files of the kind h5"):
        read(tmp_path / "mono", files="h5")
    with pytest.raises(FormatError, match=r"found no 2D detections.*--with pixel gives"):
        read(tmp_path / "mono", ("detection",))
    with pytest.raises(SkelconvError, match="a pixel belongs to one camera"):
        read(tmp_path / "mono", ("pixel",), space="world")
    official(tmp_path / "pixel", "Directions", kinds=(PIXEL,))
    with pytest.raises(FormatError, match=r"found no 3D poses beside S1/MyPoseFeatures/D2_Positions"):
        read(tmp_path / "pixel")
    (tmp_path / "empty").mkdir()
    assert read(tmp_path / "empty") == []


def test_of_several_distributions_one_must_be_named(tmp_path: Path) -> None:
    official(tmp_path, "Directions", kinds=(MONO,))
    martinez(tmp_path)
    with pytest.raises(FormatError, match="found poses as cdf and as h5, expected one distribution"):
        read(tmp_path)
    assert {clip.columns["subject"] for clip in read(tmp_path, files="h5")} == {5}


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (np.zeros((5, 31, 3)), r"the variable Pose of shape \(1, 5, 93\)"),
        (np.zeros((5, 32, 2)), r"the variable Pose of shape \(1, 5, 64\)"),
    ],
)
def test_a_cdf_of_another_shape_is_refused(tmp_path: Path, values: np.ndarray, found: str) -> None:
    write_cdf(tmp_path / f"S1/{MONO}/Directions.{CAMERA}.cdf", values)
    with pytest.raises(FormatError, match=found):
        read(tmp_path)


@pytest.mark.parametrize("value", [1e30, -np.inf])
def test_a_coordinate_beyond_the_room_is_refused_and_a_missing_one_kept(tmp_path: Path, value: float) -> None:
    values = pose()
    values[0, 3, 1] = np.nan
    path = write_cdf(tmp_path / f"S1/{WORLD}/Directions.cdf", values)
    for clip in read(tmp_path, ("pixel",)):
        assert np.argwhere(np.isnan(clip.tracks[0].position).all(axis=-1)).tolist() == [[0, 3]]
    values[2, 7, 0] = value
    write_cdf(path, values)
    with pytest.raises(FormatError, match="in frame 2, joint 7 the coordinate"):
        read(tmp_path)


def h5_file(tmp_path: Path) -> Path:
    return tmp_path / "S1/MyPoses/3D_positions/Posing.h5"


@pytest.mark.parametrize(
    ("key", "values", "how", "found"),
    [
        ("poses", np.zeros((96, 5)), {}, "no array '3D_positions' among"),
        ("3D_positions", np.zeros((5, 96)), {}, "of shape (5, 96)"),
        ("3D_positions", np.zeros((96, 5), int), {}, "dtype int64"),
        ("3D_positions", np.zeros((96, 0)), {}, "of shape (96, 0)"),
        ("3D_positions/inner", np.zeros((96, 5)), {}, "no array '3D_positions' among"),
    ],
)
def test_an_h5_of_another_form_is_refused(
    tmp_path: Path, key: str, values: np.ndarray, how: dict[str, Any], found: str
) -> None:
    write_h5(h5_file(tmp_path), key, values, **how)
    with pytest.raises(FormatError) as error:
        read(tmp_path)
    assert found in str(error.value)


def test_an_h5_that_claims_too_much_or_points_elsewhere_is_refused(tmp_path: Path) -> None:
    path = h5_file(tmp_path)
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("3D_positions", (96, 2**40), "f8", chunks=(96, 1024))
    with pytest.raises(FormatError, match="of shape"):
        read(tmp_path)
    other = write_h5(tmp_path / "other.h5", "3D_positions", np.zeros((96, 5)))
    with h5py.File(path, "w") as file:
        file["3D_positions"] = h5py.ExternalLink(str(other), "3D_positions")
    with pytest.raises(FormatError, match="no array '3D_positions'"):
        read(tmp_path)
    with h5py.File(path, "w") as file:
        source = h5py.VirtualSource(str(other), "3D_positions", (96, 5))
        layout = h5py.VirtualLayout((96, 5), "f8")
        layout[:] = source
        file.create_virtual_dataset("3D_positions", layout)
    with pytest.raises(FormatError, match="of shape"):
        read(tmp_path)
    path.write_bytes(other.read_bytes()[:1000])
    with pytest.raises(FormatError, match="a file that HDF5 cannot read"):
        read(tmp_path)


def test_one_bad_take_of_an_npz_is_refused_alone(tmp_path: Path) -> None:
    good = (pose() / 1000).astype(np.float32)
    takes = {"Photo 1": good, "Dancing": good, "Posing": good[:, :17], "Waiting": [1, 2]}
    write_npz(tmp_path / "data_3d_h36m.npz", positions_3d={"S1": takes})
    options = H36M.options()
    found = [item for s in H36M.scan(tmp_path, options) for item in H36M.read(tmp_path, s, options)]
    refused = {item.recording: item.reason for item in found if isinstance(item, Refused)}
    assert set(refused) == {"S1_Dancing", "S1_Posing", "S1_Waiting"}
    assert "data_3d_h36m.npz, S1 'Posing': found an array of shape (5, 17, 3)" in refused["S1_Posing"]
    assert [item.recording for item in found if isinstance(item, Clip)] == [
        f"S1_Photo_1.{camera}" for camera in CAMERAS
    ]


@given(data=st.data())
@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mutated_h5_or_npz_is_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "h36m_fuzz"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if data.draw(st.booleans()):
        path = write_h5(h5_file(folder), "3D_positions", pose().reshape(5, 96).T)
    else:
        path = folder / "data_3d_h36m.npz"
        write_npz(path, positions_3d={"S1": {"Photo 1": pose()}})
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    options = H36M.options()
    for source in H36M.scan(folder, options):
        # any other error would escape
        with contextlib.suppress(FormatError):
            for item in H36M.read(folder, source, options):
                assert isinstance(item, Refused) or item.tracks[0].position.shape[1:] == (32, 3)


def test_the_synthetic_official_files_are_read_exactly(golden_numbers: Path) -> None:
    root = golden_numbers / "h36m_cdf"
    with np.load(root / "expected.npz") as expected:
        want = {key: expected[key] for key in expected.files}
    (world,) = read(root, space="world")
    np.testing.assert_array_equal(world.tracks[0].position, want[WORLD])
    (camera,) = read(root, ("pixel",))
    np.testing.assert_array_equal(camera.tracks[0].position, want[MONO])
    np.testing.assert_array_equal(camera.tracks[0].extras["pixel"], want[PIXEL])
    assert camera.recording == "S1_Directions_1.54138969"
    (small,) = read(root, ("pixel",), joints="17")
    np.testing.assert_array_equal(small.tracks[0].position, want[MONO][:, TO_17])
    np.testing.assert_array_equal(small.tracks[0].extras["pixel"], want[PIXEL][:, TO_17])


@pytest.mark.real
def test_real_files_without_poses_are_refused_for_that_reason(shared_data: Path, tmp_path: Path) -> None:
    with pytest.raises(
        FormatError, match=r"found no 3D poses beside metadata\.xml, expected S1/MyPoseFeatures"
    ):
        read(shared_data / "h36m")
    for name in ("test_h36m.npz", "test_h36m_body3d.npz"):
        shutil.copy(shared_data / "h36m" / name, tmp_path / "data_3d_h36m.npz")
        with pytest.raises(FormatError, match="found no array positions_3d among"):
            read(tmp_path)


@pytest.mark.real
def test_real_frames_ingest_as_they_are_published(shared_data: Path, tmp_path: Path) -> None:
    """Four real frames of 17 joints, put into an npz: camera frames and pixels come out right."""
    content = json.loads((shared_data / "h36m" / "h36m_coco.json").read_text())
    takes: dict[str, dict[str, Any]] = {}
    want = {}
    for image, annotation in zip(content["images"], content["annotations"], strict=True):
        stem, camera = image["file_name"].rsplit("_", 1)[0].split(".")
        subject, name = stem.split("_", 1)
        world = np.zeros((1, 32, 3), np.float32)
        world[:, TO_17] = np.reshape(annotation["keypoints_3d"], (1, 17, 4))[..., :3]
        takes.setdefault(subject, {})[name.replace("_", " ")] = world
        want[f"{stem}.{camera}"] = np.reshape(annotation["keypoints"], (17, 3))[:, :2]
    write_npz(tmp_path / "data_3d_h36m.npz", positions_3d=takes)
    clips = {clip.recording: clip for clip in read(tmp_path, ("pixel",), joints="17")}
    for name, pixel in want.items():
        track = clips[name].tracks[0]
        np.testing.assert_allclose(track.extras["pixel"][0], pixel, atol=1e-3)
        camera = builtin_cameras()[clips[name].columns["subject"], clips[name].columns["camera"]]
        np.testing.assert_allclose(project(track.position[0], camera), pixel, atol=1e-2)
