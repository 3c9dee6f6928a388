"""A small viewer of recordings in a web page: turn, zoom, play, scrub. Needs no network and no server.

Everything, data included, is in the page; `templates/viewer.js` draws it on a canvas.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelconv.extras import need
from skelconv.store.recording import Recording
from skelconv.view.drawing import FAMILIES, HEAT, SOLO, Scene, head, limbs, make_scene
from skelformats.skeleton import Skeleton


def viewer_fragment(
    recordings: Sequence[Recording],
    skeleton: Skeleton,
    frame_rate: float | None,
    heat: Sequence[Sequence[NDArray[np.floating[Any]]]] | None = None,
    names: Sequence[str] = (),
    yaw: float | None = None,
) -> str:
    """Return an element that shows recordings, to be put into a page; a page may hold several.

    Parameters
    ----------
    recordings
        What can be chosen from, the first shown first.
    skeleton
        Their joint layout.
    frame_rate
        Frames a second; None plays 30 a second and shows no seconds.
    heat
        For each recording and body, (T, J) values from 0 to 1 that colour its joints (`drawing.HEAT`) in
        place of left and right.
    names
        What the legend calls the bodies of each recording; by default it counts them.
    yaw
        Turn about +y in which they are first seen; from the front by default.

    Returns
    -------
    HTML that brings its own style, script and data: float32 in base64, about 400 bytes a body and frame.

    Raises
    ------
    MissingExtraError
        jinja2 is not installed.
    """
    data: dict[str, Any] = {
        "frameRate": frame_rate,
        "joints": len(skeleton),
        "limbs": [[limb.joint, limb.other, limb.side] for limb in limbs(skeleton)],
        "head": head(skeleton),
        "families": FAMILIES,
        "solo": SOLO,
        "heat": None if heat is None else HEAT,
        "names": list(names),
        "recordings": [_plain(make_scene(recording, skeleton, yaw)) for recording in recordings],
    }
    for recording, of_bodies in zip(data["recordings"], heat or (), strict=heat is not None):
        for body, values in zip(recording["bodies"], of_bodies, strict=True):
            body["heat"] = _base64(values.astype("<f4"))
    # "<" would let a name from raw data close the script element
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return _render("viewer.html.j2", data=text, recordings=recordings)


def viewer_page(
    recordings: Sequence[Recording],
    skeleton: Skeleton,
    frame_rate: float | None,
    title: str = "",
    names: Sequence[str] = (),
    yaw: float | None = None,
) -> str:
    """Return a whole page with one viewer; parameters and errors as `viewer_fragment`.

    ``title`` is the name of the first recording by default.
    """
    return _render(
        "viewer_page.html.j2",
        title=title or (recordings[0].name if recordings else "no recording"),
        viewer=viewer_fragment(recordings, skeleton, frame_rate, names=names, yaw=yaw),
    )


def _plain(scene: Scene) -> dict[str, Any]:
    return {
        "name": scene.name,
        "caption": scene.caption,
        "length": scene.length,
        "flat": scene.flat,
        "yaw": scene.yaw,
        "low": scene.low.tolist(),
        "high": scene.high.tolist(),
        "bodies": [
            {"frames": _base64(index.astype("<i4")), "position": _base64(position.astype("<f4"))}
            for index, position in scene.bodies
        ],
    }


def _base64(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")


def _render(template: str, **values: Any) -> str:
    need("jinja2", "view")
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("skelconv.view", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    parts = {
        kind: (files("skelconv.view") / "templates" / f"viewer.{kind}").read_text("utf-8")
        for kind in ("css", "js")
    }
    return environment.get_template(template).render(**parts, **values)
