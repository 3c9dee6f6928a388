"""COCO keypoints: annotation files (an object) and result files (a list), and what is written like them.

An annotation file has ``images``, ``annotations`` and ``categories``; each annotation 17 keypoints as x, y
and visibility (COCO data format, section 2). A result file is a list of ``image_id, category_id, keypoints,
score``. CrowdPose and Halpe are written as annotations; MPII, as mmpose and its forerunners distribute it, as
a list of ``image, joints`` (16 pairs), ``joints_vis, center, scale``. Images are not frames: each image is a
recording of one frame, each person in it a sequence; with ``--track`` they are frames of a video.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelformats.coco_json import image_size, list_in
from skelformats.errors import FormatError
from skelformats.files import list_sources
from skelformats.json_text import load_json
from skelformats.keypoint_layout import LAYOUT_OPTION, Form, check_names, layout_name, peek
from skelformats.keypoints import (
    BOX_EXTRA,
    MISSING,
    SCORE,
    SCORE_EXTRA,
    Detection,
    box_of,
    check_states,
    frame_numbers,
    in_pixels,
    make_tracks,
    numbers,
    score_of,
    triples,
    whole,
)
from skelformats.protocols import load_facts
from skelformats.reader import Clip, Column, Confidence, Dataset, Reader, ReadOptions, Source
from skelformats.skeleton import load_skeleton
from skelformats.tracking import TRACK_OPTION, frames_apart, link_people

VISIBILITY = Confidence(
    "u1",
    "COCO visibility flag",
    {0: "not labelled", 1: "labelled but occluded", 2: "labelled and visible"},
)
MPII_VISIBILITY = Confidence("u1", "MPII joints_vis flag", {0: "not annotated", 1: "annotated"})
EXPECTED = "COCO annotations (an object with 'images' and 'annotations') or results (a list with 'keypoints')"

_CONFIDENCES: Mapping[Form, Confidence] = {
    "annotations": VISIBILITY,
    "results": SCORE,
    "mpii": MPII_VISIBILITY,
}
WHOLE_BODY = Confidence(
    "f4", "visibility flag: 0 not labelled, 1 occluded, 2 visible; of faces and hands also the score of one"
)
_WHOLE_BODIES = ("coco_wholebody133", "halpe136")
_MORE_KEYPOINTS = ("foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")
"""Lists that COCO-WholeBody has beside the 17 of the body, in the order of its layout (data_format.md)."""
_FACTS = load_facts("coco")
_SUBSET = re.compile(r"person_keypoints_(\w+)")


@dataclass(frozen=True)
class _Person:
    """A person and the image it is in, by the id or the file name that the source gives."""

    image: int | str
    pose: Detection


def configure(root: Path, options: ReadOptions) -> Dataset:
    """Return the dataset with the layout and the kind of confidence that the first file shows."""
    shape = peek(root)
    layout = layout_name(options, shape, "coco17")
    form: Form = shape.form if shape else "annotations"
    return replace(COCO.dataset, skeleton=layout, confidence=_confidence(form, layout))


def _confidence(form: Form, layout: str) -> Confidence:
    return WHOLE_BODY if form == "annotations" and layout in _WHOLE_BODIES else _CONFIDENCES[form]


def scan(root: Path, options: ReadOptions) -> list[Source]:
    """List every JSON file below ``root``, by name and size."""
    frames_apart(options)
    return list_sources(root, ".json")


def read(root: Path, source: Source, options: ReadOptions) -> list[Clip]:
    """Parse one file: a recording for each image with a person who has at least one keypoint.

    With ``--track``, a recording for each folder of images.

    Raises
    ------
    FormatError
        The file is not of this format, of another layout than the first one, or a list of results among
        annotations.
    """
    path = root / source.path
    content = load_json(path, EXPECTED)
    form = _form(path, content)
    shape = peek(root)
    if shape and form != shape.form:
        raise FormatError(
            path, _WORDS[form], f"{_WORDS[shape.form]}, as in the first file", action="Ingest them separately"
        )
    dataset = configure(root, options)
    images: dict[int | str, dict[str, Any]] = {}
    if isinstance(content, dict):
        entries = list_in(path, content, "annotations", EXPECTED)
        images = _images(path, list_in(path, content, "images", EXPECTED))
        check_names(path, _joint_names(content.get("categories")), dataset.skeleton)
    else:
        entries = content
    person_of = _mpii_person if form == "mpii" else _coco_person
    confidence = _confidence(form, dataset.skeleton)
    people = [
        person_of(path, f"in entry {number}", entry, dataset.skeleton, confidence)
        for number, entry in enumerate(entries)
    ]
    named = _SUBSET.fullmatch(PurePosixPath(source.path).stem)
    subset = {"subset": named[1] if named else ""}
    stem = PurePosixPath(source.path).stem
    if frames_apart(options):
        clips = _videos(path, stem, people, images, confidence, options)
    else:
        clips = _photographs(stem, people, images, confidence, options)
    return [
        replace(clip, columns={**subset, **clip.columns}, splits=_FACTS.splits(clip.recording, subset))
        for clip in clips
    ]


def _photographs(
    stem: str,
    people: list[_Person],
    images: Mapping[int | str, Mapping[str, Any]],
    confidence: Confidence,
    options: ReadOptions,
) -> list[Clip]:
    """Return a recording of one frame for each image with anybody in it."""
    found: dict[str, tuple[int | str, list[Detection]]] = {}
    for person in people:
        name = f"{stem}_{_image_name(person.image)}"
        found.setdefault(name, (person.image, []))[1].append(person.pose)
    clips = []
    for name, (image, poses) in found.items():
        # several people of one image are told apart by the number of their annotation
        if tracks := make_tracks(poses, confidence.dtype, options.extras):
            clips.append(Clip(name, 1, tracks, -1, images.get(image, _unknown(image)), {}))
    return clips


def _videos(
    path: Path,
    stem: str,
    people: list[_Person],
    images: Mapping[int | str, Mapping[str, Any]],
    confidence: Confidence,
    options: ReadOptions,
) -> list[Clip]:
    """Return a recording for each folder of images, whose people are linked from image to image."""
    videos: dict[str, list[tuple[str, _Person]]] = {}
    for person in people:
        image = str(images.get(person.image, _unknown(person.image))["image"])
        videos.setdefault("__".join(PurePosixPath(image).parent.parts), []).append((image, person))
    clips = []
    for folder, found in videos.items():
        frames = frame_numbers(image for image, _ in found)
        # an annotation's id is not a track's
        poses = [replace(person.pose, frame=frames[image], body=None) for image, person in found]
        tracks = make_tracks(link_people(path, poses, options), confidence.dtype, options.extras)
        first = images.get(found[0][1].image, _unknown(""))
        clips.append(
            Clip(
                f"{stem}__{folder}" if folder else stem,
                max(frames.values()) + 1,
                tracks,
                -1,
                {**first, "image": ""},
                {},
            )
        )
    return clips


_WORDS: Mapping[Form, str] = {
    "annotations": "annotations",
    "results": "a list of results",
    "mpii": "MPII's list of people",
}


def _form(path: Path, content: Any) -> Form:
    """Tell which form a file has; raises `FormatError` where it has none."""
    if isinstance(content, dict):
        return "annotations"
    if not isinstance(content, list):
        raise FormatError(path, f"a JSON {type(content).__name__}", EXPECTED)
    first = content[0] if content and isinstance(content[0], dict) else {}
    return "mpii" if "image" in first and "keypoints" not in first else "results"


def _coco_person(path: Path, where: str, entry: Any, layout: str, confidence: Confidence) -> _Person:
    """Return the person of an annotation or a result."""
    if not isinstance(entry, dict):
        raise FormatError(path, f"{where} a JSON {type(entry).__name__}", "an object with 'keypoints'")
    if "keypoints" not in entry:
        raise FormatError(
            path,
            f"{where} no 'keypoints'" + (" but a 'bbox': a list of person boxes" if "bbox" in entry else ""),
            "keypoints of a person",
            action="Take the keypoint annotations or results instead of the boxes",
        )
    image = entry.get("image_id")
    if not isinstance(image, int | str) or isinstance(image, bool):
        raise FormatError(path, f"{where} the image_id {image!r:.40}", "a whole number or a file name")
    keypoints = entry["keypoints"]
    if layout == "coco_wholebody133" and isinstance(keypoints, list) and _MORE_KEYPOINTS[0] in entry:
        keypoints = keypoints + _more_keypoints(path, where, entry)
    joints = triples(path, where, keypoints, layout)
    if confidence.states:
        check_states(path, where, joints, confidence.states)
    identity = entry.get("id")
    body = None if identity is None else str(whole(path, f"{where} the id", identity, -(2**62), 2**62))
    crowd = int(bool(entry.get("iscrowd", 0)))
    box = box_of(path, where, entry.get("bbox"))
    score = score_of(path, where, entry.get("score"))
    return _Person(image, Detection(0, body, joints, box, score, {"crowd": crowd}))


def _more_keypoints(path: Path, where: str, entry: Mapping[str, Any]) -> list[Any]:
    """Return the keypoints of feet, face and hands of a COCO-WholeBody annotation, one after another."""
    found: list[Any] = []
    for name in _MORE_KEYPOINTS:
        if not isinstance(entry.get(name), list):
            raise FormatError(path, f"{where} no list {name!r}", f"the lists {', '.join(_MORE_KEYPOINTS)}")
        found += entry[name]
    return found


def _mpii_person(path: Path, where: str, entry: Any, layout: str, confidence: Confidence) -> _Person:
    """Return the person of MPII's list; a joint that is not annotated stands at (-1, -1) there."""
    if not isinstance(entry, dict) or not isinstance(entry.get("image"), str):
        raise FormatError(path, f"{where} no 'image'", "an object with 'image', 'joints' and 'joints_vis'")
    if "joints" not in entry:
        raise FormatError(
            path, f"{where} no 'joints'", "the joints of a person", action="MPII's test images have none"
        )
    joints = _pairs(path, f"{where} joints", entry["joints"], len(load_skeleton(layout)), layout)
    visible = entry.get("joints_vis")
    expected = f"a list of {len(joints)} numbers, 0 or 1"
    if not isinstance(visible, list) or len(visible) != len(joints):
        raise FormatError(path, f"{where} joints_vis {visible!r:.40}", expected)
    rows = np.column_stack([joints, numbers(path, f"{where} joints_vis", visible, expected)])
    check_states(path, where, rows, confidence.states)
    rows[(rows[:, 2] == 0) & (rows[:, :2] < 0).all(axis=1)] = 0
    return _Person(entry["image"], Detection(0, None, rows, columns={"crowd": 0}))


