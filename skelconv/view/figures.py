"""Poses as simple shaded figures, seen through a pinhole camera: pictures that agree with poses exactly.

A limb is a capsule, the set of points within a radius of a line, and each pixel's ray is cut with it in
closed form; the nearest one is seen. So a joint's projection lies inside its limbs' pixels by construction,
image, 2D and 3D pose come from the same numbers, and equal input gives equal bytes.

Camera axes: +x to the right of the picture, +y down, +z ahead. Pixels: x to the right and y down from the
picture's upper left corner, so the middle of the pixel in column 0 is at x = 0.5.

Legend: J joints, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelformats.errors import SkelconvError
from skelformats.skeleton import Skeleton

Array = NDArray[np.float64]
Colour = tuple[int, int, int]

BACKGROUND = -1
"""What `Figures.limb` and `Figures.body` hold where nobody is."""

LEFT, RIGHT, MIDDLE = (74, 124, 196), (214, 106, 70), (172, 164, 152)
"""Colours of a body's sides: red, green, blue."""

_RADII = (
    ("spine", 0.12),
    ("thorax", 0.12),
    ("chest", 0.12),
    ("head", 0.095),
    ("nose", 0.055),
    ("neck", 0.055),
    ("shoulder", 0.065),
    ("elbow", 0.05),
    ("wrist", 0.04),
    ("hand", 0.035),
    ("thumb", 0.02),
    ("knee", 0.075),
    ("ankle", 0.055),
    ("foot", 0.04),
    ("toe", 0.035),
    ("hip", 0.09),
)
"""Metres, by what the name of a limb's outer joint holds; the first that fits."""

_OTHER_RADIUS = 0.045
_LIGHT = np.array([-0.45, -0.7, -0.55]) / np.linalg.norm([-0.45, -0.7, -0.55])
_AMBIENT = 0.35


class FigureError(SkelconvError, ValueError):
    """A camera or a pose that no picture can be made of."""


@dataclass(frozen=True, eq=False)
class PinholeCamera:
    """A camera without distortion.

    Attributes
    ----------
    focal, principal
        Focal lengths fx, fy and principal point cx, cy in pixels.
    size
        Width and height of the picture in pixels.
    rotation
        (3, 3) from world to camera axes; the points are the camera's already by default.
    centre
        (3,) where the camera stands in the world.
    """

    focal: tuple[float, float]
    principal: tuple[float, float]
    size: tuple[int, int]
    rotation: Array = field(default_factory=lambda: np.eye(3))
    centre: Array = field(default_factory=lambda: np.zeros(3))

    def __post_init__(self) -> None:
        if min(self.focal) <= 0 or min(self.size) < 1:
            raise FigureError(
                f"found focal lengths {self.focal} and a picture of {self.size} pixels, "
                "expected positive ones"
            )

    @classmethod
    def looking_at(
        cls, place: Sequence[float], position: Sequence[float], focal: float, size: tuple[int, int]
    ) -> PinholeCamera:
        """Return an upright camera at ``position`` with ``place`` in the middle; the world has +y up, metres.

        Raises
        ------
        FigureError
            The two are one above the other, or the same.
        """
        ahead = np.subtract(place, position).astype(np.float64)
        right = np.cross(ahead, (0.0, 1.0, 0.0))
        if not np.linalg.norm(right) > 0:
            raise FigureError(
                f"found a camera at {tuple(position)} that looks at {tuple(place)}, expected a direction "
                "that is not vertical"
            )
        ahead /= np.linalg.norm(ahead)
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(ahead, right), ahead])
        middle = (size[0] / 2, size[1] / 2)
        return cls((focal, focal), middle, size, rotation, np.asarray(position, np.float64))

    def to_camera(self, points: NDArray[np.floating[Any]]) -> Array:
        """Return points (..., 3) of the world in the camera's axes, float64."""
        return (np.asarray(points, np.float64) - self.centre) @ self.rotation.T

    def project(self, points: NDArray[np.floating[Any]]) -> Array:
        """Return pixels (..., 2) of world points (..., 3); NaN for those that are not ahead of the camera."""
        seen = self.to_camera(points)
        depth = np.where(seen[..., 2:] > 0, seen[..., 2:], np.nan)
        return seen[..., :2] / depth * self.focal + self.principal

    def rays(self, rows: slice, columns: slice) -> Array:
        """(rows, columns, 3) directions through the middles of pixels, of depth 1, in camera axes."""
        width, height = self.size
        x = (np.arange(width)[columns] + 0.5 - self.principal[0]) / self.focal[0]
        y = (np.arange(height)[rows] + 0.5 - self.principal[1]) / self.focal[1]
        flat = np.broadcast_arrays(x[None, :], y[:, None], np.ones((1, 1)))
        return np.stack(flat, axis=-1)


@dataclass(frozen=True, eq=False)
class Figures:
    """A picture and what is where in it.

    Attributes
    ----------
    image
        (H, W, 3) uint8: red, green, blue.
    limb
        (H, W) int16: outer joint of the limb that is seen, `BACKGROUND` where there is none.
    body
        (H, W) int16: number of the body, as ``limb``.
    depth
        (H, W) float32 metres ahead of the camera; infinite where there is none.
    """

    image: NDArray[np.uint8]
    limb: NDArray[np.int16]
    body: NDArray[np.int16]
    depth: NDArray[np.float32]


