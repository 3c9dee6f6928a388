"""`S2IPlan`: the column order and the weights of the Skeleton-to-Image encoding of one joint layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelformats.errors import SkelconvError
from skelformats.skeleton import PARTS, Skeleton

SIZE = 224
"""Rows and columns of an image (S2I paper, section 3.1)."""

PATCH = 16
"""Side of a patch of the vision transformers that read the images; only `S2IPlan.describe` uses it."""

Weights = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


class S2IError(SkelconvError, ValueError):
    """Positions, offsets, a size or a plan that cannot be used."""


@dataclass(frozen=True)
class S2IPlan:
    """How sequences of one joint layout become images.

    Attributes
    ----------
    skeleton_name
        The layout.
    joint_count
        Joints of the positions that go in; the layout's, of which ``order`` may leave some out.
    joints, order
        Names and raw indices of the J joints, from the leftmost column to the rightmost.
    part_sizes
        Joints of each of the five parts (`skelformats.skeleton.PARTS`), which follow each other.
    size
        Rows and columns of an image.
    align_corners
        False: pixel centres at (i + 1/2) / size, as torch, cv2 and torchvision have it by default. True: the
        first and last frame (and joint) fall on the first and last pixel.
    """

    skeleton_name: str
    joint_count: int
    joints: tuple[str, ...]
    order: tuple[int, ...]
    part_sizes: tuple[int, ...]
    size: tuple[int, int] = (SIZE, SIZE)
    align_corners: bool = False

    def weights_time(self, frames: int) -> Weights:
        """Interpolation of ``frames`` frames to the image's rows, as `line_weights` gives it."""
        return line_weights(frames, self.size[0], self.align_corners)

    def weights_joint(self) -> Weights:
        """Interpolation of the J joints to the image's columns; indices count along ``order``."""
        return line_weights(len(self.order), self.size[1], self.align_corners)

    @property
    def joint_edges(self) -> NDArray[np.float64]:
        """(J + 1,) pixels: joint k, in column order, is nearest from edge k to edge k + 1."""
        count, columns = len(self.order), self.size[1]
        middles = np.arange(1, count, dtype=np.float64)
        if self.align_corners:
            middles = (middles - 0.5) * (columns - 1) / max(count - 1, 1) + 0.5
        else:
            middles = middles * columns / count
        return np.concatenate([[0.0], middles, [float(columns)]])

    @property
    def part_edges(self) -> NDArray[np.float64]:
        """(6,) pixels: where each part begins, and the image's width."""
        return self.joint_edges[np.concatenate([[0], np.cumsum(self.part_sizes)])]

    @property
    def joint_parts(self) -> tuple[str, ...]:
        """Name of the part of each joint, in column order."""
        return tuple(part for part, size in zip(PARTS, self.part_sizes, strict=True) for _ in range(size))

    def describe(self, patch: int = PATCH) -> str:
        """Return the plan as text: parts, joints, columns, and the ``patch``-pixel patches they touch."""
        rows, columns = self.size
        count = len(self.order)
        centres = "pixel centres at the corners" if self.align_corners else "half-pixel centres"
        lines = [
            f"S2I encoding of {self.skeleton_name}",
            f"  image   3 x {rows} x {columns}: channels x y z, rows are time, columns are joints",
            f"  resize  linear along time and along joints, {centres}, no antialias",
            f"  joints  {count} of {self.joint_count}, {columns / count:.2f} px each, "
            f"{patch * count / columns:.2f} to a patch of {patch} px",
            "",
            f"  {'part':<12}{'joints':>6}  {'px':>15}  patches",
        ]
        edges = self.part_edges
        for part, size, low, high in zip(PARTS, self.part_sizes, edges, edges[1:], strict=False):
            lines.append(f"  {part:<12}{size:>6}  {_span(low, high)}  {_patches(low, high, patch)}")
        width = max(len(name) for name in ("joint", *self.joints))
        lines += ["", f"  {'part':<12}{'joint':<{width}}  {'raw':>3}  {'px':>15}  patches"]
        edges = self.joint_edges
        rest = zip(self.joint_parts, self.joints, self.order, edges, edges[1:], strict=False)
        for part, name, raw, low, high in rest:
            span, patches = _span(low, high), _patches(low, high, patch)
            lines.append(f"  {part:<12}{name:<{width}}  {raw:>3}  {span}  {patches}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain data, for a store's attributes or a checkpoint; inverse of `from_dict`."""
        edges = self.joint_edges
        return {
            "skeleton": self.skeleton_name,
            "joint_count": self.joint_count,
            "size": list(self.size),
            "align_corners": self.align_corners,
            "antialias": False,
            "columns": [
                {"joint": name, "index": raw, "part": part, "from_px": float(low), "to_px": float(high)}
                for name, raw, part, low, high in zip(
                    self.joints, self.order, self.joint_parts, edges, edges[1:], strict=False
                )
            ],
            "part_edges": [float(edge) for edge in self.part_edges],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> S2IPlan:
        """Build the plan that `to_dict` described; raises `S2IError` where a key is missing or wrong."""
        try:
            columns = list(data["columns"])
            parts = [column["part"] for column in columns]
            rows, width = (int(side) for side in data["size"])
            plan = cls(
                skeleton_name=str(data["skeleton"]),
                joint_count=int(data["joint_count"]),
                joints=tuple(str(column["joint"]) for column in columns),
                order=tuple(int(column["index"]) for column in columns),
                part_sizes=tuple(parts.count(part) for part in PARTS),
                size=(rows, width),
                align_corners=bool(data["align_corners"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise S2IError(f"found an encoding plan that cannot be read ({error!r})") from error
        return _checked(plan)


def make_plan(skeleton: Skeleton, size: int | tuple[int, int] = SIZE, align_corners: bool = False) -> S2IPlan:
    """Plan the encoding of a layout; ``size`` is the image's side, or its rows and columns.

    Raises
    ------
    S2IError
        The size is not positive.
    """
    rows, columns = (size, size) if isinstance(size, int) else size
    order = skeleton.column_order
    return _checked(
        S2IPlan(
            skeleton_name=skeleton.name,
            joint_count=len(skeleton),
            joints=tuple(skeleton.names[joint] for joint in order),
            order=order,
            part_sizes=tuple(len(part) for part in skeleton.parts),
            size=(rows, columns),
            align_corners=align_corners,
        )
    )


def line_weights(count: int, size: int, align_corners: bool = False) -> Weights:
    """Linear interpolation of ``count`` samples to ``size`` points.

    Returns
    -------
    (size,) lower and upper index (int64) and weight of the upper (float64): the value at point i is
    ``(1 - weight[i]) * x[lower[i]] + weight[i] * x[upper[i]]``. Where the weight is 0, upper is lower.
    Points before the first sample, or after the last, take its value.
    """
    i = np.arange(size, dtype=np.int64)
    # integers keep the fraction exact for any length
    if align_corners:
        over, under = i * (count - 1), max(size - 1, 1)
    else:
        over, under = np.maximum((2 * i + 1) * count - size, 0), 2 * size
    lower = over // under
    rest = over - lower * under
    past = lower >= count - 1
    lower = np.where(past, count - 1, lower)
    rest = np.where(past, 0, rest)
    return lower, lower + (rest > 0), rest / under


def _checked(plan: S2IPlan) -> S2IPlan:
    if min(plan.size) < 1:
        raise S2IError(f"found an image size of {plan.size[0]} x {plan.size[1]}, expected at least 1 x 1")
    if not plan.order or min(plan.order) < 0 or max(plan.order) >= plan.joint_count:
        raise S2IError(f"found the joint order {plan.order}, expected indices below {plan.joint_count}")
    if sum(plan.part_sizes) != len(plan.order):
        raise S2IError(f"found parts of {plan.part_sizes} joints, expected {len(plan.order)} joints in all")
    return plan


def _span(low: float, high: float) -> str:
    return f"{low:6.2f} - {high:6.2f}"


def _patches(low: float, high: float, patch: int) -> str:
    """Patch columns that the pixels from ``low`` to ``high`` touch."""
    first, last = int(low // patch), int(np.ceil(high / patch)) - 1
    return str(first) if first >= last else f"{first}-{last}"
