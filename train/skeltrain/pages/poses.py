"""Images of samples as moving skeletons, and the rows of a sample as persons and frames.

What can be decoded: an image holds poses where one of its streams is `joint` (positions), `spine` (positions
about the layout's origin) or `bone` (vectors along the tree, put together from the root); motion alone holds
none. Scaling to [-1, 1] (NW-UCLA) is undone by the sample's own range. Legend: R rows, J joints, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelconv.s2i.inverse import decode, joint_matrix, time_matrix
from skelconv.store import recording as stored
from skelconv.store.cells import near_names
from skelconv.view.drawing import front_yaw, turn
from skelformats.errors import UnknownNameError
from skeltrain.data.frames import Ragged
from skeltrain.data.images import ImageSet
from skeltrain.sections import AXES, Persons
from skeltrain.tasks.image_data import ImageSource

POSE_STREAMS = ("joint", "spine", "bone")
"""Streams that hold a pose, the first of an image's own is decoded."""

SEEN = 0.5
"""Part of a joint's weight in an image that must be visible for the joint to be shown as seen."""

GAP = 0.35
"""Metres between skeletons that stand side by side."""


@dataclass(frozen=True, eq=False)
class Tracks:
    """Whose pose each row of a sample is, and when.

    Attributes
    ----------
    person
        (R,) int64, counted from 0 in order of appearance.
    frame
        (R,) int64: frames of the sample, counted from 0; those that cleaning left out are not counted.
    """

    person: NDArray[np.int64]
    frame: NDArray[np.int64]

    @property
    def persons(self) -> int:
        """Number of persons."""
        return int(self.person.max()) + 1

    @property
    def length(self) -> int:
        """Number of frames."""
        return int(self.frame.max()) + 1


def read_tracks(next_row: NDArray[np.integer[Any]], persons: Persons) -> Tracks:
    """Tell persons and frames of the rows of a sample.

    Parameters
    ----------
    next_row
        (R,) row of the same person's next frame, a row's own number for the last (`Ragged.next_row`).
    persons
        How the persons of a recording became samples.
    """
    person = np.full(len(next_row), -1, np.int64)
    frame = np.zeros(len(next_row), np.int64)
    known = 0
    for row, following in enumerate(next_row):
        if person[row] < 0:
            person[row], known = known, known + 1
        person[following] = person[row]
    if persons == "concat":
        for one in range(known):
            own = person == one
            frame[own] = np.arange(own.sum())
        return Tracks(person, frame)
    # interleaved: within a frame the persons stand in their order
    frame[1:] = np.cumsum(person[1:] <= person[:-1])
    return Tracks(person, frame)


def find_samples(source: ImageSource, names: Sequence[str]) -> NDArray[np.int64]:
    """Return the numbers of samples by their name, or by that of their recording (all of its samples).

    Raises
    ------
    UnknownNameError
        There is neither.
    """
    found: list[int] = []
    first = source.images.mixture.first
    for name in names:
        hits = [
            int(start) + int(row)
            for start, samples in zip(first[:-1], source.images.mixture.sets, strict=True)
            for row in np.flatnonzero(
                (samples.table.index == name) | (samples.table["recording"] == name).to_numpy(bool)
            )
        ]
        if not hits:
            known = [str(one) for samples in source.images.mixture.sets for one in samples.table.index]
            raise UnknownNameError("sample or recording", name, near_names(name, known))
        found += [hit for hit in hits if hit not in found]
    return np.array(found, np.int64)


