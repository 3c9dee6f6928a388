"""Towers and decoders: shapes, missing joints, the samplers, and 64 samples learned by heart."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from skelconv.view.figures import PinholeCamera, draw_figures
from skelformats.errors import SkelconvError, UnknownNameError
from skelformats.skeleton import load_skeleton
from skeltrain.losses.alignment import alignment_loss, sample_negatives
from skeltrain.losses.temperature import Temperature
from skeltrain.metrics.retrieval import recall, retrieve
from skeltrain.models.decoders import Decoder, DiffusionDecoder, MLPDecoder, TransformerDecoder
from skeltrain.models.errors import ModelError
from skeltrain.models.image_encoder import ImageEncoder
from skeltrain.models.pose_encoder import PoseEncoder, screen_coordinates
from skeltrain.models.subvp import perturbation, sample


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


class TestPoseEncoder:
    def small(self, dims: int = 3) -> PoseEncoder:
        torch.manual_seed(0)
        return PoseEncoder(17, dims, 32, 2, 4).eval()

    def test_the_papers_size_has_as_many_parameters_as_the_specification_measured(self) -> None:
        blocks = parameters(PoseEncoder(17, 3).blocks)
        assert blocks == pytest.approx(8.41e6, abs=5e3)

    def test_a_missing_joint_is_neither_zero_nor_part_of_the_box(self) -> None:
        encoder = self.small()
        pose = torch.randn(2, 17, 3)
        gone = pose.clone()
        gone[:, 3] = torch.nan
        half_gone = pose.clone()
        half_gone[:, 3, 1] = torch.nan
        found = encoder(gone)
        assert found.isfinite().all()
        assert torch.equal(found, encoder(half_gone))
        assert not torch.allclose(found, encoder(pose))
        assert not torch.allclose(found, encoder(gone.nan_to_num(0.0)))
        far = pose.clone()
        far[:, 3] = 1000.0  # a joint far away changes the box; missing, it cannot
        far[:, 3] = torch.nan
        assert torch.equal(found, encoder(far))

    def test_the_missing_token_learns(self) -> None:
        encoder = self.small().train()
        pose = torch.randn(2, 17, 3)
        pose[:, :4] = torch.nan
        (encoder(pose) * torch.arange(32)).sum().backward()
        assert encoder.missing.grad is not None
        assert encoder.missing.grad.abs().sum() > 0
        assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())

    def test_size_and_place_are_told_apart_from_proportions(self) -> None:
        encoder = self.small()
        pose = torch.randn(1, 17, 3)
        placed, box = encoder._normalise(pose, torch.ones(1, 17, dtype=torch.bool))
        moved, other = encoder._normalise(2 * pose + 5, torch.ones(1, 17, dtype=torch.bool))
        torch.testing.assert_close(placed, moved)
        assert not torch.allclose(box, other)
        assert placed.abs().amax().item() == pytest.approx(1.0)
        assert not torch.allclose(encoder(pose), encoder(2 * pose + 5), atol=1e-3)

    def test_all_joints_in_one_place_are_embedded(self) -> None:
        assert self.small()(torch.zeros(3, 17, 3)).isfinite().all()

    def test_screen_coordinates_keep_the_aspect(self) -> None:
        corners = torch.tensor([[0.0, 0], [1000, 500], [500, 250]])
        expected = torch.tensor([[-1.0, -0.5], [1, 0.5], [0, 0]])
        torch.testing.assert_close(screen_coordinates(corners, (1000, 500)), expected)

    def test_what_it_was_not_built_for_is_refused(self) -> None:
        with pytest.raises(ModelError, match=r"expected \(poses, 17, 3\)"):
            self.small()(torch.zeros(2, 16, 3))
        empty = torch.zeros(3, 17, 3)
        empty[1] = torch.nan
        with pytest.raises(ModelError, match="pose 1 of the batch with every joint missing"):
            self.small()(empty)
        with pytest.raises(ModelError, match="2 or 3"):
            PoseEncoder(17, 4)
        with pytest.raises(ModelError, match="heads"):
            PoseEncoder(17, 3, 32, 2, 5)


class TestImageEncoder:
    def test_the_features_are_those_of_the_last_stage_itself(self) -> None:
        encoder = ImageEncoder("hrnet_w18_small", 24)
        assert encoder.project.in_features == 16 + 32 + 64 + 128
        assert encoder.eval()(torch.rand(2, 3, 64, 32)).shape == (2, 24)

    def test_bytes_are_the_same_picture_as_numbers_from_0_to_1(self) -> None:
        encoder = ImageEncoder("hrnet_w18_small", 8).eval()
        picture = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
        torch.testing.assert_close(encoder(picture), encoder(picture / 255))

    @pytest.mark.slow
    @pytest.mark.parametrize(("name", "channels"), [("hrnet_w32", 480), ("hrnet_w48", 720)])
    def test_the_papers_backbones(self, name: str, channels: int) -> None:
        encoder = ImageEncoder(name, 512)
        assert encoder.project.in_features == channels
        assert encoder.eval()(torch.rand(1, 3, 256, 192)).shape == (1, 512)

    def test_a_finer_grid_and_what_is_refused(self) -> None:
        assert ImageEncoder("hrnet_w18_small", 8, pool_grid=(4, 3)).project.in_features == 240 * 12
        with pytest.raises(UnknownNameError, match="hrnet_w18_small"):
            ImageEncoder("hrnet_w18_smal", 8)
        encoder = ImageEncoder("hrnet_w18_small", 8)
        for shape in ((1, 3, 64, 48), (1, 1, 64, 64), (3, 64, 64)):
            with pytest.raises(ModelError, match="multiples of 32"):
                encoder(torch.zeros(shape))


def small_decoders() -> list[Decoder]:
    torch.manual_seed(0)
    diffusion = DiffusionDecoder(5, 3, 16, 128, dropout=0.0, scale=3.0)
    diffusion.steps = 50
    return [
        MLPDecoder(5, 3, 16, 64, dropout=0.0),
        TransformerDecoder(5, 3, 16, 1, 2, dropout=0.0),
        diffusion,
    ]


DECODERS = ["mlp", "transformer", "diffusion"]


class TestDecoders:
    @pytest.mark.parametrize("which", range(3), ids=DECODERS)
    def test_one_interface(self, which: int) -> None:
        decoder = small_decoders()[which].eval()
        embedding = torch.randn(3, 16)
        with torch.no_grad():
            pose = decoder.decode(embedding, "image")
            assert pose.shape == (3, 5, 3)
            assert torch.equal(pose, decoder.decode(embedding, "image"))
            # rounding grows over the steps of the diffusion
            torch.testing.assert_close(pose, decoder.decode(8 * embedding, "image"), rtol=1e-3, atol=1e-3)
            assert not torch.allclose(pose, decoder.decode(embedding, "pose3d"))
            mixed = decoder.decode(embedding, ["image", "pose3d", "pose2d"])
            numbered = decoder.decode(embedding, torch.tensor([0, 2, 1]))
        assert torch.equal(mixed, numbered)
        assert decoder.loss(embedding, "image", torch.zeros(3, 5, 3)).ndim == 0

    @pytest.mark.parametrize(("which", "steps"), [(0, 150), (1, 200), (2, 400)], ids=DECODERS)
    def test_it_learns_eight_poses_from_any_source(self, which: int, steps: int) -> None:
        decoder = small_decoders()[which]
        generator = torch.Generator().manual_seed(1)
        embedding = torch.randn(8, 16, generator=generator)
        pose = torch.randn(8, 5, 3, generator=generator) * 0.3
        optimiser = torch.optim.Adam(decoder.parameters(), 5e-3)
        torch.manual_seed(2)
        for _ in range(steps):
            # each of them eight times: from several sources, at several times of the diffusion
            source = torch.randint(3, (64,))
            loss = decoder.loss(embedding.repeat(8, 1), source, pose.repeat(8, 1, 1))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        decoder.eval()
        with torch.no_grad():
            found = decoder.decode(embedding, "pose2d")
        error = (found - pose).norm(dim=-1).mean().item()
        spread = (pose - pose.mean(0)).norm(dim=-1).mean().item()
        assert error < 0.2 * spread
        if isinstance(decoder, DiffusionDecoder):
            drawn = decoder.hypotheses(embedding, "pose2d", 8)
            mean = (drawn.mean(0) - pose).norm(dim=-1).mean()
            assert mean < (drawn - pose).norm(dim=-1).mean()  # the mean of several is a better single one

    @pytest.mark.parametrize("which", range(3), ids=DECODERS)
    def test_what_does_not_fit_is_refused(self, which: int) -> None:
        decoder = small_decoders()[which]
        with pytest.raises(ModelError, match=r"expected \(samples, 16\)"):
            decoder.decode(torch.ones(2, 8), "image")
        with pytest.raises(UnknownNameError, match="pose2d"):
            decoder.decode(torch.ones(2, 16), "pose")
        with pytest.raises(ModelError, match="one each"):
            decoder.decode(torch.ones(2, 16), ["image"])
        with pytest.raises(ModelError, match="zero or no finite length"):
            decoder.decode(torch.zeros(2, 16), "image")
        with pytest.raises(ModelError, match="poses of shape"):
            decoder.loss(torch.ones(2, 16), "image", torch.zeros(2, 5, 2))

    def test_a_batch_of_one_is_refused_where_the_batch_is_normalised(self) -> None:
        with pytest.raises(ModelError, match="batch of one"):
            small_decoders()[0].loss(torch.ones(1, 16), "image", torch.zeros(1, 5, 3))

    def test_hypotheses_differ_and_repeat_by_their_generator(self) -> None:
        decoder = small_decoders()[2].eval()
        assert isinstance(decoder, DiffusionDecoder)
        embedding = torch.randn(2, 16)
        drawn = decoder.hypotheses(embedding, "image", 4, generator=torch.Generator().manual_seed(3))
        again = decoder.hypotheses(embedding, "image", 4, generator=torch.Generator().manual_seed(3))
        assert drawn.shape == (4, 2, 5, 3)
        assert torch.equal(drawn, again)
        assert drawn.std(0).mean() > 0.01
        with pytest.raises(ModelError, match="0 hypotheses"):
            decoder.hypotheses(embedding, "image", 0)
        with pytest.raises(UnknownNameError, match="euler_maruyama"):
            decoder.hypotheses(embedding, "image", 1, "euler")

    def test_guidance_moves_samples_away_from_the_null_condition(self) -> None:
        decoder = small_decoders()[2].eval()
        embedding = torch.randn(2, 16)
        plain = decoder.decode(embedding, "image")
        decoder.guidance = 1.0  # type: ignore[assignment]
        assert not torch.allclose(plain, decoder.decode(embedding, "image"))


class TestSubVP:
    def test_the_perturbation_is_the_sub_vp_one(self) -> None:
        """Values of the specification; the VP diffusion's deviation would be the square root."""
        mean, deviation = perturbation(torch.tensor([1.0, 0.5, 0.1, 0.001], dtype=torch.float64))
        assert mean[0].item() == pytest.approx(0.00657, abs=1e-5)
        assert mean[1].item() == pytest.approx(0.281, abs=1e-3)
        assert deviation[2].item() == pytest.approx(0.104, abs=1e-3)
        assert deviation[3].item() == pytest.approx(1.1e-4, abs=1e-5)

    @staticmethod
    def draw(sampler: str, steps: int, deviation: float = 4.5) -> Tensor:
        """Samples by the exact score of a normal distribution of mean 4.5."""

        def score(x: Tensor, t: Tensor) -> Tensor:
            factor, spread = (v[:, None] for v in perturbation(t))
            return -(x - factor * 4.5) / ((factor * deviation) ** 2 + spread**2)

        generator = torch.Generator().manual_seed(0)
        start = torch.randn(4000, 1, generator=generator, dtype=torch.float64)
        return sample(score, start, sampler, steps, generator)

    @pytest.mark.parametrize(
        ("sampler", "steps"), [("euler_maruyama", 1000), ("probability_flow", 1000), ("heun", 50)]
    )
    def test_samplers_of_the_distribution_have_its_deviation(self, sampler: str, steps: int) -> None:
        drawn = self.draw(sampler, steps)
        assert drawn.std().item() == pytest.approx(4.5, rel=0.05)
        assert drawn.mean().item() == pytest.approx(4.5, abs=0.3)

    def test_the_trap_contracts_to_near_the_mean(self) -> None:
        """What passes for the probability flow in GFPose and ZeDO: deviation 0.13 in place of 4.5."""
        drawn = self.draw("mean", 1000)
        assert drawn.std().item() == pytest.approx(0.13, abs=0.02)
        assert drawn.mean().item() == pytest.approx(4.5, abs=0.2)

    def test_more_steps_come_closer_to_the_mean(self) -> None:
        errors = [abs(self.draw("mean", steps, 0.5).mean().item() - 4.5) for steps in (50, 200, 1000)]
        assert errors[0] > errors[1] > errors[2]
        assert errors[1] < 0.03

    def test_one_step_is_too_few(self) -> None:
        with pytest.raises(SkelconvError, match="at least 2"):
            self.draw("mean", 1)


