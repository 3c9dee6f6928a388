"""Stores as recordings of one or two people for action recognition: 2D poses of h36m17, and labels.

The poses of a store lie here once, a row a person and frame; which rows a recording has is a table. A clip is
made when it is asked for (`skeltrain.data.action_batches`).

F rows of a store, R frames of all recordings, N recordings, J = 17 joints, two persons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from skelconv.human.camera import color_pixels
from skelconv.store.schema import CONFIDENCE, POSITION
from skelconv.store.store import Store
from skelformats.conversions import to_h36m17
from skeltrain.data.loader import DataError
from skeltrain.data.motion import ACTION_PERSONS, exchanged
from skeltrain.data.motion_sets import ORTHOGRAPHIC_SCALE, image_points, joints_of
from skeltrain.data.samples import identify

KINECT = "ntu25"
"""Layout of stores whose 3D poses are in a Kinect's frame, before its camera."""

KINECT_PICTURE = (1920, 1080)
"""Width and height of the Kinect's picture in pixels."""

SIZE = ("width", "height")
"""Columns of the size of a recording's picture, -1 where the source does not tell."""


@dataclass(frozen=True, eq=False)
class ActionSet:
    """Recordings of a store.

    Attributes
    ----------
    place
        (F + 2, J, 2) float32 on the device: x and y in units of half the picture's longer side, from -1. The
        two last rows are a person who is not in a frame, and one who is in no frame.
    score
        (F + 2, J) float32 confidences.
    rows, score_rows
        (R, 2) int64 on the device: for each frame of each recording the rows of its two persons. Those of the
        confidences differ where persons were exchanged and ``parity`` leaves confidences behind.
    first, length
        (N,) int64: the frames of each recording among all.
    table
        N rows; the columns of the store that hold for each recording.
    classes
        Names of the classes; labels count along it.
    identity
        Which data it is, as plain data.
    account
        What to say about where the 2D poses come from.
    parity
        Whether confidences are as the released action models were trained with.
    store
        The store itself.
    """

    place: Tensor
    score: Tensor
    rows: Tensor
    score_rows: Tensor
    first: NDArray[np.int64]
    length: NDArray[np.int64]
    table: pd.DataFrame
    classes: tuple[str, ...]
    identity: dict[str, Any]
    account: str
    parity: bool
    store: Store

    def __len__(self) -> int:
        return len(self.first)

    @property
    def label(self) -> NDArray[np.int64]:
        """(N,) classes, -1 for none."""
        return self.table["label"].to_numpy(np.int64)

    @property
    def name(self) -> NDArray[np.str_]:
        """(N,) names of the recordings."""
        return self.table["recording"].to_numpy(object).astype(str)

    def part(self, protocol: str, part: str) -> NDArray[np.int64]:
        """Return the numbers of the labelled recordings in a part of a protocol.

        Raises
        ------
        DataError
            The store has no such protocol, or the part has no labelled recording.
        """
        column = f"split_{protocol}"
        if column not in self.table:
            known = [str(c).removeprefix("split_") for c in self.table if str(c).startswith("split_")]
            raise DataError(
                f"found no protocol {protocol!r} in the store, expected one of {', '.join(known) or 'none'}. "
                "Set data.protocol"
            )
        among = (self.table[column] == part).to_numpy(bool)
        chosen = np.flatnonzero(among & (self.label >= 0)).astype(np.int64)
        if not len(chosen):
            parts = sorted({str(value) for value in self.table[column]} - {""})
            what = "no labels" if among.any() else "no recording"
            raise DataError(
                f"found {what} in part {part!r} of protocol {protocol!r}, expected labelled recordings in "
                f"one of {', '.join(parts) or 'none'}. Set data.train and data.test, or choose another "
                "protocol"
            )
        return chosen

    def motion(self, number: int, frames: NDArray[np.int64]) -> Tensor:
        """Return frames (T,) of a recording as (2, T, J, 3): x, y and confidence of both persons."""
        at = torch.from_numpy(self.first[number] + frames).to(self.rows.device)
        place, score = self.place[self.rows[at]], self.score[self.score_rows[at]]
        return torch.cat([place, score[..., None]], dim=-1).transpose(0, 1)


