"""Data of one's own, described as a dataset: any layout, unit, axes, classes, splits and columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from skelformats.errors import SkelconvError, UnknownNameError
from skelformats.reader import AxisMap, Column, Confidence, Dataset, Option, Protocol
from skelformats.skeleton import load_skeleton

Up = Literal["y", "z", "-y"]

METRES: Mapping[str, float] = {"m": 1.0, "cm": 0.01, "mm": 0.001}
"""Length units of three-dimensional positions, in metres; every store of them is in metres."""

UPWARDS: Mapping[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "y": ((0, 1, 2), (1, 1, 1)),
    "z": ((0, 2, 1), (1, 1, -1)),
    "-y": ((0, 1, 2), (1, -1, -1)),
}
"""Order and signs that bring axes with this one up to those of a store (+y up), by a turn about x."""

AUTO = "auto"

UNIT = Option(
    "unit",
    str,
    AUTO,
    "Unit of the positions; auto: m with three axes, px with two.",
    (AUTO, *METRES, "px", "1"),
)
UP = Option(
    "up", str, "y", "The axis that points up, with three axes; -y in the axes of cameras.", tuple(UPWARDS)
)
LICENCE = Option("licence", str, "", "Licence of the data, as the store is to state it.")
CITATION = Option("citation", str, "", "How the data is cited.")

NO_LICENCE = "not stated"
GIVEN_LICENCE = "yours to give, with --licence"
"""What a list of datasets says of the licence of one's own data."""
CONFIDENCE = Confidence("f4", "as the source gives it, usually 0 to 1")


class OwnDataError(SkelconvError):
    """Data of one's own cannot be stored as it is described."""


def unit_of(asked: str, axes: int) -> str:
    """Return the unit of positions with so many axes (2 or 3), where `UNIT` was asked to be this."""
    return asked if asked != AUTO else ("m" if axes == 3 else "px")


@dataclass(frozen=True)
class Description:
    """What data of one's own is.

    Attributes
    ----------
    skeleton
        Name of a joint layout, or a TOML file of one.
    axes
        2 or 3.
    unit
        ``m``, ``cm`` or ``mm`` in three dimensions, which become metres; ``px`` or ``1`` in two.
    up
        The axis that points up in three dimensions: ``y``; ``z``; ``-y``, as cameras have it.
    frame_rate
        Frames a second; None where it is not known.
    classes
        Names, in the order of their numbers.
    splits
        Descriptions by the name of the split.
    confidence
        Whether joints have one.
    title, licence, citation
        Yours to give; a store without a licence says that none is stated.
    """

    skeleton: str | Path
    axes: int = 3
    unit: str = "m"
    up: str = "y"
    frame_rate: float | None = None
    classes: Sequence[str] = ()
    columns: Sequence[Column] = ()
    splits: Mapping[str, str] | None = None
    confidence: bool = False
    name: str = "own"
    title: str = ""
    licence: str = ""
    citation: str = ""

    def dataset(self) -> Dataset:
        """Return it as a dataset.

        Raises
        ------
        OwnDataError
            Axes, unit, frame rate or classes that cannot be.
        UnknownNameError, SkeletonError
            No such layout.
        """
        # loaded for its errors
        load_skeleton(self.skeleton)
        if self.axes not in (2, 3):
            raise OwnDataError(f"found positions of {self.axes} axes, expected 2 or 3")
        flat = self.axes == 2
        units = ("px", "1") if flat else tuple(METRES)
        if self.unit not in units:
            raise UnknownNameError(f"unit of positions with {self.axes} axes", self.unit, units)
        if self.up not in UPWARDS:
            raise UnknownNameError("axis that is up", self.up, tuple(UPWARDS))
        if self.frame_rate is not None and not 0 < self.frame_rate < 1e6:
            raise OwnDataError(f"found {self.frame_rate} frames a second, expected more than 0")
        twice = sorted({name for name in self.classes if list(self.classes).count(name) > 1})
        if twice:
            raise OwnDataError(f"found the class {twice[0]!r} twice, expected names that are unique")
        order, sign = UPWARDS["y" if flat else self.up]
        return Dataset(
            name=self.name,
            title=self.title or "data of one's own",
            skeleton=str(self.skeleton),
            licence=self.licence or NO_LICENCE,
            citation=self.citation,
            homepage="",
            frame_rate=self.frame_rate,
            classes=tuple(self.classes),
            columns=tuple(self.columns),
            protocols=tuple(Protocol(name, text) for name, text in (self.splits or {}).items()),
            missing="NaN",
            unit=self.unit if flat else "m",
            axes=("x", "y") if flat else ("x", "y", "z"),
            axis_convention="+y down, as in pictures" if flat else "right-handed, +y up",
            axis_map=AxisMap((0, 1), (1, 1)) if flat else AxisMap(order, sign, METRES[self.unit]),
            confidence=CONFIDENCE if self.confidence else None,
        )
