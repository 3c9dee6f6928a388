"""Alignment beyond the paper's three modalities and one process: motion as a fourth, several processes."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from skelformats.errors import SkelconvError
from skeltrain.checkpoint import load_checkpoint
from skeltrain.data.loader import DataError
from skeltrain.data.pair_batches import PairCollator
from skeltrain.data.pose_pairs import open_pairs
from skeltrain.data.sampler import MicroBatch
from skeltrain.distributed import World
from skeltrain.losses.alignment import gram_infonce, pair_infonce, sample_negatives
from skeltrain.models.motion_encoder import MotionEncoder
from skeltrain.models.unihpr import AlignModel
from skeltrain.recipe import Optim
from skeltrain.recipe_file import to_yaml
from skeltrain.run import evaluate_run
from skeltrain.run_folder import RunFolder
from skeltrain.sections import Init, StoreData
from skeltrain.tasks.align_recipe import Contrast, MotionTower, PairEvaluation
from skeltrain.tasks.align_task import AlignTask
from tests.skeltrain.pair_stores import SIZE, write_figures
from tests.skeltrain.test_align import CPU, SMALL, fit, recipe

MOTION = MotionTower(length=5, dim_feat=16, dim_rep=16, depth=1, heads=2)


@pytest.fixture(scope="module")
def poses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_figures(tmp_path_factory.mktemp("poses"), 4, 16, pictures=False)


class TestMotion:
    def test_a_window_holds_the_frames_about_its_own_and_ends_with_the_sequence(self, poses: Path) -> None:
        pairs = open_pairs(StoreData(store=str(poses)), CPU, every=4, picture=SIZE)
        whole = open_pairs(StoreData(store=str(poses)), CPU, picture=SIZE)
        window = pairs.motion(np.array([0, 1, 4]), 5)
        pose2d, _ = whole.poses(np.arange(64))
        # frames 0 and 4 of the first take, frame 0 of the second
        assert torch.equal(window[0], pose2d[[0, 0, 0, 1, 2]])
        assert torch.equal(window[1], pose2d[[2, 3, 4, 5, 6]])
        assert torch.equal(window[2], pose2d[[16, 16, 16, 17, 18]])

    def test_it_is_mirrored_with_its_frame(self, poses: Path) -> None:
        pairs = open_pairs(StoreData(store=str(poses)), CPU, picture=SIZE)
        micro = MicroBatch(np.arange(4), slice(None))
        plain, turned = (PairCollator(pairs, None, flip, length=5)(micro) for flip in (0.0, 1.0))
        assert plain.motion is not None
        assert turned.motion is not None
        assert torch.equal(turned.motion[:, 2], turned.pose2d)
        assert torch.equal(turned.motion[..., 0], -plain.motion[:, :, list(pairs.samples.skeleton.mirror), 0])

    def test_the_tower_does_not_see_place_and_size_but_motion(self) -> None:
        torch.manual_seed(0)
        tower = MotionEncoder(4, 8, length=5, dim_feat=16, dim_rep=16, depth=1, heads=2).eval()
        window = torch.randn(2, 5, 4, 2)
        window[0, 1, 2] = torch.nan
        with torch.no_grad():
            one, moved, still = (
                tower(window),
                tower(3 * window + 7),
                tower(window[:, 2:3].expand(-1, 5, -1, -1)),
            )
        assert one.isfinite().all()
        torch.testing.assert_close(one, moved, atol=1e-5, rtol=1e-4)
        assert (one[1] - still[1]).abs().max() > 1e-3
        with pytest.raises(SkelconvError, match="found windows of shape"):
            tower(window[:, :4])
        with pytest.raises(SkelconvError, match="every joint missing"):
            tower(torch.full((1, 5, 4, 2), torch.nan))

    def test_four_modalities_take_the_loss_over_four(self) -> None:
        """Every pair, and the eigenvalue of the Gram matrix of four."""
        torch.manual_seed(0)
        small = MOTION.model_dump()
        model = AlignModel(17, 16, 1, 2, dropout=0.0, image="hrnet_w18_small", motion=small).eval()
        task = AlignTask(model, "poses", Contrast(tau=0.2, alpha=0.5)).eval()
        batch = _batch(6)
        found = model(batch.image, batch.pose2d, batch.pose3d, batch.motion)
        assert list(found) == ["image", "pose2d", "pose3d", "motion"]
        tensors = list(found.values())
        pairs = sum(pair_infonce(x, y, 0.2) for n, x in enumerate(tensors) for y in tensors[n + 1 :])
        negatives = sample_negatives(6, 5, batch.micro.generator(4), modalities=4)  # type: ignore[arg-type]
        expected = pairs + 0.5 * gram_infonce(tensors, negatives, 0.2)
        terms = task(batch)
        assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-6)
        terms["loss"].backward()
        assert all(p.grad is not None for p in model.motion.parameters())  # type: ignore[union-attr]

    def test_it_trains_through_the_stages_and_is_found(self, poses: Path, tmp_path: Path) -> None:
        towers = SMALL.model_copy(update={"image": None, "motion": MOTION})
        fit(recipe(poses, model=towers), tmp_path / "poses")
        made = recipe(
            poses,
            "all",
            model=towers,
            init=Init(weights=str(tmp_path / "poses")),
            evaluation=PairEvaluation(paths=2, points=3),
        )
        outcome = fit(made, tmp_path / "all")
        assert {"triplet", "eigenvalue", "unmatched", "cosine pose3d-motion"} <= set(outcome.metrics)
        one, two = (
            load_checkpoint(tmp_path / name / "checkpoints" / "last.pt")["model"] for name in ("poses", "all")
        )
        assert any(key.startswith("model.motion.") and not torch.equal(one[key], two[key]) for key in one)
        found = evaluate_run(tmp_path / "all")
        assert "motion-pose3d/paper/mpjpe" in found["retrieval"].metrics
        assert {"pose2d of pixel/mpjpe", "pose3d/mpjpe"} <= set(found["poses"].metrics)
        assert found["paths"].metrics["straight bone deviation"] > 0


def _batch(count: int):  # type: ignore[no-untyped-def]
    from skeltrain.data.pair_batches import AlignBatch

    generator = torch.Generator().manual_seed(1)
    index = np.arange(count)
    numbers = torch.arange(count)
    return AlignBatch(
        torch.randint(0, 255, (count, 3, 32, 32), dtype=torch.uint8, generator=generator),
        torch.randn(count, 17, 2, generator=generator),
        torch.randn(count, 17, 3, generator=generator),
        torch.randn(count, 5, 17, 2, generator=generator),
        numbers,
        numbers,
        numbers,
        MicroBatch(index, slice(None)),
    )


class TestJoints:
    def test_true_and_detected_joints_are_told_apart(self, poses: Path, tmp_path: Path) -> None:
        pairs = open_pairs(StoreData(store=str(poses)), CPU, picture=SIZE)
        assert pairs.pixels == "pixel"
        with pytest.raises(SkelconvError, match="no array along frame named 'detection'"):
            open_pairs(StoreData(store=str(poses)), CPU, picture=SIZE, pixels="detection")
        crops = write_figures(tmp_path, 1, 2)
        with pytest.raises(DataError, match="found crops cut by pixel, expected detection"):
            open_pairs(StoreData(store=str(crops)), CPU, pixels="detection")


class TestProcesses:
    def test_gradients_of_the_parts_add_up_to_those_of_the_whole(self) -> None:
        """Each process has its frames' gradient alone; what the engine makes of them is that of one
        process.
        """
        torch.manual_seed(0)
        batch = replace(_batch(7), image=None)
        models = AlignModel(17, 16, 1, 2, dropout=0.0, motion=MOTION.model_dump())
        contrast = Contrast(tau=0.2, near_frames=1)
        alone = AlignTask(models, "poses", contrast)
        value = alone(batch)["loss"]
        value.backward()
        expected = {name: p.grad.clone() for name, p in alone.named_parameters() if p.grad is not None}
        total = {name: torch.zeros_like(grad) for name, grad in expected.items()}
        edges = (0, 4, 7)
        parts = [slice(*edges[n : n + 2]) for n in (0, 1)]
        for rank, part in enumerate(parts):
            task = AlignTask(models, "poses", contrast, _Together(rank, parts, batch, models))
            task.load_state_dict(alone.state_dict())
            task.zero_grad()
            weight = (part.stop - part.start) * 2 / 7
            terms = task(_part(batch, part, weight))
            assert terms["loss"].item() == pytest.approx(value.item(), rel=1e-6)
            (terms["loss"] * weight).backward()
            for name, p in task.named_parameters():
                if p.grad is not None:
                    total[name] += p.grad / 2
        for name, grad in expected.items():
            torch.testing.assert_close(total[name], grad, rtol=1e-4, atol=1e-6)

    @pytest.mark.slow
    def test_two_processes_train_as_one_does(self, poses: Path, tmp_path: Path) -> None:
        """Steps of 15 frames are dealt out unevenly; motion is a third modality, so all terms take part."""
        towers = SMALL.model_copy(update={"image": None, "motion": MOTION, "dropout": 0.0})
        optim = Optim(blr=2e-3, lr_scale_rule="none", batch=15, epochs=2, warmup=0, weight_decay=0.0)
        made = recipe(poses, model=towers, optim=optim, loss=Contrast(near_frames=1))
        path = tmp_path / "recipe.yaml"
        path.write_text(to_yaml(made, "two"))
        fit(made, tmp_path / "one")
        words = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            "--no-python",
        ]
        words += [
            str(Path(sys.executable).with_name("skeltrain")),
            "train",
            str(path),
            "--out",
            str(tmp_path / "two"),
        ]
        done = subprocess.run(
            words,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
        assert _curve(tmp_path / "two") == pytest.approx(_curve(tmp_path / "one"), rel=1e-4)
        states = [load_checkpoint(RunFolder(tmp_path / name).last)["model"] for name in ("one", "two")]
        for name, value in states[0].items():
            if name.endswith("qkv.bias"):
                # that of the keys changes nothing: its gradient is rounding, which Adam makes as large as any
                continue
            torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-4)


class _Together(World):
    """A process whose fellows' rows are computed here."""

    def __init__(self, rank: int, parts, batch, model: AlignModel) -> None:  # type: ignore[no-untyped-def]
        super().__init__(CPU, rank, len(parts))
        with torch.no_grad():
            found = model(None, batch.pose2d, batch.pose3d, batch.motion)
        everything = [*found.values(), batch.sequence, batch.frame]
        object.__setattr__(self, "rows", iter([[x[part] for part in parts] for x in everything]))

    def gather_rows(self, rows: torch.Tensor) -> list[torch.Tensor]:
        found: list[torch.Tensor] = next(self.rows)  # type: ignore[attr-defined]
        torch.testing.assert_close(found[self.rank], rows)
        return list(found)


def _part(batch, part: slice, weight: float):  # type: ignore[no-untyped-def]
    names = ("pose2d", "pose3d", "motion", "sequence", "frame", "index")
    own = {name: getattr(batch, name)[part] for name in names}
    micro = replace(batch.micro, part=part, weight=weight)
    return replace(batch, image=None, micro=micro, **own)


def _curve(out: Path) -> list[float]:
    with RunFolder(out).metrics.open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]
