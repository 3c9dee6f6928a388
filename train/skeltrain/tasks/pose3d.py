"""3D pose from 2D pose, clip by clip, trained from scratch or fine-tuned (MotionBERT, section 4.3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from skelconv.store.store import open_store
from skeltrain.checkpoint import seed_everything, versions
from skeltrain.data.loader import DataError, SampleLoader
from skeltrain.data.motion_batches import MotionAugment, MotionCollator, Source, numbers
from skeltrain.data.motion_sets import Clips, MotionSet, kind_of, open_motion
from skeltrain.data.sampler import EpochSampler, MicroBatch
from skeltrain.distributed import autocast
from skeltrain.engine import Evaluation, Evaluator, Job, build_optimizer
from skeltrain.metrics.h36m_protocol import evaluate_clips
from skeltrain.metrics.pose import mpjpe, mpjve, p_mpjpe, root_relative
from skeltrain.models.registry import describe as describe_model
from skeltrain.recipe import Positive, Recipe, Section
from skeltrain.recipe_file import to_plain
from skeltrain.run_folder import RunError
from skeltrain.sections import Init
from skeltrain.tasks.motion_common import (
    FAMILY,
    LossWeights,
    MotionTask,
    Network,
    build_network,
    check_lengths,
    check_same_data,
    describe,
    infer,
)
from skeltrain.tasks.pose3d_predict import predict_poses
from skeltrain.tasks.registry import Context, Task

EVALUATION_BATCH = 16
"""Clips that are evaluated at once."""

FLAWED = "drift"
"""Flaw of the three recordings of Human3.6M's S9 that evaluations leave out."""

NO_ACTION = "all"
"""What errors of frames without an action are counted under."""


class PoseData(Section):
    """A store of 3D poses, and how it is cut into clips.

    Attributes
    ----------
    protocol, train, test
        Split and its two parts; with null all is trained on, and evaluated only when asked for.
    input
        The 2D poses that the network is given, in training and in tests alike: the true ones (``truth``), or
        those of the store's array ``detection``.
    length, stride
        Of the clips of the training part; the test part has clips one after another.
    """

    store: str | None = None
    protocol: str | None = "xsub"
    train: str = "train"
    test: str = "test"
    input: Source = "truth"
    length: Positive = 243
    stride: Positive = 81


class Test(Section):
    """How poses are evaluated and predicted: ``flip`` averages with the prediction for the mirrored clip."""

    flip: bool = True


class Pose3dRecipe(Recipe):
    """3D pose from 2D pose.

    Attributes
    ----------
    relative
        Predict poses relative to the root, which papers measure; or where they are in the picture, which
        predictions on videos want.
    """

    task: Literal["pose3d"] = "pose3d"
    data: PoseData = PoseData()
    augment: MotionAugment = MotionAugment()
    model: Network = Network()
    loss: LossWeights = LossWeights()
    relative: bool = True
    test: Test = Test()
    init: Init = Init()


def open_part(data: PoseData, context: Context, part: str, stride: int) -> MotionSet:
    """Open a part of the store of a recipe; raises `DataError` or `SkelconvError`."""
    if data.store is None:
        raise DataError("found no store, expected the folder of one. Give it with --store STORE")
    store = open_store(data.store)
    if kind_of(store) != "3d":
        raise DataError(
            f"{data.store}: found 2D poses, expected 3D ones to learn from and to compare with. To lift the "
            "poses of this store, run: skeltrain predict RUN STORE OUT"
        )
    rules = Clips(length=data.length, stride=stride)
    return open_motion(store, rules, context.world.device, data.protocol, part, data.input == "detection")


def build_pose3d(recipe: Pose3dRecipe, context: Context) -> Job:
    """Put network, store and optimiser together."""
    world, data, optim = context.world, recipe.data, recipe.optim
    if context.checkpoint is not None:
        check_input(data.input, str(context.checkpoint["metadata"]["input"]))
    seed_everything(recipe.seed)
    model = build_network(recipe.model, recipe.init, context)
    check_lengths([data.length], recipe.model)
    test = open_part(data, context, data.test, data.length)
    check_same_data(context, test.identity)
    # an evaluation on another store has no use for a training part, which that store may not have
    train = open_part(data, context, data.train, data.stride) if context.same_data else test
    name = train.identity[0]["dataset"]
    context.log(
        f"data: {len(train)} clips to train on, {len(test)} to test, of {name}; 2D input: {data.input}"
    )
    task = MotionTask(model, recipe.loss).to(world.device)
    describe(task, context.log, recipe.precision)
    sampler = EpochSampler(
        numbers(train),
        optim.batch,
        optim.accum,
        recipe.seed,
        world.rank,
        world.size,
        drop_last=optim.drop_last,
    )
    collate = MotionCollator(train, recipe.augment, recipe.relative, data.input)
    seed_everything(recipe.seed + world.rank)
    held_out = data.protocol is not None
    return Job(
        module=task,
        loader=SampleLoader(sampler, collate),
        optimizer=build_optimizer(task, optim),
        recipe=recipe,
        metadata={
            "task": recipe.task,
            "recipe": to_plain(recipe),
            "versions": versions(),
            "model": describe_model(FAMILY, recipe.model.model_dump()),
            "data": list(train.identity),
            "relative": recipe.relative,
            "input": data.input,
        },
        evaluators=[Evaluator("test", PoseErrors(recipe, test, context), in_training=held_out)],
        monitor=("mpjpe", True) if held_out else ("loss", True),
    )


