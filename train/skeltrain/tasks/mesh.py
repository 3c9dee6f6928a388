"""Pose and shape of SMPL from 2D pose, clip by clip, or from another estimate of it (MotionBERT, section
4.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from skelconv.store.store import Store, open_store
from skeltrain.checkpoint import find_checkpoint, load_checkpoint, seed_everything, versions
from skeltrain.data.loader import ByEpoch, DataError, Loader, OneAfterTheOther, SampleLoader
from skeltrain.data.mesh_batches import MeshAugment, MeshBatch, MeshCollator
from skeltrain.data.mesh_sets import MeshRules, MeshSet, open_mesh
from skeltrain.data.motion_sets import Clips
from skeltrain.data.sampler import EpochSampler
from skeltrain.engine import Evaluator, Job
from skeltrain.losses.mesh import mesh_losses
from skeltrain.models.errors import ModelError
from skeltrain.models.mesh import FAMILY as MESH
from skeltrain.models.mesh import BodyJoints, MeshEstimator, MeshRefiner
from skeltrain.models.registry import build, load_model
from skeltrain.models.registry import describe as describe_model
from skeltrain.models.shared_norm import SharedBatchNorm
from skeltrain.models.smpl import matrix_to_axis_angle, rodrigues
from skeltrain.models.weights import load_motionbert
from skeltrain.recipe import Optim
from skeltrain.recipe_file import to_plain
from skeltrain.schedule import make_optimizer, parameter_groups
from skeltrain.tasks.mesh_evaluation import MeshEvaluation
from skeltrain.tasks.mesh_predict import predict_meshes
from skeltrain.tasks.mesh_recipe import PROTOCOLS, MeshEntry, MeshRecipe, body_identity, load_body
from skeltrain.tasks.motion_common import (
    OWN_SUFFIX,
    check_lengths,
    check_same_data,
    describe,
    load_weights,
)
from skeltrain.tasks.pose3d import check_input
from skeltrain.tasks.registry import Context, Task


class MeshTask(nn.Module):
    """A mesh network and its losses: ``forward(batch)`` gives those of a `MeshBatch`."""

    def __init__(
        self, model: MeshEstimator | MeshRefiner, joints: BodyJoints, weights: dict[str, float]
    ) -> None:
        super().__init__()
        self.model = model
        self.joints = joints
        self._weights = weights
        self._norms = [part for part in model.modules() if isinstance(part, SharedBatchNorm)]

    def forward(self, batch: MeshBatch) -> dict[str, Tensor]:
        """Return ``loss`` and its terms; bodies are computed in float32 whatever the precision."""
        for norm in self._norms:
            norm.counts = batch.micro.weight > 0
        rotations, betas = self.model(batch.input, batch.estimate)
        with torch.autocast(batch.input.device.type, enabled=False):
            rotations, betas = rotations.float(), betas.float()
            with torch.no_grad():
                true_joints = self.joints(rodrigues(batch.pose), batch.shape)
            theta, true_theta = (
                torch.cat([pose.flatten(-2), shape], dim=-1)
                for pose, shape in (
                    (matrix_to_axis_angle(rotations), betas),
                    (batch.pose, batch.shape),
                )
            )
            return mesh_losses(self.joints(rotations, betas), true_joints, theta, true_theta, self._weights)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the network alone."""
        self.model.compile(*args, **kwargs)


def build_mesh_recovery(recipe: MeshRecipe, context: Context) -> Job:
    """Put network, body model, stores and optimiser together."""
    world, data, optim = context.world, recipe.data, recipe.optim
    if context.checkpoint is not None:
        check_input(data.input, str(context.checkpoint["metadata"]["input"]))
    seed_everything(recipe.seed)
    config = settings_of(recipe, context)
    model = build_model(recipe, config, context)
    body, joints = load_body(recipe.body)
    task = MeshTask(model, joints, recipe.loss.model_dump()).to(world.device)
    entries = data.each()
    if not entries:
        raise DataError("found no store, expected at least one. Give it with --store STORE, or as data.store")
    stores = [open_store(entry.store) for entry in entries]
    protocols = [protocol_of(entry, store) for entry, store in zip(entries, stores, strict=True)]
    last = MeshEntry(
        store=entries[-1].store, length=entries[-1].length, stride=entries[-1].length or data.length
    )
    test = open_part(recipe, last, stores[-1], protocols[-1], data.test, task.joints, context)
    # an evaluation on another store has no use for training parts, which that store may not have
    train = [
        open_part(recipe, entry, store, protocol, entry.train or data.train, task.joints, context)
        for entry, store, protocol in zip(entries, stores, protocols, strict=True)
    ] if context.same_data else [test]  # fmt: skip
    identity = [entry for part in train for entry in part.identity] + [body_identity(body, joints)]
    check_same_data(context, identity)
    check_lengths([part.clips.shape[1] for part in (*train, test)], recipe.model)
    for part in train:
        context.log(
            f"data: {len(part)} clips of {part.clips.shape[1]} frames of {part.identity[0]['dataset']}"
        )
    context.log(f"data: {len(test)} clips to test; 2D input: {data.input}; body model: {body.path}")
    describe(model, context.log, recipe.precision)
    loaders = [
        loader_of(recipe, entry, part, stream, context)
        for stream, (entry, part) in enumerate(
            zip(entries if context.same_data else [last], train, strict=True)
        )
    ]
    seed_everything(recipe.seed + world.rank)
    held_out = protocols[-1] is not None
    return Job(
        module=task,
        loader=curriculum(
            loaders, [entry.until for entry in entries] if context.same_data else [None], optim.epochs
        ),
        optimizer=optimizer_of(model, optim, recipe.backbone_rate),
        recipe=recipe,
        metadata={
            "task": recipe.task,
            "recipe": to_plain(recipe),
            "versions": versions(),
            "model": describe_model(MESH.name, config),
            "data": identity,
            "input": data.input,
        },
        evaluators=[
            Evaluator("test", MeshEvaluation(recipe, test, body, joints, context), in_training=held_out)
        ],
        monitor=("mpve", True) if held_out else ("loss", True),
    )


