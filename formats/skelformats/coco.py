"""COCO keypoints: annotation files (an object) and result files (a list), and what is written like them.

An annotation file has ``images``, ``annotations`` and ``categories``; each annotation 17 keypoints as x, y
and visibility (COCO data format, section 2). A result file is a list of ``image_id, category_id, keypoints,
score``. Images are not frames: each image is a recording of one frame, each person in it a sequence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from skelformats.errors import FormatError
from skelformats.files import find_files
from skelformats.json_text import load_json
from skelformats.keypoints import (
    BOX_EXTRA,
    LAYOUT_OPTION,
    MISSING,
    SCORE,
    SCORE_EXTRA,
    Detection,
    box_of,
    check_states,
    layout_name,
    make_tracks,
    peek,
    score_of,
    triples,
    whole,
)
from skelformats.protocols import load_facts
from skelformats.reader import Clip, Column, Confidence, Dataset, Reader, ReadOptions, Source

VISIBILITY = Confidence(
    "u1",
    "COCO visibility flag",
    {0: "not labelled", 1: "labelled but occluded", 2: "labelled and visible"},
)
EXPECTED = "COCO annotations (an object with 'images' and 'annotations') or results (a list with 'keypoints')"

_FACTS = load_facts("coco")
_SUBSET = re.compile(r"person_keypoints_(\w+)")


def configure(root: Path, options: ReadOptions) -> Dataset:
    """Return the dataset with the layout and the kind of confidence that the first file shows."""
    shape = peek(root)
    layout = layout_name(options, shape, "coco17")
    confidence = SCORE if shape is not None and shape.is_list else VISIBILITY
    return replace(COCO.dataset, skeleton=layout, confidence=confidence)


def scan(root: Path, options: ReadOptions) -> list[Source]:
    """List every JSON file below ``root``, by name and size."""
    return [Source(path, size) for path, size in find_files(root, ".json")]


def read(root: Path, source: Source, options: ReadOptions) -> list[Clip]:
    """Parse one file: a recording for each image with a person who has at least one keypoint.

    Raises
    ------
    FormatError
        The file is not of this format, of another layout than the first one, or a list of results among
        annotations.
    """
    path = root / source.path
    content = load_json(path, EXPECTED)
    if not isinstance(content, list | dict):
        raise FormatError(path, f"a JSON {type(content).__name__}", EXPECTED)
    if isinstance(content, dict) and not isinstance(content.get("annotations"), list):
        raise FormatError(
            path, f"'annotations' of type {type(content.get('annotations')).__name__}", EXPECTED
        )
    dataset = configure(root, options)
    scored = dataset.confidence == SCORE
    if isinstance(content, list) != scored:
        raise FormatError(
            path,
            "a list of results" if isinstance(content, list) else "annotations",
            "a list of results, as in the first file" if scored else "annotations, as in the first file",
            action="Ingest annotations and results separately",
        )
    entries: list[Any] = content if isinstance(content, list) else content["annotations"]
    images = {} if isinstance(content, list) else _images(path, content.get("images"))
    named = _SUBSET.fullmatch(PurePosixPath(source.path).stem)
    subset = named[1] if named else ""
    people: dict[str, tuple[int | str, list[Detection]]] = {}
    for number, entry in enumerate(entries):
        where = f"in entry {number}"
        image, person = _person(path, where, entry, dataset, scored)
        name = f"{PurePosixPath(source.path).stem}_{_image_name(image)}"
        people.setdefault(name, (image, []))[1].append(person)
    clips = []
    for name, (image, found) in people.items():
        # several people of one image are told apart by the number of their annotation
        if tracks := make_tracks(found, "f4" if scored else "u1", options.extras):
            columns = {"subset": subset, **images.get(image, _unknown(image))}
            clips.append(Clip(name, 1, tracks, -1, columns, _FACTS.splits(name, columns)))
    return clips


def _person(
    path: Path, where: str, entry: Any, dataset: Dataset, scored: bool
) -> tuple[int | str, Detection]:
    """Return the image id of an entry, and the person."""
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
    joints = triples(path, where, entry["keypoints"], dataset.skeleton)
    if not scored:
        check_states(path, where, joints, VISIBILITY.states)
    identity = entry.get("id")
    body = None if identity is None else str(whole(path, f"{where} the id", identity, -(2**62), 2**62))
    crowd = int(bool(entry.get("iscrowd", 0)))
    box = box_of(path, where, entry.get("bbox"))
    return image, Detection(0, body, joints, box, score_of(path, where, entry.get("score")), {"crowd": crowd})


def _images(path: Path, images: Any) -> dict[int | str, dict[str, Any]]:
    """Return the table's columns of each image by its id."""
    if not isinstance(images, list):
        raise FormatError(path, f"'images' of type {type(images).__name__}", EXPECTED)
    found: dict[int | str, dict[str, Any]] = {}
    for number, image in enumerate(images):
        if not isinstance(image, Mapping) or type(image.get("id")) not in (int, str):
            raise FormatError(path, f"in 'images' the entry {number} without an 'id'", "an image with an id")
        where = f"in image {number} the"
        found[image["id"]] = {
            "image": str(image.get("file_name", image["id"])),
            "width": whole(path, f"{where} width", image.get("width", -1), -1),
            "height": whole(path, f"{where} height", image.get("height", -1), -1),
        }
    return found


def _unknown(image: int | str) -> dict[str, Any]:
    return {"image": str(image), "width": -1, "height": -1}


def _image_name(image: int | str) -> str:
    """Return an image's name as COCO writes it: twelve digits, or the file's stem."""
    if isinstance(image, int):
        return f"{image:012d}"
    return "__".join(PurePosixPath(image).with_suffix("").parts) if PurePosixPath(image).name else "image"


COCO = Reader(
    dataset=Dataset(
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
            Column("subset", "string", "subset in the file's name, such as train2017; empty for other names"),
            Column("image", "string", "file name of the image, or its id where the file does not tell"),
            Column("width", "i4", "pixels across the image, -1 where the file does not tell", unit="px"),
            Column("height", "i4", "pixels down the image, -1 where the file does not tell", unit="px"),
            Column("crowd", "i4", "1 where the annotation is of a group of people"),
        ),
        protocols=_FACTS.protocols,
        missing=MISSING,
        unit="px",
        axes=("x", "y"),
        axis_convention="pixels, +y down",
        confidence=VISIBILITY,
        extras=(BOX_EXTRA, SCORE_EXTRA),
        options=(LAYOUT_OPTION,),
    ),
    scan=scan,
    read=read,
    configure=configure,
)
