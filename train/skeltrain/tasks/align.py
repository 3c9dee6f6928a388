"""Alignment of picture, 2D pose and 3D pose in one space, in three stages (UniHPR, arXiv 2510.19078)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from skelformats.skeleton import Skeleton, load_skeleton
from skeltrain.checkpoint import CheckpointError, find_checkpoint, load_checkpoint, seed_everything, versions
from skeltrain.data.crop_images import AheadLoader, CropImages
from skeltrain.data.loader import DataError, Loader, Repeated, SampleLoader
from skeltrain.data.pair_batches import PairCollator
from skeltrain.data.pose_pairs import Pairs, open_pairs
from skeltrain.data.sampler import EpochSampler
from skeltrain.distributed import DeviceError, describe_device
from skeltrain.engine import Job, build_optimizer
from skeltrain.models.errors import ModelError
from skeltrain.models.image_encoder import ImageEncoder
from skeltrain.models.registry import build, describe, load_model
from skeltrain.models.unihpr import MODALITIES, MOTION, AlignModel
from skeltrain.recipe_file import to_plain
from skeltrain.run_folder import RunError
from skeltrain.sections import StoreData
from skeltrain.tasks.align_evaluation import evaluators
from skeltrain.tasks.align_recipe import AlignRecipe
from skeltrain.tasks.align_task import AlignTask
from skeltrain.tasks.align_use import embed_frames, skeleton_of
from skeltrain.tasks.registry import Context, Task

PARTS = ("pose2d", "pose3d", "image", "motion", "decoder2d", "decoder3d")
"""Of a model: what an earlier stage may hand on."""


def build_align(recipe: AlignRecipe, context: Context) -> Job:
    """Put the job of a stage together.

    Raises
    ------
    DeviceError
        More processes than half of the frames of a batch.
    DataError
        The store has no pictures, or no two frames to train on.
    CheckpointError, ModelError
        The earlier stage's checkpoint is missing, or of other settings.
    """
    world, optim = context.world, recipe.optim
    if optim.batch < 2 * world.size:
        raise DeviceError(
            f"found {world.size} processes for batches of {optim.batch}, expected at least two frames each. "
            "Start fewer, or raise optim.batch"
        )
    seed_everything(recipe.seed)
    pairs = _open(recipe, context)
    skeleton = pairs.samples.skeleton
    config = model_config(recipe, len(skeleton))
    model = build("align", config)
    assert isinstance(model, AlignModel)
    if context.checkpoint is None:
        _initialise(model, recipe, skeleton, context)
    if world.size > 1 and world.device.type == "cuda":
        # pictures are normalised over the frames of all processes; there is no such layer for the CPU
        convert: Any = nn.SyncBatchNorm.convert_sync_batchnorm
        model = convert(model)
    task = AlignTask(model, recipe.stage, recipe.loss, world).to(world.device)
    train = pairs.samples.part(recipe.data.protocol, recipe.data.train)
    if len(train) < 2:
        raise DataError(f"{recipe.data.store}: found one training frame, expected at least two to compare")
    learned = sum(p.numel() for p in task.parameters() if p.requires_grad)
    context.log(
        f"model: stage {recipe.stage}, {learned / 1e6:.2f} M parameters that learn, {recipe.precision}"
    )
    images = open_pictures(recipe, pairs)
    seed_everything(recipe.seed)
    sampler = EpochSampler(
        train, optim.batch, 1, recipe.seed, world.rank, world.size, drop_last=optim.drop_last
    )
    length = None if recipe.model.motion is None else recipe.model.motion.length
    collate = PairCollator(pairs, images, recipe.augment.flip, recipe.augment.noise2d, length)
    loader: Loader = SampleLoader(sampler, collate)
    if images is not None and not recipe.data.keep:
        loader = AheadLoader(sampler, collate, recipe.data.workers)
    if optim.iterations is not None:
        loader = Repeated(loader, min(recipe.epoch_steps, optim.iterations))
    metadata = {
        "task": recipe.task,
        "recipe": to_plain(recipe),
        "model": describe("align", config),
        "skeleton": skeleton.to_dict(),
        "data": pairs.samples.identity,
        "versions": versions(),
    }
    first = "image" if recipe.sees else "pose2d"
    return Job(
        module=task,
        loader=loader,
        optimizer=_optimizer(task, recipe),
        recipe=recipe,
        metadata=metadata,
        evaluators=evaluators(recipe, config, pairs, images, world.device),
        after_step=[task.clamp],
        monitor=(f"{first}-pose3d at 1", False),
    )


def model_config(recipe: AlignRecipe, joints: int) -> dict[str, Any]:
    """Return the settings of the model of a stage, as plain data."""
    towers = recipe.model
    shared = towers.model_dump(include={"width", "depth", "heads", "mlp_ratio", "dropout", "hidden"})
    return {
        "joints": joints,
        **shared,
        "pool_grid": list(towers.pool_grid),
        "image": towers.image if recipe.sees else None,
        "decoder": towers.decoder if recipe.stage == "all" else None,
        **({} if towers.motion is None else {"motion": towers.motion.model_dump()}),
    }


def open_pictures(recipe: AlignRecipe, pairs: Pairs) -> CropImages | None:
    """Return where the pictures of frames come from, or None for a stage that reads none; raises
    `DataError`.
    """
    if not recipe.sees:
        return None
    if pairs.crops is None:
        raise DataError(
            f"{recipe.data.store}: found a store without pictures, expected a crop store for stage "
            f"{recipe.stage}. skelconv crops makes one; stage all can do without if model.image is null"
        )
    keep = pairs.crop if recipe.data.keep else None
    return CropImages(pairs.crops, recipe.data.image_size, pairs.samples.device, keep)


def _open(recipe: AlignRecipe, context: Context) -> Pairs:
    data = recipe.data
    skeleton = load_skeleton(data.format) if data.format else None
    known = context.checkpoint["metadata"] if context.checkpoint is not None else None
    if known is not None:
        skeleton = skeleton_of(known, "the checkpoint of the run")
    pairs = open_pairs(
        StoreData(store=data.store),
        context.world.device,
        data.every,
        data.picture,
        skeleton,
        pixels=data.pixels,
    )
    if known is not None and context.same_data:
        check_identity(known["data"], pairs.samples.identity)
    identity = pairs.samples.identity
    context.log(
        f"data: {len(pairs)} frames of {identity['dataset']} ({pairs.samples.skeleton.name}), 2D joints: "
        f"{pairs.pixels}"
    )
    if pairs.left_out:
        context.log(f"left out: {pairs.left_out} frames without a 2D joint, or without the root in 3D")
    context.log(f"device: {describe_device(context.world.device)['device']}")
    return pairs


def check_identity(there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raise `RunError` unless the store holds the data that a run began with."""
    changed = [
        f"{key}: {there.get(key)!r} there, {here[key]!r} here" for key in here if there.get(key) != here[key]
    ]
    if changed:
        raise RunError(
            f"found a run on other data ({'; '.join(changed)}), expected the store it began with. Give that "
            "store, or choose another --out"
        )


