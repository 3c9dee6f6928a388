"""Pruning of similar frames: which are kept, what recovers the others, and what stays as it was."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from skelformats.errors import SkelconvError
from skeltrain.checkpoint import find_checkpoint, load_checkpoint
from skeltrain.data.loader import DataError
from skeltrain.distributed import World
from skeltrain.losses.motion import mpjpe
from skeltrain.models.dstformer import DSTformer
from skeltrain.models.errors import ModelError
from skeltrain.models.frame_pruning import Recovery, keep_frames, representative_frames
from skeltrain.models.registry import build, find_family, load_backbone
from skeltrain.models.weights import load_motionbert
from skeltrain.onnx_export import export_onnx
from skeltrain.recipe_file import RecipeError, read_recipe
from skeltrain.run import evaluate_run, run_recipe, use
from skeltrain.run_folder import RunError, RunFolder
from skeltrain.sections import Init
from skeltrain.tasks.motion_common import Network, Prune
from skeltrain.tasks.motion_pretrain import MotionData, MotionPretrainRecipe, build_motion_pretraining
from skeltrain.tasks.pose3d import Pose3dRecipe, PoseData, build_pose3d
from skeltrain.tasks.registry import Context
from tests.skeltrain import motion_stores
from tests.skeltrain.motion_goldens import close
from tests.skeltrain.test_engine import curve, same
from tests.skeltrain.test_motion_tasks import CPU, OPTIM, QUIET, SHORT, Cut, gradients

SIZES: dict[str, Any] = {
    "dim_feat": 12, "dim_rep": 10, "depth": 2, "num_heads": 3, "mlp_ratio": 2, "maxlen": 11
}  # fmt: skip
KEPT = {"after": 1, "frames": 4}
TASK_SIZES = {"dim_feat": 16, "dim_rep": 16, "depth": 2, "num_heads": 2, "maxlen": 9}


def motion(frames: int, clips: int = 2, seed: int = 1) -> Tensor:
    """Poses (B, T, 17, 3) that change slowly."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(clips, 1, 17, 3, generator=generator)
    return start + torch.randn(clips, frames, 17, 3, generator=generator).mul(0.3).cumsum(dim=1)


def network(seed: int = 0, **settings: Any) -> DSTformer:
    """A network in which every tensor matters."""
    torch.manual_seed(seed)
    model = DSTformer(**{**SIZES, **settings})
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.3 * torch.randn(value.shape, generator=generator))
    return model.eval()


# Which frames are kept


def peaks(feature: NDArray[np.float64], count: int, neighbours: int) -> list[int]:
    """Density peaks of one clip, frame by frame, as their definition reads."""
    frames, width = feature.shape
    distance = [[float(np.sqrt(np.sum((a - b) ** 2) / width)) for b in feature] for a in feature]
    density = [float(np.exp(-np.mean([d**2 for d in sorted(row)[:neighbours]]))) for row in distance]
    scores = []
    for i in range(frames):
        denser = [j for j in range(frames) if (density[j], -j) > (density[i], -i)]
        near = min((distance[i][j] for j in denser), default=max(max(row) for row in distance))
        scores.append(density[i] * near)
    return sorted(sorted(range(frames), key=lambda i: (-scores[i], i))[:count])


@pytest.mark.parametrize(("frames", "count", "neighbours"), [(40, 13, 2), (40, 39, 5), (7, 1, 2), (5, 5, 5)])
def test_representative_frames_are_the_density_peaks_of_a_plain_loop(
    frames: int, count: int, neighbours: int
) -> None:
    generator = np.random.default_rng(frames)
    feature = generator.normal(size=(3, frames, 6)).cumsum(axis=1) * 0.3
    found = representative_frames(torch.from_numpy(feature), count, neighbours)
    assert found.tolist() == [peaks(clip, count, neighbours) for clip in feature]