def procedural_poses(count: int, spread: float = 0.25) -> tuple[Tensor, Tensor, list[np.ndarray]]:
    """(N, 17, 3) metres relative to the pelvis before a camera, (N, 17, 2) pixels, and pictures 64 x 32."""
    rng = np.random.default_rng(0)
    layout = load_skeleton("h36m17")
    rest = {
        "pelvis": (0, 0), "right_hip": (-0.12, 0), "right_knee": (-0.14, 0.42), "right_ankle": (-0.14, 0.85),
        "left_hip": (0.12, 0), "left_knee": (0.14, 0.42), "left_ankle": (0.14, 0.85), "spine": (0, -0.25),
        "thorax": (0, -0.5), "nose": (0, -0.6), "head_top": (0, -0.72), "left_shoulder": (0.17, -0.47),
        "left_elbow": (0.3, -0.25), "left_wrist": (0.36, 0), "right_shoulder": (-0.17, -0.47),
        "right_elbow": (-0.3, -0.25), "right_wrist": (-0.36, 0),
    }  # fmt: skip
    camera = PinholeCamera((30.0, 30.0), (16.0, 32.0), (32, 64))
    body = np.array([(*rest[name], 0.0) for name in layout.names])
    poses, pixels, pictures = [], [], []
    for _ in range(count):
        angle = rng.uniform(-np.pi, np.pi)
        turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
        placed = (body + rng.normal(0, spread, body.shape)) @ turn.T
        placed += (0, -0.05, 1.6) - placed[0]
        poses.append(placed - placed[0])
        pixels.append(camera.project(placed))
        pictures.append(draw_figures([placed], layout, camera).image)
    return torch.tensor(np.array(poses)).float(), torch.tensor(np.array(pixels)).float(), pictures


