"""The cameras of Human3.6M: the table, the lens model, and the dataset's own metadata."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from skelformats.errors import FormatError, UnknownNameError
from skelformats.h36m_cameras import (
    CAMERAS,
    SUBJECTS,
    builtin_cameras,
    find_camera,
    project,
    project_linear,
    read_metadata,
    to_camera,
    to_world,
)
from skelformats.safe_pickle import load_pickle

ARRAYS = ("rotation", "centre", "focal", "principal", "radial", "tangential")


def points() -> np.ndarray:
    return np.random.default_rng(0).normal((0, 0, 900), 500, (50, 17, 3))


def metadata(numbers: str) -> str:
    return f"<?xml version='1.0'?><a><w0>[{numbers}]</w0></a>"


def test_every_subject_has_four_cameras_that_look_at_the_room_from_its_corners() -> None:
    cameras = builtin_cameras()
    assert set(cameras) == {(subject, camera) for subject in SUBJECTS for camera in CAMERAS}
    for camera in cameras.values():
        np.testing.assert_allclose(camera.rotation @ camera.rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(camera.rotation) == pytest.approx(1)
        assert 1000 < camera.centre[2] < 2500
        # the middle of the room, at the height of a person's hips, is ahead and in the picture
        middle = to_camera(np.array([0.0, 0.0, 900.0]), camera)
        assert 3000 < middle[2] < 7000
        x, y = project(middle, camera)
        assert 0 < x < camera.width
        assert 0 < y < camera.height


@pytest.mark.parametrize("unit", [1.0, 1000.0])
def test_the_way_to_a_camera_and_back_is_the_identity(unit: float) -> None:
    camera = builtin_cameras()[9, 58860488]
    there = to_camera(points() / unit, camera, unit)
    np.testing.assert_allclose(to_world(there, camera, unit), points() / unit, atol=1e-9)


def test_pixels_do_not_depend_on_the_unit_and_follow_the_published_formula() -> None:
    camera = builtin_cameras()[1, 55011271]
    seen = to_camera(points(), camera)
    np.testing.assert_allclose(project(seen / 1000, camera), project(seen, camera), rtol=1e-12)
    x, y = seen[0, 0, :2] / seen[0, 0, 2]
    (k1, k2, k3), (p1, p2) = camera.radial, camera.tangential
    r2 = x * x + y * y
    bent = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + p1 * y + p2 * x
    want = [x * bent + p2 * r2, y * bent + p1 * r2] * camera.focal + camera.principal
    np.testing.assert_allclose(project(seen, camera)[0, 0], want, rtol=1e-12)
    linear = np.array([x, y]) * camera.focal + camera.principal
    np.testing.assert_allclose(project_linear(seen, camera)[0, 0], linear, rtol=1e-12)


def test_an_unknown_camera_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownNameError, match=r"no camera of Human3\.6M named 'S1 7'"):
        find_camera(builtin_cameras(), 1, 7)
    assert find_camera(builtin_cameras(), 11, 54138969).subject == 11


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "text that cannot be read"),
        ("<a><b></a>", "text that cannot be read"),
        ("<a></a>", "0 numbers in <w0>"),
        (metadata("1 2 3"), "3 numbers in <w0>"),
        (metadata("1 " * 299 + "x"), "could not convert"),
        (metadata("1 " * 299 + "nan"), "300 numbers in <w0>"),
        ('<!DOCTYPE a [<!ENTITY b "bbbb">]><a><w0>&b;</w0></a>', "an XML declaration"),
        ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a><w0>&b;</w0></a>', "an XML declaration"),
        ("<a>" * 160_000, "text that cannot be read"),
        ("<a>" * 200_000, "600000 bytes, expected metadata.xml"),
    ],
)
def test_what_is_no_metadata_is_refused(tmp_path: Path, text: str, found: str) -> None:
    path = tmp_path / "metadata.xml"
    path.write_text(text)
    with pytest.raises(FormatError) as error:
        read_metadata(path)
    assert found in str(error.value)


@pytest.mark.real
def test_the_table_is_the_datasets_own_metadata(shared_data: Path) -> None:
    cameras = read_metadata(shared_data / "h36m" / "metadata.xml")
    assert set(cameras) == set(builtin_cameras())
    for key, builtin in builtin_cameras().items():
        for name in ARRAYS:
            np.testing.assert_array_equal(getattr(cameras[key], name), getattr(builtin, name))
        assert (cameras[key].width, cameras[key].height) == (builtin.width, builtin.height)


@pytest.mark.real
def test_pictures_are_as_large_as_the_metadata_says(shared_data: Path) -> None:
    root = ElementTree.parse(shared_data / "h36m" / "metadata.xml").getroot()
    sizes = [cell.text for cell in list(root.find("mapping") or ())[-1]][2:]
    for subject, text in zip(SUBJECTS, sizes, strict=True):
        rows = [tuple(map(int, row.split())) for row in str(text).strip("[]").split(";")]
        found = [builtin_cameras()[subject, camera] for camera in CAMERAS]
        assert rows == [(camera.height, camera.width) for camera in found]


@pytest.mark.real
def test_the_table_agrees_with_every_published_copy(shared_data: Path) -> None:
    """Copies differ in transposes, units, order of the coefficients, and in -RC against C."""
    folder = shared_data / "h36m"
    karfly = json.loads((folder / "camera-parameters.json").read_text())
    toolbox = load_pickle(folder / "camera_data.pkl")
    mmpose = load_pickle(folder / "cameras.pkl")
    for (subject, number), camera in builtin_cameras().items():
        placed = karfly["extrinsics"][f"S{subject}"][str(number)]
        np.testing.assert_allclose(placed["R"], camera.rotation, atol=1e-12)
        np.testing.assert_allclose(np.ravel(placed["t"]), -camera.rotation @ camera.centre, atol=1e-9)
        k1, k2, p1, p2, k3 = karfly["intrinsics"][str(number)]["distortion"]
        np.testing.assert_allclose([k1, k2, k3, p1, p2], [*camera.radial, *camera.tangential], atol=1e-12)
    for (subject, place), (rotation, centre, focal, principal, radial, tangential, name) in toolbox.items():
        camera = builtin_cameras()[subject, CAMERAS[place - 1]]
        assert name == str(camera.camera)
        for found, own in zip((rotation, centre, focal, principal, radial, tangential), ARRAYS, strict=True):
            np.testing.assert_allclose(np.squeeze(found), getattr(camera, own), rtol=1e-9)
    for (subject, name), there in mmpose.items():
        camera = builtin_cameras()[int(subject[1:]), int(name)]
        np.testing.assert_allclose(there["R"].T, camera.rotation, atol=1e-9)
        np.testing.assert_allclose(there["T"].ravel() * 1000, camera.centre, rtol=1e-9)
        if subject not in ("S4", "S7", "S10"):  # mmpose takes the pictures of a camera for equal
            assert (there["w"], there["h"]) == (camera.width, camera.height)
    assert (len(toolbox), len(mmpose)) == (28, 44)


@pytest.mark.real
def test_four_real_frames_project_onto_their_pixels(shared_data: Path) -> None:
    content = json.loads((shared_data / "h36m" / "h36m_coco.json").read_text())
    for image, annotation in zip(content["images"], content["annotations"], strict=True):
        subject = int(image["file_name"].split("_")[0][1:])
        camera = builtin_cameras()[subject, int(image["file_name"].split(".")[1].split("_")[0])]
        world = np.reshape(annotation["keypoints_3d"], (17, 4))[:, :3] * 1000
        pixels = np.reshape(annotation["keypoints"], (17, 3))[:, :2]
        np.testing.assert_allclose(project(to_camera(world, camera), camera), pixels, atol=2e-4)
        linear = project_linear(to_camera(world, camera), camera)
        assert np.abs(linear - pixels).max() > 0.3
        assert (image["width"], image["height"]) == (camera.width, camera.height)
