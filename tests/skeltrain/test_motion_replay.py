"""The official training loop and evaluation once more from our parts: same losses, weights and errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from skeltrain.data import motion
from skeltrain.losses import motion as losses
from skeltrain.metrics import pose
from skeltrain.metrics.h36m_protocol import evaluate_clips
from skeltrain.models.dstformer import DSTformer
from tests.skeltrain.motion_goldens import TINY, Figures, close

LEARNING_RATE, DECAY = 5e-4, 0.01


@pytest.mark.real
@pytest.mark.parametrize("case", ["pretrain3d", "pretrain2d_posetrack"])
def test_steps_of_pretraining(golden: Path, case: str) -> None:
    figures = Figures(golden, "train_steps")
    model = DSTformer(**TINY)
    model.load_state_dict(figures.below(f"{case}/init_state/"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=DECAY)
    generator = torch.Generator().manual_seed(int(figures.number(f"{case}/torch_seed_before")))
    steps = figures[f"{case}/data"]
    assert len(steps) >= 3
    for step, (given, target) in enumerate(steps):
        target = motion.root_target(target, relative=True)
        x = motion.add_noise(given, generator, parity=True)
        pred = model(motion.add_mask(x, generator, parity=True))
        if case == "pretrain3d":
            terms = {
                "3d_pos": losses.mpjpe(pred, target),
                "3d_scale": losses.n_mpjpe(pred, target),
                "3d_velocity": losses.velocity(pred, target),
                "lv": losses.limb_variance(pred),
                "lg": losses.limb_length(pred, target),
                "angle": losses.angle(pred, target),
                "angle_velocity": losses.angle_velocity(pred, target),
            }
            loss = terms["3d_pos"] + 0.5 * terms["3d_scale"] + 20 * terms["3d_velocity"]
        else:
            loss = losses.weighted_2d(pred, target, given[..., 2:])
            terms = {"2d_proj": loss}
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for name, value in {**terms, "total": loss}.items():
            close(value, figures[f"{case}/per_step/{step}/{name}"], atol=1e-5, rtol=1e-6)
    expected = figures.below(f"{case}/final_state/")
    assert set(expected) == set(model.state_dict())
    for name, value in model.state_dict().items():
        if name.endswith("qkv.bias"):
            # The keys' bias has no effect, so its gradient is rounding, of which Adam makes steps of full
            # size: in float64 it goes elsewhere too. tests/skeltrain/test_dstformer.py shows that it changes
            # nothing.
            width = len(value) // 3
            value, expected[name] = (
                torch.cat([bias[:width], bias[2 * width :]]) for bias in (value, expected[name])
            )
        close(value, expected[name], atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def figures(golden: Path) -> Figures:
    return Figures(golden, "evaluation")


@pytest.mark.real
class TestEvaluation:
    def sizes(self, figures: Figures) -> np.ndarray:
        tall = np.isin(figures.arrays["dataset/test/camera_name"], ["54138969", "60457274"])
        return np.where(tall[:, None], [1000, 1002], [1000, 1000])

    def test_clips_are_cut_and_normalised_alike(self, figures: Figures) -> None:
        test = {
            key.split("/")[-1]: value
            for key, value in figures.arrays.items()
            if key.startswith("dataset/test")
        }
        clips = motion.split_clips(test["source"], 9, 9, np.random.RandomState(0), parity=True)
        assert clips.tolist() == figures["rootrel_True/split_id_test"].tolist()
        sizes = self.sizes(figures)
        xy = motion.normalise_h36m(test["joint_2d"], sizes)
        found = np.concatenate([xy, test["confidence"][..., None]], axis=-1)[clips]
        close(found, figures["rootrel_True/test_input"], atol=1e-6)
        label = motion.normalise_h36m(test["joint3d_image"], sizes)[clips]
        close(label, figures["rootrel_True/test_label"], atol=1e-6)
        train = motion.split_clips(figures.arrays["dataset/train/source"], 9, 3)
        assert train.tolist() == figures["rootrel_True/split_id_train"].tolist()

    def test_errors_of_both_protocols(self, figures: Figures) -> None:
        clips = figures["rootrel_True/split_id_test"].numpy()
        state = figures.below("rootrel_True/model_state_dict/")
        model = DSTformer(**{**TINY, "maxlen": state["temp_embed"].shape[1]})
        model.load_state_dict(state)

        def predict(x: torch.Tensor) -> torch.Tensor:
            return 0.05 * model(x) + 0.5 * x * torch.tensor([1.0, 1.0, 0.0])

        x = figures["rootrel_True/test_input"]
        with torch.no_grad():
            pred = (predict(x) + motion.flip(predict(motion.flip(x)))) / 2
        pred = pred - pred[:, :, :1] * torch.tensor([[1.0]] + [[0.0]] * 16)
        # every frame of a clip has the size of its first
        sizes = np.repeat(self.sizes(figures)[clips[:, :1]], clips.shape[1], axis=1)
        factor = figures["dataset/test/2.5d_factor"].numpy()[clips][..., None, None]
        found = pose.root_relative(motion.denormalise_h36m(pred.numpy(), sizes) * factor)
        true = pose.root_relative(figures["dataset/test/joints_2.5d_image"].numpy()[clips])
        for metric, name in ((pose.mpjpe, "e1_mpjpe"), (pose.p_mpjpe, "e2_pmpjpe")):
            error = metric(found.reshape(-1, 17, 3), true.reshape(-1, 17, 3)).reshape(clips.shape)
            result = evaluate_clips(
                error, clips, figures.arrays["dataset/test/action"], figures.arrays["dataset/test/source"]
            )
            close(result.mean, figures[f"rootrel_True/{name}"], atol=0, rtol=1e-7)
            assert set(result.action) == {"Directions", "Discussion", "Eating"}
