from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from skelformats.conversions import to_h36m17
from skelformats.h36m_cameras import builtin_cameras, find_camera
from skeltrain.data import motion
from skeltrain.models.errors import ModelError
from tests.skeltrain.motion_goldens import Figures, close

Seed = np.random.RandomState


def torch_seed(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clip(*shape: int) -> Any:
    return np.random.default_rng(0).normal(size=shape) * 100 + 500


class TestCropScale:
    def test_the_larger_extent_fills_the_square_and_the_other_is_centred(self) -> None:
        x = np.zeros((1, 5, 3))
        x[0, :, :2] = [[10, 20], [30, 20], [20, 25], [12, 15], [500, 500]]
        x[0, :4, 2] = 0.5  # the last has no confidence and does not count
        scaled = motion.crop_scale(x)
        close(scaled[0, 0], [-1, 0, 0.5])
        close(scaled[0, 1], [1, 0, 0.5])
        close(scaled[0, 2], [0, 0.5, 0.5])
        close(scaled[0, 4], [1, 1, 0])

    def test_a_range_is_drawn_once_a_clip(self) -> None:
        x = clip(6, 17, 3)
        x[..., 2] = 1
        wide = motion.crop_scale(x, (2, 2))
        close(wide, np.clip(motion.crop_scale(x) * np.array([0.5, 0.5, 1]), -1, 1), atol=1e-9)
        drawn = motion.crop_scale(x, (0.25, 1), np.random.default_rng(1))
        assert (np.abs(drawn) <= 1).all()
        assert (np.abs(drawn[..., :2]) == 1).sum() > 4, "joints outside lie on the edge"

    @pytest.mark.parametrize("case", ["zeros", "one point", "three points", "same place"])
    def test_a_clip_without_extent_is_zero(self, case: str) -> None:
        x = np.zeros((4, 17, 3))
        if case == "one point":
            x[0, 0] = 1
        elif case == "three points":
            x[0, :3] = clip(3, 3)
        elif case == "same place":
            x[:] = 5
        assert not motion.crop_scale(x).any()

    def test_joints_that_are_not_finite_are_missing(self) -> None:
        x = clip(4, 17, 3)
        whole = x.copy()
        whole[2, 3] = 0
        x[2, 3, 0] = np.nan
        expected = motion.crop_scale(whole)
        expected[2, 3] = 0
        close(motion.crop_scale(x), expected, atol=0)

    def test_a_range_needs_a_generator(self) -> None:
        with pytest.raises(ModelError, match="generator"):
            motion.crop_scale(clip(4, 17, 3), (0.25, 1))
        with pytest.raises(ModelError, match="confidence"):
            motion.crop_scale(clip(4, 17, 2))


def test_a_mirror_image_mirrored_is_the_image_and_confidences_move_with_joints() -> None:
    x = clip(2, 3, 17, 3)
    flipped = motion.flip(x)
    close(motion.flip(flipped), x, atol=0)
    close(flipped[..., 1, :], x[..., 4, :] * np.array([-1, 1, 1]), atol=0)
    close(flipped[..., 0, 2], x[..., 0, 2], atol=0)
    with pytest.raises(ModelError, match="17"):
        motion.flip(x[..., :13, :])


class TestClips:
    def test_windows_stay_in_their_video_and_tails_are_dropped(self) -> None:
        ids = np.repeat(["b", "a", "c"], [7, 3, 4])
        clips = motion.split_clips(ids, 3, 2)
        assert clips.tolist() == [[0, 1, 2], [2, 3, 4], [4, 5, 6], [7, 8, 9], [10, 11, 12]]

    def test_a_short_video_is_stretched_wherever_it_stands(self) -> None:
        ids = [0] * 4 + [1] * 2 + [0] * 2 + [2] * 3
        clips = motion.split_clips(ids, 4, 4)
        assert clips.tolist() == [[0, 1, 2, 3], [4, 4, 5, 5], [6, 6, 7, 7], [8, 8, 9, 10]]
        # as released: a second stretch of a video and a short one at the end are lost
        assert motion.split_clips(ids, 4, 4, parity=True).tolist() == clips[:2].tolist()

    def test_strides_beyond_the_length_leave_gaps(self) -> None:
        assert motion.split_clips([0] * 10, 2, 4).tolist() == [[0, 1], [4, 5], [8, 9]]

    def test_nothing_gives_no_clips(self) -> None:
        assert motion.split_clips([], 4, 2).shape == (0, 4)
        with pytest.raises(ModelError, match="stride=0"):
            motion.split_clips([0], 4, 0)

    @pytest.mark.parametrize("generator", [None, Seed(0), np.random.default_rng(0), torch_seed(0)])
    @pytest.mark.parametrize("replay", [False, True])
    @pytest.mark.parametrize(("length", "target"), [(5, 12), (40, 12), (12, 12), (1, 3)])
    def test_frames_come_in_order_and_exist(
        self, generator: Any, replay: bool, length: int, target: int
    ) -> None:
        chosen = motion.resample(length, target, generator, replay)
        assert chosen.shape == (target,)
        assert chosen.min() >= 0
        assert chosen.max() < length
        if not replay:
            assert (np.diff(chosen) >= 0).all()
        elif length > target:
            assert (np.diff(chosen) == 1).all()

    def test_the_last_stretch_is_taken_too_unless_parity_forbids_it(self) -> None:
        starts = {
            parity: {int(motion.resample(5, 3, Seed(s), True, parity)[0]) for s in range(40)}
            for parity in (True, False)
        }
        assert starts == {True: {0, 1}, False: {0, 1, 2}}


class TestNoise:
    def test_it_is_linear_between_key_frames(self) -> None:
        p = motion.published_noise()
        quiet = motion.NoiseParameters(p.mean, p.deviation, p.weight, key_frames=3, jitter=0)
        x = torch.zeros(2, 9, 17, 3, dtype=torch.float64)
        x[..., 2] = 1
        error = motion.add_noise(x, Seed(0), quiet)[..., :2]
        close(error[:, 2], (error[:, 0] + error[:, 4]) / 2, atol=1e-12)
        close(error[:, 7], (error[:, 6] + error[:, 8]) / 2, atol=1e-12)
        assert not torch.allclose(error[:, 4], (error[:, 3] + error[:, 5]) / 2 + 1e-9, atol=1e-10)

    def test_its_distribution_is_the_published_one(self) -> None:
        p = motion.published_noise()
        x = torch.ones(600, 27, 17, 3, dtype=torch.float64)
        error = (motion.add_noise(x, Seed(0)) - x)[..., :2].flatten(0, 1)
        mean = p.weight[:, None] * p.mean
        variance = p.weight[:, None] * (p.deviation**2 + p.mean**2) + (1 - p.weight[:, None]) * 0.06**2 / 12
        close(error.mean(dim=0), mean, atol=5e-4)
        close(error.std(dim=0), (variance - mean**2 + 0.002**2).sqrt(), rtol=0.03)

    def test_scores_depend_on_the_distance(self) -> None:
        p = motion.published_noise()
        far = motion.NoiseParameters(p.mean + 0.3, p.deviation, p.weight * 0 + 1, score_deviation=0)
        x = torch.ones(3, 5, 17, 3, dtype=torch.float64)
        noisy = motion.add_noise(x, Seed(0), far)
        distance = (noisy - x)[..., :2].norm(dim=-1)
        close(noisy[..., 2], (0.028 / (0.028 + distance) + 1.1 * distance - 0.004585696384310722).clamp(0, 1))

    def test_clips_have_their_own_jitter_and_missing_joints_stay_missing(self) -> None:
        p = motion.published_noise()
        only_jitter = motion.NoiseParameters(p.mean * 0, p.deviation * 0, p.weight * 0 + 1)
        x = torch.ones(2, 5, 17, 3)
        x[0, :, 3] = 0
        ours, official = (motion.add_noise(x, torch_seed(0), only_jitter, parity) for parity in (False, True))
        assert (ours[0, :, 3] == 0).all()
        assert not torch.equal(ours[0, :, 4], ours[1, :, 4])
        close((official - x)[0, :, :, :2], (official - x)[1, :, :, :2], atol=1e-6)
        assert (official[0, :, 3, 2] > 0.5).all()

    def test_another_skeleton_needs_its_own_parameters(self) -> None:
        with pytest.raises(ModelError, match="17 joints"):
            motion.add_noise(torch.zeros(1, 5, 13, 3), torch_seed(0))


def test_masks_hide_joints_and_frames_at_their_rates() -> None:
    x = torch.ones(50, 200, 17, 3)
    masked = motion.add_mask(x, torch_seed(0))
    assert ((masked == 0) | (masked == 1)).all()
    hidden = masked[..., 0] == 0
    frames = hidden.all(dim=-1)
    assert abs(float(frames.float().mean()) - 0.10) < 0.01
    assert abs(float(hidden[~frames].float().mean()) - 0.05) < 0.005
    assert not (frames == frames[:1]).all()
    official = motion.add_mask(x, torch_seed(0), parity=True)[..., 0].sum(dim=-1) == 0
    assert (official == official[:1]).all()


def test_a_move_is_one_similarity_a_frame_for_all_persons() -> None:
    x = clip(2, 9, 17, 3)
    moved = motion.random_move(x, np.random.default_rng(0))
    close(moved[..., 2], x[..., 2], atol=0)
    scales = []
    for t in range(9):
        a, b = x[:, t, :, :2].reshape(-1, 2), moved[:, t, :, :2].reshape(-1, 2)
        known = np.zeros((68, 4))
        known[0::2], known[1::2] = (
            np.c_[a[:, 0], -a[:, 1]] @ np.eye(2, 4),
            np.c_[a[:, 1], a[:, 0]] @ np.eye(2, 4),
        )
        known[0::2, 2] = known[1::2, 3] = 1
        solution, residual, *_ = np.linalg.lstsq(known, b.ravel(), rcond=None)
        assert residual.sum() < 1e-12
        scales.append(np.hypot(*solution[:2]))
        assert abs(np.degrees(np.arctan2(solution[1], solution[0]))) <= 10
        assert (np.abs(solution[2:]) <= 0.1 + 1e-9).all()
    close(np.diff(scales), np.full(8, np.diff(scales)[0]), atol=1e-9)
    assert motion.random_move(x[:, :1], Seed(0)).shape == (2, 1, 17, 3)


def test_two_persons_get_their_own_tracks_with_their_confidences() -> None:
    rng = np.random.default_rng(0)
    true = np.concatenate([rng.normal(size=(1, 1, 17, 3)), rng.normal(size=(1, 1, 17, 3)) + 20])
    true = true + np.cumsum(rng.normal(size=(2, 12, 17, 3)) * 0.01, axis=1)
    listed = true.copy()
    swapped = np.array([0, 0, 1, 1, 1, 0, 1, 0, 0, 1, 1, 1], bool)
    listed[:, swapped] = listed[::-1, swapped]
    close(motion.human_tracking(listed), true, atol=0)
    close(motion.human_tracking(listed[:1]), listed[:1], atol=0)
    with pytest.raises(ModelError, match="two persons"):
        motion.human_tracking(np.zeros((3, 4, 17, 2)))


def test_action_motion_keeps_confidences_with_their_joints_unless_parity_leaves_them() -> None:
    rng = np.random.default_rng(0)
    position = (
        rng.uniform(0, 1000, (2, 1, 17, 2)) + np.array([[[[0, 0]]], [[[800, 0]]]]) + np.zeros((2, 5, 17, 2))
    )
    confidence = rng.random((2, 5, 17))
    position[:, 2:4], listed = position[::-1, 2:4].copy(), confidence.copy()
    found = motion.action_motion(position, confidence, (1080, 1920), parity=False)
    official = motion.action_motion(position, confidence, (1080, 1920))
    assert found.shape == (2, 5, 17, 3)
    close(found[..., :2], official[..., :2], atol=0)
    close(found[:, :, 11, :2], found[:, :1, 11, :2].repeat(5, axis=1), atol=1e-6)
    close(official[..., 2], listed, atol=1e-6)
    confidence[:, 2:4] = confidence[::-1, 2:4].copy()
    close(found[:, :, 11, 2], confidence[:, :, 5], atol=1e-6)  # the left shoulder
    close(found[:, :, 0, 2], confidence[:, :, [11, 12]].mean(axis=-1), atol=1e-6)
    alone = motion.action_motion(position[:1], listed[:1], (1080, 1920))
    assert not alone[1].any()
    with pytest.raises(ModelError, match="coco17"):
        motion.action_motion(position[:, :, :13], listed, (1080, 1920))


def test_targets_are_relative_to_every_root_or_to_the_first_depth() -> None:
    x = torch.from_numpy(clip(2, 4, 17, 3))
    close(motion.root_target(x, True), x - x[:, :, :1], atol=0)
    kept = motion.root_target(x, False)
    close(kept[..., :2], x[..., :2], atol=0)
    close(kept[..., 2], x[..., 2] - x[:, :1, :1, 2], atol=0)


class TestCameras:
    def test_pixels_come_back_from_their_normal_form(self) -> None:
        pose = clip(3, 17, 3)
        size = np.array([[1000, 1002], [1000, 1000], [1920, 1080]])
        normal = motion.normalise_h36m(pose, size)
        close(normal[0, :, 1], pose[0, :, 1] / 500 - 1.002)
        close(normal[2, :, 0], pose[2, :, 0] / 960 - 1)
        close(normal[..., 2], pose[..., 2] / (size[:, :1] / 2))
        close(motion.denormalise_h36m(normal, size), pose)
        close(motion.normalise_h36m(pose[..., :2], (1000, 1002)), (pose[..., :2] / 500) - [1, 1.002])
        with pytest.raises(ModelError, match="width and height"):
            motion.normalise_h36m(pose, (1000,))

    def test_the_factor_makes_millimetres_of_pixels_at_the_roots_depth(self) -> None:
        camera = find_camera(builtin_cameras(), 9, 54138969)
        flat = np.array([[[0.0, 0, 0], [100, 0, 0], [0, 200, 0], [0, 0, 300]]]) + np.array([0, 0, 4000])
        image = motion.image_pose(flat, camera)
        ratio = (2000 * camera.focal[0] / 4000 + 1) / 2000
        close(motion.factor_25d(flat, camera), [1 / ratio])
        close(image[0, 0, :2], camera.principal)
        close((image[0, 1] - image[0, 0])[0], 100 * camera.focal[0] / 4000)
        close(image[0, 3, 2], 300 * ratio)
        relative = (image - image[:, :1]) * motion.factor_25d(flat, camera)[:, None, None]
        close(relative[0, [1, 3]], [[100, 0, 0], [0, 0, 300]], atol=0.3)

    def test_least_squares_is_the_best_factor(self) -> None:
        camera = find_camera(builtin_cameras(), 1, 58860488)
        points = clip(5, 17, 3) + np.array([0, 0, 4000])
        image, factor = motion.image_pose(points, camera), motion.factor_25d(points, camera, "least_squares")
        image, place = image - image[:, :1], points - points[:, :1]

        def error(by: float) -> Any:
            return (((factor * by)[:, None, None] * image - place) ** 2).sum(axis=(1, 2))

        assert (error(1.0) <= error(1.001)).all()
        assert (error(1.0) <= error(0.999)).all()
        close(factor, motion.factor_25d(points, camera), rtol=0.2)

    def test_a_root_behind_the_camera_is_named(self) -> None:
        camera = find_camera(builtin_cameras(), 1, 58860488)
        with pytest.raises(ModelError, match=r"depth -5.0 mm in frame 1.*58860488"):
            motion.factor_25d(np.array([[[0, 0, 5.0]], [[0, 0, -5.0]]]), camera)
        with pytest.raises(ModelError, match="least_squares"):
            motion.factor_25d(np.ones((1, 1, 3)), camera, "other")  # type: ignore[arg-type]

    def test_the_longer_side_becomes_2(self) -> None:
        x = np.array([[0.0, 0], [1920, 1080], [960, 540]])
        close(motion.make_cam(x, (1080, 1920)), [[-1, -1], [1, 0.125], [0, -0.4375]])
        close(motion.make_cam(x, (1080, 1920), centred=True)[2], [0, 0])
        close(motion.make_cam(x[:, ::-1].copy(), (1920, 1080))[1], [0.125, 1])

    def test_half_precision_is_widened_first(self) -> None:
        x = np.array([[1919.0, 1079.0]], np.float16)
        found = motion.make_cam(x, (1080, 1920))
        assert found.dtype == np.float32
        close(found, x.astype(np.float64) / 1920 * 2 - 1, atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        lambda x, g: motion.flip(x),
        lambda x, g: motion.crop_scale(x, (0.5, 1), g),
        lambda x, g: motion.add_noise(x, g),
        lambda x, g: motion.add_mask(x, g),
        lambda x, g: motion.random_move(x, g),
        lambda x, g: motion.human_tracking(x),
    ],
    ids=["flip", "crop_scale", "add_noise", "add_mask", "random_move", "human_tracking"],
)
def test_arrays_and_tensors_give_their_own_kind_and_are_left_as_they_were(change: Any) -> None:
    array = clip(2, 6, 17, 3)
    before = array.copy()
    array.flags.writeable = False
    one = change(array, np.random.default_rng(5))
    other = change(torch.from_numpy(before), np.random.default_rng(5))
    assert isinstance(one, np.ndarray)
    assert isinstance(other, Tensor)
    assert one.dtype == np.float64
    close(one, other, atol=0, rtol=0)
    close(array, before, atol=0)