def settings_of(recipe: MeshRecipe, context: Context) -> dict[str, Any]:
    """Return the settings of the network that a recipe asks for, as a checkpoint keeps them."""
    network = recipe.model.model_dump()
    config: dict[str, Any] = {name: network.pop(name) for name in ("hidden_dim", "dropout_ratio")}
    config["network"] = network
    if recipe.refine is None:
        return config
    config["refine"] = recipe.refine.layout
    if recipe.refine.run is None:
        return config
    if context.checkpoint is not None:
        # it holds what makes the estimates, whatever has become of the run
        config["first"] = context.checkpoint["metadata"]["model"]["config"]["first"]
        return config
    described = load_checkpoint(find_checkpoint(Path(recipe.refine.run)))["metadata"].get("model", {})
    if described.get("family") != MESH.name or described["config"].get("refine") is not None:
        raise ModelError(
            f"{recipe.refine.run}: found a run of another kind, expected one of task mesh that refines "
            "nothing, to make the estimates"
        )
    config["first"] = described["config"]
    return config


def build_model(recipe: MeshRecipe, config: dict[str, Any], context: Context) -> MeshEstimator | MeshRefiner:
    """Build the network; a fresh run takes the weights that ``init`` names, and what makes the estimates."""
    model = build(MESH.name, config)
    assert isinstance(model, MeshEstimator | MeshRefiner)
    # 3D poses are no part of the losses, and processes wait for the gradient of whatever has one
    model.backbone.head.requires_grad_(False)
    if context.checkpoint is not None:
        return model
    if isinstance(model, MeshEstimator):
        if recipe.body.mean is not None:
            model.head.start_from(recipe.body.mean)
        else:
            model.head.start_upright()
    if isinstance(model, MeshRefiner) and model.first is not None:
        assert recipe.refine is not None
        assert recipe.refine.run is not None
        found = find_checkpoint(Path(recipe.refine.run))
        model.first.load_state_dict(load_model(load_checkpoint(found)).state_dict())
        context.log(f"estimates of {found}")
    if recipe.init.weights is not None:
        path = Path(recipe.init.weights)
        own = path.is_dir() or path.suffix == OWN_SUFFIX
        context.log(
            load_weights(model.backbone, str(path)) if own else load_motionbert(model, path).summary()
        )
    if recipe.backbone_rate == 0:
        model.backbone.requires_grad_(False)
    return model


def protocol_of(entry: MeshEntry, store: Store) -> str | None:
    """Return the split of a store that is used."""
    if entry.protocol != "auto":
        return entry.protocol
    protocol = PROTOCOLS.get(store.info.dataset.name)
    return protocol if protocol in store.info.protocols else None


def open_part(
    recipe: MeshRecipe,
    entry: MeshEntry,
    store: Store,
    protocol: str | None,
    part: str,
    joints: BodyJoints,
    context: Context,
) -> MeshSet:
    """Open a part of a store of a recipe; raises `DataError` or `SkelconvError`."""
    data = recipe.data
    clips = Clips(length=entry.length or data.length, stride=entry.stride or data.stride)
    estimates = recipe.refine is not None and recipe.refine.run is None
    return open_mesh(
        store, MeshRules(clips, protocol, part, data.input, estimates), joints, context.world.device
    )


def loader_of(recipe: MeshRecipe, entry: MeshEntry, data: MeshSet, stream: int, context: Context) -> Loader:
    """Return the batches of one store."""
    world, optim = context.world, recipe.optim
    number = torch.arange(len(data)).numpy()
    sampler = EpochSampler(
        number, optim.batch, optim.accum, recipe.seed, world.rank, world.size, drop_last=optim.drop_last
    )
    flip = recipe.flip if entry.flip is None else entry.flip
    augment = MeshAugment(flip, recipe.data.scale, recipe.data.crop)
    return SampleLoader(sampler, MeshCollator(data, augment, stream))


def curriculum(loaders: Sequence[Loader], until: Sequence[int | None], epochs: int) -> Loader:
    """Return the loader of a run: each epoch goes through the stores that are not yet done with, in turn.

    Raises
    ------
    DataError
        There are epochs without a store.
    """
    ends = [epochs if end is None else end for end in until]
    if max(ends) < epochs:
        raise DataError(
            f"found no store to train on from epoch {max(ends)} on, expected one for all {epochs}. Leave "
            "until of the last store out"
        )
    starts = sorted({0, *(end for end in ends if end < epochs)})
    return ByEpoch(
        [
            (
                start,
                OneAfterTheOther([one for one, end in zip(loaders, ends, strict=True) if start < end]),
            )
            for start in starts
        ]
    )


def optimizer_of(model: MeshEstimator | MeshRefiner, optim: Optim, backbone_rate: float) -> Optimizer:
    """Return the optimiser of a head, whose backbone learns at a rate of its own."""
    optimizer = make_optimizer(
        *(model.head, optim.name, optim.peak_lr, optim.weight_decay),
        betas=optim.betas,
        momentum=optim.momentum,
    )
    for group in parameter_groups(model.backbone, optim.weight_decay) if backbone_rate else ():
        optimizer.add_param_group({**group, "lr_scale": backbone_rate})
    return optimizer


TASK = Task(
    name="mesh",
    title="body meshes from 2D pose (MotionBERT)",
    recipe=MeshRecipe,
    build=build_mesh_recovery,
    predict_store=predict_meshes,
)
