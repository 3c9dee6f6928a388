"""InstaVariety tracks: ``InstaVariety_tracks/<tag>/<video>/<track>/*.json``, one file a frame of a track.

``{"frame": 12, "imloc": "frame000013.png", "track_id": ..., "bbox": {"xmin", "ymin", "xmax", "ymax"},
"R Knee": {"x", "y", "logits", "probability"}, ...}``: the 25 joints of OpenPose's BODY_25 under their own
names (human_dynamics, doc/insta_variety.md). Tracks were linked from detections and split at cuts.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelformats.errors import FormatError
from skelformats.files import find_files, group_sources
from skelformats.json_text import load_json
from skelformats.keypoints import BOX_EXTRA, MISSING, SCORE, Detection, in_pixels, make_tracks, numbers, whole
from skelformats.reader import Clip, Column, Dataset, Reader, ReadOptions, Source
from skelformats.skeleton import load_skeleton

LAYOUT = "openpose25"
EXPECTED = "one frame of a track: an object with 'frame' and joints such as 'R Knee'"


def joint_keys() -> tuple[str, ...]:
    """Return the names of the joints in the files, in the order of the layout: ``R Big Toe``, ``Hip``, ..."""
    return tuple(_key(joint.official) for joint in load_skeleton(LAYOUT).joints)


def _key(official: str) -> str:
    if official == "MidHip":
        return "Hip"
    words = "".join(f" {letter}" if letter.isupper() else letter for letter in official)
    return words.strip()


def scan(root: Path, options: ReadOptions) -> list[Source]:
    """List the videos below ``root``: all files two folders up from theirs are of one video."""
    return group_sources(
        (str(PurePosixPath(path).parents[1]), 0, path, size)
        for path, size in find_files(root, ".json")
        if path.count("/") >= 2  # the list of videos lies above
    )


def read(root: Path, source: Source, options: ReadOptions) -> list[Clip]:
    """Parse one video, with all of its tracks.

    Raises
    ------
    FormatError
        A file is not of this format.
    """
    # the folder is the track: the id inside need not be unique
    found = [
        _detection(root / name, PurePosixPath(name).parent.name) for name in (source.path, *source.members)
    ]
    *above, video = PurePosixPath(source.path).parts[:-2]
    tag = above[-1] if above else ""
    columns = {"tag": tag, "video": video}
    name = f"{tag}__{video}" if tag else video
    length = max(detection.frame for detection in found) + 1
    return [Clip(name, length, make_tracks(found, "f4", options.extras), -1, columns, {})]


def _detection(path: Path, track: str) -> Detection:
    content = load_json(path, EXPECTED)
    if not isinstance(content, dict):
        raise FormatError(path, f"a JSON {type(content).__name__}", EXPECTED)
    keys = joint_keys()
    if not any(key in content for key in keys):
        raise FormatError(path, "none of the joints " + ", ".join(keys[:3]) + ", ...", EXPECTED)
    joints = np.array([_joint(path, key, content.get(key)) for key in keys])
    return Detection(whole(path, "the frame", content.get("frame")), track, joints, _box(path, content))


def _joint(path: Path, key: str, value: Any) -> NDArray[np.float64]:
    if value is None:
        return np.zeros(3)
    expected = "an object with numbers x, y and logits"
    if not isinstance(value, dict):
        raise FormatError(path, f"{key!r} of type {type(value).__name__}", expected)
    return numbers(path, repr(key), [value.get(name) for name in ("x", "y", "logits")], expected)


def _box(path: Path, content: dict[str, Any]) -> NDArray[np.float32] | None:
    box = content.get("bbox")
    if box is None:
        return None
    expected = "an object with numbers xmin, ymin, xmax, ymax"
    if not isinstance(box, dict):
        raise FormatError(path, f"'bbox' of type {type(box).__name__}", expected)
    corners = numbers(path, "'bbox'", [box.get(name) for name in ("xmin", "ymin", "xmax", "ymax")], expected)
    return np.concatenate([corners[:2], corners[2:] - corners[:2]]).astype(np.float32)


INSTAVARIETY = Reader(
    dataset=in_pixels(
        Dataset(
            name="instavariety",
            title="InstaVariety tracks",
            skeleton=LAYOUT,
            licence="no licence text is distributed with the tracks; the videos belong to their authors",
            citation="A. Kanazawa et al. Learning 3D Human Dynamics from Video. CVPR 2019",
            homepage="https://github.com/akanazawa/human_dynamics/blob/master/doc/insta_variety.md",
            # videos of different rates; the tracks do not tell
            frame_rate=None,
            classes=(),
            columns=(
                Column("tag", "string", "Instagram tag that the video was found by"),
                Column("video", "string", "id of the video"),
            ),
            protocols=(),
            missing=MISSING,
            confidence=SCORE,
            extras=(BOX_EXTRA,),
        )
    ),
    scan=scan,
    read=read,
)
