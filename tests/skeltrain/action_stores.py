"""Files as pyskl distributes NTU RGB+D's 2D poses, of generated people: the same structure, names and
splits.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from skelconv.ingest.ingest import ingest
from skelconv.ingest.plan import make_plan
from tests.skeltrain import motion_stores

CLASSES = (0, 6, 12, 50, 51)
"""Labels: three of the novel classes of one-shot recognition, and two others, of two people."""

MOVES = {
    0: ((7, 8, 9, 10), (0, -600)),
    6: ((13, 14, 15, 16), (500, -300)),
    12: ((0, 1, 2, 3, 4, 5, 6), (-500, 300)),
    50: ((7, 9), (-700, 0)),
    51: ((15, 16), (0, 500)),
}
"""Joints of coco17 that each class moves, and how many pixels: arms up, a kick, a bow, a push, a leap."""

TRAIN, TEST = (1, 2, 4, 5), (3, 6)
"""Subjects of the cross-subject split."""


def annotation(label: int, subject: int, camera: int, setup: int = 1) -> dict[str, Any]:
    """One recording: the class decides which joints move and how fast; float16, as the files have it."""
    rng = np.random.default_rng((label, subject, camera))
    frames = int(rng.integers(14, 30))
    people = 2 if label >= 50 else 1
    keypoint = np.zeros((people, frames, 17, 2), np.float16)
    score = np.zeros((people, frames, 17), np.float16)
    for person in range(people):
        place = motion_stores.pixels(1000 * subject + 10 * camera + person, frames, "coco17")
        joints, where = MOVES[label]
        place[:, list(joints)] += np.array(where) * (
            0.7 + 0.3 * np.sin(np.arange(frames) * 0.5)[:, None, None]
        )
        keypoint[person] = place + rng.normal(0, 1, place.shape) + (300 * person, 0)
        score[person] = rng.uniform(0.5, 1, score[person].shape)
    # the first joint is not found in the first frame, and a second person leaves
    keypoint[0, 0, 0] = score[0, 0, 0] = 0
    if people == 2:
        keypoint[1, frames - 4 :] = score[1, frames - 4 :] = 0
    return {
        "frame_dir": f"S{setup:03d}C{camera:03d}P{subject:03d}R001A{label + 1:03d}",
        "label": label,
        "img_shape": (1080, 1920),
        "original_shape": (1080, 1920),
        "total_frames": frames,
        "keypoint": keypoint,
        "keypoint_score": score,
    }


def make_annotations() -> list[dict[str, Any]]:
    """Two cameras of each subject and class."""
    return [
        annotation(label, subject, camera)
        for label in CLASSES
        for subject in (*TRAIN, *TEST)
        for camera in (1, 2)
    ]


def write_hrnet(folder: Path, made: list[dict[str, Any]] | None = None, name: str = "ntu60") -> Path:
    """Write ``NAME_hrnet.pkl`` and ingest it; returns the store."""
    found = make_annotations() if made is None else made
    subject = {one["frame_dir"]: int(one["frame_dir"][9:12]) for one in found}
    camera = {one["frame_dir"]: int(one["frame_dir"][5:8]) for one in found}
    split = {
        "xsub_train": [one for one in subject if subject[one] in TRAIN],
        "xsub_val": [one for one in subject if subject[one] in TEST],
        "xview_train": [one for one in camera if camera[one] != 1],
        "xview_val": [one for one in camera if camera[one] == 1],
    }
    raw = folder / "raw"
    raw.mkdir(parents=True)
    (raw / f"{name}_hrnet.pkl").write_bytes(pickle.dumps({"split": split, "annotations": found}, protocol=4))
    out = folder / f"{name}.zarr"
    ingest(make_plan("pyskl", raw, "tests"), out)
    return out