def _pairs(path: Path, where: str, values: Any, joints: int, layout: str) -> NDArray[np.float64]:
    """Return (J, 2) pixels of a list of pairs."""
    expected = f"a list of {joints} pairs, x and y of the joints of {layout}"
    if (
        not isinstance(values, list)
        or len(values) != joints
        or not all(isinstance(pair, list) and len(pair) == 2 for pair in values)
    ):
        raise FormatError(path, f"{where} {values!r:.40}", expected)
    return numbers(path, where, [value for pair in values for value in pair], expected).reshape(-1, 2)


def _joint_names(categories: Any) -> Any:
    """Return the joints' names that the first category gives, if any does."""
    first = categories[0] if isinstance(categories, list) and categories else None
    return first.get("keypoints") if isinstance(first, dict) else None


def _images(path: Path, images: list[Any]) -> dict[int | str, dict[str, Any]]:
    """Return the table's columns of each image by its id."""
    found: dict[int | str, dict[str, Any]] = {}
    for number, image in enumerate(images):
        if not isinstance(image, Mapping) or type(image.get("id")) not in (int, str):
            raise FormatError(path, f"in 'images' the entry {number} without an 'id'", "an image with an id")
        name = str(image.get("file_name", image["id"]))
        found[image["id"]] = {"image": name, **image_size(path, f"in image {number} the", image)}
    return found


