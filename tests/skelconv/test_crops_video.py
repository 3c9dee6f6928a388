"""Crops from videos are those from picture files; pictures drawn from a store agree with its poses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skelconv.cli.main import cli
from skelconv.crops import CropError, VideoFolder, open_crops, pictures_of, write_crops
from skelconv.store.info import Provenance
from skelconv.store.store import Store, open_store
from skelconv.store.writer import write_store
from skelconv.view.figures import PinholeCamera
from skelconv.view.filming import draw_store, fit_camera
from skelformats.reader import Clip, Track
from skelformats.skeleton import load_skeleton
from tests.skelconv.test_crops import DATASET, FRAMES, pose

av = pytest.importorskip("av")

CAMERA = PinholeCamera.looking_at((0, 0.9, 0), (0.3, 1.2, 3.5), 260.0, (320, 240))
LENGTH = 3 * FRAMES


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One take of two people in camera axes with +y up, who walk to the right."""
    root = tmp_path_factory.mktemp("filmed")
    tracks = []
    for body, x in enumerate((-0.7, 0.3)):
        path = np.stack([pose(x + 0.02 * t) for t in range(LENGTH)])
        position = (CAMERA.to_camera(path) * (1, -1, 1)).astype(np.float32)
        pixel = CAMERA.project(path).astype(np.float32)
        tracks.append(Track(str(body), np.arange(LENGTH, dtype=np.int32), position, None, {"pixel": pixel}))
    clip = Clip("take0", LENGTH, tuple(tracks), 0, {"subject": 0}, {"half": "train"})
    made = Provenance(tool="test", command="test", digest="sha256:1")
    write_store(
        root / "store.zarr", DATASET, [("take0.txt", clip)], made, extras=("pixel",), shard_frames=256
    )
    return open_store(root / "store.zarr")


@pytest.fixture(scope="module")
def pictures(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    draw_store(store, pictures_of(root, "{recording}/{frame:06d}.jpg"), CAMERA.size)
    return root


def write_video(folder: Path, pictures: Path, frames: int) -> None:
    """A video of the pictures with a key frame every seven."""
    with av.open(str(folder / "take0.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height = CAMERA.size
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 8_000_000
        stream.gop_size = 7
        for t in range(frames):
            with Image.open(pictures / "take0" / f"{t:06d}.jpg") as picture:
                frame = av.VideoFrame.from_image(picture.convert("RGB"))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


class TestVideo:
    @pytest.mark.parametrize("every", [1, 5])
    def test_crops_of_a_video_are_those_of_its_pictures(
        self, store: Store, pictures: Path, tmp_path: Path, every: int
    ) -> None:
        write_video(tmp_path, pictures, LENGTH)
        write_crops(store, VideoFolder(tmp_path), tmp_path / "video.zarr", every)
        write_crops(
            store, pictures_of(pictures, "{recording}/{frame:06d}.jpg"), tmp_path / "files.zarr", every
        )
        one, other = open_crops(tmp_path / "video.zarr"), open_crops(tmp_path / "files.zarr")
        assert len(one) == len(other) == 2 * len(range(0, LENGTH, every))
        assert one.to_frame()["frame_index"].tolist() == other.to_frame()["frame_index"].tolist()
        np.testing.assert_array_equal(one.array("box"), other.array("box"))
        for n in range(len(one)):
            own = np.abs(one.image(n).astype(int) - other.image(n)).mean()
            next_one = np.abs(one.image(n).astype(int) - other.image((n + 1) % len(one))).mean()
            assert own < 2.5
            assert own < next_one

    def test_frames_that_the_video_lacks_are_set_aside(
        self, store: Store, pictures: Path, tmp_path: Path
    ) -> None:
        write_video(tmp_path, pictures, LENGTH - 4)
        summary = write_crops(store, VideoFolder(tmp_path), tmp_path / "out.zarr")
        assert summary.crops == 2 * (LENGTH - 4)
        reasons = [note.reason for note in summary.set_aside]
        assert len(reasons) == 8
        assert reasons[0] == (
            f"found no frame {LENGTH - 4} in the video take0.mp4 (nearest: {LENGTH - 5}), expected one for "
            "each frame of the recording"
        )

    @pytest.mark.parametrize(
        ("content", "words"),
        [(None, "found no video take0.mp4"), (b"no video", "take0.mp4 that cannot be read")],
    )
    def test_videos_that_are_not_there_or_none(
        self, store: Store, tmp_path: Path, content: bytes | None, words: str
    ) -> None:
        if content is not None:
            (tmp_path / "take0.mp4").write_bytes(content)
        with pytest.raises(CropError, match=words):
            write_crops(store, VideoFolder(tmp_path), tmp_path / "out.zarr")

    def test_the_command_knows_a_video_by_its_pattern(
        self, store: Store, pictures: Path, tmp_path: Path
    ) -> None:
        write_video(tmp_path, pictures, LENGTH)
        words = ["crops", str(store.path), str(tmp_path), str(tmp_path / "out.zarr"), "-j", "0", "-q"]
        with pytest.raises(SystemExit) as done:
            cli.main([*words, "--every", "9", "--pattern", "{recording}.mp4"])
        assert not done.value.code
        assert len(open_crops(tmp_path / "out.zarr")) == 2 * 3


class TestDrawing:
    def test_the_camera_is_found_from_poses_and_pixels(self, store: Store) -> None:
        position = store.read(0, LENGTH, "position").reshape(-1, 3)
        seen = fit_camera(position, store.read(0, LENGTH, "pixel").reshape(-1, 2), CAMERA.size, "here")
        assert seen.off < 1e-2
        np.testing.assert_allclose(seen.camera.focal, CAMERA.focal, rtol=1e-4)
        np.testing.assert_allclose(seen.camera.principal, CAMERA.principal, atol=1e-2)
        assert seen.signs.tolist() == [1, -1, 1]

    def test_every_joint_lies_on_somebody(self, store: Store, pictures: Path) -> None:
        layout = load_skeleton("h36m17")
        pixel = store.read(0, 2 * LENGTH, "pixel").reshape(2, LENGTH, len(layout), 2)
        for t in (0, LENGTH - 1):
            image = np.asarray(Image.open(pictures / "take0" / f"{t:06d}.jpg").convert("RGB")).astype(int)
            for x, y in pixel[:, t].reshape(-1, 2):
                assert np.abs(image[int(y), int(x)] - (233, 236, 240)).max() > 25

    def test_it_goes_on_where_it_stopped(self, store: Store, pictures: Path, tmp_path: Path) -> None:
        folder = pictures_of(tmp_path, "{recording}/{frame:06d}.jpg")
        draw_store(store, folder, CAMERA.size, 4)
        (tmp_path / "take0" / "000004.jpg").unlink()
        summary = draw_store(store, folder, CAMERA.size, 4)
        assert (summary.drawn, summary.kept) == (1, len(range(0, LENGTH, 4)) - 1)
        for file in sorted((tmp_path / "take0").iterdir()):
            assert file.read_bytes() == (pictures / "take0" / file.name).read_bytes()

    def test_poses_and_pixels_of_no_one_camera(self, store: Store) -> None:
        position = store.read(0, LENGTH, "position").reshape(-1, 3)
        pixel = store.read(0, LENGTH, "pixel").reshape(-1, 2)
        turned = position[:, [2, 1, 0]] + (0, 0, 9)
        with pytest.raises(CropError, match="px beside their projection by the camera that fits"):
            fit_camera(turned, pixel, CAMERA.size, "here")
        with pytest.raises(CropError, match="expected at least four, and all ahead"):
            fit_camera(-position, pixel, CAMERA.size, "here")
