"""Generated COCO keypoint annotations: ``annotations/person_keypoints_{train,val}2017.json``.

An image is one frame of a video. Positions are whole pixels, as in the dataset; joints outside the picture
are not labelled, some of the others are occluded. Every image also has a person without keypoints, as most
people in COCO are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from skelconv.synth.truth import GroundTruth, Settings
from skelconv.synth.video import HEIGHT, WIDTH, Filmed, Video, box, film, true_track, truth
from skelformats.skeleton import load_skeleton

_WORD = 5
_BLANK = 900_000_000
"""Ids of the annotations without keypoints start here."""


def make_image(seed: int, index: int, settings: Settings) -> tuple[GroundTruth, dict[str, bytes]]:
    """Make the truth of image ``index``; its annotations stand in the files of `annotation_files`."""
    video, image, people = _image(seed, index, settings)
    tracks = [
        track
        for person in people
        if (track := true_track(str(_annotation_id(image, person)), person, person.rows, states=True))
    ]
    name = f"person_keypoints_{_subset(index)}_{image:012d}"
    found = truth(name, video, tracks)
    return GroundTruth(name, found.action, -1, 1, found.tracks), {}


def annotation_files(seed: int, recordings: int, settings: Settings) -> dict[str, bytes]:
    """Make the annotation files of images 0 to ``recordings`` - 1."""
    files: dict[str, dict[str, list[Any]]] = {}
    for index in range(recordings):
        _, image, people = _image(seed, index, settings)
        content = files.setdefault(
            f"annotations/person_keypoints_{_subset(index)}.json", {"images": [], "annotations": []}
        )
        content["images"].append(
            {"id": image, "file_name": f"{image:012d}.jpg", "width": WIDTH, "height": HEIGHT}
        )
        for person in people:
            identity = _annotation_id(image, person)
            content["annotations"].append(_annotation(identity, image, person.rows[0]))
        content["annotations"].append(_annotation(_BLANK + image, image, np.zeros((17, 3))))
    joints = [joint.official for joint in load_skeleton("coco17").joints]
    categories = [{"supercategory": "person", "id": 1, "name": "person", "keypoints": joints, "skeleton": []}]
    return {
        path: orjson.dumps({"info": {"year": 2017}, **content, "categories": categories})
        for path, content in files.items()
    }


def _image(seed: int, index: int, settings: Settings) -> tuple[Video, int, list[Filmed]]:
    """Return the video of an image, the image's id, and who is in it, frame and all."""
    video = film("coco17", _WORD, seed, index, settings)
    rng = np.random.default_rng((seed, _WORD, index))
    frame = int(rng.choice(np.concatenate([person.frame_index for person in video.people])))
    people = []
    for person in video.people:
        at = person.frame_index == frame
        rows = person.rows[at].round()
        outside = (rows[..., :2] < 0).any(-1) | (rows[..., 0] >= WIDTH) | (rows[..., 1] >= HEIGHT)
        rows[..., 2] = np.where(rng.random(rows.shape[:2]) < 0.2, 1, 2)
        rows[outside | (person.rows[at] == 0).all(-1)] = 0.0
        if len(rows) and rows.any():
            people.append(
                Filmed(person.person, np.zeros(1, np.int32), rows, person.noiseless[at], person.seen[at])
            )
    return video, 7 * index + 9, people


def _annotation_id(image: int, person: Filmed) -> int:
    return 10 * image + person.person


def _annotation(identity: int, image: int, rows: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, Any]:
    left, top, width, height = box(rows)
    return {
        "id": identity,
        "image_id": image,
        "category_id": 1,
        "iscrowd": 0,
        "area": width * height,
        "bbox": [left, top, width, height],
        "num_keypoints": int((rows[:, 2] > 0).sum()),
        "keypoints": rows.ravel().astype(int).tolist(),
        "segmentation": [],
    }


def _subset(index: int) -> str:
    return "val2017" if index % 5 == 4 else "train2017"
