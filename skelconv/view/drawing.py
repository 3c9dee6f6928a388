"""What all pictures of a recording share: its scene, the limbs to draw, their colours, the front view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from skelconv.store.recording import Recording
from skelformats.skeleton import Skeleton

Side = Literal[0, 1, 2]
"""Left, middle, right: the place of a colour in its family."""

LEFT: Side = 0
MIDDLE: Side = 1
RIGHT: Side = 2

FAMILIES = (
    ("#2f7de1", "#7887a0", "#0f9f96"),
    ("#e0452f", "#a08378", "#c47b00"),
    ("#3b9a3f", "#86917b", "#8f9400"),
    ("#8b5ce0", "#9686a4", "#d3559f"),
)
"""Colours of left, middle and right limbs of each of several bodies in turn; they read on white and on
near-black.
"""

SOLO = ("#2f7de1", "#7887a0", "#d9622b")
"""Those of a body that is alone, and needs not be told from others: left and right are farther apart."""

HEAT = ("#8a93a0", "#e5a50a", "#d4262c")
"""Colours of little, middling and much of something, such as attention; they read on white and on
near-black.
"""

_CAPTION_COLUMNS = ("subject", "camera", "setup", "replication", "take", "view")
_OUTLIERS = 0.5
"""Percent of the coordinates at either end that may lie outside the scene: single joints flung far away."""


@dataclass(frozen=True)
class Limb:
    """A line between two joints of a layout, and the side of the body that it is on."""

    joint: int
    other: int
    side: Side


@dataclass(frozen=True, eq=False)
class Scene:
    """One recording as it is drawn: three axes, +y up, whatever the store's axes are.

    Attributes
    ----------
    name
        The recording.
    caption
        Its action, subject and so on, as far as the table tells.
    length
        Frames of the recording, those without any body included.
    bodies
        (frame_index (T,) int32, position (T, J, 3) float32) of each body; a missing joint is NaN.
    limbs
        What to draw between joints.
    yaw
        Turn about +y, in radians, after which the bodies are seen from the front (`turn`).
    low, high
        (3,) corners of the box that holds the bodies in all frames, outliers aside; ``low[1]`` is the ground.
    names
        What a legend calls the bodies; empty counts them.
    flat
        The recording has two axes (pixels): there is nothing to turn, and no ground.
    """

    name: str
    caption: str
    length: int
    bodies: tuple[tuple[NDArray[np.int32], NDArray[np.float32]], ...]
    limbs: tuple[Limb, ...]
    yaw: float
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    flat: bool
    names: tuple[str, ...] = ()

    def frames(self) -> NDArray[np.int32]:
        """(F,) numbers of the frames in which some joint of some body is there to draw, increasing."""
        seen = [index[np.isfinite(position).any(axis=(1, 2))] for index, position in self.bodies]
        return np.unique(np.concatenate([np.zeros(0, np.int32), *seen]))

    def poses(self, frame: int) -> list[tuple[int, NDArray[np.float32]]]:
        """Return (number of the body, (J, 3) positions) of each body observed in a frame of the recording."""
        found = []
        for number, (index, position) in enumerate(self.bodies):
            at = int(np.searchsorted(index, frame))
            if at < len(index) and index[at] == frame:
                found.append((number, position[at]))
        return found


def make_scene(
    recording: Recording, skeleton: Skeleton, yaw: float | None = None, names: Sequence[str] = ()
) -> Scene:
    """Prepare a recording, of two axes (pixels, y down) or three (+y up), for drawing.

    ``yaw`` is the turn about +y in which 3D bodies are first seen; from the front by default.
    ``names`` is what a legend calls the bodies.
    """
    bodies = tuple((body.frame_index, _upright(body.position)) for body in recording.bodies)
    flat = any(body.position.shape[-1] == 2 for body in recording.bodies)
    low, high = _box([position for _, position in bodies])
    if yaw is None:
        yaw = 0.0 if flat else front_yaw([position for _, position in bodies], skeleton)
    return Scene(
        name=recording.name,
        caption=caption(recording),
        length=recording.length,
        bodies=bodies,
        limbs=limbs(skeleton),
        yaw=yaw,
        low=low,
        high=high,
        flat=flat,
        names=tuple(names),
    )


def family(body: int, bodies: int) -> tuple[str, str, str]:
    """Return the colours of left, middle and right limbs of one of so many bodies."""
    return FAMILIES[body % len(FAMILIES)] if bodies > 1 else SOLO


def limbs(skeleton: Skeleton) -> tuple[Limb, ...]:
    """Return the lines to draw: the layout's tree and its mirror image.

    A layout with no joint along the spine hangs all of the body on one side (toyota13: the head on the right
    shoulder); with the mirror image it looks whole. In other layouts the mirror image is the tree itself.
    """
    lines = {frozenset(edge): edge for edge in skeleton.edges}
    for child, parent in skeleton.edges:
        mirrored = (skeleton.mirror[child], skeleton.mirror[parent])
        lines.setdefault(frozenset(mirrored), mirrored)
    sides = [_side(name) for name in skeleton.names]
    return tuple(
        Limb(child, parent, MIDDLE if {sides[child], sides[parent]} == {LEFT, RIGHT} else sides[child])
        for child, parent in lines.values()
    )


def head(skeleton: Skeleton) -> int | None:
    """Return the joint to draw as a head, None where a layout has none."""
    return skeleton.names.index("head") if "head" in skeleton.names else None


def turn(position: NDArray[np.floating], yaw: float, pitch: float = 0.0) -> NDArray[np.float64]:
    """Turn positions (..., 3) to a viewer: x to the right, y up, z towards the viewer.

    Parameters
    ----------
    yaw
        Turn about +y, in radians; at 0 the viewer looks along -z.
    pitch
        How far above the horizon the viewer is, in radians.
    """
    x, y, z = np.moveaxis(np.asarray(position, np.float64), -1, 0)
    x, z = x * np.cos(yaw) + z * np.sin(yaw), z * np.cos(yaw) - x * np.sin(yaw)
    return np.stack(
        [x, y * np.cos(pitch) - z * np.sin(pitch), y * np.sin(pitch) + z * np.cos(pitch)], axis=-1
    )


def front_yaw(positions: Sequence[NDArray[np.floating]], skeleton: Skeleton) -> float:
    """Return the turn about +y that shows bodies (T, J, 3) from the front.

    One body: the side to which its chest points on average. Several: square to the line through the two that
    are farthest apart, so that neither hides the other, from the side that their chests point to.
    """
    facing = np.zeros(2)
    for position in positions:
        facing += _facing(position, skeleton)
    centres = [centre for position in positions if (centre := _mean(position[..., ::2])) is not None]
    if len(centres) > 1:
        one, other = max(combinations(centres, 2), key=lambda pair: float(np.linalg.norm(pair[1] - pair[0])))
        across = other - one
        square = np.array([-across[1], across[0]])
        facing = square if square @ facing >= 0 else -square
    return float(np.arctan2(-facing[0], facing[1]))


def caption(recording: Recording) -> str:
    """Return action, subject, camera and so on in one line, as far as the recording's row has them."""
    row = recording.row
    words = [str(row["action"])] if row.get("action") else []
    words += [f"{name} {row[name]}" for name in _CAPTION_COLUMNS if name in row and row[name] not in ("", -1)]
    return " · ".join(words)


