"""The recipe of alignment: settings of the task ``align``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from skeltrain.models.image_encoder import STRIDE
from skeltrain.recipe import Fraction, NotNegative, Positive, Recipe, Section
from skeltrain.sections import Init

Above = Annotated[float, Field(gt=0)]


class PairData(Section):
    """Which frames are read: poses, and pictures where the stage has a tower for them.

    Attributes
    ----------
    store
        A crop store (`skelconv crops`), or, where no picture is needed, a sequence store of 3D poses with an
        array of pixels; ``--store`` sets it.
    format
        Joint layout to bring the joints to; null is the store's own.
    protocol
        Split whose parts ``train`` and ``test`` are used; null trains and tests on every frame.
    every
        Take the frames whose number this divides. Neighbours in a video are false negatives of each other.
    picture
        Width and height of the pictures in pixels, of a sequence store; a crop store knows them.
    pixels
        Array of the joints in the picture, of a sequence store; by default the true ones, such as ``pixel``.
        A crop store has those that it was cut by. Detected joints and true ones are never mixed: every figure
        names the array.
    image_size
        Rows and columns that a crop is brought to, multiples of 32.
    keep
        Decode every crop once and keep it on the device (147 kB each at 256 x 192), instead of whenever it
        comes.
    workers
        Threads that decode the crops of the next batches meanwhile.
    """

    store: str | None = None
    format: str | None = None
    protocol: str | None = None
    train: str = "train"
    test: str = "test"
    every: Positive = 1
    picture: tuple[Positive, Positive] | None = None
    pixels: str | None = None
    image_size: tuple[Positive, Positive] = (256, 192)
    keep: bool = False
    workers: Positive = 4

    @model_validator(mode="after")
    def _sides_fit(self) -> PairData:
        if any(side % STRIDE for side in self.image_size):
            raise ValueError(f"found image_size {list(self.image_size)}, expected multiples of {STRIDE}")
        return self


class PairAugment(Section):
    """Augmentation; everything is off by default.

    Attributes
    ----------
    flip
        Probability of mirroring a frame: picture, 2D and 3D pose alike, left and right joints changing
        places.
    noise2d
        Standard deviation of the noise of 2D joints, in half widths of the picture (0.004 is 2 of 1000
        pixels).
    """

    flip: Fraction = 0.0
    noise2d: NotNegative = 0.0


class MotionTower(Section):
    """A tower of motion (`skeltrain.models.motion_encoder`): windows of 2D poses through a DSTformer.

    Attributes
    ----------
    length
        Frames of a window, about the frame it is of, among those that the store has.
    """

    length: Positive = 27
    dim_feat: Positive = 256
    dim_rep: Positive = 512
    depth: Positive = 5
    heads: Positive = 8


class Towers(Section):
    """The networks (`skeltrain.models.unihpr.AlignModel`).

    Attributes
    ----------
    image
        timm's name of an HRNet; used from the stage ``image`` on.
    pretrained
        Begin a new image tower with timm's ImageNet weights, which are downloaded once.
    decoder
        ``diffusion``, ``mlp`` or ``transformer``; used in the stage ``all``.
    motion
        A tower of motion as a fourth modality; null has none.
    """

    width: Positive = 512
    depth: Positive = 4
    heads: Positive = 8
    mlp_ratio: Above = 2.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    image: str | None = "hrnet_w32"
    pretrained: bool = False
    pool_grid: tuple[Positive, Positive] = (1, 1)
    decoder: Literal["diffusion", "mlp", "transformer"] = "diffusion"
    hidden: Positive = 1024
    motion: MotionTower | None = None


class Contrast(Section):
    """The losses (`skeltrain.losses.alignment`).

    Attributes
    ----------
    tau, tau_low, tau_high
        First value and bounds of the temperature.
    share_tau
        One temperature for pairs and triplets; else each has its own, from the same first value.
    alpha
        Weight of the triplet term.
    negatives
        ``sampled``, ``full`` or ``stratified`` (`skeltrain.losses.negatives.sample_negatives`).
    near_frames, near_poses
        Frames of one sequence at most so many apart, or poses of a mean joint distance below so many metres,
        are no negatives of each other; null leaves all.
    decode
        Weight of the decoders' losses.
    encoder_lr
        Learning rate of the towers as a part of the decoders', in the stage ``all``.
    """

    tau: Above = 1 / 14
    tau_low: Above = 1e-2
    tau_high: Above = 1e4
    share_tau: bool = True
    alpha: NotNegative = 1.0
    negatives: Literal["sampled", "full", "stratified"] = "sampled"
    near_frames: Annotated[int, Field(ge=0)] | None = None
    near_poses: Above | None = None
    decode: NotNegative = 1.0
    encoder_lr: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _within_its_bounds(self) -> Contrast:
        if not self.tau_low <= self.tau <= self.tau_high:
            raise ValueError(
                f"found the temperature {self.tau:g} outside of {self.tau_low:g} to {self.tau_high:g}, "
                "expected tau_low <= tau <= tau_high"
            )
        return self


class PairEvaluation(Section):
    """How it is evaluated.

    Attributes
    ----------
    every
        Take every so many frames of the test part.
    batch
        Frames that are embedded at once.
    apart
        Seconds on both sides of the query that the gallery of ``apart`` leaves out.
    train_gallery
        Also look for test queries among the training frames.
    hypotheses
        Poses that a diffusion decoder draws of each embedding, for the mean and the best of them; 0 draws
        none but the near-mean one.
    steps
        Of the diffusion's sampler.
    image_rate
        Frames a second that are looked for among pictures (UniHPR, Table IV: one).
    paths, points
        Pairs of test frames between whose embeddings poses are decoded, and how many on each path; no paths
        leaves it out.
    """

    every: Positive = 1
    batch: Positive = 256
    apart: NotNegative = 0.5
    train_gallery: bool = True
    hypotheses: Annotated[int, Field(ge=0)] = 0
    steps: Positive = 200
    image_rate: Above = 1.0
    paths: Annotated[int, Field(ge=0)] = 32
    points: Annotated[int, Field(ge=2)] = 11


class AlignRecipe(Recipe):
    """Alignment of picture, 2D pose and 3D pose, in three stages.

    Attributes
    ----------
    stage
        ``poses``: the towers of 2D and 3D poses. ``image``: that of pictures, the two others frozen. ``all``:
        all of them with the decoders; without pictures where ``model.image`` is null.
    init
        The run or checkpoint of an earlier stage, whose towers are taken.
    epoch_steps
        Where the run is counted in ``optim.iterations``: the steps between two evaluations, which are what
        such a run calls an epoch.
    """

    task: Literal["align"] = "align"
    stage: Literal["poses", "image", "all"] = "poses"
    data: PairData = PairData()
    augment: PairAugment = PairAugment()
    model: Towers = Towers()
    loss: Contrast = Contrast()
    init: Init = Init()
    epoch_steps: Positive = 1000
    evaluation: PairEvaluation = PairEvaluation()

    FREE: ClassVar[tuple[str, ...]] = (*Recipe.FREE, "data.workers", "data.keep", "evaluation")

    @property
    def sees(self) -> bool:
        """Whether pictures are read."""
        return self.stage != "poses" and self.model.image is not None

    @model_validator(mode="after")
    def _stage_is_possible(self) -> AlignRecipe:
        if self.optim.accum > 1:
            raise ValueError(
                "found optim.accum above 1, expected 1: the samples of a part would be compared with those "
                "of the part alone. Lower optim.batch"
            )
        if self.optim.batch < 2:
            raise ValueError("found optim.batch 1, expected at least 2: one frame alone has no negatives")
        if self.stage == "image" and self.model.image is None:
            raise ValueError("found the stage image without model.image, expected the name of an HRNet")
        return self