def check_input(wanted: str, trained: str) -> None:
    """Raise `RunError` where a network would be given other 2D poses than it was trained on."""
    if wanted != trained:
        raise RunError(
            f"found data.input={wanted} for a network that was trained on {trained}, expected the same: "
            "errors of the two are not comparable. Train on the other, or take the setting back"
        )


class PoseErrors:
    """Errors of the test part in millimetres, relative to the root (MotionBERT, train.py evaluate)."""

    def __init__(self, recipe: Pose3dRecipe, data: MotionSet, context: Context) -> None:
        self._recipe = recipe
        self._data = data
        self._device = context.world.device
        plain = MotionAugment(flip=0.0)
        self._collate = MotionCollator(data, plain, recipe.relative, recipe.data.input)
        flaw = data.table.get("flaw")
        flawed = np.zeros(len(data.table), bool) if flaw is None else (flaw == FLAWED).to_numpy(bool)
        self._clips = np.flatnonzero(~flawed[data.sequence[data.clips[:, 0]]]).astype(np.int64)
        used = data.millimetres[data.clips[self._clips]] if len(self._clips) else np.zeros(0)
        if not np.isfinite(used).all():
            raise DataError(
                "found poses in pixels whose scale is not known in the test part, expected millimetres a "
                "pixel. Ingest with --with factor,truth"
            )
        if not len(self._clips):
            raise DataError(
                f"found only recordings with the flaw {FLAWED!r} in the test part, expected others. Choose "
                "another data.protocol or data.test"
            )

    def __call__(self, module: nn.Module) -> Evaluation:
        """Evaluate a `MotionTask`: means over actions, over frames, each action, and the errors of frames.

        Beside them the errors of one pose, the mean of the part, in place of every prediction.
        """
        data = self._data
        clips = data.clips[self._clips]
        found = [np.concatenate(parts) for parts in zip(*self._errors(module), strict=True)]
        position, aligned, speed, truth, seen = found
        text = data.table["action"].to_numpy(object)[data.sequence].astype(str)
        action = np.where(text == "", NO_ACTION, text)
        source = data.table["recording"].to_numpy(object)[data.sequence].astype(str)
        results = [evaluate_clips(error, clips, action, source) for error in (position, aligned)]
        constant = [
            evaluate_clips(error.reshape(clips.shape), clips, action, source).mean
            for error in errors_of_the_mean(truth, seen)
        ]
        metrics = {"mpjpe": results[0].mean, "p_mpjpe": results[1].mean}
        metrics |= {"mpjpe_frames": results[0].frame_mean, "p_mpjpe_frames": results[1].frame_mean}
        if np.isfinite(speed).any():
            metrics["mpjve"] = float(np.nanmean(speed))
        metrics |= dict(zip(("constant_mpjpe", "constant_p_mpjpe"), constant, strict=True))
        for name, result in zip(("mpjpe", "p_mpjpe"), results, strict=True):
            metrics |= {f"{name}/{which}": value for which, value in result.action.items()}
        predictions = {
            "recording": source,
            "frame": data.frame,
            "action": action,
            "mpjpe": results[0].frame,
            "p_mpjpe": results[1].frame,
        }
        return Evaluation(metrics, predictions)

    def _errors(self, module: nn.Module) -> Iterator[tuple[NDArray[Any], ...]]:
        """Yield, for some clips after others, two errors a frame (n, T), that of its step (n, T), the true
        poses (n * T, 17, 3) and which joints they have (n * T, 17).

        The first frame of a clip has no step, and neither has a clip whose frames were repeated.
        """
        recipe, data = self._recipe, self._data
        model = module.get_submodule("model")
        for start in range(0, len(self._clips), EVALUATION_BATCH):
            chunk = self._clips[start : start + EVALUATION_BATCH]
            batch = self._collate(MicroBatch(chunk, slice(None)))
            with torch.no_grad(), autocast(self._device, recipe.precision):
                motion = infer(model, batch.input, recipe.relative, recipe.test.flip)
            rows = data.clips[chunk]
            unit = data.millimetres[rows][..., None, None]
            guess = root_relative(motion.double().cpu().numpy()) * unit
            known = batch.target.double().cpu().numpy() * unit if data.truth is None else data.truth[rows]
            truth = root_relative(known)
            seen = (batch.weight[..., 0] > 0).cpu().numpy()
            flat = (guess.reshape(-1, 17, 3), truth.reshape(-1, 17, 3))
            shape, visible = rows.shape, seen.reshape(-1, 17)
            speed = np.full(shape, np.nan)
            for k, whole in enumerate((np.diff(rows, axis=1) == 1).all(axis=1)):
                if whole:
                    speed[k, 1:] = mpjve(guess[k], truth[k], seen[k])
            yield (
                mpjpe(*flat, visible).reshape(shape),
                p_mpjpe(*flat, visible=visible).reshape(shape),
                speed,
                flat[1].astype(np.float32),
                visible,
            )


def errors_of_the_mean(
    truth: NDArray[np.floating[Any]], seen: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the errors (N,) of the mean of poses (N, J, 3) in place of each, as they are and aligned.

    A network that is not below has learned nothing from its input. ``seen`` (N, J) are the joints that count.
    """
    weight = seen[..., None].astype(np.float64)
    mean = np.where(weight > 0, truth, 0).sum(axis=0) / np.maximum(weight.sum(axis=0), 1)
    everywhere = np.broadcast_to(mean, truth.shape)
    known = truth.astype(np.float64)
    return mpjpe(everywhere, known, seen), p_mpjpe(everywhere, known, visible=seen)


TASK = Task(
    name="pose3d",
    title="3D pose from 2D pose (MotionBERT)",
    recipe=Pose3dRecipe,
    build=build_pose3d,
    predict_store=predict_poses,
)