def test_one_frame_stands_for_each_of_three_poses() -> None:
    """Frames that hold still count little: what is kept is spread over the poses, not over time."""
    pose = torch.zeros(1, 20, 4)
    pose[:, 15:18], pose[:, 18:] = 1.0, 3.0
    (kept,) = representative_frames(pose, 3, 2).tolist()
    assert [0 <= kept[0] < 15, 15 <= kept[1] < 18, kept[2] >= 18] == [True] * 3
    assert representative_frames(pose, 3, 2).tolist() == [kept], "nothing is drawn"
    assert representative_frames(torch.zeros(1, 6, 4), 3, 2).tolist() == [[0, 1, 2]], "ties go to the earlier"


def test_what_is_kept_does_not_depend_on_the_clips_beside_it() -> None:
    feature = motion(30, clips=4).flatten(2)
    together = representative_frames(feature, 7, 2)
    assert torch.equal(together, torch.cat([representative_frames(clip[None], 7, 2) for clip in feature]))


# Recovery


def trained_recovery(seed: int = 3) -> Recovery:
    recovery = Recovery(12, 3, 11, 0.02)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in recovery.parameters():
            value.add_(0.3 * torch.randn(value.shape, generator=generator))
    return recovery.double()


def test_recovery_is_attention_from_a_token_of_every_frame_to_those_kept() -> None:
    recovery, kept = trained_recovery(), torch.tensor([[0, 3, 8], [1, 2, 9]])
    x = torch.randn(2, 3, 5, 12, generator=torch.Generator().manual_seed(4)).double()
    found = recovery(x, kept, 10)
    query = recovery.q(recovery.token).view(11, 3, 4)
    key, value = (part(x).view(2, 3, 5, 3, 4) for part in (recovery.k, recovery.v))
    for b, t, j in np.ndindex(2, 10, 5):
        if t in kept[b].tolist():
            assert torch.equal(found[b, t, j], x[b, kept[b].tolist().index(t), j])
            continue
        heads = []
        for h in range(3):
            score = key[b, :, j, h] @ query[t, h] / 2 - recovery.nearness[h].exp() * (kept[b] - t).abs()
            heads.append(score.softmax(dim=0) @ value[b, :, j, h])
        expected = recovery.token[t] + recovery.proj(torch.cat(heads))
        close(found[b, t, j], expected, atol=1e-12, rtol=1e-10)


def test_the_order_in_which_frames_were_kept_does_not_matter() -> None:
    recovery, order = trained_recovery(), torch.tensor([2, 0, 3, 1])
    x, kept = torch.randn(2, 4, 17, 12).double(), torch.tensor([[0, 3, 5, 8], [1, 2, 9, 10]])
    close(recovery(x[:, order], kept[:, order], 11), recovery(x, kept, 11), atol=1e-12)


def test_a_recovery_from_all_frames_gives_them_back() -> None:
    x = torch.randn(2, 11, 17, 12).double()
    assert torch.equal(trained_recovery()(x, torch.arange(11).expand(2, 11), 11), x)
    kept = torch.tensor([[0, 4, 9]]).expand(2, 3)
    assert torch.equal(keep_frames(trained_recovery()(keep_frames(x, kept), kept, 11), kept), x[:, [0, 4, 9]])


def test_a_fresh_recovery_interpolates_in_time() -> None:
    fresh, kept = Recovery(12, 3, 11, 0.02), torch.tensor([[0, 10]])
    x = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1).expand(1, 2, 17, 12)
    value = fresh(x, kept, 11)[0, :, 0, 0].tolist()
    assert all(a < b for a, b in pairwise(value)), "from one kept frame to the next"
    assert value[5] == pytest.approx(0.5)
    assert value[1] < 0.01, "near a kept frame it is nearly that one"


# The network


def test_clips_of_every_length_keep_their_shape_and_short_ones_are_not_pruned() -> None:
    plain, pruned = network(), network(prune=KEPT)
    plain.load_state_dict({k: v for k, v in pruned.state_dict().items() if not k.startswith("recover.")})
    for frames in range(1, SIZES["maxlen"] + 1):
        x = motion(frames)
        found, feature = pruned(x), pruned.get_representation(x)
        assert found.shape == x.shape
        assert feature.shape == (2, frames, 17, 10)
        assert found.isfinite().all()
        assert torch.equal(found, plain(x)) == (frames <= KEPT["frames"])


