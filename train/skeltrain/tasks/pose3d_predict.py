"""3D poses of the tracks of any 2D store, written as a sequence store.

Every track is lifted on its own, over overlapping windows. Frames in which its person was not found are
interpolated, and given to the network with confidence 0.

T frames of a track, J = 17 joints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skelconv import __version__
from skelconv.store.info import Provenance
from skelconv.store.recording import Recording, Sequence
from skelconv.store.store import Store, open_store
from skelconv.store.writer import write_store
from skelformats.reader import AxisMap, Clip, Confidence, Dataset, Extra, Track
from skelformats.skeleton import load_skeleton
from skeltrain.data.loader import DataError
from skeltrain.data.motion import crop_scale
from skeltrain.data.motion_sets import image_points
from skeltrain.models.dstformer import DSTformer
from skeltrain.models.registry import load_model
from skeltrain.run_folder import RunError
from skeltrain.tasks.motion_common import infer
from skeltrain.tasks.registry import PredictOptions, Trained

#: Height of the ankle joint above the floor, as a part of a person's height (R. Drillis, R. Contini, Body
#: segment parameters, 1966).
ANKLE_HEIGHT = 0.039

NETWORK_AXES = AxisMap((0, 1, 2), (-1, -1, 1))
"""From x to the right, y down, z away from the camera to the axes of a 3D store, +y up."""

PIXEL = "pixel"
"""Array of a store of predictions: what each pose was predicted of."""

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Lifted:
    """A track in 3D: its frames' numbers (T,), poses (T, J, 3), and of the 2D joints that they were lifted
    from the pixels (T, J, 2) and confidences (T, J).
    """

    frame: NDArray[np.int32]
    pose: Array
    pixel: Array
    confidence: Array


@dataclass(frozen=True)
class Lifter:
    """A network and how it is run over tracks.

    Attributes
    ----------
    length, stride
        Frames of a window, and from one to the next.
    """

    model: DSTformer
    device: torch.device
    length: int
    stride: int
    relative: bool
    flip: bool

    def lift(self, points: Array) -> Array:
        """Return the motion (T, J, 3) of a track (T, J, 3) that is scaled to [-1, 1].

        Windows overlap, and are blended with weights that fall towards their ends. Without a fixed root, the
        depth of each is first moved to that of the frames before it, which it has no way to know.
        """
        total = np.zeros_like(points, np.float64)
        count = np.zeros((len(points), 1, 1))
        length = min(self.length, len(points))
        share = ramp(length)[:, None, None]
        for start in window_starts(len(points), length, self.stride):
            clip = torch.from_numpy(points[start : start + length])[None].to(self.device)
            with torch.no_grad():
                motion = infer(self.model, clip, self.relative, self.flip)[0].double().cpu().numpy()
            there = count[start : start + length, 0, 0] > 0
            if not self.relative and there.any():
                before = total[start : start + length][there] / count[start : start + length][there]
                motion[..., 2] += (before[..., 2] - motion[there][..., 2]).mean()
            elif not self.relative:
                motion[..., 2] -= motion[0, 0, 2]
            total[start : start + length] += motion * share
            count[start : start + length] += share
        return (total / count).astype(np.float32)


def window_starts(frames: int, length: int, stride: int) -> list[int]:
    """Return the first frame of each window; the last window ends with the track."""
    starts = list(range(0, frames - length + 1, stride))
    if starts[-1] + length < frames:
        starts.append(frames - length)
    return starts


def predict_poses(trained: Trained, where: str, out: Path, options: PredictOptions) -> str:
    """Write the 3D poses that a network predicts for the tracks of a 2D store; returns a line about them.

    Poses are in the network's unit, half the larger side of the square about the track; with a height, each
    track is scaled so that its person is so tall, and they are in metres.

    Raises
    ------
    DataError
        The store is not one of 2D poses, has joints that make no h36m17, or no track with joints enough.
    RunError
        A stride or height that cannot be used.
    StoreError
        A store cannot be read or written.
    """
    lifter = build_lifter(trained, options)
    if options.height is not None and not 0 < options.height < np.inf:
        raise RunError(f"found a height of {options.height}, expected metres above 0, such as 1.75")
    store = open_2d(where)
    left: list[str] = []
    info = write_store(
        out,
        described(store, options.height),
        clips(store, lifter, options.height, left),
        provenance(
            store,
            trained,
            "pose3d",
            options.command,
            {
                "relative": lifter.relative,
                "length": lifter.length,
                "stride": lifter.stride,
                "flip": lifter.flip,
                "height": options.height,
            },
        ),
        (PIXEL,),
        overwrite=options.overwrite,
    )
    for line in left:
        trained.log(line)
    made = info.provenance
    return f"{out}: {made.sequences:,} tracks of {made.recordings:,} recordings, {made.frames:,} frames in 3D"


def open_2d(where: str) -> Store:
    """Open a store of 2D poses; raises `DataError` for any other."""
    store = open_store(where)
    if len(store.info.axes.names) != 2 or store.info.unit != "px":
        raise DataError(
            f"{where}: found positions {', '.join(store.info.axes.names)} in {store.info.unit!r}, expected "
            "2D poses in pixels"
        )
    return store


def chosen_stride(length: int, asked: int | None) -> int:
    """Return the frames from one window to the next; raises `RunError`."""
    stride = asked or max(length // 2, 1)
    if not 0 < stride <= length:
        raise RunError(f"found a stride of {stride} frames, expected from 1 to the {length} of a window")
    return stride


def ramp(length: int) -> NDArray[np.float64]:
    """Return what each frame (T,) of a window counts where windows overlap: less towards its ends."""
    return np.minimum(np.arange(1, length + 1), np.arange(length, 0, -1)).astype(np.float64)


def build_lifter(trained: Trained, options: PredictOptions) -> Lifter:
    """Return the network of a checkpoint, ready to run; raises `RunError`, `ModelError`."""
    recipe = trained.metadata["recipe"]
    model = load_model(trained.checkpoint).to(trained.world.device).eval()
    assert isinstance(model, DSTformer)
    length = int(recipe["data"]["length"])
    stride = chosen_stride(length, options.stride)
    flip = bool(recipe["test"]["flip"])
    return Lifter(model, trained.world.device, length, stride, bool(trained.metadata["relative"]), flip)


def clips(store: Store, lifter: Lifter, height: float | None, left: list[str]) -> Iterator[tuple[str, Clip]]:
    """Yield each recording in 3D; what cannot be lifted is said in ``left``."""

    def lift(body: Sequence) -> Track | None:
        lifted = lift_track(store, body, lifter, height)
        if lifted is None:
            return None
        return Track(body.body, lifted.frame, lifted.pose, lifted.confidence, {PIXEL: lifted.pixel})

    return tracks_of(store, lift, left)


def tracks_of(
    store: Store, lift: Callable[[Sequence], Track | None], left: list[str]
) -> Iterator[tuple[str, Clip]]:
    """Yield each recording with what ``lift`` makes of its tracks; those it makes nothing of are ``left``."""
    table = store.to_frame()
    names = list(dict.fromkeys(table["recording"]))
    done = 0
    for name in names:
        recording = store.recording(str(name))
        tracks = []
        for body in recording.bodies:
            track = lift(body)
            if track is None:
                left.append(f"left out: {body.name}, which has too few joints to place it")
                continue
            tracks.append(track)
        if tracks:
            done += 1
            yield str(table.loc[recording.bodies[0].name, "source"]), _clip(recording, tuple(tracks))
    if not done:
        raise DataError(
            f"{store.path}: found no track that can be placed in {len(names)} recordings, expected joints "
            "with a confidence above 0"
        )


def lift_track(store: Store, body: Sequence, lifter: Lifter, height: float | None) -> Lifted | None:
    """Lift one track; None where it has fewer than four joints, or no extent."""
    track = scaled_track(store, body, lifter.length)
    if track is None:
        return None
    pose = np.concatenate([lifter.lift(part) for part in track.parts()])
    if height is not None:
        pose *= metres_a_unit(pose, height)
    return Lifted(track.frame, pose, track.pixel, track.points[..., 2])


@dataclass(frozen=True, eq=False)
class ScaledTrack:
    """A track as a network is given it.

    Attributes
    ----------
    frame
        (T,) numbers of its frames.
    points
        (T, J, 3) x and y in [-1, 1], and confidence.
    pixel
        (T, J, 2) the same x and y as the store has them; NaN for a joint that a stretch never shows.
    edges
        Where stretches without a long gap begin and end.
    """

    frame: NDArray[np.int32]
    points: Array
    pixel: Array
    edges: tuple[int, ...]

    def parts(self) -> Iterator[Array]:
        """Yield the points (t, J, 3) of each stretch."""
        yield from (self.points[a:b] for a, b in pairwise(self.edges))


def scaled_track(store: Store, body: Sequence, longest: int) -> ScaledTrack | None:
    """Scale a track to [-1, 1] as a whole; None where it has fewer than four joints, or no extent.

    Gaps of up to ``longest`` frames are interpolated; a longer one divides the track.
    """
    points = image_points(store, body.position, body.confidence)
    frame = body.frame_index.astype(np.int64)
    edges = [0, *(np.flatnonzero(np.diff(frame) > longest) + 1).tolist(), len(frame)]
    filled = [fill_gaps(points[a:b], frame[a:b]) for a, b in pairwise(edges) if b > a]
    whole = np.concatenate([part for part, _ in filled]) if filled else np.zeros((0, 17, 3), np.float32)
    scaled = crop_scale(whole) if len(whole) else whole
    if not np.any(scaled[..., 2] > 0) or not np.ptp(scaled[scaled[..., 2] > 0][:, :2]):
        return None
    at = np.cumsum([0, *(len(part) for part, _ in filled)]).tolist()
    numbers = np.concatenate([number for _, number in filled]).astype(np.int32)
    pixel = whole[..., :2].copy()
    for a, b in pairwise(at):
        pixel[a:b, ~(whole[a:b, :, 2] > 0).any(axis=0)] = np.nan
    return ScaledTrack(numbers, scaled.astype(np.float32), pixel, tuple(at))


def fill_gaps(points: Array, frame: NDArray[np.int64]) -> tuple[Array, NDArray[np.int64]]:
    """Return points (T, J, 3) of every frame from first to last, and the frames' numbers (T,).

    Each joint is interpolated between the frames where it was seen, and stays where it was first and last
    seen before and after; what is interpolated has confidence 0. A joint that was never seen is 0.
    """
    every = np.arange(frame[0], frame[-1] + 1)
    result = np.zeros((len(every), *points.shape[1:]), np.float32)
    result[frame - frame[0]] = points
    for joint in range(points.shape[1]):
        seen = np.flatnonzero(result[:, joint, 2] > 0)
        if len(seen):
            hidden = np.setdiff1d(np.arange(len(every)), seen)
            for axis in range(2):
                result[hidden, joint, axis] = np.interp(hidden, seen, result[seen, joint, axis])
    return result, every


def metres_a_unit(pose: Array, height: float) -> float:
    """Return what makes a person of ``pose`` (T, J, 3) as tall as ``height`` metres.

    The height in the pose's unit is that of the medians over time of shins, thighs, spine, neck and head, one
    above the other, and the ankles' height above the floor.

    Raises
    ------
    DataError
        The pose has no extent.
    """
    layout = load_skeleton("h36m17")

    def bone(start: str, end: str) -> float:
        offset = pose[:, layout.index(start)] - pose[:, layout.index(end)]
        return float(np.median(np.linalg.norm(offset, axis=-1)))

    legs = [
        bone(f"{side}_{start}", f"{side}_{end}")
        for side in ("left", "right")
        for start, end in (("hip", "knee"), ("knee", "ankle"))
    ]
    upper = [bone(*ends) for ends in pairwise(("pelvis", "spine", "thorax", "nose", "head_top"))]
    tall = (sum(legs) / 2 + sum(upper)) / (1 - ANKLE_HEIGHT)
    if tall <= 0:
        raise DataError("found a predicted pose of no extent, expected a person to scale to a height")
    return height / tall


def described(store: Store, height: float | None) -> Dataset:
    """Describe the store of predictions of a store."""
    about = store.info.dataset
    unit = "" if height is not None else ", in half the side of the square about each track"
    return Dataset(
        name=f"{about.name}_pose3d",
        title=f"3D poses predicted of {about.title}{unit}",
        skeleton="h36m17",
        licence=about.licence,
        citation=about.citation,
        homepage=about.homepage,
        generated=about.generated,
        frame_rate=store.info.frame_rate,
        classes=store.info.classes,
        columns=(),
        protocols=(),
        missing="never: frames without a detection are interpolated",
        unit="m" if height is not None else "1",
        axis_map=NETWORK_AXES,
        confidence=Confidence("f4", "score of the 2D joint; 0 where it was interpolated"),
        extras=(
            Extra(
                PIXEL,
                ("joint", "pixel_axis"),
                {"pixel_axis": ("x", "y")},
                "f4",
                store.info.unit,
                "the 2D pose that was lifted, interpolated where its confidence is 0; NaN where never seen",
            ),
        ),
    )


def provenance(store: Store, trained: Trained, what: str, command: str, how: Mapping[str, Any]) -> Provenance:
    """Say which network made what (the key in ``derived_from``) of a store, and how."""
    made = store.info.provenance
    settings: dict[str, Any] = {
        "checkpoint": str(trained.path),
        "epochs": trained.checkpoint["progress"]["epoch"],
        "input": trained.metadata["input"],
        **how,
    }
    return Provenance(
        tool=f"skelconv {__version__}",
        command=command,
        options=settings,
        sources=made.sources,
        digest=made.digest,
        derived_from={
            what: settings,
            "provenance": made.model_dump(mode="json", exclude={"set_aside", "empty"}),
        },
    )


def _clip(recording: Recording, tracks: tuple[Track, ...]) -> Clip:
    label = int(recording.row.get("label", -1))
    return Clip(recording.name, recording.length, tracks, label, {}, {})