def _unknown(image: int | str) -> dict[str, Any]:
    return {"image": str(image), "width": -1, "height": -1}


def _image_name(image: int | str) -> str:
    """Return an image's name as COCO writes it: twelve digits, or the file's stem."""
    if isinstance(image, int):
        return f"{image:012d}"
    return "__".join(PurePosixPath(image).with_suffix("").parts) if PurePosixPath(image).name else "image"


COCO = Reader(
    dataset=in_pixels(
        Dataset(
            name="coco",
            title="COCO keypoints",
            skeleton="coco17",
            licence="CC BY 4.0 (annotations); the images are under the licences of their Flickr authors",
            citation="T.-Y. Lin et al. Microsoft COCO: Common Objects in Context. ECCV 2014",
            homepage="https://cocodataset.org/#download",
            # images, no video
            frame_rate=None,
            classes=(),
            columns=(
                Column(
                    "subset", "string", "subset in the file's name, such as train2017; empty for other names"
                ),
                Column(
                    "image",
                    "string",
                    "file name or id of the image; empty where the images are a video",
                ),
                Column("width", "i4", "pixels across the image, -1 where the file does not tell", unit="px"),
                Column("height", "i4", "pixels down the image, -1 where the file does not tell", unit="px"),
                Column("crowd", "i4", "1 where the annotation is of a group of people"),
            ),
            protocols=_FACTS.protocols,
            missing=MISSING,
            confidence=VISIBILITY,
            extras=(BOX_EXTRA, SCORE_EXTRA),
            options=(LAYOUT_OPTION, TRACK_OPTION),
        )
    ),
    scan=scan,
    read=read,
    configure=configure,
)
