"""BioVision files (BVH) of 3D stores: a folder with a file a sequence, for Blender, MotionBuilder and
their like.

Positions become rotations of a skeleton with constant bones: each bone is as long as it is in the mean and
points where it points in its frame. A joint of which several bones begin cannot turn them all at once: it
takes the rotation that fits them best, and each of these bones has a joint of its own on top, at no
distance, that makes up the rest. So the file gives every direction exactly, and positions up to the change
of bone lengths.

T frames, J joints; rotations are matrices from a joint's frame to that of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from skelconv.export.forms import ExportForm
from skelconv.export.place import ABOUT, Exported, ExportError, written_aside
from skelconv.store.recording import Sequence
from skelconv.store.store import Store
from skelformats.skeleton import Skeleton

Array = NDArray[np.float64]

UNITS = {"m": (100.0, "centimetres")}
"""Factor and name of the file's unit by that of the store; other units stay as they are."""

FRAME_RATE = 30.0
"""Where neither the store nor the sequence tells: frames a second that the file then claims."""

_PRIOR = 1e-2
"""What the rotation of the joint before counts beside a joint's own bones: it settles what they leave open,
such as the turn about two bones in one line."""

_ROOT_CHANNELS = "CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation"
_CHANNELS = "CHANNELS 3 Zrotation Xrotation Yrotation"


@dataclass(frozen=True, eq=False)
class Node:
    """One joint of the file.

    Attributes
    ----------
    name
        The layout's joint, or ``joint_to_other`` where it only turns one bone of several.
    joint
        The layout's joint at its place.
    offset
        (3,) from the node before, in the rest pose, which is the first frame's.
    children
        Nodes behind it.
    turns
        (T, 3, 3) against the node before.
    """

    name: str
    joint: int
    offset: Array
    children: tuple[Node, ...]
    turns: Array


def export_bvh(store: Store, path: str | Path, overwrite: bool = False) -> Exported:
    """Write every sequence of a 3D store as a file of its own, ``SEQUENCE.bvh``.

    Frames and joints that are missing are interpolated over time. A joint that a sequence never has sets it
    aside.

    Raises
    ------
    ExportError
        The store is not one of 3D poses, none of its sequences can be written, or ``path`` is in the way.
    """
    if len(store.info.axes.names) != 3:
        raise ExportError(f"{store.path}: found 2D poses, expected 3D ones, which rotations can be made of")
    factor, unit = UNITS.get(store.info.unit, (1.0, f"the store's unit ({store.info.unit})"))
    set_aside: list[tuple[str, str]] = []
    rates, count, frames = set(), 0, 0
    with written_aside(Path(path), overwrite) as partial:
        partial.mkdir()
        for sequence in _sequences(store):
            rate = _frame_rate(store, sequence)
            try:
                place = fill(sequence, store.skeleton) * factor
            except ExportError as error:
                set_aside.append((sequence.name, str(error)))
                continue
            # ids may hold what a file's name must not
            target = partial / (re.sub(r"[^\w.-]", "_", sequence.name) + ".bvh")
            if target.exists():
                raise ExportError(
                    f"{store.path}: found two sequences that would both be {target.name}, expected names "
                    "that differ in letters and digits"
                )
            target.write_text(bvh_text(store.skeleton, place, rate), encoding="utf-8")
            count, frames = count + 1, frames + len(place)
            rates.add(rate)
        if not count:
            first = f"; the first: {set_aside[0][1]}" if set_aside else ""
            raise ExportError(f"{store.path}: found no sequence to export, expected at least one{first}")
        about = {"unit": unit, "frame_rates": sorted(rates), "set_aside": dict(set_aside)}
        (partial / ABOUT).write_bytes(orjson.dumps(about, option=orjson.OPT_INDENT_2))
    told = store.info.frame_rate is not None or "frame_rate" in store.to_frame()
    speed = "" if told else f" (the store tells no frame rate, so {FRAME_RATE:g} a second)"
    return Exported(
        Path(path), {"sequences": count, f"frames{speed} in {unit}": frames}, set_aside=tuple(set_aside)
    )