def test_off_it_is_the_network_it_was() -> None:
    """Same keys, same first weights, same numbers; on, every weight but the recovery's is the same, too."""
    torch.manual_seed(5)
    before = DSTformer(**SIZES)
    torch.manual_seed(5)
    off = DSTformer(**SIZES, prune=None)
    torch.manual_seed(5)
    on = DSTformer(**SIZES, prune=KEPT)
    assert same(before.state_dict(), off.state_dict())
    assert not any(name.startswith("recover") for name in off.state_dict())
    assert same({k: v for k, v in on.state_dict().items() if not k.startswith("recover.")}, off.state_dict())
    assert torch.equal(before(motion(11)), off(motion(11)))
    with torch.device("meta"):
        assert len(DSTformer(dim_feat=512, mlp_ratio=2).state_dict()) == 260


def test_frames_kept_see_no_other_after_the_pruning() -> None:
    """A network that is given the kept frames alone from there on has their features."""
    model = network(prune=KEPT)
    x = motion(11)
    seen: dict[str, Tensor] = {}
    model.blocks_st[1].register_forward_pre_hook(lambda _, given: seen.__setitem__("in", given[0]))
    model.norm.register_forward_hook(lambda _, __, out: seen.__setitem__("out", out))
    model.pre_logits.register_forward_pre_hook(lambda _, given: seen.__setitem__("all", given[0]))
    model(x)
    assert seen["in"].shape == (2, 4, 17, 12)
    whole = network(prune=None)
    whole.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("recover.")})
    full: dict[str, Tensor] = {}
    whole.blocks_st[1].register_forward_pre_hook(lambda _, given: full.__setitem__("in", given[0]))
    whole(x)
    kept = representative_frames(full["in"].mean(dim=2), 4, 2)
    assert torch.equal(seen["in"], keep_frames(full["in"], kept))
    assert torch.equal(seen["all"], model.recover(seen["out"], kept, 11))


def test_it_gives_the_same_twice_and_gradients_to_every_parameter() -> None:
    model = network(prune=KEPT).train()
    found = []
    for _ in range(2):
        model.zero_grad()
        model(motion(11)).square().mean().backward()
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(found[0]) == len(list(model.parameters()))
    assert same(*found)
    assert all(grad.isfinite().all() for grad in found[0])
    assert all(p.grad.abs().max() > 0 for n, p in model.recover.named_parameters() if p.grad is not None)


def test_gradients_through_pruning_are_those_of_finite_differences() -> None:
    sizes = {"dim_feat": 4, "dim_rep": 3, "num_heads": 2, "mlp_ratio": 1, "num_joints": 2, "maxlen": 4}
    model = network(**sizes, prune={"frames": 2}).double()
    x = motion(4, clips=1)[:, :, :2].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: model(x).pow(2).sum(), (x,))


def test_a_clip_too_short_to_prune_gives_the_recovery_gradients_of_zero() -> None:
    """Several processes wait for a gradient of every parameter."""
    model = network(prune=KEPT).train()
    model(motion(3)).square().mean().backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.recover.parameters())


