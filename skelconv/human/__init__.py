"""The animated procedural human: a body, what it can do, and what a depth sensor sees of it.

Nothing here knows a file format; `skelconv.synth` writes the files (docs/synthetic-data.md).
"""

from skelconv.human.body import SIDES, Body, Controls, Motion, solve
from skelconv.human.camera import Camera
from skelconv.human.kinematics import Array
from skelconv.human.landmarks import place, with_landmarks
from skelconv.human.performance import ACTIONS, Action, Subject, find_action, play, subject
from skelconv.human.sensor_faults import Figure, apply_faults, observe
from skelconv.human.untrimmed import ActionInterval, Play, play_in_a_row

__all__ = [
    "ACTIONS",
    "SIDES",
    "Action",
    "ActionInterval",
    "Array",
    "Body",
    "Camera",
    "Controls",
    "Figure",
    "Motion",
    "Play",
    "Subject",
    "apply_faults",
    "find_action",
    "observe",
    "place",
    "play",
    "play_in_a_row",
    "solve",
    "subject",
    "with_landmarks",
]