def grid_step(extent: float) -> float:
    """Return a round distance (1, 2 or 5 times a power of ten) that divides ``extent`` into 3 to 8 cells."""
    if not extent > 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(extent / 3 * (1 + 1e-9)))
    # 0.3 / 3 is a little less than 0.1
    third = extent / 3 * (1 + 1e-9)
    return float(max(step * power for step in (1, 2, 5) if step * power <= third))


def _side(name: str) -> Side:
    if name.startswith("left_"):
        return LEFT
    return RIGHT if name.startswith("right_") else MIDDLE


def _upright(position: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pixels (T, J, 2), counted downwards, as positions (T, J, 3) with +y up; three axes as they are."""
    if position.shape[-1] == 3:
        return position
    x, y = np.moveaxis(position, -1, 0)
    return np.stack([x, -y, np.where(np.isfinite(x), 0, np.nan)], axis=-1).astype(np.float32)


def _facing(position: NDArray[np.floating], skeleton: Skeleton) -> NDArray[np.float64]:
    """(2,) mean direction of the chest along x and z: to the left, turned by a right angle about +y."""
    names = skeleton.names
    trunk = [name for name in ("left_shoulder", "left_hip") if name in names]
    lefts = [names.index(name) for name in trunk] or [i for i, n in enumerate(names) if _side(n) == LEFT]
    rights = [skeleton.mirror[left] for left in lefts]
    left = _mean(position[:, lefts, ::2] - position[:, rights, ::2])
    return np.zeros(2) if left is None else np.array([-left[1], left[0]])


def _mean(points: NDArray[np.floating]) -> NDArray[np.float64] | None:
    """Mean of the points (..., A) that are there, None where none is."""
    points = points.reshape(-1, points.shape[-1]).astype(np.float64)
    there = points[np.isfinite(points).all(axis=1)]
    return there.mean(axis=0) if len(there) else None


def _box(positions: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    points = np.concatenate([np.zeros((0, 3), np.float32), *(p.reshape(-1, 3) for p in positions)])
    there = points[np.isfinite(points).all(axis=1)].astype(np.float64)
    if not len(there):
        return np.zeros(3), np.ones(3)
    low, high = np.percentile(there, (_OUTLIERS, 100 - _OUTLIERS), axis=0)
    return low, high