@pytest.mark.real
def test_real_poses_lie_where_their_pictures_have_them(shared_data: Path) -> None:
    """Four frames of Human3.6M: its 2D joints are of a lens with distortion, 1 to 3 pixels away."""
    frames = np.load(shared_data / "h36m" / "test_h36m_body3d.npz", allow_pickle=False)
    cameras = builtin_cameras()
    for name, points, pixels in zip(
        frames["imgname"], 1000 * frames["S"][..., :3], frames["part"], strict=True
    ):
        subject, camera = name.split("/")[0], name.split(".")[1][:8]
        image = motion.image_pose(points[None], find_camera(cameras, int(subject[1:]), int(camera)))[0]
        assert np.abs(image[:, :2] - pixels[:, :2]).max() < 3
        factor = motion.factor_25d(points[None], find_camera(cameras, int(subject[1:]), int(camera)))[0]
        error = np.linalg.norm((image - image[0]) * factor - (points - points[0]), axis=-1).mean()
        assert 3 < factor < 6
        assert error < 60, "a weak perspective is near the true pose, not it"


@pytest.fixture(scope="module")
def figures(golden: Path) -> Figures:
    return Figures(golden, "augmentation")


@pytest.mark.real
class TestOfficialDraws:
    def test_flip(self, figures: Figures) -> None:
        close(motion.flip(figures["flip/x"]), figures["flip/y"], atol=0)

    def test_noise_and_its_parameters(self, figures: Figures) -> None:
        p = motion.published_noise()
        close(p.mean, figures["params/noise/mean"], atol=1e-12)
        close(p.deviation, figures["params/noise/std"], atol=1e-12)
        close(p.weight, figures["params/noise/weight"], atol=1e-12)
        assert (p.score_a, p.score_b) == (figures.number("params/d2c/a"), figures.number("params/d2c/b"))
        assert (p.score_mean, p.score_deviation) == (
            figures.number("params/d2c/m"),
            figures.number("params/d2c/s"),
        )
        noisy = motion.add_noise(figures["noise/x"], torch_seed(0), parity=True)
        close(noisy, figures["noise/y"], atol=1e-6, rtol=0)

    def test_masks(self, figures: Figures) -> None:
        close(motion.add_mask(figures["mask/x"], torch_seed(0), parity=True), figures["mask/y"], atol=0)

    @pytest.mark.parametrize("case", ["crop_1_1", "crop_025_1"])
    def test_crops(self, figures: Figures, case: str) -> None:
        low, high = (float(end) for end in figures[f"{case}/range"])
        close(motion.crop_scale(figures[f"{case}/x"], (low, high), Seed(0)), figures[f"{case}/y"], 1e-12)

    def test_resampling(self, figures: Figures) -> None:
        cases = figures.below("resample_npseed0/")
        assert len(cases) == 6
        for case, expected in cases.items():
            length, target, replay, drawn = case.split("_")
            generator = Seed(0) if drawn == "randomTrue" else None
            found = motion.resample(int(length), int(target), generator, replay == "replayTrue", parity=True)
            assert found.tolist() == expected.tolist()

    def test_clips(self, figures: Figures) -> None:
        found = motion.split_clips(figures["split_clips/a/ids"].numpy(), 9, 9, Seed(0), parity=True)
        assert found.tolist() == figures["split_clips/a/clips"].tolist()

    def test_moves_and_pictures(self, figures: Figures) -> None:
        close(motion.random_move(figures["random_move/x"], Seed(0)), figures["random_move/y"], 1e-12)
        height, width = (int(side) for side in figures["make_cam/hw"])
        close(motion.make_cam(figures["make_cam/x"], (height, width)), figures["make_cam/y"], 1e-12)

    def test_a_detected_video(self, figures: Figures) -> None:
        keypoints = figures["wild/keypoints"].numpy()
        position, confidence = to_h36m17("halpe26", keypoints[..., :2], keypoints[..., 2])
        assert confidence is not None
        joined = np.concatenate([position, confidence[..., None]], axis=-1)
        close(motion.crop_scale(joined), figures["wild/scaled"], atol=1e-6)
