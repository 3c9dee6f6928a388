"""Generated InstaVariety tracks: ``<tag>/<video>/<track>/<frame>.json``, one file a frame of a track."""

from __future__ import annotations

from dataclasses import replace

import orjson

from skelconv.synth.truth import GroundTruth, Settings
from skelconv.synth.video import box, film, true_track, truth
from skelformats.instavariety import joint_keys

_WORD = 3


def make_tracks(seed: int, index: int, settings: Settings) -> tuple[GroundTruth, dict[str, bytes]]:
    """Make the tracks of video ``index``."""
    video = film("openpose25", _WORD, seed, index, settings)
    tag, name = video.action.replace("_", ""), f"{index:05d}"
    files: dict[str, bytes] = {}
    tracks = []
    for person in video.people:
        folder = f"{person.person:04d}"
        for frame, rows in zip(person.frame_index.tolist(), person.rows, strict=True):
            left, top, width, height = box(rows)
            content: dict[str, object] = {
                "frame": frame,
                "imloc": f"frame{frame + 1:06d}.png",
                "track_id": person.person,
                "bbox": {"xmin": left, "ymin": top, "xmax": left + width, "ymax": top + height},
            }
            for key, (x, y, score) in zip(joint_keys(), rows.tolist(), strict=True):
                content[key] = {"x": x, "y": y, "logits": score, "probability": None}
            files[f"InstaVariety_tracks/{tag}/{name}/{folder}/{frame:06d}.json"] = orjson.dumps(content)
        if track := true_track(folder, person, person.rows):
            tracks.append(track)
    found = truth(f"{tag}__{name}", video, tracks)
    last = max(int(track.frame_index[-1]) for track in tracks)
    return replace(found, label=-1, length=last + 1), files
