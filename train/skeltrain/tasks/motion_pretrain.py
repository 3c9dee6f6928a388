"""Pretraining of motion: 3D motion is recovered from damaged 2D motion (MotionBERT, section 3.3).

First on stores with depth alone, whose 2D poses are their own projections with a detector's errors; then
every epoch goes through the stores of annotated 2D poses, those of detections, and those with depth.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from skelconv.store.store import open_store
from skeltrain.checkpoint import seed_everything, versions
from skeltrain.data.loader import ByEpoch, DataError, Loader, OneAfterTheOther, SampleLoader
from skeltrain.data.motion_batches import MotionAugment, MotionCollator, numbers
from skeltrain.data.motion_sets import Clips, Kind, MotionSet, join, kind_of, open_motion
from skeltrain.data.sampler import EpochSampler
from skeltrain.engine import Job, build_optimizer
from skeltrain.models.registry import describe as describe_model
from skeltrain.recipe import Recipe, Section
from skeltrain.recipe_file import to_plain
from skeltrain.sections import PATHS_ARE_STORES, Init
from skeltrain.tasks.motion_common import (
    FAMILY,
    LossWeights,
    MotionTask,
    Network,
    build_network,
    check_lengths,
    check_same_data,
    describe,
)
from skeltrain.tasks.registry import Context, Task

KINDS: tuple[Kind, ...] = ("annotated", "detected", "3d")
"""In the order of an epoch (MotionBERT, train.py)."""

PROTOCOLS = {"h36m": "xsub", "amass": "official", "posetrack": "posetrack18"}
"""Splits whose training part pretraining uses, by dataset (MotionBERT, section 4.2)."""


class MotionEntry(Section):
    """One of several stores.

    Attributes
    ----------
    protocol, part
        Split whose part is trained on. ``auto`` is the published one of Human3.6M, AMASS and PoseTrack, where
        the store has it, else everything; null is everything.
    """

    store: str
    protocol: str | None = "auto"
    part: str = "train"


class MotionData(Section):
    """The stores, and how each kind is cut into clips.

    Attributes
    ----------
    store, stores
        One, or several; ``--store`` sets them. What a store teaches follows from itself: depth where poses
        are 3D, detections where its 2D poses have scores, else annotated 2D poses.
    depth, annotated, detected
        Clips of each kind (MotionBERT, section A.1 and dataset_motion_2d.py).
    only_depth
        Epochs at the start that go through the stores with depth alone.
    """

    store: str | None = None
    stores: Annotated[tuple[MotionEntry, ...], PATHS_ARE_STORES] = ()
    depth: Clips = Clips()
    annotated: Clips = Clips(length=30, stride=30, first=True, stretch=False, seen=0.6, root="all")
    detected: Clips = Clips(length=81, stride=27, stretch=False, root="first")
    only_depth: Annotated[int, Field(ge=0)] = 30

    @model_validator(mode="after")
    def _one_or_several(self) -> MotionData:
        if self.stores and self.store is not None:
            raise ValueError("found both store and stores; give one of the two")
        return self

    def each(self) -> tuple[MotionEntry, ...]:
        """Return every store."""
        return self.stores if self.store is None else (MotionEntry(store=self.store),)

    def rules(self, kind: Kind) -> Clips:
        """Return how stores of a kind are cut."""
        return {"3d": self.depth, "annotated": self.annotated, "detected": self.detected}[kind]


class MotionPretrainRecipe(Recipe):
    """Recovering 3D motion from damaged 2D motion.

    Attributes
    ----------
    relative
        Predict poses relative to the root, as the released models do.
    """

    task: Literal["motion_pretrain"] = "motion_pretrain"
    data: MotionData = MotionData()
    augment: MotionAugment = MotionAugment(noise=True, mask_joints=0.05, mask_frames=0.1)
    model: Network = Network()
    loss: LossWeights = LossWeights()
    relative: bool = True
    init: Init = Init()


def open_sets(recipe: MotionPretrainRecipe, context: Context) -> dict[Kind, MotionSet]:
    """Open the stores of a recipe, those of a kind as one set, in the order of an epoch.

    Raises
    ------
    DataError
        There is no store, or one that gives no clip.
    SkelconvError
        A store cannot be read, or its joints make no h36m17.
    """
    entries = recipe.data.each()
    if not entries:
        raise DataError("found no store, expected at least one. Give it with --store STORE, or as data.store")
    found: dict[Kind, list[MotionSet]] = {kind: [] for kind in KINDS}
    for entry in entries:
        store = open_store(entry.store)
        name, protocol = store.info.dataset.name, entry.protocol
        if protocol == "auto":
            protocol = PROTOCOLS.get(name)
            protocol = protocol if protocol in store.info.protocols else None
        kind = kind_of(store)
        rules = recipe.data.rules(kind)
        data = open_motion(store, rules, context.world.device, protocol, entry.part)
        what = "all" if protocol is None else f"{entry.part} of {protocol}"
        context.log(f"data: {len(data)} clips of {rules.length} frames of {name} ({kind}; {what})")
        found[kind].append(data)
    return {kind: join(sets) for kind, sets in found.items() if sets}


def curriculum(loaders: dict[Kind, Loader], only_depth: int) -> Loader:
    """Return the loader of a run: depth alone at first, then every kind in each epoch."""
    every = OneAfterTheOther([loaders[kind] for kind in KINDS if kind in loaders])
    if "3d" not in loaders or len(loaders) == 1 or only_depth == 0:
        return every
    return ByEpoch([(0, loaders["3d"]), (only_depth, every)])


def build_motion_pretraining(recipe: MotionPretrainRecipe, context: Context) -> Job:
    """Put network, stores and optimiser together."""
    world, optim = context.world, recipe.optim
    seed_everything(recipe.seed)
    model = build_network(recipe.model, recipe.init, context)
    sets = open_sets(recipe, context)
    identity = [entry for data in sets.values() for entry in data.identity]
    check_same_data(context, identity)
    check_lengths([data.clips.shape[1] for data in sets.values()], recipe.model)
    task = MotionTask(model, recipe.loss).to(world.device)
    describe(task, context.log, recipe.precision)

    def loaders() -> Iterator[tuple[Kind, Loader]]:
        for stream, (kind, data) in enumerate(sets.items()):
            sampler = EpochSampler(
                numbers(data), optim.batch, optim.accum, recipe.seed, world.rank, world.size,
                drop_last=optim.drop_last,
            )  # fmt: skip
            yield (
                kind,
                SampleLoader(sampler, MotionCollator(data, recipe.augment, recipe.relative, "truth", stream)),
            )

    seed_everything(recipe.seed + world.rank)
    return Job(
        module=task,
        loader=curriculum(dict(loaders()), recipe.data.only_depth),
        optimizer=build_optimizer(task, optim),
        recipe=recipe,
        metadata={
            "task": recipe.task,
            "recipe": to_plain(recipe),
            "versions": versions(),
            "model": describe_model(FAMILY, recipe.model.model_dump()),
            "data": identity,
            "relative": recipe.relative,
        },
    )


TASK = Task(
    name="motion_pretrain",
    title="3D motion from damaged 2D motion (MotionBERT)",
    recipe=MotionPretrainRecipe,
    build=build_motion_pretraining,
)
