"""`gif`: a recording as an animation, drawn with pillow alone, since matplotlib takes seconds for one."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelconv.extras import need
from skelconv.view.drawing import MIDDLE, Scene, family, grid_step, head, turn
from skelformats.skeleton import Skeleton

MAX_PICTURES = 150
RATE = 20.0
"""Pictures a second at most, and the rate that long recordings are sped up to stay above half of."""

ASSUMED_RATE = 30.0
"""Frames a second of a store that does not know."""

NARROWEST, WIDEST, HIGHEST = 380, 560, 420
_HEADER, _MARGIN, _SHARP = 44, 22, 2
_TURN, _PITCH = 0.35, 0.2
_WHITE, _INK, _SOFT, _GRID, _SHADOW = "#ffffff", "#1d2127", "#5f6670", "#dfe3e8", "#e4e6ea"
_COLOURS = 96


def gif(scene: Scene, skeleton: Skeleton, frame_rate: float | None) -> bytes:
    """Draw a recording from the front, a little from the side and above, as a looping GIF.

    It plays in real time, with every frame or every second, third ... of at most `MAX_PICTURES` in all; a
    recording too long for that is sped up, and its pictures say by how much. Frames without a body stay in,
    as they are part of the time that passes.

    Raises
    ------
    MissingExtraError
        pillow is not installed.
    """
    need("PIL", "view")
    from PIL import Image

    seen = scene.frames()
    first, last = (int(seen[0]), int(seen[-1])) if len(seen) else (0, 0)
    step, rate, speed = pace(last - first + 1, frame_rate)
    numbers = range(first, last + 1, step)
    stage = _Stage(scene, skeleton)
    pictures = [stage.picture(number, f"{speed:.1f}x speed" if speed > 1.05 else "") for number in numbers]
    # one palette for all, made from a few of them: nothing flickers, and unchanged pixels cost nothing
    few = pictures[:: max(1, len(pictures) // 4)]
    sheet = Image.new("RGB", (stage.size[0], stage.size[1] * len(few)))
    for number, picture in enumerate(few):
        sheet.paste(picture, (0, number * stage.size[1]))
    palette = sheet.quantize(_COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    colours = np.array(palette.getpalette(), np.uint8).reshape(-1, 3)
    # pillow looks colours up in steps of 4, so that white would become the off-white next to it
    colours[(colours > 247).all(axis=1)] = 255
    palette.putpalette(colours.tobytes())
    palette.load()
    indexed = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    buffer = io.BytesIO()
    # GIF counts hundredths of a second: rounding the points in time, not the pauses, keeps the pace
    points = (np.arange(len(indexed) + 1) * 100 / rate).round().astype(int)
    indexed[0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=indexed[1:],
        duration=[int(10 * pause) for pause in np.diff(points)],
        loop=0,
        disposal=1,
    )
    return buffer.getvalue()


def pace(length: int, frame_rate: float | None) -> tuple[int, float, float]:
    """Choose how to play ``length`` frames: every how many, pictures a second, and times real speed."""
    true_rate = frame_rate or ASSUMED_RATE
    step = max(int(np.ceil(true_rate / RATE)), -(-length // MAX_PICTURES))
    rate = max(true_rate / step, min(true_rate, RATE / 2))
    return step, rate, rate * step / true_rate


class _Stage:
    """The fixed part of all pictures: scale, ground, heading."""

    def __init__(self, scene: Scene, skeleton: Skeleton) -> None:
        from PIL import Image, ImageDraw, ImageFont

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
        room = np.array([WIDEST - 2 * _MARGIN, HIGHEST - _HEADER - 2 * _MARGIN])
        self.scale = float((room / extent).min())
        width, height = extent * self.scale
        self.size = (max(int(width) + 2 * _MARGIN, NARROWEST), int(height) + _HEADER + 2 * _MARGIN)
        self.offset = np.array([self.size[0] / 2, _HEADER + _MARGIN + height / 2])
        self.middle = (near + far) / 2
        self.font = ImageFont.load_default(12 * _SHARP)
        self.background = Image.new("RGB", (self.size[0] * _SHARP, self.size[1] * _SHARP), _WHITE)
        pen = ImageDraw.Draw(self.background)
        if not scene.flat:
            self._ground(pen)
        pen.rectangle((0, 0, self.size[0] * _SHARP, (_HEADER - 4) * _SHARP), fill=_WHITE)
        self._text(pen, (10, 7), scene.name, _INK, self.size[0] - 130)
        self._text(pen, (10, 24), scene.caption, _SOFT, self.size[0] - 20)

    def picture(self, frame: int, note: str) -> Any:
        """Draw one frame; returns an RGB image of pillow."""
        from PIL import ImageDraw

        image = self.background.copy()
        pen = ImageDraw.Draw(image)
        thick = 3.2 * _SHARP
        strokes: list[tuple[float, tuple[float, ...], str, float]] = []
        for body, pose in self.scene.poses(frame):
            colours = family(body, len(self.scene.bodies))
            spots, depth = self._place(pose)
            fallen, _ = self._place(np.where([False, True, False], self.scene.low, pose))
            for limb in self.scene.limbs:
                pair = [limb.joint, limb.other]
                if not np.isfinite(depth[pair]).all():
                    continue
                if not self.scene.flat:
                    pen.line(fallen[pair].ravel().tolist(), fill=_SHADOW, width=round(thick * 0.8))
                line = tuple(spots[pair].ravel().tolist())
                strokes.append((float(depth[pair].mean()), line, colours[limb.side], 1.0))
            for joint in np.flatnonzero(np.isfinite(depth)):
                weight = 3.6 if joint == self.head else 1.3
                # a joint lies on the limbs that meet in it
                strokes.append((float(depth[joint]) + 1e-3, tuple(spots[joint]), colours[MIDDLE], weight))
        for _, where, colour, weight in sorted(strokes, key=lambda stroke: stroke[0]):
            if len(where) == 2:
                pen.circle((where[0], where[1]), thick * weight / 2, fill=colour)
            else:
                pen.line(where, fill=colour, width=round(thick))
        self._text(pen, (self.size[0] - 10, 7), f"{note}  {frame}".strip(), _SOFT, 120, anchor="ra")
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

    def _text(
        self, pen: Any, at: tuple[float, float], text: str, colour: str, room: float, anchor: str = "la"
    ) -> None:
        while len(text) > 4 and pen.textlength(text, font=self.font) > room * _SHARP:
            text = text[:-4] + "..."
        pen.text((at[0] * _SHARP, at[1] * _SHARP), text, fill=colour, font=self.font, anchor=anchor)