def learn_by_heart(towers: nn.ModuleList, inputs: tuple[Tensor, ...], steps: int) -> dict[str, float]:
    """Train three towers on one batch; recall at 1 in all six directions."""
    tau = Temperature(1 / 5, 1 / 10)
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam([*towers.parameters(), *tau.parameters()], 1e-3)
    count = len(inputs[0])
    for step in range(steps):
        embeddings = [tower(x) for tower, x in zip(towers, inputs, strict=True)]
        negatives = sample_negatives(count, count - 1, generator)
        loss = alignment_loss(*embeddings, negatives, tau(), tau())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        tau.clamp()
        if step == 0:
            assert loss.item() == pytest.approx(4 * math.log(count), rel=0.2)  # chance
    with torch.no_grad():
        embeddings = [tower(x) for tower, x in zip(towers, inputs, strict=True)]
    truth = torch.arange(count)
    names = ("image", "pose2d", "pose3d")
    return {
        f"{names[m]} to {names[n]}": recall(retrieve(embeddings[m], embeddings[n], 1).indices, truth)
        for m, n in itertools.permutations(range(3), 2)
    }


def test_64_samples_are_learned_by_heart_in_all_six_directions() -> None:
    """Poses of five joints, their projections, and vectors in the place of pictures."""
    torch.manual_seed(0)
    pose3d = 0.4 * torch.randn(64, 5, 3)
    placed = pose3d + torch.tensor([0.0, 0.0, 3.0])
    pose2d = placed[..., :2] / placed[..., 2:]
    vector = torch.tanh(pose3d.flatten(1) @ torch.randn(15, 40))
    towers = nn.ModuleList(
        [
            nn.Sequential(nn.Linear(40, 64), nn.GELU(), nn.Linear(64, 64)),
            PoseEncoder(5, 2, 64, 1, 4, dropout=0.0),
            PoseEncoder(5, 3, 64, 1, 4, dropout=0.0),
        ]
    )
    found = learn_by_heart(towers, (vector, pose2d, pose3d), 120)
    assert found == dict.fromkeys(found, 1.0)
    assert len(found) == 6


@pytest.mark.slow
def test_64_pictures_are_learned_by_heart_in_all_six_directions() -> None:
    """Shaded figures of 64 x 32 pixels, their projections and poses, with HRNet as the image tower."""
    torch.manual_seed(0)
    pose3d, pixel, pictures = procedural_poses(64)
    image = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    towers = nn.ModuleList(
        [
            ImageEncoder("hrnet_w18_small", 64),
            PoseEncoder(17, 2, 64, 1, 4, dropout=0.0),
            PoseEncoder(17, 3, 64, 1, 4, dropout=0.0),
        ]
    )
    found = learn_by_heart(towers, (image, screen_coordinates(pixel, (32, 64)), pose3d), 250)
    assert found == dict.fromkeys(found, 1.0)
