"""Generated OpenPose output: ``<video>/<video>_<12 digits>_keypoints.json``, one file a frame.

OpenPose tracks no more than one person, and only if asked: videos of one person have ids, others have -1.
"""

from __future__ import annotations

from dataclasses import replace

import orjson

from skelconv.synth.truth import GroundTruth, Settings
from skelconv.synth.video import ScoredTrack, Video, film, true_track, truth, untracked

_WORD = 2


def make_output(seed: int, index: int, settings: Settings) -> tuple[GroundTruth, dict[str, bytes]]:
    """Make the output of video ``index``."""
    name = f"video_{index:05d}"
    video = film("openpose25", _WORD, seed, index, settings)
    tracked = len(video.people) == 1
    frames: list[list[dict[str, object]]] = [[] for _ in range(video.length)]
    for person in video.people:
        for frame, rows in zip(person.frame_index.tolist(), person.rows, strict=True):
            frames[frame].append(
                {
                    "person_id": [person.person if tracked else -1],
                    "pose_keypoints_2d": rows.ravel().tolist(),
                    "face_keypoints_2d": [],
                    "hand_left_keypoints_2d": [],
                    "hand_right_keypoints_2d": [],
                    "pose_keypoints_3d": [],
                }
            )
    files = {
        f"{name}/{name}_{frame:012d}_keypoints.json": orjson.dumps({"version": 1.3, "people": people})
        for frame, people in enumerate(frames)
    }
    tracks = _tracked(video) if tracked else untracked(video)
    found = truth(f"{name}__{name}", video, tracks)
    return replace(found, label=-1), files


def _tracked(video: Video) -> list[ScoredTrack]:
    made = [true_track(str(person.person), person, person.rows) for person in video.people]
    return [track for track in made if track is not None]