def _initialise(model: AlignModel, recipe: AlignRecipe, skeleton: Skeleton, context: Context) -> None:
    """Take the parts of the earlier stage, and a pretrained backbone where one is asked for and none came."""
    taken: list[str] = []
    if recipe.init.weights is not None:
        taken = take_parts(model, Path(recipe.init.weights), skeleton)
        context.log(f"from {recipe.init.weights}: {', '.join(taken)}")
    elif recipe.stage == "image":
        raise DataError(
            "found stage image without the towers of poses, expected those of stage poses: frozen random "
            "towers teach nothing. Give its run with --set init.weights=RUN"
        )
    if model.image is not None and "image" not in taken and recipe.model.pretrained:
        towers = recipe.model
        assert towers.image is not None
        try:
            model.image = ImageEncoder(towers.image, towers.width, True, towers.pool_grid)
        except (OSError, RuntimeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelError(
                f"found no pretrained weights of {towers.image} ({reason}), expected to download them. Set "
                "model.pretrained=false to begin with random ones"
            ) from error


def take_parts(model: AlignModel, where: Path, skeleton: Skeleton) -> list[str]:
    """Load the parts that a model and an earlier run's have in common; returns their names.

    Raises
    ------
    CheckpointError
        There is no checkpoint of this task, or it is of another layout.
    ModelError
        The parts are of another size.
    """
    path = find_checkpoint(where)
    checkpoint = load_checkpoint(path, tasks=("align",))
    theirs = skeleton_of(checkpoint["metadata"], str(path))
    if theirs != skeleton:
        raise CheckpointError(
            f"{path}: found towers of the layout {theirs.name}, expected {skeleton.name}, that of the "
            f"data. Set data.format={theirs.name} to bring the joints to it"
        )
    former = load_model(checkpoint)
    taken = []
    for part in PARTS:
        own, other = getattr(model, part), getattr(former, part)
        if own is None or other is None:
            continue
        try:
            own.load_state_dict(other.state_dict())
        except RuntimeError as error:
            raise ModelError(
                f"{path}: found a {part} of another size ({str(error).splitlines()[-1].strip()}), expected "
                "one of this recipe. Use the same settings under model in all stages"
            ) from error
        taken.append(part)
    return taken


def _optimizer(task: AlignTask, recipe: AlignRecipe) -> Optimizer:
    """Return the recipe's optimiser; in stage ``all`` the towers may learn slower than the rest."""
    optimizer = build_optimizer(task, recipe.optim)
    part = recipe.loss.encoder_lr
    if recipe.stage != "all" or part == 1:
        return optimizer
    towers = [getattr(task.model, name) for name in (*MODALITIES, MOTION)]
    slow = {id(p) for tower in towers if tower is not None for p in tower.parameters()}
    for group in list(optimizer.param_groups):
        chosen = [p for p in group["params"] if id(p) in slow]
        group["params"] = [p for p in group["params"] if id(p) not in slow]
        settings = {key: value for key, value in group.items() if key != "params"}
        if chosen:
            optimizer.add_param_group({**settings, "params": chosen, "lr_scale": part})
    return optimizer


TASK = Task(
    name="align",
    title="picture, 2D and 3D pose in one space (UniHPR)",
    recipe=AlignRecipe,
    build=build_align,
    embed=embed_frames,
)

__all__ = ["TASK", "AlignRecipe", "AlignTask", "build_align"]
