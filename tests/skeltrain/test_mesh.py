"""Task mesh: what is read of a store, batches, exact runs, errors in millimetres, predictions, bad input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from skelconv.store.store import open_store
from skelformats.errors import SkelconvError
from skelformats.smpl import load_body_model
from skeltrain.checkpoint import load_checkpoint
from skeltrain.data.loader import DataError
from skeltrain.data.mesh_batches import MeshAugment, MeshCollator
from skeltrain.data.mesh_sets import MeshRules, MeshSet, open_mesh
from skeltrain.data.motion_sets import Clips
from skeltrain.data.sampler import MicroBatch
from skeltrain.distributed import World
from skeltrain.engine import Job
from skeltrain.metrics.mesh import mesh_errors
from skeltrain.models.errors import ModelError
from skeltrain.models.mesh import BodyJoints, MeshEstimator, MeshRefiner, RefinerHead
from skeltrain.models.registry import load_backbone
from skeltrain.models.smpl import Body, flip_pose, flip_rotations, mean_rotation, rodrigues, skin
from skeltrain.recipe import Log, Optim
from skeltrain.run import evaluate_run, predict_run, run_recipe
from skeltrain.run_folder import RunError, RunFolder
from skeltrain.tasks.mesh import build_mesh_recovery, curriculum
from skeltrain.tasks.mesh_evaluation import infer_bodies
from skeltrain.tasks.mesh_recipe import (
    BodyFiles,
    MeshData,
    MeshEntry,
    MeshNetwork,
    MeshRecipe,
    Refine,
    load_body,
)
from skeltrain.tasks.registry import Context, PredictOptions
from tests.skeltrain import mesh_stores, motion_stores
from tests.skeltrain.test_engine import curve, same
from tests.skeltrain.test_motion_tasks import Cut

CPU = torch.device("cpu")
WORLD = World(CPU)
RULES = MeshRules(Clips(length=8, stride=8), None, "train", "truth")
SMALL = MeshNetwork(
    dim_feat=16, dim_rep=16, depth=1, num_heads=2, mlp_ratio=2, maxlen=8, hidden_dim=24, dropout_ratio=0.1
)
OPTIM = Optim(
    blr=5e-3, lr_scale_rule="none", batch=4, epochs=2, warmup=0, schedule="exponential", schedule_by="epoch",
    betas=(0.9, 0.999), weight_decay=0.01,
)  # fmt: skip


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mesh")
    mesh_stores.write(folder, "pw3d", 5)
    mesh_stores.write(folder, "motionbert_mesh", 4)
    return folder


@pytest.fixture(scope="module")
def joints(raw: Path) -> BodyJoints:
    return load_body(mesh_stores.body_files(raw))[1]


@pytest.fixture
def recipe(raw: Path) -> MeshRecipe:
    data = MeshData(store=str(raw / "pw3d.zarr"), length=8, stride=8)
    body = mesh_stores.body_files(raw)
    return MeshRecipe(
        data=data, body=body, model=SMALL, optim=OPTIM, backbone_rate=1.0, device="cpu",
        log=Log(every=1, tensorboard=False),
    )  # fmt: skip


def changed(recipe: MeshRecipe, **sections: dict[str, object]) -> MeshRecipe:
    return recipe.model_copy(
        update={name: getattr(recipe, name).model_copy(update=value) for name, value in sections.items()}
    )


def all_of(data: MeshSet) -> MicroBatch:
    return MicroBatch(np.arange(len(data)), slice(None))


# What is read of a store


def test_true_and_detected_2d_poses_of_3dpw_are_of_the_bodies_as_the_camera_sees_them(
    raw: Path, joints: BodyJoints
) -> None:
    """The body in the network's axes, moved to its place and projected, lies on the input; so do
    detections.
    """
    store = open_store(raw / "pw3d.zarr")
    truth = open_mesh(store, RULES, joints, CPU)
    found = open_mesh(store, replace(RULES, input="detection"), joints, CPU)
    place = joints(rodrigues(truth.pose), truth.shape) / 1000
    place = place - place[:, :1]
    # 1150 pixels of focal length, 3 to 6 m away
    half = truth.given[..., :2] - truth.given[:, :1, :2]
    scale = (half * place[..., :2]).sum(dim=(1, 2)) / (place[..., :2] ** 2).sum(dim=(1, 2))
    assert ((scale > 1150 / 960 / 7) & (scale < 1150 / 960 / 3)).all()
    assert (half - scale[:, None, None] * place[..., :2]).norm(dim=-1).mean() < 0.02, "but for perspective"
    seen = found.given[..., 2] > 0
    limbs = [2, 3, 5, 6, 12, 13, 15, 16]
    off = (found.given - truth.given)[..., :2].norm(dim=-1)
    assert off[:, limbs][seen[:, limbs]].median() < 10 / 960, "some pixels, and the gender of the body"
    assert torch.equal(found.pose, truth.pose)


def test_amass_is_seen_along_its_y_axis(tmp_path: Path) -> None:
    mesh_stores.write(tmp_path, "amass", 2)
    _, joints = load_body(mesh_stores.body_files(tmp_path, "amass"))
    store = open_store(tmp_path / "amass.zarr")
    data = open_mesh(store, RULES, joints, CPU)
    place = joints(rodrigues(data.pose), data.shape) * 0.298 / 1000
    flat = data.given[..., :2] - data.given[:, :1, :2]
    np.testing.assert_allclose(flat, (place - place[:, :1])[..., :2], atol=1e-5)
    upright = place[:, 10, 1] < place[:, 3, 1]
    assert upright.float().mean() > 0.9, "y points down"
    with pytest.raises(DataError, match=r"no array 'keypoints'.*data\.input=truth"):
        open_mesh(store, replace(RULES, input="detection"), joints, CPU)


def test_mesh_files_of_motionbert_are_parts_of_their_pictures(raw: Path, joints: BodyJoints) -> None:
    store = open_store(raw / "motionbert_mesh.zarr")
    data = open_mesh(store, replace(RULES, input="detection", estimates=True), joints, CPU)
    pixels = store.array("position")[data.clips[0]]
    np.testing.assert_allclose(data.given[data.clips[0]][..., :2], pixels / 960 - 1, atol=1e-5)
    assert data.estimate is not None
    off = rodrigues(data.estimate[0]) - rodrigues(data.pose)
    assert 0.01 < off.abs().mean() < 0.3, "another method's poses are near, not equal"
    with pytest.raises(DataError, match=r"expected data\.input=detection"):
        open_mesh(store, RULES, joints, CPU)
    with pytest.raises(DataError, match="no array 'estimate_pose'"):
        open_mesh(open_store(raw / "pw3d.zarr"), replace(RULES, estimates=True), joints, CPU)


def test_frames_that_are_not_valid_are_left_out(tmp_path: Path) -> None:
    store = open_store(mesh_stores.write(tmp_path, "pw3d", 2, (40, 40), faults=3.0))
    _, joints = load_body(mesh_stores.body_files(tmp_path))
    data = open_mesh(store, replace(RULES, input="detection"), joints, CPU)
    valid = int((store.array("confidence")[:, 0] > 0).sum())
    assert len(data.frame) == valid < store.frames
    assert data.given.isfinite().all()


# Batches


def test_a_mirrored_body_is_that_of_the_mirrored_picture(raw: Path, joints: BodyJoints) -> None:
    data = open_mesh(open_store(raw / "pw3d.zarr"), RULES, joints, CPU)
    plain, mirrored = (MeshCollator(data, MeshAugment(flip=p))(all_of(data)) for p in (0.0, 1.0))
    swap = [0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 10, 14, 15, 16, 11, 12, 13]
    assert torch.equal(mirrored.input[..., 0], -plain.input[:, :, swap, 0])
    one, other = (joints(rodrigues(b.pose), b.shape) for b in (plain, mirrored))
    np.testing.assert_allclose(other, one[:, :, swap] * torch.tensor([-1, 1, 1]), atol=8)
    np.testing.assert_allclose(
        flip_rotations(rodrigues(plain.pose)), rodrigues(flip_pose(plain.pose)), atol=1e-6
    )


def test_scaled_to_the_person_a_clip_fills_its_square(raw: Path, joints: BodyJoints) -> None:
    data = open_mesh(open_store(raw / "pw3d.zarr"), RULES, joints, CPU)
    batch = MeshCollator(data, MeshAugment(scale="person"))(all_of(data))
    extent = batch.input[..., :2].amax(dim=(1, 2)) - batch.input[..., :2].amin(dim=(1, 2))
    np.testing.assert_allclose(extent.amax(dim=1), 2, atol=1e-5)


def test_what_a_clip_gets_does_not_depend_on_how_a_step_is_divided(raw: Path, joints: BodyJoints) -> None:
    data = open_mesh(open_store(raw / "pw3d.zarr"), RULES, joints, CPU)
    collate = MeshCollator(data, MeshAugment(flip=0.5, scale="person", crop=(1.0, 2.0)))
    whole = collate(MicroBatch(np.arange(5), slice(None), seed=1))
    parts = [collate(MicroBatch(np.arange(5), slice(a, b), seed=1)) for a, b in ((0, 2), (2, 5))]
    assert torch.equal(whole.input, torch.cat([part.input for part in parts]))
    assert torch.equal(whole.pose, torch.cat([part.pose for part in parts]))


# Bodies and errors


def test_joints_of_few_vertices_are_those_of_all(raw: Path, joints: BodyJoints) -> None:
    files = mesh_stores.body_files(raw)
    model, _ = load_body(files)
    generator = torch.Generator().manual_seed(0)
    turns = rodrigues(torch.randn(5, 24, 3, generator=generator))
    betas = torch.randn(5, 10, generator=generator)
    vertices, _ = skin(Body(model), betas, turns)
    regressor = torch.from_numpy(np.load(str(files.regressor))).float()
    assert len(joints.body.template) < len(model.template)
    np.testing.assert_allclose(joints(turns, betas), 1000 * (regressor @ vertices), atol=0.01)


def test_errors_are_those_of_14_joints_and_all_vertices() -> None:
    generator = torch.Generator().manual_seed(0)
    vertices, joints = torch.randn(4, 30, 3, generator=generator), torch.randn(4, 17, 3, generator=generator)
    same_body = mesh_errors(vertices + 5, joints + 5, vertices, joints)
    assert same_body.mpve.max() < 1e-5
    moved = joints.clone()
    moved[:, 1] += torch.tensor([14.0, 0, 0])
    moved[:, [7, 9]] += 100
    errors = mesh_errors(vertices, moved, vertices, joints)
    np.testing.assert_allclose(errors.mpjpe, 1.0, atol=1e-5)
    assert errors.mpve.max() < 1e-5
    nothing = mesh_errors(vertices * 0, joints * 0, vertices, joints)
    assert nothing.p_mpjpe.isfinite().all()


def test_the_mean_of_rotations_is_one() -> None:
    turns = rodrigues(torch.tensor([[0.0, 0.0, 0.4], [0.0, 0.0, 0.8]]))
    np.testing.assert_allclose(mean_rotation(turns), rodrigues(torch.tensor([0.0, 0.0, 0.6])), atol=1e-6)
    weighed = mean_rotation(turns, torch.tensor([1.0, 0.0]))
    np.testing.assert_allclose(weighed, turns[0], atol=1e-6)


class Truth(nn.Module):
    """A network that knows the bodies of the clips that it is given."""

    def __init__(self, data: MeshSet) -> None:
        super().__init__()
        self.known = {data.given[clip].numpy().tobytes(): clip for clip in data.clips}
        self.data = data

    def forward(self, clips: torch.Tensor, estimate: object = None) -> tuple[torch.Tensor, torch.Tensor]:
        rows = np.stack([self.known[clip.numpy().tobytes()] for clip in clips])
        return rodrigues(self.data.pose[rows]), self.data.shape[rows]


def test_an_evaluation_of_the_truth_is_without_error_and_says_what_a_constant_gives(
    recipe: MeshRecipe,
) -> None:
    without_flip = changed(recipe, test={"flip": False})
    job = build_mesh_recovery(without_flip, Context(WORLD))
    evaluation = job.evaluators[0].run
    job.module.model = Truth(evaluation._data)  # type: ignore[attr-defined,assignment]
    found = evaluation(job.module)
    assert found.metrics["mpve"] < 0.01
    assert found.metrics["p_mpjpe"] < 0.01
    assert found.metrics["constant_mpjpe"] > 30
    assert len(found.predictions["mpve"]) == len(found.predictions["frame"]) == len(evaluation._data.frame)  # type: ignore[attr-defined]
    assert np.isfinite(found.predictions["mpve"]).sum() == len(np.unique(evaluation._data.clips))  # type: ignore[attr-defined]


def test_the_flip_test_turns_what_it_finds_back() -> None:
    class Lean(nn.Module):
        """Leans to where the person stands in the picture."""

        def forward(self, clips: torch.Tensor, estimate: object = None) -> tuple[torch.Tensor, torch.Tensor]:
            lean = clips[..., 0].mean(dim=-1)
            pose = torch.zeros(*clips.shape[:2], 24, 3)
            pose[..., 0, 2] = lean
            return rodrigues(pose), torch.zeros(*clips.shape[:2], 10)

    clips = torch.rand(2, 4, 17, 3, generator=torch.Generator().manual_seed(0))
    one, other = infer_bodies(Lean(), clips, None, flip_test=True)
    np.testing.assert_allclose(one[0], other[0], atol=1e-6)


# Learning


def test_one_batch_is_learnt_to_millimetres(recipe: MeshRecipe) -> None:
    """Without the losses that hold bodies back: velocities, which a fresh backbone's jitter dominates, and
    the norm.
    """
    job = build_mesh_recovery(
        changed(
            recipe,
            data={"scale": "person"},
            model={"hidden_dim": 128, "dropout_ratio": 0.0},
            loss={"velocity": 0.0, "norm": 0.0},
        ),
        Context(WORLD),
    )
    batch = next(iter(job.loader.epoch(0)))
    true = job.module.get_submodule("joints")(rodrigues(batch.pose), batch.shape)
    local = (true - true[:, :, :1]).flatten(0, 1)
    constant = (local - local.mean(dim=0)).norm(dim=-1).mean()
    steps = 80
    for step in range(steps):
        for group in job.optimizer.param_groups:
            group["lr"] = OPTIM.blr * (1 - step / steps)
        job.optimizer.zero_grad()
        job.module(batch)["loss"].backward()
        job.optimizer.step()
    with torch.no_grad():
        for _ in range(40):  # running statistics come to those of the batch
            job.module(batch)
        learnt = job.module.eval()(batch)["joints"]
    assert constant > 60
    assert learnt < 20, "mm"


# Runs


def test_killed_and_resumed_it_is_the_same_bit_for_bit(recipe: MeshRecipe, tmp_path: Path) -> None:
    run_recipe(recipe, out=tmp_path / "whole")
    for at in (0, 1):

        def cut(*given: object, at: int = at) -> Job:
            job = build_mesh_recovery(*given)  # type: ignore[arg-type]
            return replace(job, loader=Cut(job.loader, at))

        assert run_recipe(recipe, cut, tmp_path / "cut", resume=True).interrupted
    assert not run_recipe(recipe, out=tmp_path / "cut", resume=True).interrupted
    whole, again = (load_checkpoint(RunFolder(tmp_path / name).last) for name in ("whole", "cut"))
    assert same(whole["model"], again["model"])
    assert same(whole["optimizer"], again["optimizer"])
    assert curve(tmp_path / "whole") == curve(tmp_path / "cut")
    assert not any("body" in key or "regressor" in key for key in whole["model"]), "the body model stays out"
    assert any(key.startswith("blocks_st") for key in load_backbone(whole).state_dict())


def test_the_backbone_learns_at_a_rate_of_its_own_or_not_at_all(recipe: MeshRecipe) -> None:
    tenth = build_mesh_recovery(recipe.model_copy(update={"backbone_rate": 0.1}), Context(WORLD))
    scales = {group.get("lr_scale", 1.0) for group in tenth.optimizer.param_groups}
    assert scales == {1.0, 0.1}
    frozen = build_mesh_recovery(recipe.model_copy(update={"backbone_rate": 0.0}), Context(WORLD))
    assert not any(p.requires_grad for p in frozen.module.get_submodule("model.backbone").parameters())
    assert {group.get("lr_scale", 1.0) for group in frozen.optimizer.param_groups} == {1.0}


def test_stores_are_gone_through_until_their_epoch(raw: Path, recipe: MeshRecipe) -> None:
    stores = (
        MeshEntry(store=str(raw / "motionbert_mesh.zarr"), until=1, flip=0.0),
        MeshEntry(store=str(raw / "pw3d.zarr")),
    )
    job = build_mesh_recovery(changed(recipe, data={"store": None, "stores": stores}), Context(WORLD))
    steps = [job.loader.steps(epoch) for epoch in (0, 1)]
    alone = build_mesh_recovery(recipe, Context(WORLD)).loader.steps(0)
    assert steps[1] == alone < steps[0]
    with pytest.raises(DataError, match="no store to train on from epoch 1 on"):
        curriculum([job.loader], [1], 2)


@pytest.mark.parametrize("layout", ["columns", "rows"])
def test_a_refiner_that_adds_nothing_leaves_estimates_alone_but_for_the_released_slip(layout: str) -> None:
    head = RefinerHead(dim_rep=4, hidden_dim=6, layout=layout).eval()  # type: ignore[arg-type]
    nn.init.zeros_(head.head_pose.weight)
    nn.init.zeros_(head.head_pose.bias)  # type: ignore[arg-type]
    turns = rodrigues(torch.randn(2, 5, 24, 3, generator=torch.Generator().manual_seed(0)))
    found = head(torch.zeros(2, 5, 17, 4), turns)
    angle = torch.acos(((found.mT @ turns).diagonal(dim1=-2, dim2=-1).sum(-1) / 2 - 0.5).clamp(-1, 1))
    if layout == "columns":
        assert angle.max() < 0.01
    else:
        assert torch.rad2deg(angle).median() > 18


def test_refiners_take_estimates_of_a_run_or_of_another_method(
    raw: Path, recipe: MeshRecipe, tmp_path: Path
) -> None:
    short = changed(recipe, optim={"epochs": 1})
    run_recipe(short, out=tmp_path / "first")
    second = short.model_copy(update={"refine": Refine(run=str(tmp_path / "first"))})
    run_recipe(second, out=tmp_path / "second")
    checkpoint = load_checkpoint(RunFolder(tmp_path / "second").last)
    first = load_checkpoint(RunFolder(tmp_path / "first").last)["model"]
    held = {
        key.replace("model.first.", "model."): v for key, v in checkpoint["model"].items() if ".first." in key
    }
    assert same(held, first), "what makes the estimates is in the checkpoint as it was, and learns nothing"
    assert "mpve" in evaluate_run(tmp_path / "second")["test"].metrics
    data = {"store": str(raw / "motionbert_mesh.zarr")}
    other = changed(short.model_copy(update={"refine": Refine()}), data=data)
    run_recipe(other, out=tmp_path / "other")
    with pytest.raises(RunError, match="refiner of another method's estimates"):
        predict_run(tmp_path / "other", str(raw / "pw3d.zarr"), tmp_path / "out.zarr")
    again = short.model_copy(update={"refine": Refine(run=str(tmp_path / "second"))})
    with pytest.raises(ModelError, match="refines nothing"):
        build_mesh_recovery(again, Context(WORLD))
    with pytest.raises(ModelError, match="without estimates"):
        MeshRefiner(MeshEstimator(load_backbone(checkpoint)).backbone)(torch.zeros(1, 4, 17, 3))  # type: ignore[arg-type]


# Predictions


def test_bodies_are_predicted_for_any_2d_store(recipe: MeshRecipe, tmp_path: Path) -> None:
    """Joints are those of pose, shape and body model; vertices lie about them."""
    run_recipe(changed(recipe, optim={"epochs": 1}), out=tmp_path / "run")
    flat = motion_stores.write_2d(tmp_path / "flat.zarr", "openpose25", "f4")
    options = PredictOptions(vertices=tmp_path / "vertices", stride=3)
    line = predict_run(
        tmp_path / "run", str(flat), tmp_path / "out.zarr", options=options, bvh=tmp_path / "bvh"
    )
    assert "5 bodies of 4 recordings" in line
    store = open_store(tmp_path / "out.zarr")
    model, joints = load_body(recipe.body)
    assert store.info.unit == "m"
    assert store.skeleton.names == motion_stores.H36M17.names
    body = store.recording("r0").bodies[0]
    assert body.frame_index.tolist() == list(range(40)), "the gap is filled"
    assert (body.confidence[10:15] == 0).all()  # type: ignore[index]
    pose = torch.from_numpy(store.array("pose")[:40])
    betas = torch.from_numpy(store.array("betas")[0])
    place = joints(rodrigues(pose), betas.expand(40, -1)) / 1000
    expected = (place - place[:, :1]) * torch.tensor([-1, -1, 1])
    np.testing.assert_allclose(body.position, expected, atol=1e-4)
    with np.load(tmp_path / "vertices" / f"{body.name}.npz", allow_pickle=False) as kept:
        assert kept["vertices"].shape == (40, len(model.template), 3)
        assert kept["faces"].max() < len(model.template)
        regressed = np.load(str(recipe.body.regressor)) @ kept["vertices"]
    np.testing.assert_allclose(regressed * (-1, -1, 1), body.position, atol=1e-4)
    assert len(list((tmp_path / "bvh").glob("*.bvh"))) == 5
    with pytest.raises(RunError, match="--height for bodies"):
        predict_run(tmp_path / "run", str(flat), tmp_path / "b.zarr", options=PredictOptions(height=1.7))


# Bad input


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"model": None}, "no body model, expected SMPL's.*smplify.is.tue.mpg.de"),
        ({"model": "/nowhere/SMPL_NEUTRAL.pkl"}, "no such file.*body.model=FILE"),
        ({"regressor": None}, "no joint regressor.*J_regressor_h36m_correct.npy.*body.regressor=FILE"),
    ],
)
def test_a_body_model_that_is_not_there_says_where_to_get_one(
    raw: Path, files: dict[str, str | None], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        load_body(mesh_stores.body_files(raw).model_copy(update=files))


def test_a_body_model_of_another_kind_is_named(tmp_path: Path) -> None:
    mesh_stores.write(tmp_path, "amass", 1)
    models = tmp_path / "amass" / "body_models"
    files = BodyFiles(model=str(models / "smplh" / "neutral" / "model.npz"), regressor="x.npy")
    with pytest.raises(ModelError, match="smplh model of 52 joints, expected SMPL"):
        load_body(files)
    assert load_body_model(models / "smplh" / "neutral" / "model.npz").kind == "smplh"


def test_other_data_and_other_input_are_refused(raw: Path, recipe: MeshRecipe, tmp_path: Path) -> None:
    run_recipe(changed(recipe, optim={"epochs": 1}), out=tmp_path)
    checkpoint = load_checkpoint(RunFolder(tmp_path).last)
    with pytest.raises(RunError, match=r"data\.input=truth for a network that was trained on detection"):
        build_mesh_recovery(changed(recipe, data={"input": "truth"}), Context(WORLD, checkpoint))
    other = changed(recipe, data={"store": str(raw / "motionbert_mesh.zarr")})
    with pytest.raises(RunError, match="run on other data"):
        build_mesh_recovery(other, Context(WORLD, checkpoint))


def test_a_store_without_bodies_or_clips_is_a_sentence(raw: Path, recipe: MeshRecipe, tmp_path: Path) -> None:
    people = motion_stores.write_3d(tmp_path / "people.zarr")
    with pytest.raises(DataError, match="no array 'pose', expected the rotations"):
        build_mesh_recovery(changed(recipe, data={"store": str(people)}), Context(WORLD))
    with pytest.raises(DataError, match="found no store"):
        build_mesh_recovery(changed(recipe, data={"store": None}), Context(WORLD))
    with pytest.raises(DataError, match="clips of 9 frames, expected at most the 8"):
        build_mesh_recovery(changed(recipe, data={"length": 9}), Context(WORLD))


@pytest.mark.parametrize(
    "clip",
    [
        lambda clip: clip * 0,
        lambda clip: clip[:, :1],
        lambda clip: torch.cat([clip[:, :4], clip[:, 4:] * 0], dim=1),
    ],
    ids=["zeros", "one frame", "a person who leaves"],
)
def test_poor_clips_have_losses_and_gradients(
    recipe: MeshRecipe, clip: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    job = build_mesh_recovery(recipe, Context(WORLD))
    batch = next(iter(job.loader.epoch(0)))
    frames = clip(batch.input).shape[1]
    poor = replace(batch, input=clip(batch.input), pose=batch.pose[:, :frames], shape=batch.shape[:, :frames])
    values = job.module(poor)
    values["loss"].backward()
    assert all(value.isfinite() for value in values.values())
    assert all(p.grad.isfinite().all() for p in job.module.parameters() if p.grad is not None)


def test_one_clip_alone_cannot_be_normalised(recipe: MeshRecipe) -> None:
    job = build_mesh_recovery(recipe, Context(WORLD))
    batch = next(iter(job.loader.epoch(0)))
    alone = replace(batch, input=batch.input[:1], pose=batch.pose[:1], shape=batch.shape[:1])
    with pytest.raises(ModelError, match=r"batch of one sample.*optim\.batch"):
        job.module(alone)
    assert issubclass(ModelError, SkelconvError)