def draw_figures(
    poses: Sequence[NDArray[np.floating[Any]]],
    skeleton: Skeleton,
    camera: PinholeCamera,
    colours: tuple[Colour, Colour, Colour] = (LEFT, RIGHT, MIDDLE),
    background: Colour = (233, 236, 240),
    girth: float = 1.0,
) -> Figures:
    """Draw bodies through a camera.

    A limb with a missing joint (NaN), or one that reaches behind the camera, is left out.

    Parameters
    ----------
    poses
        (J, 3) world positions in metres, one a body.
    colours
        Of left, right and middle limbs.
    girth
        Factor of all radii.

    Raises
    ------
    FigureError
        A pose of another layout, or a radius that is not positive.
    """
    if not girth > 0:
        raise FigureError(f"found the girth {girth:g}, expected a positive factor")
    width, height = camera.size
    depth = np.full((height, width), np.inf)
    limb = np.full((height, width), BACKGROUND, np.int16)
    body = np.full((height, width), BACKGROUND, np.int16)
    light = np.zeros((height, width))
    for number, pose in enumerate(poses):
        if pose.shape != (len(skeleton), 3):
            raise FigureError(
                f"found a pose of shape {pose.shape}, expected ({len(skeleton)}, 3), the joints of "
                f"{skeleton.name}"
            )
        joints = camera.to_camera(pose)
        for joint, parent in enumerate(skeleton.parents):
            radius = girth * limb_radius(skeleton.names[joint])
            ends = joints[[joint, parent]]
            # NaN fails the comparison too
            if parent < 0 or not (ends[:, 2] > radius).all():
                continue
            rows, columns = _window(ends, radius, camera)
            distance, shade = _capsule(camera.rays(rows, columns), ends, radius)
            nearer = distance < depth[rows, columns]
            depth[rows, columns][nearer] = distance[nearer]
            light[rows, columns][nearer] = shade[nearer]
            limb[rows, columns][nearer] = joint
            body[rows, columns][nearer] = number
    image = np.empty((height, width, 3), np.uint8)
    image[:] = np.array(background, np.float64).round().clip(0, 255)
    there = limb >= 0
    sides = np.array([_side(name) for name in skeleton.names])
    paint = np.array(colours, np.float64)[sides[limb[there]]] * light[there, None]
    image[there] = np.round(paint).clip(0, 255)
    return Figures(image, limb, body, depth.astype(np.float32))


def limb_radius(outer: str) -> float:
    """Radius in metres of the limb that ends in the joint called ``outer``."""
    return next((radius for part, radius in _RADII if part in outer), _OTHER_RADIUS)


def _side(name: str) -> int:
    return 0 if name.startswith("left_") else 1 if name.startswith("right_") else 2


def _window(ends: Array, radius: float, camera: PinholeCamera) -> tuple[slice, slice]:
    """Rows and columns outside of which no ray can meet the capsule (its ends lie deeper than the radius)."""
    depth = ends[:, 2:] + radius * np.array([-1.0, 1.0])
    slices = []
    for axis in (1, 0):
        beside = ends[:, axis, None] + radius * np.array([-1.0, 1.0])
        reach = beside[:, :, None] / depth[:, None, :] * camera.focal[axis] + camera.principal[axis]
        bounds = np.clip([np.floor(reach.min()), np.ceil(reach.max())], 0, camera.size[axis])
        slices.append(slice(int(bounds[0]), int(bounds[1])))
    return slices[0], slices[1]


def _capsule(rays: Array, ends: Array, radius: float) -> tuple[Array, Array]:
    """Depth (rows, columns) at which rays enter a capsule, infinite where they do not; brightness there."""
    start, axis = ends[0], ends[1] - ends[0]
    along, square, length = rays @ axis, (rays * rays).sum(-1), axis @ axis
    hits = [_first_root(square, -(rays @ end), end @ end - radius**2) for end in ends]
    if length > 0:
        # the infinite cylinder, kept where it lies between the ends; what a cap hides is farther in any case
        a = square * length - along**2
        b = along * (axis @ start) - length * (rays @ start)
        side = _first_root(a, b, length * (start @ start - radius**2) - (axis @ start) ** 2)
        with np.errstate(invalid="ignore"):
            part = side * along - axis @ start
        hits.append(np.where((part >= 0) & (part <= length), side, np.inf))
    depth = np.minimum.reduce(hits)
    seen = np.isfinite(depth)
    point = np.where(seen, depth, 0.0)[..., None] * rays
    part = np.clip((point - start) @ axis / length, 0, 1) if length > 0 else np.zeros_like(depth)
    normal = (point - start - part[..., None] * axis) / radius
    return depth, _AMBIENT + (1 - _AMBIENT) * np.clip(normal @ _LIGHT, 0, 1)


def _first_root(a: Array, b: Array, c: float | Array) -> Array:
    """Smaller root of a x^2 + 2 b x + c; infinite where there is none."""
    inside = b * b - a * c
    real = (inside >= 0) & (a > 0)
    root = (-b - np.sqrt(np.where(real, inside, 0.0))) / np.where(real, a, 1.0)
    return np.where(real & (root > 0), root, np.inf)