def test_bfloat16_autocast_stays_near() -> None:
    model = network(prune=KEPT).train()
    x = motion(11)
    with torch.autocast("cpu", torch.bfloat16):
        low = model(x)
    assert low.dtype == torch.bfloat16
    near = (low.float() - model(x)).abs().flatten(1).median()
    assert near < 0.05, "a frame may be kept in one and not in the other, most are the same"
    low.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_steps_reduce_the_loss() -> None:
    torch.manual_seed(0)
    model = DSTformer(**SIZES, prune=KEPT)
    x = motion(11, clips=4)
    target = x.cumsum(dim=-1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        loss = mpjpe(model(x), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"after": 2}, r"prune\.after=2 for depth=2, expected 1 to 1"),
        ({"after": 0}, r"prune\.after=0"),
        ({"frames": 11}, r"prune\.frames=11 for maxlen=11, expected 1 to 10"),
        ({"frames": 0}, r"prune\.frames=0"),
        ({"frames": 2.5}, "whole number"),
        ({"frames": 3, "neighbours": 5}, r"prune\.neighbours=5 for frames=3, expected 2 to 4"),
        ({"frames": 3, "neighbours": 1}, r"prune\.neighbours=1"),
        ({"frame": 3}, r"found prune\.frame, expected only after, frames, neighbours"),
    ],
)
def test_settings_that_cannot_be_are_named(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        DSTformer(**SIZES, prune=wrong)


def test_a_single_pair_of_blocks_cannot_be_pruned() -> None:
    with pytest.raises(ModelError, match=r"depth=1, expected depth of at least 2"):
        DSTformer(**{**SIZES, "depth": 1}, prune=KEPT)


# Weights, recipes and runs


def test_official_weights_load_and_only_the_recovery_is_fresh(tmp_path: Path) -> None:
    official, model = network(seed=2), network(seed=3, prune=KEPT)
    named = {f"module.{key}": value for key, value in official.state_dict().items()}
    torch.save({"model_pos": named}, tmp_path / "best_epoch.bin")
    fresh = {k: v.clone() for k, v in model.recover.state_dict().items()}
    report = load_motionbert(model, tmp_path / "best_epoch.bin")
    assert set(report.missing) == {f"recover.{name}" for name in fresh}
    assert not report.unused
    assert "the recovery of pruned frames (recover) is fresh" in report.summary()
    assert same(model.recover.state_dict(), fresh)
    assert torch.equal(model(motion(4)), official(motion(4)))
    assert "recover" not in load_motionbert(network(), tmp_path / "best_epoch.bin").summary()


@pytest.mark.parametrize(
    ("family", "name", "more"), [("action_net", "backbone", {"num_classes": 4}), ("mesh", "network", {})]
)
def test_other_heads_stand_on_a_pruned_network(family: str, name: str, more: dict[str, Any]) -> None:
    sizes = Network(**TASK_SIZES, prune=Prune(frames=3)).model_dump()
    model = build(family, {name: sizes, "hidden_dim": 8, **more})
    backbone = find_family(family).backbone(model)
    assert isinstance(backbone, DSTformer)
    feature = backbone.get_representation(motion(9))
    assert feature.shape == (2, 9, 17, 16)
    feature.square().mean().backward()
    token = backbone.recover.token.grad
    assert token is not None
    assert token.any()


@pytest.mark.slow
def test_it_is_one_graph_for_the_compiler() -> None:
    model, x = network(prune=KEPT), motion(11)
    close(torch.compile(model, backend="eager", fullgraph=True)(x), model(x), atol=1e-6)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return motion_stores.write_3d(tmp_path_factory.mktemp("pruning") / "people.zarr")


@pytest.fixture(scope="module")
def posing(store: Path) -> Pose3dRecipe:
    data = PoseData(store=str(store), protocol="half", length=9, stride=9)
    model = Network(**TASK_SIZES, prune=Prune(frames=3))
    optim = OPTIM.model_copy(update={"epochs": 2})
    return Pose3dRecipe(data=data, model=model, optim=optim, device="cpu", log=QUIET)


@pytest.fixture(scope="module")
def run(posing: Pose3dRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pruned") / "run"
    run_recipe(posing, out=out)
    return out


def test_a_run_resumes_bit_for_bit_and_its_checkpoint_has_the_pruned_network(
    posing: Pose3dRecipe, run: Path, tmp_path: Path
) -> None:
    def cut(*given: Any) -> Any:
        job = build_pose3d(*given)
        return replace(job, loader=Cut(job.loader, 2))

    assert run_recipe(posing, cut, tmp_path / "cut").interrupted, "in its second epoch"
    run_recipe(posing, out=tmp_path / "cut", resume=True)
    whole, again = (load_checkpoint(RunFolder(out).last) for out in (run, tmp_path / "cut"))
    assert same(whole["model"], again["model"])
    assert curve(run) == curve(tmp_path / "cut")
    model = load_backbone(whole)
    assert isinstance(model, DSTformer)
    assert model.prune is not None
    assert model.prune.frames == 3
    assert same({f"model.{k}": v for k, v in model.state_dict().items()}, whole["model"])
    assert np.isfinite(evaluate_run(run)["test"].metrics["mpjpe"])
    with (
        use(run, (), print) as (_, _, trained),
        pytest.raises(RunError, match="prunes frames"),
    ):
        export_onnx(trained, tmp_path / "pose3d.onnx")


def test_weights_go_from_a_run_without_pruning_to_one_with_it_and_back(
    posing: Pose3dRecipe, run: Path, tmp_path: Path
) -> None:
    once = OPTIM.model_copy(update={"epochs": 1})
    plain = posing.model_copy(update={"model": Network(**TASK_SIZES), "optim": once})
    run_recipe(plain, out=tmp_path / "plain")
    for source, recipe, words in (
        (tmp_path / "plain", posing, "is fresh"),
        (run, plain, "its recovery of pruned frames is not used"),
    ):
        told: list[str] = []
        begun = recipe.model_copy(update={"init": Init(weights=str(source))})
        model = build_pose3d(begun, Context(World(CPU), log=told.append)).module.get_submodule("model")
        assert words in "\n".join(told)
        loaded = model.state_dict()
        before = load_backbone(load_checkpoint(find_checkpoint(source))).state_dict()
        shared = [key for key in before if not key.startswith("recover.")]
        assert shared == [key for key in loaded if not key.startswith("recover.")]
        assert all(torch.equal(before[key], loaded[key]) for key in shared)


def test_pretraining_prunes_too_and_two_processes_take_the_step_of_one(store: Path) -> None:
    data = MotionData(store=str(store), depth=SHORT)
    model = Network(**TASK_SIZES, prune=Prune(frames=3))
    recipe = MotionPretrainRecipe(data=data, model=model, optim=OPTIM, device="cpu", log=QUIET)
    jobs = [build_motion_pretraining(recipe, Context(World(CPU, rank, 2))) for rank in range(2)]
    alone = build_motion_pretraining(recipe, Context(World(CPU)))
    ours, theirs = next(alone.loader.epoch(0)), [next(job.loader.epoch(0)) for job in jobs]
    together = gradients(alone.module, ours)
    parts = [gradients(alone.module, part) for part in theirs]
    for a, *b in zip(together, *parts, strict=True):
        torch.testing.assert_close(a, sum(b) / 2, atol=1e-5, rtol=1e-3)


def test_recipes_say_what_cannot_be(posing: Pose3dRecipe) -> None:
    written = "task: pose3d\nmodel: {prune: {after: 1, frames: 9}}\n"
    assert read_recipe(written, "a.yaml", Pose3dRecipe).model.prune == Prune(frames=9)
    with pytest.raises(RecipeError, match=r"prune\.frames"):
        read_recipe("task: pose3d\nmodel: {prune: {frames: 0}}\n", "a.yaml", Pose3dRecipe)
    useless = posing.model_copy(update={"model": Network(**TASK_SIZES, prune=Prune(frames=8))})
    short = useless.model_copy(update={"data": posing.data.model_copy(update={"length": 8})})
    with pytest.raises(
        DataError, match=r"clips of 8 frames for model\.prune\.frames=8, expected longer ones"
    ):
        build_pose3d(short, Context(World(CPU)))
    late = posing.model_copy(update={"model": Network(**TASK_SIZES, prune=Prune(after=2, frames=3))})
    with pytest.raises(SkelconvError, match=r"prune\.after=2 for depth=2"):
        build_pose3d(late, Context(World(CPU)))
