"""Crops: cut where the person is, whatever is wrong set aside, the same bytes however often interrupted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

from skelconv.cli.main import cli
from skelconv.crops import CropError, ImageFolder, open_crops, write, write_crops
from skelconv.crops.cut import CROP_HEIGHT, CROP_WIDTH, CropRefusedError, crop_box, cut, open_picture, to_crop
from skelconv.crops.writer import CropJournalError
from skelconv.ingest.executors import open_executor
from skelconv.store.info import Provenance, StoreError
from skelconv.store.store import Store, open_store
from skelconv.store.writer import write_store
from skelconv.view.figures import PinholeCamera, draw_figures
from skelformats.errors import UnknownNameError
from skelformats.reader import Clip, Column, Dataset, Extra, Protocol, Track
from skelformats.skeleton import load_skeleton

CAMERA = PinholeCamera.looking_at((0, 0.9, 0), (0.0, 1.2, 3.5), 260.0, (320, 240))
FRAMES = 9

DATASET = Dataset(
    name="made",
    title="made up",
    skeleton="h36m17",
    licence="none",
    citation="none",
    homepage="none",
    frame_rate=30.0,
    classes=("stand",),
    columns=(Column("subject", "i4", "who"),),
    protocols=(Protocol("half", "the first trains"),),
    missing="NaN",
    extras=(
        Extra("pixel", ("joint", "pixel_axis"), {"pixel_axis": ("x", "y")}, "f4", "px", "in the picture"),
    ),
)

REST = {
    "pelvis": (0, 0.9), "right_hip": (-0.12, 0.9), "right_knee": (-0.14, 0.5), "right_ankle": (-0.14, 0.08),
    "left_hip": (0.12, 0.9), "left_knee": (0.14, 0.5), "left_ankle": (0.14, 0.08), "spine": (0, 1.15),
    "thorax": (0, 1.4), "nose": (0, 1.5), "head_top": (0, 1.65), "left_shoulder": (0.17, 1.37),
    "left_elbow": (0.3, 1.15), "left_wrist": (0.36, 0.9), "right_shoulder": (-0.17, 1.37),
    "right_elbow": (-0.3, 1.15), "right_wrist": (-0.36, 0.9),
}  # fmt: skip


def pose(x: float) -> np.ndarray:
    return np.array([(*REST[name], 0.0) for name in load_skeleton("h36m17").names]) + np.array([x, 0, 0])


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Path]:
    """Two takes of two and one persons, and their pictures; one picture and one whole pose are missing."""
    root = tmp_path_factory.mktemp("crops")
    clips = []
    for take, starts in enumerate(((-0.6, 0.5), (0.0,))):
        name = f"take{take}"
        (root / "images" / name).mkdir(parents=True)
        paths = [np.stack([pose(x + 0.03 * t) for t in range(FRAMES)]) for x in starts]
        for t in range(FRAMES):
            picture = draw_figures([path[t] for path in paths], load_skeleton("h36m17"), CAMERA).image
            Image.fromarray(picture).save(root / "images" / name / f"{t:06d}.png")
        tracks = []
        for body, path in enumerate(paths):
            pixel = CAMERA.project(path).astype(np.float32)
            position = path.astype(np.float32)
            if take == 1:
                pixel[4] = position[4] = np.nan
                pixel[5] += 5000
            index = np.arange(FRAMES, dtype=np.int32)
            tracks.append(Track(str(body), index, position, None, {"pixel": pixel}))
        splits = {"half": "train" if take == 0 else "test"}
        clips.append((f"{name}.txt", Clip(name, FRAMES, tuple(tracks), 0, {"subject": take}, splits)))
    (root / "images" / "take1" / "000002.png").unlink()
    (root / "images" / "take1" / "000003.png").write_bytes(b"not a picture")
    made = Provenance(tool="test", command="test", digest="sha256:0")
    write_store(root / "store.zarr", DATASET, clips, made, extras=("pixel",), shard_frames=256)
    return open_store(root / "store.zarr"), root / "images"


PATTERN = "{recording}/{frame:06d}.png"


def content(path: Path) -> dict[str, bytes]:
    return {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}


def test_the_person_is_in_the_crop_and_the_joints_where_the_crop_shows_them(
    scene: tuple[Store, Path], tmp_path: Path
) -> None:
    store, images = scene
    summary = write_crops(store, ImageFolder(images, PATTERN), tmp_path / "out.zarr")
    crops = open_crops(tmp_path / "out.zarr")
    table = crops.to_frame()
    assert len(crops) == summary.crops == 3 * FRAMES - 4 == len(table)
    for n in (0, 4, len(crops) - 1):
        image, joints = crops.image(n), crops.pixels(n)
        assert image.shape == (CROP_HEIGHT, CROP_WIDTH, 3)
        assert (joints >= 0).all()
        assert (joints <= (CROP_WIDTH, CROP_HEIGHT)).all()
        for x, y in joints:
            shade = image[int(y), int(x)].astype(int)
            assert np.abs(shade - (233, 236, 240)).max() > 25, "a joint on the background"
    row = table.iloc[-1]
    whole = store.sequence(str(row["sequence"]))
    at = int(np.flatnonzero(whole.frame_index == row["frame_index"])[0])
    np.testing.assert_array_equal(
        crops.poses("position3d", len(crops) - 1, len(crops))[0], whole.position[at]
    )
    np.testing.assert_array_equal(
        crops.poses("position2d", len(crops) - 1, len(crops))[0], whole.extras["pixel"][at]
    )
    assert (row["recording"], row["subject"], row["split_half"]) == ("take1", 1, "test")
    assert crops.skeleton.names == store.skeleton.names


def test_what_cannot_be_cut_is_set_aside_with_a_sentence(scene: tuple[Store, Path], tmp_path: Path) -> None:
    store, images = scene
    summary = write_crops(store, ImageFolder(images, PATTERN), tmp_path / "out.zarr")
    reasons = {note.frame: note.reason for note in summary.set_aside}
    assert {note.sequence for note in summary.set_aside} == {"take1_b0"}
    assert "no picture 000002.png" in reasons[2]
    assert "cannot be read" in reasons[3]
    assert "every joint missing" in reasons[4]
    assert "0% of it in the picture of 320 x 240" in reasons[5]
    assert "set aside: 4 frames" in summary.describe()
    recorded = open_crops(tmp_path / "out.zarr").attributes["set_aside"]
    assert [note["frame"] for note in recorded] == [2, 3, 4, 5]


def test_workers_and_interruptions_do_not_change_the_bytes(
    scene: tuple[Store, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, images = scene
    monkeypatch.setattr(write, "BLOCK", 4)
    monkeypatch.setattr(write, "SHARD_BYTES", 1 << 16)
    folder = ImageFolder(images, PATTERN)
    whole = write_crops(store, folder, tmp_path / "whole.zarr")
    assert whole.bytes > 1 << 16, "one shard would be no test"

    class KilledError(Exception):
        pass

    killed = 0
    for stop in (1, 2, 4, 5):
        steps = 0

        def advance(frames: int, size: int, stop: int = stop) -> None:
            nonlocal steps
            steps += 1
            if steps > stop:
                raise KilledError

        with pytest.raises(KilledError):
            write_crops(store, folder, tmp_path / "again.zarr", advance=advance)
        assert not (tmp_path / "again.zarr").exists()
        killed += 1
    resumed = write_crops(store, folder, tmp_path / "again.zarr")
    assert killed == 4
    assert resumed.resumed
    assert resumed.set_aside == whole.set_aside
    assert content(tmp_path / "again.zarr") == content(tmp_path / "whole.zarr")
    assert not (tmp_path / "again.zarr.partial").exists()


def test_damage_to_an_unfinished_run_is_noticed(
    scene: tuple[Store, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, images = scene
    monkeypatch.setattr(write, "BLOCK", 4)
    monkeypatch.setattr(write, "SHARD_BYTES", 1 << 16)
    folder, out = ImageFolder(images, PATTERN), tmp_path / "out.zarr"
    write_crops(store, folder, tmp_path / "whole.zarr")
    partial = tmp_path / "out.zarr.partial"

    def interrupt() -> None:
        def advance(frames: int, size: int) -> None:
            if len((partial / "journal.jsonl").read_text().splitlines()) > 1:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_crops(store, folder, out, advance=advance, overwrite=True)

    shard = partial / "store" / "jpeg" / "c" / "0"
    for damage in ("shard", "no shard", "journal"):
        interrupt()
        if damage == "shard":
            shard.write_bytes(bytes(len(shard.read_bytes())))
        elif damage == "no shard":
            shard.unlink()
        else:
            (partial / "journal.jsonl").write_bytes(b'{"digest": \xff}\n')
        with pytest.raises(CropJournalError, match="Add --overwrite"):
            write_crops(store, folder, out)
        assert not out.exists()
    write_crops(store, folder, out, overwrite=True)
    assert content(out) == content(tmp_path / "whole.zarr")


def test_two_processes_write_the_same_bytes(scene: tuple[Store, Path], tmp_path: Path) -> None:
    store, images = scene
    folder = ImageFolder(images, PATTERN)
    write_crops(store, folder, tmp_path / "one.zarr", every=2)
    with open_executor(2) as executor:
        write_crops(store, folder, tmp_path / "two.zarr", every=2, executor=executor)
    assert content(tmp_path / "one.zarr") == content(tmp_path / "two.zarr")
    assert open_crops(tmp_path / "two.zarr").to_frame()["frame_index"].tolist()[:5] == [0, 2, 4, 6, 8]


def test_an_unfinished_run_of_another_plan_is_not_mixed_in(scene: tuple[Store, Path], tmp_path: Path) -> None:
    store, images = scene
    folder = ImageFolder(images, PATTERN)

    def stop(frames: int, size: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_crops(store, folder, tmp_path / "out.zarr", advance=stop)
    with pytest.raises(StoreError, match="unfinished crops of another"):
        write_crops(store, folder, tmp_path / "out.zarr", every=3)
    write_crops(store, folder, tmp_path / "out.zarr", every=3, overwrite=True)
    with pytest.raises(StoreError, match="--overwrite"):
        write_crops(store, folder, tmp_path / "out.zarr", every=3)


def test_the_box_has_the_crops_proportions_and_takes_missing_joints() -> None:
    joints = np.array([[100.0, 50], [140, 250], [np.nan, np.nan]])
    left, top, right, bottom = crop_box(joints)
    assert (right - left) / (bottom - top) == pytest.approx(CROP_WIDTH / CROP_HEIGHT)
    assert bottom - top == pytest.approx(250.0)
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((120, 150))
    corners = to_crop(np.array([[left, top], [right, bottom]]), np.array([left, top, right, bottom]))
    np.testing.assert_allclose(corners, [[0, 0], [CROP_WIDTH, CROP_HEIGHT]], atol=1e-9)
    with pytest.raises(CropRefusedError, match="every joint missing"):
        crop_box(np.full((3, 2), np.nan))


def test_a_dot_stands_in_the_crop_where_its_pixel_is_mapped_to(tmp_path: Path) -> None:
    picture = np.zeros((300, 400, 3), np.uint8)
    picture[148:152, 198:202] = 255  # its middle is at (200, 150)
    Image.fromarray(picture).save(tmp_path / "dot.png")
    # partly beyond the left and upper edge, at no whole pixel
    box = crop_box(np.array([[-20.3, -40.7], [260.2, 230.9]]))
    with open_picture(tmp_path / "dot.png") as picture:
        jpeg, size = cut(picture, box)
    assert size == (400, 300)
    (tmp_path / "crop.jpg").write_bytes(jpeg)
    crop = np.asarray(Image.open(tmp_path / "crop.jpg")).astype(float).mean(axis=2)
    rows, columns = np.mgrid[:CROP_HEIGHT, :CROP_WIDTH] + 0.5
    weight = np.where(crop > 40, crop, 0)
    found = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
    np.testing.assert_allclose(found, to_crop(np.array([200.0, 150.0]), box), atol=0.15)


@pytest.mark.parametrize(
    ("folder", "pattern", "pixels", "error", "words"),
    [
        ("nowhere", PATTERN, None, CropError, "no folder"),
        ("", "{recordin}/{frame}.png", None, UnknownNameError, "recording"),
        ("", "{recording", None, CropError, "names in braces"),
        ("", "{recording:06d}.png", None, CropError, "nothing to cut out"),
        ("", "../../{recording}.png", None, CropError, "below"),
        ("", PATTERN, "position", CropError, "joints in the picture"),
        ("", PATTERN, "pixl", UnknownNameError, "pixel"),
    ],
)
def test_what_does_not_fit_is_refused(
    scene: tuple[Store, Path], tmp_path: Path, folder: str, pattern: str, pixels: str | None,
    error: type[Exception], words: str,
) -> None:  # fmt: skip
    store, images = scene
    with pytest.raises(error, match=words):
        write_crops(store, ImageFolder(images / folder, pattern), tmp_path / "out.zarr", pixels=pixels)
    assert not list(tmp_path.iterdir())


def test_a_sequence_store_is_no_crop_store(scene: tuple[Store, Path]) -> None:
    with pytest.raises(StoreError, match="store of crops"):
        open_crops(scene[0].path)


def test_the_command_cuts_and_says_what_it_set_aside(scene: tuple[Store, Path], tmp_path: Path) -> None:
    store, images = scene
    words = ["crops", str(store.path), str(images), str(tmp_path / "o.zarr"), "--pattern", PATTERN, "-j", "0"]
    code = "import sys; from skelconv.cli.command import run; from skelconv.cli.main import cli; run(cli)"
    done = subprocess.run(
        [sys.executable, "-c", code, *words, "--quiet"], capture_output=True, text=True, env=os.environ
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "23 crops" in done.stdout
    assert "set aside: 4 frames" in done.stdout
    assert "crops" in cli.list_commands(click.Context(cli))