def fill(sequence: Sequence, skeleton: Skeleton) -> Array:
    """Return positions (T, J, 3) of every frame from first to last; what is missing is interpolated.

    Raises
    ------
    ExportError
        A joint is missing in every frame.
    """
    frame = sequence.frame_index.astype(np.int64)
    every = np.arange(frame[0], frame[-1] + 1)
    result = np.empty((len(every), len(skeleton), 3))
    seen: NDArray[np.bool_] = np.asarray(np.isfinite(sequence.position).all(axis=-1))
    lost = [name for number, name in enumerate(skeleton.names) if not seen[:, number].any()]
    if lost:
        raise ExportError(f"{sequence.name}: found no place of {', '.join(lost)} in any frame, expected one")
    for joint in range(len(skeleton)):
        there = seen[:, joint]
        for axis in range(3):
            result[:, joint, axis] = np.interp(every, frame[there], sequence.position[there, joint, axis])
    return result


def bvh_text(skeleton: Skeleton, position: Array, rate: float) -> str:
    """Return the content of a file for positions (T, J, 3) of a layout with one root.

    Raises
    ------
    ExportError
        The layout has no root, or several.
    """
    roots = [joint for joint, parent in enumerate(skeleton.parents) if parent < 0]
    if len(roots) != 1:
        raise ExportError(
            f"found the layout {skeleton.name} with {len(roots)} roots, expected one, as a file has"
        )
    root = _root(skeleton, position, roots[0])
    lines = ["HIERARCHY", *_hierarchy(root, 0)]
    lines += ["MOTION", f"Frames: {len(position)}", f"Frame Time: {1 / rate:.8f}"]
    columns = [position[:, roots[0]] - root.offset]
    columns += [to_zxy(node.turns) for node in _walk(root)]
    table = np.concatenate(columns, axis=1)
    lines += [" ".join(f"{value:.6f}" for value in row) for row in table]
    return "\n".join(lines) + "\n"


def to_zxy(rotation: Array) -> Array:
    """Return the angles (..., 3) in degrees about z, x and y of rotations R = Rz Rx Ry (..., 3, 3).

    Where x is a right angle, only the sum of the others is defined, and that about y is 0.
    """
    sine = np.clip(rotation[..., 2, 1], -1.0, 1.0)
    open_ = np.abs(sine) < 1 - 1e-12
    z = np.where(
        open_,
        np.arctan2(-rotation[..., 0, 1], rotation[..., 1, 1]),
        np.arctan2(rotation[..., 1, 0], rotation[..., 0, 0]),
    )
    y = np.where(open_, np.arctan2(-rotation[..., 2, 0], rotation[..., 2, 2]), 0.0)
    return np.degrees(np.stack([z, np.arcsin(sine), y], axis=-1))


def _root(skeleton: Skeleton, position: Array, root: int) -> Node:
    bones = {
        joint: position[:, joint] - position[:, parent]
        for joint, parent in enumerate(skeleton.parents)
        if parent >= 0
    }
    length = {joint: np.linalg.norm(bone, axis=-1).mean() for joint, bone in bones.items()}
    rest = {joint: length[joint] * _unit(_first_extended(bone)) for joint, bone in bones.items()}
    children: dict[int, list[int]] = {joint: [] for joint in range(len(skeleton))}
    for joint, parent in enumerate(skeleton.parents):
        if parent >= 0:
            children[parent].append(joint)
    still = np.broadcast_to(np.eye(3), (len(position), 3, 3))

    def aimed(before: Array, joint: int) -> Array:
        """The least turn more than ``before`` that makes the bone to a joint point where it points."""
        return _arc(before @ rest[joint], bones[joint]) @ before

    def node(joint: int, offset: Array, before: Array) -> Node:
        name, behind = skeleton.names[joint], children[joint]
        if not behind:
            return Node(name, joint, offset, (), still)
        if len(behind) == 1:
            turned = aimed(before, behind[0])
            nodes = [node(behind[0], rest[behind[0]], turned)]
        else:
            turned = _best(before, [(rest[child], bones[child]) for child in behind])
            nodes = []
            for child in behind:
                own = aimed(turned, child)
                end = node(child, rest[child], own)
                more = np.swapaxes(turned, -1, -2) @ own
                nodes.append(Node(f"{name}_to_{skeleton.names[child]}", joint, np.zeros(3), (end,), more))
        return Node(name, joint, offset, tuple(nodes), np.swapaxes(before, -1, -2) @ turned)

    return node(root, position[0, root], still)


