"""PoseTrack18 annotations: ``{train,val,test}/<video>_mpii_<split>.json``, COCO-like with track ids.

``images`` are the frames of the video (``vid_id``, ``nframes``, ``is_labeled``), ``annotations`` people in
them with a ``track_id`` that is unique within one video, 17 keypoints and visibilities 0 or 1. Only some
frames are labelled, so tracks have gaps. A file that gathers several videos gives several recordings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelformats.coco_json import image_size, list_in, subset_of
from skelformats.errors import FormatError
from skelformats.files import list_sources
from skelformats.json_text import load_json
from skelformats.keypoints import (
    BOX_EXTRA,
    MISSING,
    Detection,
    box_of,
    check_states,
    identity,
    in_pixels,
    make_tracks,
    triples,
    whole,
)
from skelformats.protocols import load_facts
from skelformats.reader import (
    Clip,
    Column,
    Confidence,
    Dataset,
    Extra,
    Reader,
    ReadOptions,
    SideTable,
    Source,
)

LAYOUT = "posetrack17"
EXPECTED = "PoseTrack18 annotations: an object with 'images' and 'annotations'"
VISIBILITY = Confidence("u1", "PoseTrack visibility flag", {0: "not annotated", 1: "annotated"})

_FACTS = load_facts("posetrack")
_SUBSETS = ("train", "val", "test")


@dataclass(frozen=True)
class _Image:
    """One frame: the video and the subset it is of, its number there, and its row of the side table."""

    video: str
    subset: str
    frame: int
    frames: int
    row: Mapping[str, Any]


def scan(root: Path, options: ReadOptions) -> list[Source]:
    """List every JSON file below ``root``, by name and size."""
    return list_sources(root, ".json")


def read(root: Path, source: Source, options: ReadOptions) -> list[Clip]:
    """Parse one annotation file: a recording for each of its videos.

    Raises
    ------
    FormatError
        The file is not of this format; a list of person boxes is not.
    """
    path = root / source.path
    content = load_json(path, EXPECTED)
    if not isinstance(content, dict):
        boxes = "a list of person boxes" if isinstance(content, list) else f"a JSON {type(content).__name__}"
        raise FormatError(path, boxes, EXPECTED, action="Take the annotations of the videos instead")
    images = _images(path, list_in(path, content, "images", EXPECTED))
    annotations = list_in(path, content, "annotations", EXPECTED)
    people: dict[str, list[Detection]] = {image.video: [] for image in images.values()}
    heads: dict[int, NDArray[np.float32]] = {}
    for number, annotation in enumerate(annotations):
        image, person, head = _person(path, f"in annotation {number}", annotation, images)
        people[image.video].append(person)
        heads[id(person)] = head

    def head_boxes(found: Sequence[Detection]) -> Mapping[str, NDArray[Any]]:
        if "head_box" not in options.extras:
            return {}
        return {"head_box": np.stack([heads[id(person)] for person in found])}

    clips = []
    for video, found in people.items():
        rows = [image for image in images.values() if image.video == video]
        tracks = make_tracks(found, "u1", options.extras, head_boxes)
        length = max(max(image.frames, image.frame + 1) for image in rows)
        # not by the end of a file's name: 003418_mpii_test.json tells MPII's subset, and is in val
        columns = {"video": video, "subset": subset_of(source.path, _SUBSETS) or rows[0].subset}
        side = {"image": [image.row for image in sorted(rows, key=lambda image: image.frame)]}
        clips.append(Clip(video, length, tracks, -1, columns, _FACTS.splits(video, columns), side))
    return clips


def _images(path: Path, images: list[Any]) -> dict[Any, _Image]:
    """Return the frames by their id."""
    found: dict[Any, _Image] = {}
    for number, image in enumerate(images):
        where = f"in image {number}"
        if not isinstance(image, dict) or not isinstance(image.get("file_name"), str):
            raise FormatError(path, f"{where} no 'file_name'", "an image of a video, such as .../000012.jpg")
        name = PurePosixPath(image["file_name"])
        if not name.stem.isascii() or not name.stem.isdigit() or not name.parent.name:
            raise FormatError(path, f"{where} the file name {str(name)!r}", "<video>/<number of frame>.jpg")
        frame = whole(path, f"{where} the frame", int(name.stem[-18:]))
        key = whole(path, f"{where} the id", image.get("id"), most=2**62)
        labelled = image.get("is_labeled", True)
        row = {
            "video": name.parent.name,
            "frame": frame,
            "id": key,
            "labelled": int(bool(labelled)),
            **image_size(path, where, image),
        }
        frames = whole(path, f"{where} nframes", image.get("nframes", frame + 1))
        # images/<subset>/<video>/<frame>.jpg
        subset = name.parent.parent.name
        found[key] = _Image(name.parent.name, subset if subset in _SUBSETS else "", frame, frames, row)
    return found


def _person(
    path: Path, where: str, annotation: Any, images: Mapping[Any, _Image]
) -> tuple[_Image, Detection, NDArray[np.float32]]:
    if not isinstance(annotation, dict):
        raise FormatError(path, f"{where} a JSON {type(annotation).__name__}", EXPECTED)
    image = annotation.get("image_id")
    if type(image) is not int or image not in images:
        raise FormatError(path, f"{where} the image_id {image!r:.40}", "the id of one of 'images'")
    joints = triples(path, where, annotation.get("keypoints"), LAYOUT)
    check_states(path, where, joints, VISIBILITY.states)
    head = box_of(path, where, annotation.get("bbox_head"))
    person = Detection(
        images[image].frame,
        identity(path, where, annotation.get("track_id")),
        joints,
        box_of(path, where, annotation.get("bbox")),
    )
    return images[image], person, np.full(4, np.nan, np.float32) if head is None else head


POSETRACK = Reader(
    dataset=in_pixels(
        Dataset(
            name="posetrack",
            title="PoseTrack18",
            skeleton=LAYOUT,
            licence="CC BY-NC 4.0 (annotations), for research; access after registration",
            citation=(
                "M. Andriluka et al. PoseTrack: A Benchmark for Human Pose Estimation and Tracking. CVPR 2018"
            ),
            homepage="https://posetrack.net",
            # videos of different rates; the annotations do not tell
            frame_rate=None,
            classes=(),
            columns=(
                Column("video", "string", "name of the video's folder of images"),
                Column("subset", "string", "train, val or test"),
            ),
            protocols=_FACTS.protocols,
            missing=MISSING,
            confidence=VISIBILITY,
            extras=(
                BOX_EXTRA,
                Extra("head_box", ("side",), BOX_EXTRA.labels, "f4", "px", "bounding box of the head"),
            ),
            tables=(
                SideTable(
                    "image",
                    "the frames of the videos, those without anybody included",
                    (
                        Column("video", "string", "name of the video"),
                        Column("frame", "i4", "number of the frame in its video"),
                        Column("id", "i8", "id of the image in the annotations"),
                        Column(
                            "labelled", "i4", "1 where the frame was annotated; elsewhere nobody is known"
                        ),
                        Column("width", "i4", "pixels across, -1 where the file does not tell", unit="px"),
                        Column("height", "i4", "pixels down, -1 where the file does not tell", unit="px"),
                    ),
                    key=("video", "frame"),
                ),
            ),
        )
    ),
    scan=scan,
    read=read,
)
