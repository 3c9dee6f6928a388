from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from skelconv.s2i.options import EncodeOptions
from skelconv.s2i.read import open_s2i
from skelconv.s2i.write import encode_store
from skelconv.store.recording import Recording, Sequence
from skelconv.store.store import Store
from skelconv.view import ViewError, find_recording, view
from skelconv.view.animation import MAX_PICTURES, gif, pace
from skelconv.view.drawing import LEFT, MIDDLE, RIGHT, front_yaw, grid_step, limbs, make_scene, turn
from skelconv.view.encoded import part_columns, time_axis
from skelconv.view.pictures import film_strip
from skelconv.view.stage import FOOTER, TheatreStage
from skelconv.view.viewer import viewer_fragment, viewer_page
from skelformats.errors import UnknownNameError
from skelformats.skeleton import load_skeleton
from tests.skelconv.small_store import make_store
from tests.skelconv.stores import store_of

SKELETON = load_skeleton("ntu25")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HEIGHTS = {
    "head": 1.7,
    "shoulder": 1.4,
    "elbow": 1.1,
    "wrist": 0.9,
    "hand": 0.8,
    "hip": 0.9,
    "knee": 0.5,
    "foot": 0.0,
}


def person(
    frames: np.ndarray, at: tuple[float, float] = (0, 0), facing: float = 0.0, number: int = 0
) -> Sequence:
    """Somebody who stands at (x, z), the chest towards +z turned by ``facing`` about +y, and lifts a hand."""
    pose = np.zeros((25, 3), np.float32)
    for joint, name in enumerate(SKELETON.names):
        pose[joint, 1] = next((height for part, height in HEIGHTS.items() if part in name), 1.2)
        pose[joint, 0] = 0.25 * name.startswith("left_") - 0.25 * name.startswith("right_")
    position = np.repeat(turn(pose, facing)[None], len(frames), 0).astype(np.float32)
    position[:, SKELETON.index("right_hand"), 1] += np.linspace(0, 0.8, len(frames))
    position += (at[0], 0, at[1])
    return Sequence(f"take_b{number}", str(number), frames.astype(np.int32), position.astype(np.float32))


def recording(*bodies: Sequence, length: int | None = None, name: str = "take") -> Recording:
    length = length or max(int(body.frame_index[-1]) + 1 for body in bodies)
    return Recording(name, length, bodies, {"action": "wave", "subject": 3})