def _hierarchy(node: Node, depth: int) -> Iterator[str]:
    indent = "\t" * depth
    yield f"{indent}{'JOINT' if depth else 'ROOT'} {node.name}"
    yield f"{indent}{{"
    yield f"{indent}\tOFFSET " + " ".join(f"{value:.6f}" for value in node.offset)
    yield f"{indent}\t{_CHANNELS if depth else _ROOT_CHANNELS}"
    for child in node.children:
        yield from _hierarchy(child, depth + 1)
    if not node.children:
        yield from (f"{indent}\tEnd Site", f"{indent}\t{{", f"{indent}\t\tOFFSET 0.000000 0.000000 0.000000")
        yield f"{indent}\t}}"
    yield f"{indent}}}"


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _walk(child)


def _best(before: Array, bones: list[tuple[Array, Array]]) -> Array:
    """Return the rotations (T, 3, 3) that turn bones at rest best to where they point (W. Kabsch, 1976)."""
    total = _PRIOR * before
    for rest, seen in bones:
        total = total + _unit(seen)[:, :, None] * _unit(rest)[None, None, :]
    left, _, right = np.linalg.svd(total)
    sign = np.ones((len(total), 3))
    sign[:, 2] = np.sign(np.linalg.det(left @ right))
    return np.asarray((left * sign[:, None]) @ right)


def _arc(start: Array, stop: Array) -> Array:
    """Return the least rotations (T, 3, 3) that turn the way of (T, 3) to that of (T, 3)."""
    a, b = _unit(start), _unit(stop)
    axis, cosine = np.cross(a, b), (a * b).sum(axis=-1)
    # the other way round, any axis across does
    across = np.cross(a, np.eye(3)[np.abs(a).argmin(axis=-1)])
    opposite = cosine < -1 + 1e-9
    nothing = (np.linalg.norm(a, axis=-1) == 0) | (np.linalg.norm(b, axis=-1) == 0)
    cross = np.zeros((len(a), 3, 3))
    cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = -axis[:, 2], axis[:, 1], -axis[:, 0]
    cross -= np.swapaxes(cross, -1, -2)
    share = 1 / np.where(opposite | nothing, 1.0, 1 + cosine)
    turned = np.eye(3) + cross + share[:, None, None] * (cross @ cross)
    u = _unit(across)
    half = 2 * u[:, :, None] * u[:, None, :] - np.eye(3)
    turned = np.where(opposite[:, None, None], half, turned)
    return np.where(nothing[:, None, None], np.eye(3), turned)


def _first_extended(bone: Array) -> Array:
    """Return the first of vectors (T, 3) that is not 0, or 0."""
    there = np.flatnonzero(np.linalg.norm(bone, axis=-1) > 0)
    return np.asarray(bone[there[0]] if len(there) else np.zeros(3))


def _unit(vector: Array) -> Array:
    size = np.linalg.norm(vector, axis=-1, keepdims=True)
    return np.asarray(vector / np.where(size > 0, size, 1.0))


def _sequences(store: Store) -> Iterator[Sequence]:
    for name in store.recording_names():
        yield from (body for body in store.recording(name).bodies if len(body))


def _frame_rate(store: Store, sequence: Sequence) -> float:
    own = sequence.row.get("frame_rate", store.info.frame_rate)
    return float(own) if own else FRAME_RATE


BVH = ExportForm(
    name="bvh",
    title="folder of BioVision files, one a sequence",
    write=lambda store, path, how: export_bvh(store, path, how.overwrite),
)
