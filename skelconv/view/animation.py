"""`gif` and `mp4`: a recording as an animation, by pillow's own GIF writer and by PyAV with FFmpeg's x264."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from skelconv.extras import need
from skelconv.view.drawing import Scene
from skelconv.view.stage import Stage

MAX_PICTURES = 150
"""Of a GIF; a video has as many as the recording has frames."""

RATE = 20.0
"""Pictures a second of a GIF at most, and the rate that long recordings are sped up to stay above half of."""

VIDEO_RATE = 60.0
"""Pictures a second of a video at most, as screens show them."""

ASSUMED_RATE = 30.0
"""Frames a second of a store that does not know."""

QUALITY = "20"
"""x264's constant rate factor; lines stay sharp, and a second takes some 20 kB."""

_COLOURS = 96

Count = Callable[[int], None]
"""Called with the number of pictures done since the last call."""


def gif(scene: Scene, stage: Stage, frame_rate: float | None, done: Count = lambda count: None) -> bytes:
    """Draw a recording as a looping GIF.

    It plays in real time, with every frame or every second, third ... of at most `MAX_PICTURES` in all; a
    recording too long for that is sped up, and its pictures say by how much. Frames without a body stay in,
    as they are part of the time that passes.

    Parameters
    ----------
    stage
        What draws the pictures.
    frame_rate
        Frames a second, None where nobody knows: then 30 are played, and no seconds are told.
    done
        As `Count`; they add up to `count_pictures`.

    Raises
    ------
    MissingExtraError
        pillow is not installed.
    """
    need("PIL", "view")
    from PIL import Image

    numbers, rate, speed = _timing(scene, frame_rate)
    pictures = list(_draw(stage, numbers, frame_rate, speed, done))
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


def mp4(scene: Scene, stage: Stage, frame_rate: float | None, done: Count = lambda count: None) -> bytes:
    """Draw a recording as an H.264 video in an MP4 file, in real time, every frame up to `VIDEO_RATE` a
    second.

    Parameters and errors as `gif`; the extra is ``video``.
    """
    need("PIL", "view")
    need("av", "video")
    import av

    numbers, rate, speed = _timing(scene, frame_rate, video=True)
    frames: Any = av.VideoFrame
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1001))
        stream.width, stream.height = stage.size
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": QUALITY, "tune": "animation"}
        for picture in _draw(stage, numbers, frame_rate, speed, done):
            container.mux(stream.encode(frames.from_image(picture)))
        container.mux(stream.encode())
    return buffer.getvalue()


def count_pictures(scene: Scene, frame_rate: float | None, video: bool = False) -> int:
    """Return how many pictures an animation has."""
    return len(_timing(scene, frame_rate, video)[0])


def pace(length: int, frame_rate: float | None) -> tuple[int, float, float]:
    """Choose how to play ``length`` frames: every how many, pictures a second, and times real speed."""
    true_rate = frame_rate or ASSUMED_RATE
    step = max(int(np.ceil(true_rate / RATE)), -(-length // MAX_PICTURES))
    rate = max(true_rate / step, min(true_rate, RATE / 2))
    return step, rate, rate * step / true_rate


def _timing(scene: Scene, frame_rate: float | None, video: bool = False) -> tuple[range, float, float]:
    """Which frames are drawn, how many a second, and times real speed."""
    seen = scene.frames()
    first, last = (int(seen[0]), int(seen[-1])) if len(seen) else (0, 0)
    if video:
        true_rate = frame_rate or ASSUMED_RATE
        step = int(np.ceil(true_rate / VIDEO_RATE))
        return range(first, last + 1, step), true_rate / step, 1.0
    step, rate, speed = pace(last - first + 1, frame_rate)
    return range(first, last + 1, step), rate, speed


def _draw(stage: Stage, numbers: range, frame_rate: float | None, speed: float, done: Count) -> Iterator[Any]:
    for number in numbers:
        words = [f"{speed:.1f}x speed"] if speed > 1.05 else []
        words += [] if frame_rate is None else [f"{number / frame_rate:.2f} s"]
        yield stage.picture(number, "  ".join([*words, f"frame {number}"]))
        done(1)
