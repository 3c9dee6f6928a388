"""`view`: a recording or an encoded sample as a picture, an animation or a page."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np

from skelconv.extras import need
from skelconv.s2i.read import S2IStore, open_s2i
from skelconv.s2i.write import Bar, no_bar
from skelconv.store import schema
from skelconv.store.cells import near_names
from skelconv.store.info import StoreInfo
from skelconv.store.location import locate, read_metadata
from skelconv.store.recording import Recording
from skelconv.store.store import Store, open_store
from skelconv.view.animation import count_pictures, gif, mp4
from skelconv.view.beside import CAMERA_YAW, beside_names, flat_beside
from skelconv.view.drawing import Scene, make_scene
from skelconv.view.encoded import draw_sample
from skelconv.view.overlay import MOST, OverlayStage, open_frames
from skelconv.view.pictures import film_strip
from skelconv.view.stage import WIDEST, Stage, TheatreStage
from skelconv.view.viewer import viewer_page
from skelformats.errors import SkelconvError, UnknownNameError

SUFFIXES = {".png": "film strip", ".gif": "animation", ".mp4": "video", ".html": "page with a viewer"}
"""What is made of a recording, by the suffix of the file."""


class ViewError(SkelconvError, ValueError):
    """A picture that cannot be made: of this kind, or of this store."""


def view(
    store: str | Path | Store | S2IStore,
    name: str | None,
    out: str | Path,
    video: str | Path | None = None,
    bar: Bar = no_bar,
    beside: bool = False,
) -> Path:
    """Draw a recording, one body of it, or an encoded sample, in the way that the suffix of ``out`` says.

    Parameters
    ----------
    store
        A sequence store or an s2i store, open or by its path.
    name
        Of a sequence store: a recording, or a sequence to see one body alone. Of an s2i store: a sample, or
        a recording, whose first sample is drawn. None takes the first.
    out
        ``.png``: a film strip, or the encoded sample with its joints named. ``.gif``: an animation.
        ``.mp4``: the same as a video. ``.html``: a page that turns, plays and scrubs, from disk and
        offline. An existing file is replaced.
    video
        Of an animation: draw onto these pictures, a video file or a folder with a picture a frame. The store
        has 2D poses, or its joints in the picture beside 3D ones; frame 0 of the recording is the first
        picture.
    bar
        What shows the progress of an animation.
    beside
        Draw the 2D poses that a store of 3D ones keeps as the array ``pixel`` beside them, as the camera saw
        both.

    Returns
    -------
    ``out`` as a path.

    Raises
    ------
    ViewError
        The suffix is none of these, or the store holds nothing to draw.
    OverlayError
        The pictures are too few, of another size, or the store does not say where they show its joints.
    UnknownNameError
        The store has no recording, sequence or sample called ``name``.
    StoreError
        The store cannot be read.
    MissingExtraError
        The extra ``view`` is not installed, or of videos the extra ``video``.
    """
    out = Path(out)
    suffix = out.suffix.lower()
    if suffix not in SUFFIXES:
        kinds = ", ".join(f"{one} ({what})" for one, what in SUFFIXES.items())
        raise ViewError(f"{out}: found the suffix {out.suffix!r}, expected one of {kinds}")
    if video is not None and suffix not in (".gif", ".mp4"):
        raise ViewError(f"{out}: found the suffix {suffix} with --video, expected .gif or .mp4")
    if video is not None and beside:
        raise ViewError(f"{out}: found --video and --beside, expected one: a video shows the 2D poses itself")
    opened = store if isinstance(store, Store | S2IStore) else _open(store)
    if isinstance(opened, S2IStore):
        if beside:
            raise ViewError(
                f"{opened.path}: found images, expected 3D poses with pixels to draw --beside them"
            )
        if suffix != ".png":
            raise ViewError(
                f"{out}: found the suffix {suffix}, expected .png, since {opened.path} holds images. Give "
                f"the store that it was encoded from for {suffix}"
            )
        content = _draw_sample(opened, name)
    else:
        recording = find_recording(opened, name)
        shown = _beside(opened, recording) if beside else Shown(recording)
        if suffix in (".gif", ".mp4"):
            content = _animate(opened, shown, suffix, None if video is None else Path(video), bar)
        else:
            content = _draw_recording(opened, shown, suffix)
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(out.name + ".partial")
    aside.write_bytes(content)
    aside.replace(out)
    return out


def find_recording(store: Store, name: str | None) -> Recording:
    """Read the recording called ``name``, or the body with this sequence id alone, or the first recording.

    Raises
    ------
    UnknownNameError
        There is neither.
    ViewError
        The store is empty.
    """
    if name is None:
        names = store.recording_names()
        if not names:
            raise ViewError(f"{store.path}: found no recording, expected at least one to draw")
        return store.recording(names[0])
    if name in store:
        body = store.sequence(name)
        return Recording(body.name, int(body.row["recording_length"]), (body,), body.row)
    try:
        return store.recording(name)
    except UnknownNameError as error:
        raise UnknownNameError("recording or sequence", name, error.known) from error


def _open(path: str | Path) -> Store | S2IStore:
    attributes = read_metadata(locate(path)).attributes.get(schema.ATTRIBUTE)
    info = StoreInfo.from_attributes(attributes, str(path))
    return open_s2i(path) if info.kind == "s2i" else open_store(path)


class Shown(NamedTuple):
    """What is drawn: a recording, the turn in which it is first seen, and what a legend calls its bodies."""

    recording: Recording
    yaw: float | None = None
    names: Sequence[str] = ()


def _beside(store: Store, recording: Recording) -> Shown:
    axes = store.info.axes.names
    if len(axes) != 3:
        raise ViewError(
            f"{store.path}: found the axes {', '.join(axes)} with --beside, expected 3D poses. Leave it out: "
            "2D poses are drawn as they are"
        )
    return Shown(flat_beside(recording), CAMERA_YAW, beside_names(len(recording.bodies)))


def _draw_recording(store: Store, shown: Shown, suffix: str) -> bytes:
    rate = store.info.frame_rate
    if suffix == ".html":
        page = viewer_page([shown.recording], store.skeleton, rate, names=shown.names, yaw=shown.yaw)
        return page.encode()
    return film_strip(_scene(store, shown), store.skeleton, rate)


def _scene(store: Store, shown: Shown) -> Scene:
    scene = make_scene(shown.recording, store.skeleton, shown.yaw, shown.names)
    if not len(scene.frames()):
        raise ViewError(
            f"{store.path}: found no joint in any frame of {shown.recording.name}, expected one to draw"
        )
    return scene


def _animate(store: Store, shown: Shown, suffix: str, video: Path | None, bar: Bar) -> bytes:
    need("PIL", "view")
    if suffix == ".mp4":
        need("av", "video")
    rate = store.info.frame_rate
    with ExitStack() as stack:
        if video is None:
            scene = _scene(store, shown)
            stage: Stage = TheatreStage(scene, store.skeleton)
        else:
            most = WIDEST if suffix == ".gif" else MOST
            on = OverlayStage(shown.recording, store, stack.enter_context(open_frames(video)), video, most)
            stage, scene = on, on.scene
        total = count_pictures(scene, rate, suffix == ".mp4")
        advance = stack.enter_context(bar(total, "pictures", 0))
        return (mp4 if suffix == ".mp4" else gif)(scene, stage, rate, lambda count: advance(count, 0))


def _draw_sample(store: S2IStore, name: str | None) -> bytes:
    table = store.to_frame()
    samples = [str(sample) for sample in table.index]
    if not samples:
        raise ViewError(f"{store.path}: found no image, expected at least one to draw")
    if name is None:
        at = 0
    elif name in table.index:
        at = samples.index(name)
    else:
        hits = np.flatnonzero((table["recording"] == name).to_numpy(bool))
        if not len(hits):
            raise UnknownNameError("sample or recording", name, near_names(name, samples))
        at = int(hits[0])
    return draw_sample(store, at)
