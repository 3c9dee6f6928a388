"""One picture of an animation: a recording's people on a stage, or on the pictures they were seen in.

Drawn with pillow alone, since matplotlib takes seconds for an animation. Around the picture stand the
recording's name, the time, and what the colours mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skelconv.view.drawing import FAMILIES, LEFT, MIDDLE, RIGHT, Scene, family, grid_step, head, turn
from skelformats.skeleton import Skeleton

NARROWEST, WIDEST, HIGHEST = 380, 560, 420
HEADER, FOOTER = 44, 22
"""Pixels above and below the picture: name, caption and time; the legend."""

_MARGIN, _SHARP = 22, 2
_TURN, _PITCH = 0.35, 0.2
_WHITE, _INK, _SOFT, _GRID, _SHADOW = "#ffffff", "#1d2127", "#5f6670", "#dfe3e8", "#e4e6ea"

Stroke = tuple[float, tuple[float, ...], str, float]
"""Towards the viewer, one or two points, colour, weight."""


class Stage(Protocol):
    """What draws the pictures of an animation."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a picture in pixels."""

    def picture(self, frame: int, when: str) -> Any:
        """Draw one frame of the recording, with ``when`` beside its name; returns an RGB image of pillow."""


class Frame:
    """What surrounds all pictures of an animation: heading and legend, around a box of so many pixels."""

    def __init__(self, scene: Scene, width: int, height: int) -> None:
        from PIL import ImageFont

        # even sides: video codecs halve the colours
        self.size = (width + width % 2, HEADER + height + FOOTER + (height + HEADER + FOOTER) % 2)
        self._scene = scene
        self._font = ImageFont.load_default(12 * _SHARP)
        self._small = ImageFont.load_default(12)

    def dress(self, pen: Any, scale: int = _SHARP) -> None:
        """Write name, caption and legend onto a picture that is ``scale`` times as large."""
        width, height = (side * scale for side in self.size)
        pen.rectangle((0, 0, width, (HEADER - 4) * scale), fill=_WHITE)
        pen.rectangle((0, height - FOOTER * scale, width, height), fill=_WHITE)
        self.write(pen, (10, 7), self._scene.name, _INK, self.size[0] - 190, scale)
        self.write(pen, (10, 24), self._scene.caption, _SOFT, self.size[0] - 20, scale)
        self._legend(pen, scale)

    def when(self, pen: Any, text: str, scale: int = _SHARP) -> None:
        """Write the time into the upper right corner."""
        self.write(pen, (self.size[0] - 10, 7), text, _SOFT, 180, scale, "ra")

    def write(
        self,
        pen: Any,
        at: tuple[float, float],
        text: str,
        colour: str,
        room: float,
        scale: int = _SHARP,
        anchor: str = "la",
    ) -> None:
        """Write text, cut off where it would take more than ``room`` pixels."""
        font = self._font if scale > 1 else self._small
        while len(text) > 4 and pen.textlength(text, font=font) > room * scale:
            text = text[:-4] + "..."
        pen.text((at[0] * scale, at[1] * scale), text, fill=colour, font=font, anchor=anchor)

    def _legend(self, pen: Any, scale: int) -> None:
        font = self._font if scale > 1 else self._small
        bodies = len(self._scene.bodies)
        x, y = 10.0 * scale, (self.size[1] - FOOTER / 2) * scale
        for body in range(min(bodies, len(FAMILIES))):
            colours = family(body, bodies)
            words = [("left", colours[LEFT]), ("right", colours[RIGHT])]
            if bodies > 1:
                words.insert(0, (self._scene.names[body] if self._scene.names else f"person {body + 1}", ""))
            for word, colour in words:
                wide = pen.textlength(word, font=font) + (20 * scale if colour else 0)
                if x + wide > (self.size[0] - 10) * scale:
                    return
                if colour:
                    pen.line((x, y, x + 14 * scale, y), fill=colour, width=4 * scale)
                    x += 18 * scale
                pen.text((x, y), word, fill=_INK, font=font, anchor="lm")
                x += pen.textlength(word, font=font) + 8 * scale
            x += 10 * scale


