"""The AMASS reader."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skelconv.synth.smpl_body import model_arrays, model_files, npz_bytes
from skelformats.amass import AMASS
from skelformats.amass_file import read_take
from skelformats.body_folder import BodyModelError, find_model
from skelformats.errors import FormatError, UnknownNameError
from skelformats.reader import Clip
from skelformats.smpl import Motion, body_joints, body_vertices, load_body_model
from tests.fuzzing import examples

FRAMES = 9


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the synthetic body models, all genders, with DMPL."""
    folder = tmp_path_factory.mktemp("models")
    for path, content in model_files().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def take(**changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    arrays: dict[str, Any] = {
        "poses": rng.normal(0, 0.4, (FRAMES, 156)),
        "trans": rng.normal(size=(FRAMES, 3)),
        "betas": rng.normal(size=16),
        "dmpls": rng.normal(size=(FRAMES, 8)),
        "gender": np.array("male"),
        "mocap_framerate": np.array(120.0),
    }
    return {key: value for key, value in {**arrays, **changes}.items() if value is not None}


def write(root: Path, content: dict[str, Any], path: str = "CMU/01/01_01_poses.npz") -> Path:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(npz_bytes(content))
    return root


def read(root: Path, models: Path, extras: tuple[str, ...] = (), **values: Any) -> Clip:
    options = AMASS.options(extras, body_model=models, **values)
    (source,) = AMASS.scan(root, options)
    (clip,) = AMASS.read(root, source, options)
    assert isinstance(clip, Clip)
    return clip


def motion(content: dict[str, Any], dmpls: bool = False) -> Motion:
    pose = content["poses"].reshape(len(content["poses"]), -1, 3)
    return Motion(pose, content["trans"], content["betas"], content["dmpls"] if dmpls else None)


def test_a_take_becomes_one_clip_with_the_joints_of_its_body(tmp_path: Path, models: Path) -> None:
    content = take()
    clip = read(write(tmp_path, content), models)
    assert clip.recording == "CMU__01__01_01_poses"
    assert clip.length == FRAMES
    assert clip.label == -1
    assert clip.splits == {"official": "train"}
    betas = clip.columns["betas"]
    assert {key: value for key, value in clip.columns.items() if key != "betas"} == {
        "subset": "CMU",
        "subject": "01",
        "gender": "male",
        "model": "smplh",
        "frame_rate": 120.0,
        "source_frame_rate": 120.0,
    }
    np.testing.assert_array_equal(betas, content["betas"])
    (track,) = clip.tracks
    want = body_joints(load_body_model(models / "smplh/male/model.npz"), motion(content))
    np.testing.assert_array_equal(track.position, want[:, :22].astype(np.float32))
    np.testing.assert_array_equal(track.frame_index, range(FRAMES))


def test_raw_z_is_canonical_y_and_the_map_keeps_hands_right() -> None:
    axis_map = AMASS.dataset.axis_map
    raw = np.eye(3, dtype=np.float32)
    np.testing.assert_array_equal(axis_map.to_canonical(raw), [[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    np.testing.assert_array_equal(axis_map.to_raw(axis_map.to_canonical(raw)), raw)
    assert np.linalg.det(axis_map.to_canonical(raw)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("layout", "rows"),
    [("smpl22", range(22)), ("smpl24", [*range(22), 22, 37]), ("smplh52", range(52))],
)
def test_layouts_are_rows_of_the_model_s_joints(tmp_path: Path, models: Path, layout: str, rows: Any) -> None:
    content = take()
    clip = read(write(tmp_path, content), models, joints=layout)
    want = body_joints(load_body_model(models / "smplh/male/model.npz"), motion(content))[:, list(rows)]
    np.testing.assert_array_equal(clip.tracks[0].position, want.astype(np.float32))
    dataset = AMASS.dataset_of(tmp_path, AMASS.options(body_model=models, joints=layout))
    assert dataset.skeleton == layout


def test_h36m17_is_regressed_from_the_vertices(tmp_path: Path, models: Path) -> None:
    content, regressor = take(), np.random.default_rng(0).random((17, 416))
    np.save(tmp_path / "regressor.npy", regressor)
    clip = read(
        write(tmp_path / "raw", content), models, joints="h36m17", regressor=tmp_path / "regressor.npy"
    )
    vertices = body_vertices(load_body_model(models / "smplh/male/model.npz"), motion(content))
    np.testing.assert_allclose(clip.tracks[0].position, regressor @ vertices, rtol=1e-5)
    with pytest.raises(BodyModelError, match="expected --regressor"):
        AMASS.dataset_of(tmp_path / "raw", AMASS.options(body_model=models, joints="h36m17"))
    np.save(tmp_path / "regressor.npy", np.zeros((17, 6890)))
    with pytest.raises(FormatError, match="a model of 416 vertices"):
        read(tmp_path / "raw", models, joints="h36m17", regressor=tmp_path / "regressor.npy")


def test_soft_tissue_moves_the_joints_when_asked_to(tmp_path: Path, models: Path) -> None:
    content = take()
    model = load_body_model(models / "smplh/male/model.npz", models / "dmpls/male/model.npz")
    clip = read(write(tmp_path, content), models, dmpls=True)
    want = body_joints(model, motion(content, dmpls=True))[:, :22].astype(np.float32)
    np.testing.assert_array_equal(clip.tracks[0].position, want)
    assert np.abs(want - read(tmp_path, models).tracks[0].position).max() > 1e-4
    with pytest.raises(FormatError, match="no array dmpls"):
        read(write(tmp_path, take(dmpls=None)), models, dmpls=True)


def test_optional_arrays_are_those_of_the_file(tmp_path: Path, models: Path) -> None:
    content = take()
    extras = read(write(tmp_path, content), models, ("pose", "translation", "dmpls")).tracks[0].extras
    np.testing.assert_array_equal(extras["pose"], content["poses"].reshape(FRAMES, 52, 3).astype(np.float32))
    np.testing.assert_array_equal(extras["translation"], content["trans"].astype(np.float32))
    np.testing.assert_array_equal(extras["dmpls"], content["dmpls"].astype(np.float32))


@pytest.mark.parametrize("gender", ["female", b"female", "b'female'", "FEMALE", "f", ["female"]])
def test_the_gender_chooses_the_model_however_it_is_written(
    tmp_path: Path, models: Path, gender: Any
) -> None:
    content = take(gender=np.array(gender))
    clip = read(write(tmp_path, content), models)
    assert clip.columns["gender"] == "female"
    want = body_joints(load_body_model(models / "smplh/female/model.npz"), motion(content))
    np.testing.assert_array_equal(clip.tracks[0].position, want[:, :22].astype(np.float32))


def test_one_model_file_serves_every_gender(tmp_path: Path, models: Path) -> None:
    content = take(gender=np.array("female"))
    clip = read(write(tmp_path, content), models / "smplh/male/model.npz")
    want = body_joints(load_body_model(models / "smplh/male/model.npz"), motion(content))
    np.testing.assert_array_equal(clip.tracks[0].position, want[:, :22].astype(np.float32))


def test_resampling_goes_by_time(tmp_path: Path, models: Path) -> None:
    content = take()
    at_120 = read(write(tmp_path, content), models).tracks[0].position
    at_30 = read(tmp_path, models, fps=30.0)
    np.testing.assert_allclose(at_30.tracks[0].position, at_120[::4], atol=1e-6)
    assert (at_30.columns["frame_rate"], at_30.columns["source_frame_rate"]) == (30.0, 120.0)
    assert at_30.length == 3
    np.testing.assert_allclose(read(tmp_path, models, fps=120.0).tracks[0].position, at_120, atol=1e-6)
    assert read(tmp_path, models, fps=240.0).length == 2 * FRAMES - 1
    # 50 a second from 120: the third new frame is 4.8 old ones in
    between = read(tmp_path, models, fps=50.0).tracks[0].position[2]
    spacing = np.linalg.norm(at_120[5] - at_120[4], axis=-1)
    assert (np.linalg.norm(between - at_120[4], axis=-1) <= 1.2 * spacing + 1e-6).all()
    dataset = AMASS.dataset_of(tmp_path, AMASS.options(body_model=models, fps=30.0))
    assert dataset.frame_rate == 30.0
    with pytest.raises(FormatError, match="frames a second above 0"):
        AMASS.dataset_of(tmp_path, AMASS.options(body_model=models, fps=0.0))


@pytest.mark.parametrize(
    ("recorded", "asked"), [(1e-9, 120.0), (1e-320, 1e300), (120.0, 1e12), (1e308, 1e-300), (5e-324, 30.0)]
)
def test_a_frame_rate_that_would_make_terabytes_sets_the_file_aside(
    tmp_path: Path, models: Path, recorded: float, asked: float
) -> None:
    path = write(tmp_path, take(mocap_framerate=np.array(recorded)))
    with pytest.raises(FormatError, match=r"frames at .* a second, which are .* at --fps") as error:
        read(tmp_path, models, fps=asked)
    assert path.name in str(error.value)


def test_a_stageii_file_of_smplx_is_read_with_an_smplx_model(tmp_path: Path, models: Path) -> None:
    rng = np.random.default_rng(4)
    parents = [-1, *model_arrays("male")["kintree_table"][0, 1:22].astype(int), 15, 15, 15]
    parents += [p + 3 if p > 21 else p for p in model_arrays("male")["kintree_table"][0, 22:].astype(int)]
    model = {
        "v_template": rng.normal(size=(60, 3)),
        "shapedirs": rng.normal(0, 0.01, (60, 3, 20)),
        "J_regressor": rng.random((55, 60)) / 30,
        "kintree_table": np.array([[2**32 - 1, *parents[1:]], range(55)], np.uint32),
    }
    folder = tmp_path / "models" / "smplx"
    folder.mkdir(parents=True)
    (folder / "SMPLX_MALE.npz").write_bytes(npz_bytes(model))
    content = take(poses=rng.normal(0, 0.4, (FRAMES, 165)), mocap_framerate=None, dmpls=None)
    content |= {"mocap_frame_rate": np.array(100.0), "surface_model_type": np.array("smplx")}
    content |= {"markers_latent_vids": np.array([{"C7": 1}], object)}
    root = tmp_path / "raw"
    write(root, content, "MoSh/50002/misc_stageii.npz")
    write(root, {"betas": np.zeros(16)}, "MoSh/50002/male_stagei.npz")
    write(root, {"betas": np.zeros(16)}, "MoSh/50002/shape.npz")
    want = body_joints(load_body_model(folder / "SMPLX_MALE.npz"), motion(content)).astype(np.float32)
    rows = {"smpl22": range(22), "smplx55": range(55), "smplh52": [*range(22), *range(25, 55)]}
    for layout, at in rows.items():
        clip = read(root, tmp_path / "models", ("pose",), joints=layout)
        np.testing.assert_array_equal(clip.tracks[0].position, want[:, list(at)])
    assert clip.splits == {"official": "val"}
    assert clip.columns["subset"] == "MPI_mosh"
    assert clip.columns["frame_rate"] == 100.0
    dataset = AMASS.dataset_of(root, AMASS.options(body_model=tmp_path / "models"))
    assert dataset.extra("pose").labels["pose_joint"][22:25] == ("jaw", "left_eye", "right_eye")
    with pytest.raises(BodyModelError, match=r"found no smplx model of gender 'male' among .*smplh/male"):
        read(root, models)
    with pytest.raises(FormatError, match=r"poses of smplx, for which .* a smplh model, was given"):
        read(root, models / "smplh/male/model.npz")


def test_poses_of_smplh_can_move_an_smpl_model(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    model = {
        "v_template": rng.normal(size=(30, 3)),
        "shapedirs": rng.normal(0, 0.01, (30, 3, 10)),
        "J_regressor": rng.random((24, 30)) / 15,
        "kintree_table": np.array([[0, *model_arrays("male")["kintree_table"][0, 1:22], 20, 21], range(24)]),
    }
    path = tmp_path / "model.npz"
    path.write_bytes(npz_bytes(model))
    content = take()
    clip = read(write(tmp_path / "raw", content), path, joints="smpl24")
    whole = motion(content)
    want = body_joints(load_body_model(path), replace(whole, pose=whole.pose[:, [*range(23), 37]]))
    np.testing.assert_array_equal(clip.tracks[0].position, want.astype(np.float32))
    with pytest.raises(FormatError, match="a model with the joints of smplh52"):
        read(tmp_path / "raw", path, joints="smplh52")


def test_without_a_body_model_the_message_says_where_to_get_one(tmp_path: Path) -> None:
    write(tmp_path, take())
    with pytest.raises(BodyModelError, match=r"--body-model FILE-OR-FOLDER.*https://mano\.is\.tue\.mpg\.de"):
        AMASS.dataset_of(tmp_path, AMASS.options())
    with pytest.raises(BodyModelError, match="found nothing"):
        read(tmp_path, tmp_path / "absent")


def test_models_in_the_raw_folder_are_found_and_are_no_recordings(tmp_path: Path, models: Path) -> None:
    write(tmp_path, take())
    for path, content in model_files().items():
        (tmp_path / "body_models" / path).parent.mkdir(parents=True)
        (tmp_path / "body_models" / path).write_bytes(content)
    options = AMASS.options()
    assert [source.path for source in AMASS.scan(tmp_path, options)] == ["CMU/01/01_01_poses.npz"]
    assert AMASS.dataset_of(tmp_path, options).skeleton == "smpl22"


@pytest.mark.parametrize(
    ("names", "kind", "gender", "want"),
    [
        (["smplh/male/model.npz", "smplh/female/model.npz", "dmpls/male/model.npz"], "smplh", "male", 0),
        (["smplh/SMPLH_male.pkl", "smplx/SMPLX_MALE.npz"], "smplh", "male", 0),
        (["smplh/SMPLH_MALE.pkl", "smplx/SMPLX_MALE.npz"], "smplx", "male", 1),
        (["SMPLX_NEUTRAL.pkl", "SMPLX_NEUTRAL.npz"], "smplx", "neutral", 1),
        (
            ["smpl/models/basicmodel_m_lbs_10_207_0_v1.1.0.pkl", "smpl/models/basicmodel_f_lbs.pkl"],
            "smpl",
            "male",
            0,
        ),
        (["male/model.npz", "female/model.npz"], "smplx", "female", 1),
        (["smpl/SMPL_MALE.pkl"], "smplh", "male", 0),
    ],
)
def test_model_folders_are_understood_as_they_are_given_out(
    tmp_path: Path, names: list[str], kind: str, gender: str, want: int
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert find_model(tmp_path, kind, gender) == tmp_path / names[want]


def test_two_models_of_one_kind_are_refused(tmp_path: Path) -> None:
    for name in ("a/SMPLH_MALE.npz", "b/SMPLH_MALE.npz"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(
        BodyModelError, match=r"more than one smplh model.*a/SMPLH_MALE.npz, b/SMPLH_MALE.npz"
    ):
        find_model(tmp_path, "smplh", "male")


@pytest.mark.parametrize(
    ("path", "subset", "subject", "part"),
    [
        ("BMLrub/rub001/a_poses.npz", "BioMotionLab_NTroje", "rub001", "train"),
        ("AMASS/HumanEva/S1/a_poses.npz", "HumanEva", "S1", "val"),
        ("SSM/s/a_poses.npz", "SSM_synced", "s", "test"),
        ("Transitions_mocap/mazen_c3d/a_poses.npz", "Transitions_mocap", "mazen_c3d", "test"),
        ("MPI_HDM05/a_poses.npz", "MPI_HDM05", "", "val"),
        ("elsewhere/s1/a_poses.npz", "", "s1", ""),
    ],
)
def test_sub_datasets_are_known_by_all_their_names(
    tmp_path: Path, models: Path, path: str, subset: str, subject: str, part: str
) -> None:
    clip = read(write(tmp_path, take(), path), models)
    assert (clip.columns["subset"], clip.columns["subject"]) == (subset, subject)
    assert clip.splits == {"official": part}


def test_the_raw_folder_may_be_one_sub_dataset(tmp_path: Path, models: Path) -> None:
    clip = read(write(tmp_path / "KIT", take(), "3/a_poses.npz"), models)
    assert (clip.columns["subset"], clip.columns["subject"]) == ("KIT", "3")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"poses": np.zeros((9, 150))}, r"'poses' of shape \(9, 150\)"),
        ({"poses": np.zeros(156)}, "'poses' of shape"),
        ({"poses": np.zeros((0, 156))}, "'poses' of shape"),
        ({"poses": np.array(["x"])}, "'poses' of dtype"),
        (
            {"poses": np.where(np.arange(FRAMES * 156) == 400, np.nan, 0).reshape(-1, 156)},
            "not finite in frame 2",
        ),
        ({"poses": None}, "no array poses"),
        ({"poses": np.array([{}], object)}, "'poses' of dtype object"),
        ({"trans": np.zeros((8, 3))}, r"'trans' of shape \(8, 3\), expected \(9, 3\)"),
        ({"trans": None}, "no array trans"),
        ({"betas": np.zeros((16, 1))}, "'betas' of shape"),
        ({"betas": np.zeros(300)}, "'betas' of shape"),
        ({"dmpls": np.zeros((9, 7))}, "'dmpls' of shape"),
        ({"gender": np.array("unknown")}, "the gender 'unknown', expected male or female or neutral"),
        ({"gender": np.array(["male", "female"])}, "the gender 'none'"),
        ({"mocap_framerate": None}, "no frame rate"),
        ({"mocap_framerate": np.array(0.0)}, "no frame rate"),
        ({"mocap_framerate": np.array(np.nan)}, "not finite"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, models: Path, changes: dict[str, Any], match: str) -> None:
    with pytest.raises(FormatError, match=match):
        read(write(tmp_path, take(**changes)), models)


def test_an_optional_array_that_is_not_there_is_refused(tmp_path: Path, models: Path) -> None:
    with pytest.raises(UnknownNameError, match="no optional array named 'markers'"):
        AMASS.options(("markers",))
    with pytest.raises(FormatError, match="no array dmpls"):
        read(write(tmp_path, take(dmpls=None)), models, ("dmpls",))


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(npz_bytes(take()))
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "a_poses.npz").write_bytes(content)
    with contextlib.suppress(FormatError):
        read_take(tmp_path / "a_poses.npz")


@pytest.mark.real
def test_the_public_sample_reads_as_plain_numpy_reads_it(shared_data: Path, golden_numbers: Path) -> None:
    model = golden_numbers / "synthetic_smplh_model.npz"
    root = shared_data / "amass"
    options = AMASS.options(("pose", "dmpls"), body_model=model, joints="smplh52")
    (source,) = AMASS.scan(root, options)
    (clip,) = AMASS.read(root, source, options)
    assert isinstance(clip, Clip)
    with np.load(root / source.path) as file, np.load(model) as body:
        poses, trans, betas, dmpls = (file[key] for key in ("poses", "trans", "betas", "dmpls"))
        joints = body["J_regressor"] @ (body["v_template"] + body["shapedirs"] @ betas)
        parents = body["kintree_table"][0]
    assert (clip.length, clip.columns["gender"], clip.columns["frame_rate"]) == (601, "male", 120.0)
    np.testing.assert_array_equal(clip.columns["betas"], betas)
    np.testing.assert_array_equal(clip.tracks[0].extras["dmpls"], dmpls.astype(np.float32))
    np.testing.assert_array_equal(clip.tracks[0].extras["pose"].reshape(601, 156), poses.astype(np.float32))
    for frame in (0, 300, 600):
        where, turned = [joints[0] + trans[frame]], [rodrigues(poses[frame, :3])]
        for k in range(1, 52):
            p = int(parents[k])
            where.append(where[p] + turned[p] @ (joints[k] - joints[p]))
            turned.append(turned[p] @ rodrigues(poses[frame, 3 * k : 3 * k + 3]))
        np.testing.assert_allclose(clip.tracks[0].position[frame], where, atol=1e-6)


def rodrigues(vector: Any) -> Any:
    """One rotation matrix, by the textbook formula."""
    angle = np.linalg.norm(vector)
    if angle == 0:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


@pytest.mark.real
def test_the_public_regressor_has_the_shape_that_is_asked_for(shared_data: Path) -> None:
    from skelformats.safe_npz import load_npy

    regressor = load_npy(shared_data / "smpl" / "J_regressor_h36m_correct.npy")
    assert regressor.shape == (17, 6890)
    assert np.abs(regressor.sum(axis=1) - 1).max() < 1e-3
