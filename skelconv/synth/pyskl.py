"""A generated pyskl pickle: ``custom_hrnet.pkl``, 2D poses of COCO's joints in float16, with a split."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np

from skelconv.synth.truth import GroundTruth, Settings
from skelconv.synth.video import HEIGHT, WIDTH, film, true_track

FILE = "custom_hrnet.pkl"

_WORD = 6


def make_annotation(seed: int, index: int, settings: Settings) -> tuple[GroundTruth, dict[str, bytes]]:
    """Make the truth of video ``index``; its annotation stands in the file of `pickled`."""
    video = film("coco17", _WORD, seed, index, settings)
    tracks = []
    for person in video.people:
        # half precision is what the file holds: beyond 1,024 pixels whole ones
        rows = person.rows.astype(np.float16).astype(np.float64)
        one = replace(person, rows=rows)
        if track := true_track(str(person.person), one, rows):
            tracks.append(track)
    # in the order of the array, whoever comes first
    return GroundTruth(_name(index), video.action, video.label, video.length, tuple(tracks)), {}


def pickled(seed: int, recordings: int, settings: Settings) -> dict[str, bytes]:
    """Make the file of videos 0 to ``recordings`` - 1; every fifth is for validation."""
    annotations: list[dict[str, Any]] = []
    split: dict[str, list[str]] = {"train": [], "val": []}
    for index in range(recordings):
        video = film("coco17", _WORD, seed, index, settings)
        keypoint = np.zeros((len(video.people), video.length, 17, 3), np.float16)
        for number, person in enumerate(video.people):
            keypoint[number, person.frame_index] = person.rows
        split["val" if index % 5 == 4 else "train"].append(_name(index))
        annotations.append(
            {
                "frame_dir": _name(index),
                "label": video.label,
                "img_shape": (HEIGHT, WIDTH),
                "original_shape": (HEIGHT, WIDTH),
                "total_frames": video.length,
                "keypoint": keypoint[..., :2],
                "keypoint_score": keypoint[..., 2],
            }
        )
    return {FILE: pickle.dumps({"split": split, "annotations": annotations}, protocol=4)}


def _name(index: int) -> str:
    return f"video_{index:05d}"
