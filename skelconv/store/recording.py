"""`Sequence` and `Recording`: what a store hands out, and what cleaning takes in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skelconv.store.markup import table

if TYPE_CHECKING:
    import xarray as xr

    from skelconv.store.labels import Labels


@dataclass(frozen=True, eq=False, repr=False)
class Sequence:
    """One body's track in one recording: a row of the store.

    Two sequences are equal only where they are one object: arrays have no single answer to ``==``.

    Attributes
    ----------
    name
        The sequence's id in its store.
    body
        The source's own id of the body.
    frame_index
        (T,) int32: the frame's number in its recording, strictly increasing; gaps are frames without it.
    position
        (T, J, A) float32 in the store's unit; a missing joint is NaN.
    confidence
        (T, J) tracking state (uint8) or detector score (float32), or None.
    extras
        Optional arrays of the store, each (T, ...).
    row
        The sequence's row of the table; the value of a column of arrays is a numpy array.
    labels
        What its store says that the numbers mean; None for a sequence made by hand.
    """

    name: str
    body: str
    frame_index: NDArray[np.int32]
    position: NDArray[np.float32]
    confidence: NDArray[Any] | None = None
    extras: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    row: Mapping[str, Any] = field(default_factory=dict)
    labels: Labels | None = None

    def __len__(self) -> int:
        return len(self.frame_index)

    def __repr__(self) -> str:
        return f"<skelconv.Sequence {self.name!r}: {', '.join(self._facts().values())}>"

    def _repr_html_(self) -> str:
        return table(f"Sequence {self.name}", {**self._facts(), **self.row})

    def to_xarray(self, frame_rate: float | None = None) -> xr.Dataset:
        """Return the sequence as an xarray Dataset: ``position`` (time, joint, axis), and what else it has.

        ``time`` is in seconds from the recording's first frame, ``frame`` the frame's number; joints and axes
        go by name; ``sequence``, ``recording`` and ``body`` are scalars; units are attributes, and so are the
        plain cells of the row.

        Parameters
        ----------
        frame_rate
            Frames a second, above 0. Left out: the row's own column ``frame_rate``, else the store's.

        Raises
        ------
        StoreError
            No frame rate is known and none is given, or it is not above 0, or the sequence was made by hand.
        """
        from skelconv.store.labels import to_dataset

        return to_dataset(self, frame_rate)

    def _facts(self) -> dict[str, str]:
        """What the short forms say, without reading any array."""
        frames, labels = len(self), self.labels
        joints = self.position.shape[1] if labels is None else len(labels.coords["joint"])
        action = str(self.row.get("action", ""))
        facts = {"frames": f"{frames:,} frames", "joints": f"{joints} joints"}
        return facts | ({"action": action} if action else {})


@dataclass(frozen=True, eq=False, repr=False)
class Recording:
    """One recording with all its bodies, in order of first appearance.

    ``length`` counts every frame of the recording, those without any body included.
    """

    name: str
    length: int
    bodies: tuple[Sequence, ...]
    row: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        bodies = ", ".join(f"{body.name!r} ({len(body):,})" for body in self.bodies)
        return f"<skelconv.Recording {self.name!r}: {self.length:,} frames, bodies {bodies or 'none'}>"

    def _repr_html_(self) -> str:
        bodies = {f"body {body.body}": f"{body.name}, {len(body):,} frames" for body in self.bodies}
        return table(f"Recording {self.name}", {"frames": self.length, **bodies, **self.row})

    def frames(self) -> NDArray[np.int32]:
        """(F,) int32: numbers of the frames in which at least one body was observed, increasing."""
        if not self.bodies:
            return np.zeros(0, np.int32)
        return np.unique(np.concatenate([body.frame_index for body in self.bodies]))
