"""Videos of recordings, and recordings on the pictures they were seen in."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from skelconv.cli.main import cli
from skelconv.extras import MissingExtraError
from skelconv.store.info import Provenance
from skelconv.store.store import Store, open_store
from skelconv.store.writer import write_store
from skelconv.view import ViewError, render, view
from skelconv.view.drawing import MIDDLE, family
from skelconv.view.overlay import OverlayError, OverlayStage, open_frames
from skelconv.view.stage import HEADER
from skelformats.reader import Clip, Track
from tests.skelconv.scenes import body, recording
from tests.skelconv.stores import store_of
from tests.skelconv.test_crops import DATASET
from tests.skelconv.test_crops_video import CAMERA, pose

av = pytest.importorskip("av")

LENGTH = 24
GREY = (128, 128, 128)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two people who walk to the right, in camera axes, with their joints in a picture of 320 x 240."""
    tracks = []
    for number, x in enumerate((-0.7, 0.3)):
        path = np.stack([pose(x + 0.02 * t) for t in range(LENGTH)])
        position = (CAMERA.to_camera(path) * (1, -1, 1)).astype(np.float32)
        pixel = CAMERA.project(path).astype(np.float32)
        tracks.append(Track(str(number), np.arange(LENGTH, dtype=np.int32), position, None, {"pixel": pixel}))
    clip = Clip("take0", LENGTH, tuple(tracks), 0, {"subject": 0}, {"half": "train"})
    out = tmp_path_factory.mktemp("overlay") / "store.zarr"
    made = Provenance(tool="test", command="test", digest="sha256:1")
    write_store(out, DATASET, [("take0.txt", clip)], made, extras=("pixel",), shard_frames=256)
    return open_store(out)


def write_clip(path: Path, frames: int = LENGTH, size: tuple[int, int] = (320, 240)) -> Path:
    """A video whose pictures grow brighter."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for t in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", size, (4 * t,) * 3))))
        container.mux(stream.encode())
    return path


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_a_video_has_every_frame_in_real_time(store: Store, tmp_path: Path) -> None:
    out = view(store, "take0", tmp_path / "take.mp4")
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert float(stream.average_rate) == pytest.approx(store.info.frame_rate)
    pictures = decoded(out)
    assert len(pictures) == LENGTH
    # they walk: the first picture is not the last
    assert np.abs(pictures[0].astype(int) - pictures[-1]).max() > 100
    assert [file.name for file in tmp_path.iterdir()] == ["take.mp4"]


def test_joints_lie_where_the_picture_has_them(store: Store, tmp_path: Path) -> None:
    with open_frames(write_clip(tmp_path / "clip.mp4")) as reader:
        stage = OverlayStage(store.recording("take0"), store, reader, tmp_path)
        picture = np.asarray(stage.picture(7, "")).astype(int)
    assert picture.shape == (HEADER + 240 + 22, 320, 3)
    for sequence in store.recording("take0").bodies:
        for x, y in sequence.extras["pixel"][7].round().astype(int):
            around = picture[y + HEADER - 2 : y + HEADER + 3, x - 2 : x + 3].reshape(-1, 3)
            # a joint's dot, or the limb of somebody nearer that covers it
            assert np.ptp(around, axis=1).max() > 20
    # the picture itself shows where nobody is: that of frame 7
    np.testing.assert_allclose(picture[HEADER + 2, 2], 28, atol=4)
    first = store.recording("take0").bodies[0]
    joint = first.extras["pixel"][7][store.skeleton.names.index("left_wrist")].round().astype(int)
    expected = [int(family(0, 2)[MIDDLE][k : k + 2], 16) for k in (1, 3, 5)]
    np.testing.assert_allclose(picture[joint[1] + HEADER, joint[0]], expected, atol=3)


def test_gif_and_mp4_are_drawn_onto_a_video(store: Store, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip {a}.mp4")
    seen = decoded(view(store, None, tmp_path / "seen.mp4", clip))
    assert len(seen) == LENGTH
    corners = [int(picture[HEADER + 4, 4].mean()) for picture in seen]
    np.testing.assert_allclose(corners, [4 * t for t in range(LENGTH)], atol=6)
    with Image.open(view(store, None, tmp_path / "seen.gif", clip)) as image:
        assert image.n_frames == LENGTH // 2


def test_pictures_of_a_folder_are_taken_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in range(12):
        Image.new("RGB", (8, 8), (20 * number,) * 3).save(tmp_path / f"f{number}.png")
    with open_frames(tmp_path) as reader:
        assert [reader(n).getpixel((0, 0))[0] // 20 for n in range(12)] == list(range(12))


def test_a_video_with_fewer_frames_is_refused_before_anything_is_drawn(store: Store, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", LENGTH - 4)
    with pytest.raises(OverlayError, match=rf"clip\.mp4: found no frame {LENGTH - 1} in the video"):
        view(store, None, tmp_path / "seen.mp4", clip)
    assert [file.name for file in tmp_path.iterdir()] == ["clip.mp4"]


def test_a_video_of_another_size_is_refused(store: Store, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", size=(64, 48))
    with pytest.raises(
        OverlayError, match=r"pictures of 64 x 48 pixels, and \d+ % of the joints of take0 outside"
    ):
        view(store, None, tmp_path / "seen.mp4", clip)


def test_what_cannot_be_drawn_onto_is_named_in_one_line(store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no video")
    for where, words in (
        ("nowhere.mp4", "found neither a video nor a folder"),
        ("empty", "found no picture"),
        ("text.mp4", "cannot be read"),
    ):
        arguments = [
            "view",
            str(store.path),
            "--out",
            str(tmp_path / "x.mp4"),
            "--video",
            str(tmp_path / where),
        ]
        with pytest.raises(OverlayError, match=words) as caught:
            CliRunner().invoke(cli, arguments, catch_exceptions=False)
        assert "\n" not in str(caught.value)
    with pytest.raises(ViewError, match=r"found the suffix \.html with --video"):
        view(store, None, tmp_path / "x.html", tmp_path)


def test_a_store_without_pixels_says_so(tmp_path: Path) -> None:
    flat = store_of(tmp_path / "plain.zarr", [recording(body(range(9), 0), name="take0")])
    Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
    with pytest.raises(OverlayError, match="no array of the joints in the picture"):
        view(flat, None, tmp_path / "x.mp4", tmp_path)


def test_without_its_extra_the_command_that_helps_is_named(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(package: str, extra: str) -> None:
        if package == "av":
            raise MissingExtraError(f"this needs av: {extra}")

    monkeypatch.setattr(render, "need", lacking)
    with pytest.raises(MissingExtraError, match="video"):
        view(store, None, tmp_path / "x.mp4")


def test_pictures_tell_time_in_seconds(store: Store) -> None:
    from skelconv.view.animation import _draw

    told: list[str] = []

    class Stage:
        size = (2, 2)

        def picture(self, frame: int, when: str) -> None:
            told.append(when)

    list(_draw(Stage(), range(0, 4, 3), 30.0, 1.0, lambda count: None))
    list(_draw(Stage(), range(0, 4, 3), None, 2.0, lambda count: None))
    assert told == ["0.00 s  frame 0", "0.10 s  frame 3", "2.0x speed  frame 0", "2.0x speed  frame 3"]
    assert re.match(r"\d", told[0])