class TheatreStage:
    """A ground, and the bodies on it as somebody sees them who stands in front, a little aside and above."""

    def __init__(self, scene: Scene, skeleton: Skeleton) -> None:
        from PIL import Image, ImageDraw

        self.scene = scene
        self.head = head(skeleton)
        self.yaw, self.pitch = (0.0, 0.0) if scene.flat else (scene.yaw + _TURN, _PITCH)
        low, high = scene.low, scene.high
        corners = np.array(
            [[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])]
        )
        seen = turn(corners, self.yaw, self.pitch)[:, :2]
        near, far = seen.min(axis=0), seen.max(axis=0)
        extent = np.maximum(far - near, 1e-6 + 0.05 * float((far - near).max()))
        room = np.array([WIDEST - 2 * _MARGIN, HIGHEST - HEADER - FOOTER - 2 * _MARGIN])
        self.scale = float((room / extent).min())
        width, height = extent * self.scale
        self.frame = Frame(scene, max(int(width) + 2 * _MARGIN, NARROWEST), int(height) + 2 * _MARGIN)
        self.offset = np.array([self.size[0] / 2, HEADER + _MARGIN + height / 2])
        self.middle = (near + far) / 2
        self.background = Image.new("RGB", (self.size[0] * _SHARP, self.size[1] * _SHARP), _WHITE)
        pen = ImageDraw.Draw(self.background)
        if not scene.flat:
            self._ground(pen)
        self.frame.dress(pen)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a picture in pixels."""
        return self.frame.size

    def picture(self, frame: int, when: str) -> Any:
        """Draw one frame; returns an RGB image of pillow."""
        from PIL import ImageDraw

        image = self.background.copy()
        pen = ImageDraw.Draw(image)
        thick = 3.2 * _SHARP
        strokes: list[Stroke] = []
        for body, pose in self.scene.poses(frame):
            spots, depth = self._place(pose)
            if not self.scene.flat:
                fallen, _ = self._place(np.where([False, True, False], self.scene.low, pose))
                for limb in self.scene.limbs:
                    pair = [limb.joint, limb.other]
                    if np.isfinite(depth[pair]).all():
                        pen.line(fallen[pair].ravel().tolist(), fill=_SHADOW, width=round(thick * 0.8))
            strokes += body_strokes(self.scene, self.head, body, spots, depth)
        draw_strokes(pen, strokes, thick)
        self.frame.when(pen, when)
        return image.reduce(_SHARP)

    def _place(self, position: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixels (J, 2) of the large picture, and (J,) towards the viewer."""
        seen = turn(position, self.yaw, self.pitch)
        spots = (seen[..., :2] - self.middle) * (self.scale, -self.scale) + self.offset
        return spots * _SHARP, seen[..., 2]

    def _ground(self, pen: Any) -> None:
        low, high = self.scene.low, self.scene.high
        step = grid_step(float(max(high[0] - low[0], high[2] - low[2], high[1] - low[1])))
        centre = np.round((low + high) / 2 / step)
        reach = np.ceil(max(high[0] - low[0], high[2] - low[2], 0.6 * (high[1] - low[1])) / 2 / step + 0.5)
        for k in np.arange(-reach, reach + 1):
            for ends in (((k, -reach), (k, reach)), ((-reach, k), (reach, k))):
                points = [((centre[0] + x) * step, low[1], (centre[2] + z) * step) for x, z in ends]
                spots, _ = self._place(np.array(points))
                pen.line([tuple(spot) for spot in spots], fill=_GRID, width=_SHARP)


def body_strokes(
    scene: Scene, top: int | None, body: int, spots: NDArray[np.float64], depth: NDArray[np.float64]
) -> list[Stroke]:
    """Return what to draw of a body whose joints are seen at pixels (J, 2), so far (J,) towards the
    viewer.
    """
    colours = family(body, len(scene.bodies))
    strokes: list[Stroke] = []
    for limb in scene.limbs:
        pair = [limb.joint, limb.other]
        if np.isfinite(depth[pair]).all():
            line = tuple(spots[pair].ravel().tolist())
            strokes.append((float(depth[pair].mean()), line, colours[limb.side], 1.0))
    for joint in np.flatnonzero(np.isfinite(depth)):
        weight = 3.6 if joint == top else 1.3
        # a joint lies on the limbs that meet in it
        strokes.append((float(depth[joint]) + 1e-3, tuple(spots[joint].tolist()), colours[MIDDLE], weight))
    return strokes


def draw_strokes(pen: Any, strokes: Sequence[Stroke], thick: float) -> None:
    """Draw lines and dots, the farthest first."""
    for _, where, colour, weight in sorted(strokes, key=lambda stroke: stroke[0]):
        if len(where) == 2:
            pen.circle((where[0], where[1]), thick * weight / 2, fill=colour)
        else:
            pen.line(where, fill=colour, width=max(1, round(thick)))