def spread(index: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return ``count`` of the samples, evenly spread; all of them where there are no more."""
    if len(index) <= count:
        return index
    return index[np.linspace(0, len(index) - 1, count).round().astype(np.int64)]


@dataclass(frozen=True)
class Sample:
    """One sample: where it stands, and its cleaned rows.

    Attributes
    ----------
    images
        The set that it is of.
    number
        Its number in the set.
    rows
        Its own rows, on the device.
    tracks
        Whose and when they are.
    """

    images: ImageSet
    number: int
    rows: Ragged
    tracks: Tracks

    @property
    def name(self) -> str:
        """Its id."""
        return str(self.images.samples.table.index[self.number])

    @property
    def recording(self) -> str:
        """The recording it is of."""
        return str(self.images.samples.table["recording"].iloc[self.number])

    @property
    def action(self) -> str:
        """Its class, as far as it is known."""
        samples = self.images.samples
        label = int(samples.table["label"].iloc[self.number])
        return samples.classes[label] if 0 <= label < len(samples.classes) else ""

    @property
    def frame_rate(self) -> float | None:
        """Frames a second, where the store knows."""
        store = self.images.samples.store
        return None if store is None else store.info.frame_rate

    @property
    def position(self) -> NDArray[np.float32]:
        """(R, J, 3) float32: the cleaned poses."""
        position: NDArray[np.float32] = self.rows.position.cpu().numpy()
        return position

    def recordings(
        self, positions: Sequence[NDArray[np.floating[Any]]]
    ) -> tuple[stored.Recording, tuple[NDArray[np.bool_], ...]]:
        """Return a recording to be drawn, of versions of the poses (R, J, 3), side by side; and of which rows
        each body is.
        """
        bodies, rows = [], []
        for placed in side_by_side(positions, self.images) if len(positions) > 1 else positions:
            for person in range(self.tracks.persons):
                own = self.tracks.person == person
                rows.append(own)
                frames = self.tracks.frame[own].astype(np.int32)
                bodies.append(stored.Sequence(self.name, str(person), frames, placed[own].astype(np.float32)))
        row = {"action": self.action}
        return stored.Recording(self.name, self.tracks.length, tuple(bodies), row), tuple(rows)


def open_sample(source: ImageSource, number: int) -> Sample:
    """Bring the rows of a sample together; ``number`` counts through all stores."""
    (k, local, _) = next(iter(source.images.mixture.split(np.array([number], np.int64))))
    images = source.images.sets[k]
    rows = images.samples.gather(local)
    tracks = read_tracks(rows.next_row.cpu().numpy(), source.stores[k].persons)
    return Sample(images, int(local[0]), rows, tracks)


def why_no_poses(images: ImageSet) -> str | None:
    """Say why images cannot be decoded to poses; None where they can."""
    plan = images.plan
    if not set(images.streams) & set(POSE_STREAMS):
        return f"the stream {images.stream} holds no pose: motion says how a pose changes, not where it was"
    if len(plan.order) > plan.size[1]:
        return (
            f"the images have {plan.size[1]} columns for {len(plan.order)} joints: what is between the "
            "columns is lost"
        )
    if _pose_stream(images) == "bone":
        if len(plan.order) < plan.joint_count:
            return "bones lead to joints that the images leave out"
        if np.linalg.matrix_rank(images.skeleton.bone_matrix()) < plan.joint_count - 1:
            return f"the bones of {images.skeleton.name} do not fix where the joints are"
    return None


def decode_poses(image: NDArray[Any], sample: Sample) -> NDArray[np.float64]:
    """Decode an image (C, rows, columns), not normalised, to poses (R, J, 3) in the unit of the rows.

    Ask `why_no_poses` first. Of ``bone`` the root is at the origin, of ``spine`` the layout's origin is.
    """
    images = sample.images
    stream = _pose_stream(images)
    first = AXES * images.streams.index(stream)
    next_row = sample.rows.next_row.cpu().numpy()
    values = decode(image[first : first + AXES], images.plan, len(next_row), next_row)
    if images.samples.scaling == "minmax":
        low = sample.position.min(axis=(0, 1)).astype(np.float64)
        half = (sample.position.max(axis=(0, 1)) - low) / 2
        values = values * half + (low + half if stream == "joint" else 0)
    if stream == "bone":
        values = np.linalg.pinv(images.skeleton.bone_matrix()) @ values
        values = values - values[:, [images.skeleton.parents.index(-1)]]
    return values


def seen_joints(visible: NDArray[np.bool_], sample: Sample) -> NDArray[np.bool_]:
    """(R, J): of which joints and frames at least half the weight lies in the visible pixels (rows, columns)
    of an image.
    """
    plan = sample.images.plan
    rows = time_matrix(plan, len(sample.tracks.frame))
    columns = joint_matrix(plan)
    there = rows.T @ visible.astype(np.float64) @ columns
    whole = rows.sum(axis=0)[:, None] * columns.sum(axis=0)[None, :]
    seen: NDArray[np.bool_] = (whole > 0) & (there >= SEEN * whole)
    return seen


def side_by_side(
    positions: Sequence[NDArray[np.floating[Any]]], images: ImageSet
) -> list[NDArray[np.float64]]:
    """Turn versions of the same poses (R, J, 3) to face the viewer, and place them from left to right."""
    last = positions[-1]
    yaw = front_yaw([last.astype(np.float32)], images.skeleton)
    turned = [turn(position, yaw) for position in positions]
    low, high = np.nanpercentile(turned[-1][..., 0], (1, 99))
    step = np.array([high - low + GAP, 0, 0])
    return [position + k * step for k, position in enumerate(turned)]


def _pose_stream(images: ImageSet) -> str:
    return next(stream for stream in POSE_STREAMS if stream in images.streams)
