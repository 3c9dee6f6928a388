"""Generated PoseTrack18 annotations: ``<train|val>/<video>_mpii_train.json``.

As in the dataset, training videos are annotated in some frames in a row, the others in every fourth, and ears
never.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import orjson

from skelconv.synth.truth import GroundTruth, Settings
from skelconv.synth.video import HEIGHT, WIDTH, Filmed, box, film, true_track, truth
from skelformats.skeleton import load_skeleton

_WORD = 4
_LABELLED_IN_A_ROW = 30


def make_annotations(seed: int, index: int, settings: Settings) -> tuple[GroundTruth, dict[str, bytes]]:
    """Make the annotations of video ``index``; every fifth is for validation."""
    subset = "val" if index % 5 == 4 else "train"
    number = f"{index:06d}"
    name = f"{number}_mpii_train"
    video = film("posetrack17", _WORD, seed, index, settings)
    labelled = _labelled(video.length, subset)
    skeleton = load_skeleton("posetrack17")
    ears = [skeleton.index("left_ear"), skeleton.index("right_ear")]
    first_id = 10_000_000_000 + index * 10_000
    images = [
        {
            "has_no_densepose": True,
            "is_labeled": frame in labelled,
            "file_name": f"images/{subset}/{name}/{frame:06d}.jpg",
            "nframes": video.length,
            "frame_id": first_id + frame,
            "vid_id": number,
            "id": first_id + frame,
            "width": WIDTH,
            "height": HEIGHT,
        }
        for frame in range(video.length)
    ]
    annotations: list[dict[str, object]] = []
    tracks = []
    for person in video.people:
        kept = np.isin(person.frame_index, sorted(labelled))
        rows = person.rows[kept].round(2)
        rows[..., 2] = rows[..., 2] > 0
        rows[:, ears] = 0.0
        one = Filmed(person.person, person.frame_index[kept], rows, person.noiseless[kept], person.seen[kept])
        for frame, joints in zip(one.frame_index.tolist(), rows, strict=True):
            annotations.append(
                {
                    "bbox_head": box(joints[:3]),
                    "keypoints": joints.ravel().tolist(),
                    "track_id": person.person,
                    "image_id": first_id + frame,
                    "bbox": box(joints),
                    "scores": [],
                    "category_id": 1,
                    "id": (first_id + frame) * 100 + person.person,
                    "iscrowd": False,
                    "num_keypoints": int(joints[:, 2].sum()),
                }
            )
        if track := true_track(str(person.person), one, rows, states=True):
            tracks.append(track)
    categories = [
        {
            "supercategory": "person",
            "id": 1,
            "name": "person",
            "keypoints": [joint.official for joint in skeleton.joints],
            "skeleton": [],
        }
    ]
    content = {"categories": categories, "images": images, "annotations": annotations}
    found = replace(truth(name, video, tracks), label=-1)
    return found, {f"posetrack18_annotations/{subset}/{name}.json": orjson.dumps(content)}


def _labelled(length: int, subset: str) -> frozenset[int]:
    if subset == "val":
        return frozenset(range(0, length, 4))
    start = max(0, (length - _LABELLED_IN_A_ROW) // 2)
    return frozenset(range(start, min(length, start + _LABELLED_IN_A_ROW)))