PAIR = recording(
    person(np.arange(40), (-0.6, 0), np.pi / 2), person(np.arange(10, 25), (0.6, 0), -np.pi / 2, 1)
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    takes = [PAIR, replace(PAIR, name="alone", bodies=(replace(PAIR.bodies[0], name="alone_b0"),))]
    return store_of(tmp_path_factory.mktemp("view") / "view.zarr", takes)


@pytest.fixture(scope="module")
def s2i(store: Store) -> Path:
    path = Path(store.path).with_name("s2i.zarr")
    encode_store(store, path, EncodeOptions(chain="metric", size=32))
    return path


# ---- the scene ----


def test_limbs_are_the_tree_with_the_side_of_the_body_they_are_on() -> None:
    found = {frozenset((limb.joint, limb.other)): limb.side for limb in limbs(SKELETON)}
    assert set(found) == {frozenset(edge) for edge in SKELETON.edges}
    side = {tuple(sorted(SKELETON.names[j] for j in pair)): side for pair, side in found.items()}
    assert side["left_hip", "left_knee"] == LEFT
    assert side["right_elbow", "right_wrist"] == RIGHT
    assert side["head", "neck"] == MIDDLE


def test_a_layout_without_a_spine_is_drawn_whole_by_its_mirror_image() -> None:
    toyota = load_skeleton("toyota13")
    drawn = {
        frozenset((toyota.names[limb.joint], toyota.names[limb.other])): limb.side for limb in limbs(toyota)
    }
    assert drawn[frozenset(("left_shoulder", "left_hip"))] == LEFT
    assert drawn[frozenset(("right_shoulder", "right_hip"))] == RIGHT
    assert drawn[frozenset(("left_hip", "right_hip"))] == MIDDLE


@pytest.mark.parametrize("facing", [0.0, 1.0, -2.5, np.pi])
def test_one_body_is_seen_from_the_front_with_its_left_on_the_viewers_right(facing: float) -> None:
    body = person(np.arange(5), facing=facing)
    seen = turn(body.position, front_yaw([body.position], SKELETON))
    across = seen[:, SKELETON.index("left_hip")] - seen[:, SKELETON.index("right_hip")]
    np.testing.assert_allclose(across, np.broadcast_to([0.5, 0, 0], (5, 3)), atol=1e-6)


def test_two_bodies_are_seen_side_by_side() -> None:
    yaw = front_yaw([body.position for body in PAIR.bodies], SKELETON)
    one, other = (turn(body.position, yaw).mean(axis=(0, 1)) for body in PAIR.bodies)
    assert abs(other[0] - one[0]) == pytest.approx(1.2, abs=1e-3)
    assert other[2] == pytest.approx(one[2], abs=1e-3)


def test_a_body_is_in_the_frames_it_was_observed_in_and_in_no_other() -> None:
    scene = make_scene(PAIR, SKELETON)
    assert [number for number, _ in scene.poses(9)] == [0]
    assert [number for number, _ in scene.poses(10)] == [0, 1]
    assert [number for number, _ in scene.poses(25)] == [0]
    np.testing.assert_array_equal(scene.poses(24)[1][1], PAIR.bodies[1].position[14])


def test_pixels_are_turned_upright() -> None:
    flat = replace(PAIR.bodies[0], position=PAIR.bodies[0].position[..., :2] * (100, -100) + (500, 400))
    scene = make_scene(recording(flat), SKELETON)
    assert scene.flat
    assert scene.yaw == 0
    ((_, pose),) = scene.poses(0)
    assert pose[SKELETON.index("head"), 1] > pose[SKELETON.index("left_foot"), 1]


def test_a_single_joint_flung_far_away_does_not_shrink_the_picture() -> None:
    body = person(np.arange(40))
    body.position[3, 7] = (500, 500, 500)
    assert np.ptp([*make_scene(recording(body), SKELETON).high]) < 3


@pytest.mark.parametrize(
    ("extent", "step"), [(3.0, 1.0), (2.9, 0.5), (1.5, 0.5), (0.7, 0.2), (70.0, 20.0), (0.3, 0.1), (0.0, 1.0)]
)
def test_grid_steps_are_round(extent: float, step: float) -> None:
    assert grid_step(extent) == pytest.approx(step)


# ---- files ----


def animated(rate: float | None) -> bytes:
    scene = make_scene(PAIR, SKELETON)
    return gif(scene, TheatreStage(scene, SKELETON), rate)


def test_a_film_strip_is_a_picture_with_both_bodies_colours(store: Store, tmp_path: Path) -> None:
    image = Image.open(view(store, "take", tmp_path / "deep" / "strip.png")).convert("RGB")
    assert image.width > 2 * image.height
    colours = {colour for _, colour in image.getcolors(image.width * image.height)}
    assert {(0x2F, 0x7D, 0xE1), (0x0F, 0x9F, 0x96), (0xE0, 0x45, 0x2F), (0xC4, 0x7B, 0x00)} <= colours


def test_a_gif_plays_in_real_time(store: Store, tmp_path: Path) -> None:
    with Image.open(view(store, "take", tmp_path / "take.gif")) as image:
        pauses = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
    assert len(pauses) == 20
    # 40 frames at 30 a second, every other one
    assert sum(pauses) == pytest.approx(40 / 30 * 1000, abs=10)


def test_the_background_of_a_gif_is_white() -> None:
    with Image.open(io.BytesIO(animated(20.0))) as image:
        assert {frame.convert("RGB").getpixel((2, 60)) for frame in ImageSequence.Iterator(image)} == {
            (255, 255, 255)
        }


def test_a_gif_shows_a_body_only_while_it_was_observed() -> None:
    with Image.open(io.BytesIO(animated(20.0))) as image:
        # without the legend below
        picture = (0, 0, image.width, image.height - FOOTER)
        reds = [_red(frame.convert("RGB").crop(picture)) for frame in ImageSequence.Iterator(image)]
    assert [red > 50 for red in reds] == [10 <= number < 25 for number in range(40)]


@pytest.mark.parametrize("length", [1, 2, 149, 150, 151, 1000, 100_000])
@pytest.mark.parametrize("frame_rate", [None, 10.0, 25.0, 30.0, 50.0, 120.0])
def test_animations_are_bounded_smooth_and_say_when_they_are_sped_up(
    length: int, frame_rate: float | None
) -> None:
    step, rate, speed = pace(length, frame_rate)
    assert len(range(0, length, step)) <= MAX_PICTURES
    assert 10 <= rate <= 20
    assert speed == pytest.approx(rate * step / (frame_rate or 30))
    assert speed >= 1 - 1e-9
    if length <= MAX_PICTURES:
        assert speed == pytest.approx(1)


def test_a_sequence_is_drawn_alone_and_the_first_recording_by_default(store: Store) -> None:
    assert [body.name for body in find_recording(store, "take_b1").bodies] == ["take_b1"]
    assert find_recording(store, "take_b1").length == 40
    assert find_recording(store, None).name == "take"
    assert len(find_recording(store, "take").bodies) == 2


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_missing_joints_and_whole_missing_frames_are_left_out(tmp_path: Path, suffix: str) -> None:
    # a store with 1,300 frames in a row without any joint, and with a recording of a single frame
    small = make_store(tmp_path / "small.zarr")
    for name in ("take02", "take04"):
        assert view(small, name, tmp_path / f"{name}{suffix}").stat().st_size > 1000


def test_pictures_of_two_axes_have_no_side_view(tmp_path: Path) -> None:
    flat = replace(PAIR.bodies[0], position=PAIR.bodies[0].position[..., :2])
    deep, shallow = (
        Image.open(io.BytesIO(film_strip(make_scene(recording(body), SKELETON), SKELETON, None)))
        for body in (PAIR.bodies[0], flat)
    )
    assert shallow.height < 0.8 * deep.height


def test_an_existing_picture_is_replaced(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "take.GIF"
    out.write_text("old")
    view(store, None, out)
    assert out.read_bytes()[:6] == b"GIF89a"
    assert [file.name for file in tmp_path.iterdir()] == ["take.GIF"]


def test_a_sample_of_an_s2i_store_is_drawn_by_its_id_or_its_recording(s2i: Path, tmp_path: Path) -> None:
    pictures = [
        np.asarray(Image.open(view(s2i, name, tmp_path / f"{n}.png")))
        for n, name in enumerate((None, "take", "alone"))
    ]
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert pictures[2].shape != pictures[0].shape or (pictures[2] != pictures[0]).any()


def test_seconds_stand_at_the_side_of_an_image_as_far_as_they_are_known(store: Store, tmp_path: Path) -> None:
    # "take": 40 frames at 30 a second, a second body in 15 of them; "alone": one body
    encode_store(store, tmp_path / "s2i.zarr", EncodeOptions(chain="metric", size=16))
    images = open_s2i(tmp_path / "s2i.zarr")
    table = images.to_frame()
    assert table["encoded_frames"].tolist() == [40, 40]
    assert table["encoded_rows"].tolist() == [55, 40]
    both, alone = (time_axis(images, table.loc[name]) for name in ("take", "alone"))
    assert both.ticks == ((0.0, "0"), (1.0, "1.333"))
    assert [text for _, text in alone.ticks] == ["0", "0.2", "0.4", "0.6", "0.8", "1", "1.2"]
    assert alone.ticks[5][0] == pytest.approx(0.75)
    assert alone.label == both.label == "seconds"
    unknown = time_axis(images, table.drop(columns="encoded_frames").loc["alone"])
    assert [text for _, text in unknown.ticks] == ["first\nframe", "last\nframe"]


def test_parts_along_the_top_are_as_wide_as_their_columns(s2i: Path) -> None:
    parts = part_columns(open_s2i(s2i).plan)
    assert [name for name, _ in parts] == ["spine", "L arm", "R arm", "L leg", "R leg"]
    assert [round(width) for _, width in parts] == [20, 24, 24, 16, 16]


# ---- errors ----


@pytest.mark.parametrize("name", ["walk.webm", "walk", "walk.zarr"])
def test_another_suffix_is_answered_with_those_there_are(store: Store, tmp_path: Path, name: str) -> None:
    with pytest.raises(ViewError, match=r"\.png.*\.gif.*\.html"):
        view(store, "take", tmp_path / name)


def test_an_unknown_name_is_answered_with_a_similar_one(store: Store, s2i: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"recording or sequence.*Did you mean 'alone'"):
        view(store, "alonne", tmp_path / "x.png")
    with pytest.raises(UnknownNameError, match=r"sample or recording.*Did you mean"):
        view(s2i, "alonne", tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def test_images_have_no_motion_to_play(s2i: Path, tmp_path: Path) -> None:
    with pytest.raises(ViewError, match=r"expected \.png"):
        view(s2i, None, tmp_path / "x.gif")


def test_a_recording_without_a_joint_says_so(tmp_path: Path) -> None:
    empty = person(np.arange(5))
    empty.position[:] = np.nan
    nothing = store_of(tmp_path / "nothing.zarr", [recording(empty)])
    for suffix in ("png", "gif"):
        with pytest.raises(ViewError, match="no joint in any frame of take"):
            view(nothing, None, tmp_path / f"x.{suffix}")


# ---- the page ----


def test_the_page_holds_the_positions_bit_for_bit_and_asks_for_nothing_else(
    store: Store, tmp_path: Path
) -> None:
    page = view(store, "take", tmp_path / "take.html").read_text()
    assert not re.search(r"(?:src|href)=\"(?!data:)|https?://|@import|url\(", page)
    data = json.loads(re.search(r'class="sv-data">(.*?)</script>', page, re.S)[1])
    (take,) = data["recordings"]
    for body, expected in zip(take["bodies"], PAIR.bodies, strict=True):
        position = np.frombuffer(base64.b64decode(body["position"]), "<f4").reshape(-1, 25, 3)
        np.testing.assert_array_equal(position, expected.position)
        frames = np.frombuffer(base64.b64decode(body["frames"]), "<i4")
        np.testing.assert_array_equal(frames, expected.frame_index)


def test_a_name_from_raw_data_cannot_become_markup() -> None:
    evil = replace(
        PAIR, name="</script><script>alert(1)</script>", row={"action": "<img src=x onerror=alert(2)>"}
    )
    page = viewer_page([evil, evil], SKELETON, 30.0)
    assert "alert(1)</script>" not in page
    assert "<img" not in page


COUNT_PIXELS = """<script>
setTimeout(() => {
  const counts = [...document.querySelectorAll("canvas")].map((canvas) => {
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let [blue, red] = [0, 0];
    for (let k = 0; k < pixels.length; k += 4) {
      const [r, g, b, a] = pixels.subarray(k, k + 4);
      if (a > 200 && b > r + 80) blue++;
      if (a > 200 && r > b + 80) red++;
    }
    return [blue, red];
  });
  document.body.dataset.counts = JSON.stringify(counts);
}, 400);
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium to load the page in")
@pytest.mark.parametrize("dark", [False, True])
def test_chromium_draws_every_viewer_of_a_page(tmp_path: Path, dark: bool) -> None:
    nan = replace(
        PAIR.bodies[0], position=np.where(np.arange(25)[:, None] % 5, PAIR.bodies[0].position, np.nan)
    )
    flat = replace(
        PAIR.bodies[0], position=(PAIR.bodies[0].position[..., :2] * (200, -200)).astype(np.float32)
    )
    # the second body comes and goes, so it is there in all frames here: the clock is not ours
    both = recording(PAIR.bodies[0], replace(PAIR.bodies[1], **_always(PAIR.bodies[1])))
    shown = [both, recording(replace(nan, position=nan.position.astype(np.float32))), recording(flat)]
    page = viewer_page([shown[0]], SKELETON, 30.0).replace(
        "</body>",
        "".join(viewer_fragment([one, PAIR], SKELETON, None) for one in shown[1:]) + COUNT_PIXELS + "</body>",
    )
    dom, log = _load(page, tmp_path, dark)
    assert "CONSOLE" not in log
    counts = json.loads(re.search(r'data-counts="(.*?)"', dom)[1])
    assert len(counts) == 3
    # two persons are blue and red, and somebody alone is blue on the left and orange on the right; without
    # depth the side that is drawn last hides the other
    assert all(min(pair) > 200 for pair in counts[:2]), counts
    assert sum(counts[2]) > 200, counts
    drawn = [int(number) for number in re.findall(r'data-strokes="(\d+)"', dom)]
    # limbs and joints: two whole bodies, one with five joints missing, one whole
    assert drawn == [2 * (24 + 25), _limbs_left(nan) + 20, 24 + 25]


PRESS_KEYS = """<script>
setTimeout(() => {
  const viewer = document.querySelector(".skelviewer"), canvas = viewer.querySelector("canvas"), seen = [];
  const keys = [" ", "Home", "ArrowRight", "ArrowRight", "ArrowLeft", "End", "ArrowRight"];
  const next = () => {
    if (seen.length === keys.length) { document.body.dataset.seen = JSON.stringify(seen); return; }
    canvas.dispatchEvent(new KeyboardEvent("keydown", { key: keys[seen.length] }));
    setTimeout(() => {
      seen.push(viewer.querySelector("output").textContent);
      next();
    }, 60);
  };
  next();
}, 200);
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium to load the page in")
def test_the_keyboard_pauses_and_steps(tmp_path: Path) -> None:
    page = viewer_page([PAIR], SKELETON, 20.0).replace("</body>", PRESS_KEYS + "</body>")
    dom, log = _load(page, tmp_path, dark=False)
    assert "CONSOLE" not in log
    seen = json.loads(re.search(r'data-seen="(.*?)"', dom)[1].replace("&quot;", '"'))
    frames = [text.split(" · ")[1] for text in seen[1:]]
    assert frames == [f"frame {n} of 40" for n in (0, 1, 2, 1, 39, 39)]
    assert seen[-1] == "1.95 of 2.00 s · frame 39 of 40"
    assert ">Play</button>" in dom


def _always(body: Sequence) -> dict[str, np.ndarray]:
    return {"frame_index": np.arange(40, dtype=np.int32), "position": np.repeat(body.position[:1], 40, 0)}


def _limbs_left(body: Sequence) -> int:
    there = np.isfinite(body.position[0]).all(axis=1)
    return sum(there[limb.joint] and there[limb.other] for limb in limbs(SKELETON))


def _load(page: str, folder: Path, dark: bool) -> tuple[str, str]:
    """Load a page from disk; returns its document after a second, and the browser's log."""
    file = folder / "page.html"
    file.write_text(page)
    command = [
        str(CHROMIUM),
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *(f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--virtual-time-budget=1500"),
        *(["--blink-settings=preferredColorScheme=0"] if dark else []),
        *("--dump-dom", file.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, done.stderr


def _red(image: Image.Image) -> int:
    """Number of pixels in the second body's colours."""
    red, _, blue = np.moveaxis(np.asarray(image, int), -1, 0)
    return int((red > blue + 80).sum())


CLICK_VIEWS = """<script>
setTimeout(() => {
  const viewer = document.querySelector(".skelviewer"), seen = [];
  const names = ["front", "side", "reset"];
  const next = () => {
    if (seen.length === names.length) { document.body.dataset.seen = JSON.stringify(seen); return; }
    viewer.querySelector(".sv-" + names[seen.length]).click();
    setTimeout(() => { seen.push([viewer.dataset.yaw, viewer.dataset.pitch].map(Number)); next(); }, 60);
  };
  next();
}, 200);
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium to load the page in")
def test_front_and_side_are_the_bodys_own(tmp_path: Path) -> None:
    # the chest points to +z, turned by 1.1: from the front the viewer has turned back by as much
    page = viewer_page([recording(person(np.arange(9), facing=1.1))], SKELETON, 20.0)
    dom, log = _load(page.replace("</body>", CLICK_VIEWS + "</body>"), tmp_path, dark=False)
    assert "CONSOLE" not in log
    (front, tilt), (side, _), (_, pitch) = json.loads(re.search(r'data-seen="(.*?)"', dom)[1])
    assert front == pytest.approx(-1.1, abs=1e-3)
    assert side == pytest.approx(-1.1 - np.pi / 2, abs=1e-3)
    assert tilt == 0
    assert pitch > 0


MEASURE = """<script>
addEventListener("load", () => setTimeout(() => {
  const doc = document.getElementById("phone").contentDocument, seen = {};
  const names = ["play", "scrub", "frame", "speed", "front", "side", "reset", "legend", "caption", "canvas"];
  for (const name of names) {
    const box = doc.querySelector(".sv-" + name).getBoundingClientRect();
    seen[name] = [box.left, box.top, box.right, box.bottom];
  }
  seen.page = [0, 0, doc.documentElement.scrollWidth, doc.documentElement.scrollHeight];
  document.body.dataset.seen = JSON.stringify(seen);
}, 400));
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium to load the page in")
def test_on_a_phone_every_control_is_on_the_screen_and_no_word_on_the_skeletons(tmp_path: Path) -> None:
    inner = viewer_page([PAIR], SKELETON, 20.0).replace("&", "&amp;").replace('"', "&quot;")
    page = f'<body><iframe id="phone" width="390" height="760" srcdoc="{inner}"></iframe>{MEASURE}</body>'
    dom, _ = _load(page, tmp_path, dark=False)
    seen = json.loads(re.search(r'data-seen="(.*?)"', dom)[1].replace("&quot;", '"'))
    _, _, width, height = seen.pop("page")
    assert (width, height) == (390, 760)
    canvas = seen.pop("canvas")
    assert canvas[3] - canvas[1] > 300
    for name, (left, top, right, bottom) in seen.items():
        assert 0 <= left < right <= 390, name
        assert 0 <= top < bottom <= 760, name
        assert bottom <= canvas[1] or top >= canvas[3], name
