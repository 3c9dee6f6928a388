"""Generated videos as a 2D pose detector sees them: the same for every 2D format, which only writes them.

A plain camera films the procedural human, 1920 x 1080, left of the scene at the left of the picture. The
detector errs by pixels, scores what it finds, loses joints and people now and then, and sees nobody's ids:
linking is what formats differ in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from skelconv.human import Array, Camera, find_action, place, play, subject, with_landmarks
from skelconv.synth.truth import GroundTruth, Settings, SynthError, TrueTrack
from skelformats.skeleton import load_skeleton

WIDTH, HEIGHT = 1920, 1080
FRAME_RATE = 30.0
FOCAL = 1150.0

VIDEO_ACTIONS = (
    "wave",
    "walk_about",
    "shake_hands",
    "pick_up",
    "throw",
    "kick",
    "hug",
    "hop",
    "clap",
    "bow",
    "squat",
    "walk_towards",
)
"""What happens in the videos; its index is the label."""

CAPACITY = 99_999
SUBJECTS = 40

_RATES = {"gap": 0.3, "late": 0.2, "lost_joints": 0.4}
"""Share of people who are not found for some frames, come late, and lose joints for some frames."""

_FILM = 40
"""First word of the random streams (see `skelconv.human.performance`)."""


@dataclass(frozen=True, eq=False)
class Filmed:
    """One person of a video, in the T frames in which the detector finds him or her.

    ``rows`` is (T, J, 3): pixels and score, all 0 for a lost joint; ``noiseless`` (T, J, 2) pixels; ``seen``
    (T, J, 3) metres in the camera's frame, x to the left, y up, z away.
    """

    person: int
    frame_index: NDArray[np.int32]
    rows: Array
    noiseless: Array
    seen: Array


@dataclass(frozen=True)
class Video:
    """Everybody in a video of ``length`` frames."""

    action: str
    label: int
    length: int
    people: tuple[Filmed, ...]


@dataclass(frozen=True, eq=False)
class ScoredTrack(TrueTrack):
    """The truth of a 2D track: positions (T, J, 2) in pixels; ``state`` 2 where a joint was found.

    ``score`` is (T, J) float32, or None where the format has states instead.
    """

    score: NDArray[np.float32] | None = None


def capacity(settings: Settings) -> int:
    """Return how many videos there are names for; raises `SynthError` for classes that do not exist."""
    _actions(settings)
    return CAPACITY


def film(layout: str, word: int, seed: int, index: int, settings: Settings) -> Video:
    """Film video ``index``; ``word`` tells the formats' random streams apart.

    Raises
    ------
    SynthError
        The settings name a class beyond `VIDEO_ACTIONS`, or ``index`` is beyond `CAPACITY`.
    """
    if not 0 <= index < CAPACITY:
        raise SynthError(f"found video number {index}, expected one of 0 to {CAPACITY - 1}")
    actions = _actions(settings)
    label = actions[index % len(actions)]
    rng = np.random.default_rng((seed, _FILM, word, index))
    action = find_action(VIDEO_ACTIONS[label])
    length = int(rng.integers(settings.frames[0], settings.frames[1] + 1))
    numbers = rng.choice(SUBJECTS, action.persons, replace=False)
    cast = [subject(seed, int(number)) for number in numbers]
    motions = play(action, cast, length, FRAME_RATE, rng, heading=rng.normal(0.0, 0.6))
    azimuth, distance = rng.uniform(-1.0, 1.0), rng.uniform(3.2, 4.8)
    eye = np.array([distance * np.sin(azimuth), rng.uniform(0.9, 1.6), distance * np.cos(azimuth)])
    camera = Camera.looking_at(np.array([0.0, 0.95, 0.0]), eye)
    skeleton = load_skeleton(layout)
    people = []
    for number, motion in enumerate(motions):
        seen = place(with_landmarks(camera.view(motion)), skeleton)
        people.append(_detect(number, seen, settings, rng))
    return Video(VIDEO_ACTIONS[label], label, length, tuple(people))


def truth(name: str, video: Video, tracks: list[ScoredTrack]) -> GroundTruth:
    """Return what a reader must find, in the order in which it finds it: by first frame."""
    ordered = sorted(tracks, key=lambda track: int(track.frame_index[0]))
    return GroundTruth(name, video.action, video.label, video.length, tuple(ordered))


def true_track(body: str, person: Filmed, rows: Array, states: bool = False) -> ScoredTrack | None:
    """Return the truth of one body whose (T, J, 3) ``rows`` were written; None where it has no joint at all.

    With ``states`` the third number is a visibility flag, else a score.
    """
    found = rows.any(axis=(1, 2))
    if not found.any():
        return None
    rows = rows[found]
    position = rows[..., :2].astype(np.float32)
    missing = (rows == 0).all(axis=-1)
    position[missing] = np.nan
    state = rows[..., 2].astype(np.uint8) if states else np.where(missing, 0, 2).astype(np.uint8)
    return ScoredTrack(
        body=body,
        person=person.person,
        frame_index=person.frame_index[found],
        position=position,
        state=state,
        noiseless=person.noiseless[found],
        score=None if states else rows[..., 2].astype(np.float32),
    )


def untracked(video: Video) -> list[ScoredTrack]:
    """Return a track for each person and frame: without ids nobody is anybody's next frame."""
    tracks = []
    for frame in range(video.length):
        number = 0
        for person in video.people:
            at = person.frame_index == frame
            one = replace(
                person,
                frame_index=person.frame_index[at],
                rows=person.rows[at],
                noiseless=person.noiseless[at],
                seen=person.seen[at],
            )
            if at.any() and (track := true_track(f"{frame}.{number}", one, one.rows)):
                tracks.append(track)
                number += 1
    return tracks


