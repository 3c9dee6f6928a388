"""Generated AlphaPose results: ``<video>/alphapose-results.json``, Halpe's 26 joints, tracked."""

from __future__ import annotations

from typing import Any

import orjson

from skelconv.synth.truth import GroundTruth, Settings
from skelconv.synth.video import box, film, true_track, truth

_WORD = 1


def make_results(seed: int, index: int, settings: Settings) -> tuple[GroundTruth, dict[str, bytes]]:
    """Make the results of video ``index``; every other one writes ids as lists, as some versions do."""
    name = f"video_{index:05d}"
    video = film("halpe26", _WORD, seed, index, settings)
    entries: list[tuple[int, dict[str, Any]]] = []
    tracks = []
    for person in video.people:
        # AlphaPose counts people from 1
        number = person.person + 1
        for frame, rows in zip(person.frame_index.tolist(), person.rows, strict=True):
            entry = {
                "image_id": f"{frame}.jpg",
                "category_id": 1,
                "keypoints": rows.ravel().tolist(),
                "score": round(float(rows[:, 2].sum()), 4),
                "box": box(rows),
                "idx": [float(number)] if index % 2 else number,
            }
            entries.append((frame, entry))
        if track := true_track(str(number), person, person.rows):
            tracks.append(track)
    entries.sort(key=lambda pair: pair[0])
    last = max(frame for frame, _ in entries)
    content = orjson.dumps([entry for _, entry in entries])
    # the results do not tell of frames after the last detection
    found = truth(name, video, tracks)
    shortened = GroundTruth(name, found.action, -1, last + 1, found.tracks)
    return shortened, {f"{name}/alphapose-results.json": content}