def open_actions(store: Store, device: torch.device, parity: bool = True) -> ActionSet:
    """Read a store as recordings of at most two persons, seen in 2D.

    Of 3D poses the projection is taken: in the layout ``ntu25`` through the Kinect's colour camera, in others
    from +z of the store's axes without perspective. Of more than two persons, those in the most frames.

    Parameters
    ----------
    parity
        Scored joints of coco17 as the released action models know them: a joint that was not found is in the
        corner of the picture, and confidences stay in the order of coco17 and with the listed person
        (`skeltrain.data.motion.action_motion`). When off, and for other layouts, confidences go with their
        joints and persons, and what was not found is 0.

    Raises
    ------
    DataError
        Positions are neither pixels nor metres, or no recording has a frame.
    SkeletonError
        The joints make no h36m17; those that are missing are named.
    StoreError
        The store cannot be read.
    """
    flat = len(store.info.axes.names) == 2
    if store.info.unit != ("px" if flat else "m"):
        raise DataError(
            f"{store.path}: found poses in {store.info.unit!r}, expected pixels of 2D poses or metres of 3D "
            "ones"
        )
    table = store.to_frame().reset_index(drop=True)
    if not len(table):
        raise DataError(f"{store.path}: found no sequence, expected recordings of people")
    position = store.array(POSITION)
    scores = store.array(CONFIDENCE) if CONFIDENCE in store.arrays else None
    scored = scores is not None and scores.dtype.kind == "f"
    parity = parity and flat and scored and store.skeleton.name == "coco17"
    place, score, tracked, account = _see(store, table, position, scores, parity)
    people = _people(table)
    rows = _rows(people, table, store.array("frame_index").astype(np.int64), len(position))
    score_rows = rows.copy() if parity else rows
    first = np.concatenate([[0], np.cumsum(people["length"])])[:-1].astype(np.int64)
    if tracked is not None:
        _follow(people, first, rows, tracked)
    absent = -1.0 if parity else 0.0
    ends = np.stack([np.full_like(place[:1], absent), np.zeros_like(place[:1])]).reshape(2, -1, 2)
    return ActionSet(
        place=torch.from_numpy(np.concatenate([place, ends])).to(device),
        score=torch.from_numpy(np.concatenate([score, np.zeros_like(score[:1]).repeat(2, axis=0)])).to(
            device
        ),
        rows=torch.from_numpy(rows).to(device),
        score_rows=torch.from_numpy(score_rows).to(device),
        first=first,
        length=people["length"].to_numpy(np.int64),
        table=table.iloc[people["row"]].drop(columns=["start", "length", "body"]).reset_index(drop=True),
        classes=store.info.classes,
        identity=identify(store),
        account=account,
        parity=parity,
        store=store,
    )


def _see(
    store: Store,
    table: pd.DataFrame,
    position: NDArray[Any],
    scores: NDArray[Any] | None,
    parity: bool,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None, str]:
    """Return places (F, 17, 2), confidences (F, 17), what persons are followed by, and what to say of them.

    Persons are followed by their joints (F, J', 2) in the layout coco17, of which files list whom a detector
    found in each frame. In others sequences are tracks.
    """
    if position.shape[-1] == 3:
        return *_project(store, position, scores), None, _project_account(store)
    lengths = table["length"].to_numpy(np.int64)
    longer, account = _longer_side(table, position)
    longer = np.repeat(longer, lengths)[:, None, None].astype(np.float32)
    placed = np.nan_to_num(position, nan=0.0) / longer * 2 - 1
    if parity:
        assert scores is not None
        joints, _ = to_h36m17("coco17", placed)
        score = np.where(np.isfinite(position).all(axis=-1), np.nan_to_num(scores), 0).astype(np.float32)
        return joints, score, placed, f"2D poses of {store.info.dataset.name}{account}"
    points = image_points(store, position, scores)
    found = points[..., 2:] > 0
    joints = np.where(found, points[..., :2] / longer * 2 - 1, 0).astype(np.float32)
    listed = placed if store.skeleton.name == "coco17" else None
    return joints, points[..., 2], listed, f"2D poses of {store.info.dataset.name}{account}"


