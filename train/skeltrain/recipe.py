"""Recipes: what a run does, as typed and checked settings. One YAML file is one recipe.

A recipe names no device count: ``optim.batch`` counts the samples of one optimiser step over all processes,
so the same file trains the same way on one card or eight. `skeltrain.recipe_file` reads and writes them.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """A group of settings: frozen, and a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Data(Section):
    """Which samples are read, and how they become images (S2I spec, section 1.2).

    Attributes
    ----------
    store
        Folder of the sequence store; ``--store`` sets it.
    format
        Joint layout to encode in; null is the store's own.
    clean
        Cleaning chain (`skelconv.clean.CHAINS`); ``auto`` is the one published for the dataset.
    protocol
        Split whose parts ``train`` and ``test`` are used; null trains on every sample.
    image_size
        Rows and columns of the encoded image.
    """

    store: str | None = None
    format: str | None = None
    clean: str = "auto"
    persons: Literal["interleave", "concat", "separate", "first"] = "interleave"
    stream: Literal["joint", "bone", "motion"] = "joint"
    protocol: str | None = None
    train: str = "train"
    test: str = "test"
    image_size: Positive = 224
    align_corners: bool = False


class Augment(Section):
    """Augmentation in joint space, before the encoding; everything is off by default (spec, section 6).

    Attributes
    ----------
    flip
        Probability of mirroring a sample: x becomes -x, left and right joints change places.
    rotate
        Half-width in radians of the uniform angles about x, y and z; one draw a sample, Rz·Ry·Rx.
    scale
        Range of the isotropic scale factor.
    translate
        Half-width of the uniform shift of each axis, in the store's unit.
    noise
        Standard deviation of the noise of every coordinate, in the store's unit.
    noise_probability
        Probability that a sample gets noise at all.
    """

    space: Literal["joint"] = "joint"
    flip: Fraction = 0.0
    rotate: tuple[NotNegative, NotNegative, NotNegative] = (0.0, 0.0, 0.0)
    scale: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (1.0, 1.0)
    translate: NotNegative = 0.0
    noise: NotNegative = 0.0
    noise_probability: Fraction = 1.0

    @field_validator("rotate", mode="before")
    @classmethod
    def _one_angle_for_all_axes(cls, value: Any) -> Any:
        return (value,) * 3 if isinstance(value, int | float) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _range_runs_upwards(self) -> Augment:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale runs from {self.scale[0]} down to {self.scale[1]}; swap the two")
        return self

    @property
    def active(self) -> bool:
        """Whether any of it changes a sample."""
        noisy = self.noise > 0 and self.noise_probability > 0
        moved = any(self.rotate) or self.translate > 0 or self.scale != (1.0, 1.0)
        return self.flip > 0 or moved or noisy


class Optim(Section):
    """Optimiser and schedule (spec, section 2.2). Epochs may be fractions in ``warmup``.

    Attributes
    ----------
    blr
        Base learning rate. The peak is ``blr * batch / 256`` by the rule ``linear``, ``blr`` by ``none``.
    batch
        Samples of one optimiser step, over all processes and all accumulated parts.
    accum
        Parts in which a process works through its share of a batch, to need less memory.
    betas, momentum
        Of AdamW, and of SGD with Nesterov's momentum.
    drop_last
        Leave out the samples of an epoch that fill no whole batch. Off: the last batch is smaller.
    clip_grad
        Largest norm of the gradient, or null.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    blr: NotNegative = 1.5e-4
    lr_scale_rule: Literal["linear", "none"] = "linear"
    batch: Positive = 512
    accum: Positive = 1
    weight_decay: NotNegative = 0.05
    betas: tuple[Fraction, Fraction] = (0.9, 0.95)
    momentum: Fraction = 0.9
    epochs: Positive = 800
    warmup: NotNegative = 40.0
    min_lr: NotNegative = 0.0
    drop_last: bool = False
    clip_grad: Annotated[float, Field(gt=0)] | None = None

    @property
    def peak_lr(self) -> float:
        """Learning rate at the end of the warm-up."""
        return self.blr * self.batch / 256 if self.lr_scale_rule == "linear" else self.blr


class Model(Section):
    """The network: a preset, and what to change in it (null keeps the preset's value)."""

    preset: str = "vit_base"
    patch_size: Positive | None = None
    embed_dim: Positive | None = None
    depth: Positive | None = None
    num_heads: Positive | None = None
    decoder_dim: Positive | None = None
    decoder_depth: Positive | None = None
    decoder_heads: Positive | None = None
    mlp_ratio: Annotated[float, Field(gt=0)] | None = None
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.75
    masking: str = "random"
    norm_pix_loss: bool = False


class Init(Section):
    """Where the weights start: null is random; else a file, or a hub id (`skeltrain.models.weights`)."""

    weights: str | None = None


class Log(Section):
    """What a run reports and keeps.

    Attributes
    ----------
    every
        Optimiser steps between two rows of metrics; the end of an epoch always gives one.
    checkpoint_every
        Epochs between two writings of ``last.pt``.
    keep_every
        Epochs between two checkpoints that are kept under their own name; 0 keeps none.
    """

    every: Positive = 10
    tensorboard: bool = True
    checkpoint_every: Positive = 1
    keep_every: Annotated[int, Field(ge=0)] = 0


class Recipe(Section):
    """What every task has; the engine knows no more than this."""

    task: str
    seed: int = 0
    augment: Augment = Augment()
    optim: Optim = Optim()
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool = False
    device: str = "auto"
    log: Log = Log()

    # What may differ between a run and its continuation: it changes nothing that is learned. The store may
    # have moved; that it still holds the same data is checked by its digest.
    FREE: ClassVar[tuple[str, ...]] = ("device", "log", "data.store")


class TrainRecipe(Recipe):
    """A recipe that trains a network on a store's samples."""

    data: Data = Data()


class PretrainRecipe(TrainRecipe):
    """Masked autoencoding of S2I images."""

    task: Literal["pretrain"] = "pretrain"
    model: Model = Model()
    init: Init = Init()


class ProbeData(Section):
    """What a probe reads; null keeps what the checkpoint was pretrained with.

    Image size, stream and normalisation always are the checkpoint's.
    """

    store: str | None = None
    clean: str | None = None
    persons: Literal["interleave", "concat", "separate", "first"] | None = None
    protocol: str | None = None
    train: str = "train"
    test: str = "test"


class Head(Section):
    """The classifier on frozen features (spec, section 2.2)."""

    pooling: Literal["token", "avg"] = "token"
    bn: bool = True


class ProbeRecipe(Recipe):
    """Linear probe: a linear classifier on the features of a frozen encoder.

    Attributes
    ----------
    seeds
        One probe is trained for each; accuracies are given as mean and standard deviation.
    untrained
        Also probe an encoder of the same architecture with random weights, new for each seed.
    """

    task: Literal["probe"] = "probe"
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    untrained: bool = False
    data: ProbeData = ProbeData()
    head: Head = Head()
    optim: Optim = Optim(name="sgd", blr=0.2, batch=128, weight_decay=0.0, epochs=100, warmup=10)
