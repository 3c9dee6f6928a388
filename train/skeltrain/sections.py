"""Sections of a recipe that several tasks share: the data that becomes images, augmentation, first
weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from skeltrain.recipe import Fraction, NotNegative, Section, Side

Persons = Literal["interleave", "concat", "separate", "first"]


def _one_is_a_list(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {name: [one] if isinstance(one, int | str) else one for name, one in value.items()}


Holdout = Annotated[
    dict[str, Annotated[tuple[str | int, ...], Field(min_length=1)]], BeforeValidator(_one_is_a_list)
]
"""Columns of a store's table, each with the values that are held out (`skeltrain.data.holdout`)."""
Share = Annotated[float, Field(gt=0, le=1)]

STREAMS = ("joint", "bone", "motion", "bone_motion", "spine")
"""What three channels of an image can be made of (`skeltrain.data.encode.stream_rows_torch`)."""

AXES = 3
"""Channels of one stream: x, y and z."""


def _one_or_several(value: Any) -> Any:
    """Let through the name of a stream, or a list of different ones; raises ValueError."""
    names = [value] if isinstance(value, str) else value
    several = isinstance(names, list | tuple) and len(names) > 0
    if not several or any(name not in STREAMS for name in names) or len(set(names)) < len(names):
        raise ValueError(
            f"found {value!r}, expected one of {', '.join(STREAMS)}, or a list of different ones"
        )
    return value


def _several_or_none(value: Any) -> Any:
    return None if value is None else _one_or_several(value)


OptionalStreams = Annotated[str | tuple[str, ...] | None, BeforeValidator(_several_or_none)]

Streams = Annotated[str | tuple[str, ...], BeforeValidator(_one_or_several)]
"""The name of a stream, or several whose channels stand behind each other."""


class StoreData(Section):
    """Which samples of one store are read.

    Attributes
    ----------
    store
        Folder of the sequence store; ``--store`` sets it.
    format
        Joint layout to bring the joints to; null is the store's own.
    clean
        Cleaning chain (`skelconv.clean.CHAINS`); ``auto`` is the one published for the dataset.
    persons
        How the persons of a recording become samples (`skelconv.clean.samples.PERSONS`).
    protocol
        Split whose parts ``train`` and ``test`` are used; null trains on every sample.
    holdout
        Columns of the store's table with values, such as ``subject: [9, 10]``: evaluate on samples of the
        training part that have one of the values in every column, train on those that have none in any, and
        leave the test part unread (`skeltrain.data.holdout`). Empty evaluates on the test part.
    """

    store: str | None = None
    format: str | None = None
    clean: str = "auto"
    persons: Persons = "interleave"
    protocol: str | None = None
    train: str = "train"
    test: str = "test"
    holdout: Holdout = Field(default_factory=dict)


def _paths_as_stores(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple({"store": item} if isinstance(item, str) else item for item in value)
    return value


PATHS_ARE_STORES = BeforeValidator(_paths_as_stores)
"""Lets a list of stores name them by their paths alone."""


class StoreEntry(Section):
    """One of several stores: as `StoreData`; null keeps what the section says for all of them."""

    store: str
    format: str | None = None
    clean: str | None = None
    persons: Persons | None = None
    protocol: str | None = None
    train: str | None = None
    test: str | None = None
    holdout: Holdout | None = None


class ImageData(StoreData):
    """Which samples are read, and how they become images (S2I paper, section 3.1).

    Attributes
    ----------
    stores
        Several stores, each with the keys that differ from the ones above; their samples are trained on
        together, each encoded in its own layout. ``store`` is then empty.
    statistics
        With several stores: the one whose mean and standard deviation normalise the images of all (S2I
        paper, section A.5), by its number from 0.
    stream
        What the channels are: a stream, or a list of streams, three channels each in the order of the list.
    image_size
        Pixels of the encoded image: one number for a square, or rows and columns.
    """

    stores: Annotated[tuple[StoreEntry, ...], PATHS_ARE_STORES] = ()
    statistics: Annotated[int, Field(ge=0)] = 0
    stream: Streams = "joint"
    image_size: Side = 224
    align_corners: bool = False

    @model_validator(mode="after")
    def _one_or_several(self) -> ImageData:
        if self.stores and self.store is not None:
            raise ValueError("found both store and stores; give one of the two")
        if self.statistics >= max(len(self.stores), 1):
            raise ValueError(
                f"statistics is {self.statistics}, expected the number of a store, counted from 0; "
                f"there are {max(len(self.stores), 1)}"
            )
        return self

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams of an image, in the order of its channels."""
        return (self.stream,) if isinstance(self.stream, str) else self.stream

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return AXES * len(self.streams)

    def each(self) -> tuple[StoreData, ...]:
        """Return every store with all its keys: those of its own, and for the rest those of the section."""
        common = self.model_dump(include=set(StoreData.model_fields))
        entries = [entry.model_dump(exclude_none=True) for entry in self.stores] or [{}]
        return tuple(StoreData(**{**common, **own}) for own in entries)


class Augment(Section):
    """Augmentation of samples; everything is off by default.

    Attributes
    ----------
    space
        ``joint``: poses, before the encoding. ``image``: the encoded image, as a picture
        (`skeltrain.data.augment_image`). The other keys then mean: ``flip``, probability of reversing the
        columns; ``rotate``, one half-width in radians; ``translate``, half-width as part of each side;
        ``noise``, of every pixel, as part of its channel's standard deviation; no ``crop``.
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
    crop
        Range of the part of a clip that is left; where it begins is drawn too. One draw a sample, so its
        persons are cut together. The image is as high as ever: what is left is stretched.
    """

    space: Literal["joint", "image"] = "joint"
    flip: Fraction = 0.0
    rotate: tuple[NotNegative, NotNegative, NotNegative] = (0.0, 0.0, 0.0)
    scale: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (1.0, 1.0)
    translate: NotNegative = 0.0
    noise: NotNegative = 0.0
    noise_probability: Fraction = 1.0
    crop: tuple[Share, Share] = (1.0, 1.0)

    @field_validator("rotate", mode="before")
    @classmethod
    def _one_angle_for_all_axes(cls, value: Any) -> Any:
        return (value,) * 3 if isinstance(value, int | float) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _range_runs_upwards(self) -> Augment:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale runs from {self.scale[0]} down to {self.scale[1]}; swap the two")
        if self.crop[0] > self.crop[1]:
            raise ValueError(f"crop runs from {self.crop[0]} down to {self.crop[1]}; swap the two")
        if self.space == "image" and (self.crops or len(set(self.rotate)) > 1):
            raise ValueError(
                "found crop, or several angles in rotate, in image space, expected one angle and no crop; "
                "these are of joint space"
            )
        return self

    @property
    def crops(self) -> bool:
        """Whether clips are cut."""
        return self.crop != (1.0, 1.0)

    @property
    def active(self) -> bool:
        """Whether any of it changes a sample."""
        noisy = self.noise > 0 and self.noise_probability > 0
        moved = any(self.rotate) or self.translate > 0 or self.scale != (1.0, 1.0)
        return self.flip > 0 or moved or noisy or self.crops


class Init(Section):
    """Where the weights start: null is random; else a file, or a hub id (`skeltrain.models.weights`)."""

    weights: str | None = None