def _longer_side(table: pd.DataFrame, position: NDArray[Any]) -> tuple[NDArray[np.float64], str]:
    """Return the longer side of the picture of each sequence, in pixels; its poses' extent where unknown."""
    known = np.zeros(len(table))
    if set(SIZE) <= set(table.columns):
        known = table[list(SIZE)].max(axis=1).to_numpy(np.float64)
    unknown = np.flatnonzero(~(known > 0))
    for number in unknown:
        start, length = (int(table[name].iloc[number]) for name in ("start", "length"))
        own = np.abs(position[start : start + length])
        most = float(np.nanmax(own)) if np.isfinite(own).any() else 0.0
        known[number] = most if most > 0 else 1.0
    if not len(unknown):
        return known, ""
    # of persons in one picture, the same size
    whole = pd.Series(known).groupby(table["recording"].to_numpy(object)).transform("max")
    return whole.to_numpy(np.float64), (
        f"; of {len(unknown)} sequences the picture's size is not known: their largest coordinate is taken "
        "for it"
    )


def _project(
    store: Store, position: NDArray[Any], scores: NDArray[Any] | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return places and confidences of 3D poses; a joint that has no place is 0 with confidence 0."""
    joints, _ = joints_of(store.skeleton, position)
    found = np.asarray(np.isfinite(joints).all(axis=-1), np.bool_)
    if scores is not None:
        _, weights = joints_of(store.skeleton, position, (scores > 0).astype(np.float32))
        assert weights is not None
        found &= weights > 0
    known = np.where(found[..., None], joints, 0)
    if store.skeleton.name == KINECT:
        found &= known[..., 2] > 0
        place = color_pixels(known.astype(np.float64)) / max(KINECT_PICTURE) * 2 - 1
    else:
        place = known[..., :2] * (ORTHOGRAPHIC_SCALE, -ORTHOGRAPHIC_SCALE)
    return np.where(found[..., None], place, 0).astype(np.float32), found.astype(np.float32)


def _project_account(store: Store) -> str:
    kinect = store.skeleton.name == KINECT
    how = "through the Kinect's colour camera" if kinect else "from +z, without perspective"
    return (
        f"3D poses of {store.info.dataset.name}, projected to 2D {how}; published figures are of a "
        "detector's 2D poses"
    )


def _people(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row a recording: its first row in ``table``, its length, and the rows of its two persons."""
    found = []
    for _, own in table.groupby("recording", sort=False):
        most = (-own["length"].to_numpy(np.int64)).argsort(kind="stable")[:ACTION_PERSONS]
        rows = own.index.to_numpy()[np.sort(most)]
        second = int(rows[1]) if len(rows) > 1 else -1
        found.append((int(rows[0]), second, int(own["recording_length"].iloc[0])))
    return pd.DataFrame(found, columns=["row", "second", "length"])


def _rows(
    people: pd.DataFrame, table: pd.DataFrame, frame: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """(R, 2) rows of both persons in every frame; ``count`` where one is absent, ``count`` + 1 for nobody."""
    start, length = (table[name].to_numpy(np.int64) for name in ("start", "length"))
    rows = np.full((int(people["length"].sum()), ACTION_PERSONS), count, np.int64)
    at = 0
    for first, second, frames in people.itertuples(index=False):
        for person, row in enumerate((first, second)):
            if row < 0:
                rows[at : at + frames, person] = count + 1
                continue
            own = np.arange(start[row], start[row] + length[row])
            rows[at + frame[own], person] = own
        at += frames
    return rows


def _follow(
    people: pd.DataFrame, first: NDArray[np.int64], rows: NDArray[np.int64], tracked: NDArray[np.float32]
) -> None:
    """Give the two persons of each recording their own tracks, where a detector has exchanged them."""
    absent = np.full_like(tracked[:1], -1.0)
    seen = np.concatenate([tracked, absent])
    both = np.flatnonzero(people["second"].to_numpy() >= 0)
    for number in both:
        own = slice(int(first[number]), int(first[number] + people["length"].iloc[number]))
        persons = torch.from_numpy(seen[rows[own]]).transpose(0, 1)
        swapped = exchanged(persons).numpy()
        rows[own][swapped] = rows[own][swapped][:, ::-1]
