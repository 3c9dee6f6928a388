"""Landmarks of MediaPipe Pose as files hold them, whatever the files' form: `Landmarks`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LAYOUT = "mediapipe33"
JOINTS = 33

FIELDS = ("x", "y", "z", "visibility", "presence", "wx", "wy", "wz")
"""What is known of a landmark: in the picture, then in the world (`pose_world_landmarks`)."""
IMAGE, VISIBILITY, PRESENCE, WORLD = slice(0, 3), 3, 4, slice(5, 8)

OTHER_MODELS = {21: "a hand", 468: "a face", 478: "a face"}
"""MediaPipe's other landmark models, by the number of their landmarks."""


@dataclass(frozen=True, eq=False)
class Landmarks:
    """What a file holds: N poses, each of one person in one frame.

    Attributes
    ----------
    recording
        (N,) name of each pose's recording; empty where the file is one.
    frame
        (N,) int64 number of the frame.
    body
        (N,) the file's id of the person, None where it has none.
    values
        (N, 33, 8) float64, the `FIELDS` of each landmark; NaN where the file does not have it.
    time
        (N,) float64 seconds; NaN where the file does not tell in which unit, or not at all.
    length
        Frames of the file, those without a pose included.
    size
        Width and height of the picture in pixels, or None.
    frame_rate
        Frames a second, or None.
    """

    recording: tuple[str, ...]
    frame: NDArray[np.int64]
    body: tuple[str | None, ...]
    values: NDArray[np.float64]
    time: NDArray[np.float64]
    length: int
    size: tuple[int, int] | None = None
    frame_rate: float | None = None

    @property
    def has_image(self) -> bool:
        """Whether any pose has landmarks in the picture."""
        return bool(np.isfinite(self.values[..., :2]).any())

    @property
    def has_world(self) -> bool:
        """Whether any pose has world landmarks."""
        return bool(np.isfinite(self.values[..., WORLD]).any())

    @property
    def has_visibility(self) -> bool:
        """Whether any landmark has a visibility."""
        return bool(np.isfinite(self.values[..., VISIBILITY]).any())