def box(rows: Array) -> list[float]:
    """Return left, top, width, height around the joints of one person in one frame, (J, 3)."""
    seen = rows[rows[:, 2] > 0, :2]
    if not len(seen):
        return [0.0, 0.0, 0.0, 0.0]
    low, high = seen.min(axis=0), seen.max(axis=0)
    return [float(value) for value in (*low, *(high - low))]


def chosen_actions(settings: Settings) -> tuple[str, ...]:
    """Return the names of the actions to take turns with; raises `SynthError` for those that do not exist."""
    return tuple(VIDEO_ACTIONS[label] for label in _actions(settings))


def _actions(settings: Settings) -> tuple[int, ...]:
    known = range(len(VIDEO_ACTIONS))
    if unknown := [action for action in settings.actions if action not in known]:
        raise SynthError(f"found the classes {unknown}, expected some of 0 to {len(VIDEO_ACTIONS) - 1}")
    return tuple(dict.fromkeys(settings.actions)) or tuple(known)


def _pixels(position: Array) -> Array:
    """(..., 2) pixels of positions in the camera's frame, whose x points to the left."""
    return np.array([WIDTH / 2, HEIGHT / 2]) - FOCAL * position[..., :2] / position[..., 2:]


def _detect(number: int, seen: Array, settings: Settings, rng: np.random.Generator) -> Filmed:
    exact = _pixels(seen)
    frames, joints = exact.shape[:2]
    pixels = exact + settings.noise * rng.normal(0.0, 2.5, exact.shape)
    score = np.clip(rng.beta(9.0, 1.5, (frames, joints)), 0.05, 1.0)
    rows = np.concatenate([pixels, score[..., None]], axis=-1).round(4)

    def happens(what: str) -> bool:
        return bool(rng.random() < _RATES[what] * settings.faults)

    present = np.ones(frames, bool)
    if happens("late"):
        present[: int(rng.integers(0, frames // 2 + 1))] = False
    if happens("gap"):
        start = int(rng.integers(0, frames))
        present[start : start + int(rng.integers(1, 6))] = False
    if happens("lost_joints"):
        lost = rng.choice(joints, int(rng.integers(1, 5)), replace=False)
        start = int(rng.integers(0, frames))
        rows[start : start + int(rng.integers(1, 10)), lost] = 0.0
    # somebody who is never found would leave nothing to tell of
    if not present.any():
        present[-1] = True
    found = np.flatnonzero(present).astype(np.int32)
    return Filmed(number, found, rows[present], exact[present], seen[present])
