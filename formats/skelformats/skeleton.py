"""Joint layouts: `Skeleton`, loading one by name, and carrying joints from one layout to another by name.

A layout is one TOML file in ``formats/skelformats/skeletons/``; adding a layout is adding a file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelformats.errors import SkelconvError, UnknownNameError

PARTS = ("spine", "left_arm", "right_arm", "left_leg", "right_leg")
"""The five body parts of the Skeleton-to-Image encoding, in column order (S2I paper, section 3.1)."""

_JOINT_KEYS = {"name", "official", "parent", "mirror", "bone", "same_as"}
_FILE_KEYS = {"name", "title", "source", "origin", "joint", "parts"}


class SkeletonError(SkelconvError, ValueError):
    """A layout file contradicts itself, or two layouts cannot be matched."""


@dataclass(frozen=True)
class Joint:
    """One joint of a layout.

    ``name`` is shared by all layouts for the same place of the body (``left_wrist``), ``official`` is what
    the dataset's own documents call it. ``same_as`` lists names of other layouts that mean this place.
    """

    name: str
    official: str
    same_as: tuple[str, ...] = ()


@dataclass(frozen=True)
class Skeleton:
    """A joint layout of J joints.

    Attributes
    ----------
    joints
        The joints in the order of the raw data.
    parents
        (J,) index of each joint's neighbour towards the body's root, -1 for the root: the tree to draw.
    mirror
        (J,) index of the joint on the other side of the body, its own index for a middle joint.
    bones
        For each joint the joints whose mean it is measured from in the bone stream; empty for the root,
        whose bone is zero. Follows the published bone pairs, which need not be the tree of ``parents``.
    parts
        Five tuples of joint indices, in the order of `PARTS`: the columns of the S2I encoding.
    origin
        Joints whose mean, in the first observed frame, is the origin of a translated sequence.
    """

    name: str
    title: str
    source: str
    joints: tuple[Joint, ...]
    parents: tuple[int, ...]
    mirror: tuple[int, ...]
    bones: tuple[tuple[int, ...], ...]
    parts: tuple[tuple[int, ...], ...]
    origin: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.joints)

    @property
    def names(self) -> tuple[str, ...]:
        """Joint names in order."""
        return tuple(joint.name for joint in self.joints)

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """The (child, parent) pairs of the tree, for drawing."""
        return tuple((child, parent) for child, parent in enumerate(self.parents) if parent >= 0)

    @property
    def column_order(self) -> tuple[int, ...]:
        """Joint indices from the leftmost S2I column to the rightmost: the five parts, one after another."""
        return tuple(joint for part in self.parts for joint in part)

    def index(self, name: str) -> int:
        """Index of the joint called ``name``, by its own, official or equivalent name."""
        for i, joint in enumerate(self.joints):
            if name in (joint.name, joint.official, *joint.same_as):
                return i
        raise UnknownNameError(f"joint of {self.name}", name, self.names)

    def bone_matrix(self) -> NDArray[np.float64]:
        """(J, J) matrix B with ``bone = B @ position`` for positions (J, A): joint minus its references."""
        matrix = np.zeros((len(self), len(self)))
        for child, references in enumerate(self.bones):
            if references:
                matrix[child, child] += 1.0
                for reference in references:
                    matrix[child, reference] -= 1.0 / len(references)
        return matrix

    def to_dict(self) -> dict[str, Any]:
        """Return the layout as plain data, in the shape of its TOML file; inverse of `from_dict`."""
        names = self.names
        return {
            "name": self.name,
            "title": self.title,
            "source": self.source,
            "origin": [names[i] for i in self.origin],
            "joint": [
                {
                    "name": joint.name,
                    "official": joint.official,
                    "parent": names[self.parents[i]] if self.parents[i] >= 0 else "",
                    "mirror": names[self.mirror[i]],
                    "bone": [names[k] for k in self.bones[i]],
                    "same_as": list(joint.same_as),
                }
                for i, joint in enumerate(self.joints)
            ],
            "parts": {part: [names[i] for i in group] for part, group in zip(PARTS, self.parts, strict=True)},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], name: str | None = None) -> Skeleton:
        """Build and check a layout from plain data (a TOML file, or a store's attributes).

        Raises
        ------
        SkeletonError
            Names repeat or are unknown, the parents are not one tree, mirrors do not pair up, a part is
            missing or a joint stands in two parts.
        """
        name = name or str(data.get("name", ""))
        problem = _Problem(name)
        rows = [_joint_row(row, problem) for row in data.get("joint", ())]
        problem.check(bool(rows), "it has no [[joint]]")
        problem.check(not set(data) - _FILE_KEYS, f"unknown keys {sorted(set(data) - _FILE_KEYS)}")
        names = [row["name"] for row in rows]
        problem.check(len(set(names)) == len(names), "a joint name stands twice")
        at = {joint: i for i, joint in enumerate(names)}

        def look_up(joint: str, what: str) -> int:
            problem.check(joint in at, f"{what} names the unknown joint {joint!r}")
            return at[joint]

        parents = [look_up(r["parent"], f"parent of {r['name']}") if r["parent"] else -1 for r in rows]
        mirror = [look_up(r["mirror"] or r["name"], f"mirror of {r['name']}") for r in rows]
        bones = [tuple(look_up(b, f"bone of {r['name']}") for b in r["bone"]) for r in rows]
        parts_data = data.get("parts", {})
        problem.check(
            tuple(parts_data) == PARTS, f"parts must be {PARTS} in this order, not {tuple(parts_data)}"
        )
        parts = [tuple(look_up(j, f"part {part}") for j in group) for part, group in parts_data.items()]
        origin = tuple(look_up(j, "origin") for j in data.get("origin", ()))
        skeleton = cls(
            name=name,
            title=str(data.get("title", "")),
            source=str(data.get("source", "")),
            joints=tuple(Joint(r["name"], r["official"], tuple(r["same_as"])) for r in rows),
            parents=tuple(parents),
            mirror=tuple(mirror),
            bones=tuple(bones),
            parts=tuple(parts),
            origin=origin,
        )
        _check_structure(skeleton, problem)
        return skeleton


def skeleton_names() -> tuple[str, ...]:
    """Names of every layout that ships with skelconv, sorted."""
    folder = files("skelformats") / "skeletons"
    return tuple(sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")))


@cache
def load_skeleton(name: str) -> Skeleton:
    """Load the layout called ``name``; raises `UnknownNameError` or `SkeletonError`."""
    if name not in skeleton_names():
        raise UnknownNameError("skeleton", name, skeleton_names())
    text = (files("skelformats") / "skeletons" / f"{name}.toml").read_text(encoding="utf-8")
    return Skeleton.from_dict(tomllib.loads(text), name)


def match_joints(source: Skeleton, target: Skeleton) -> NDArray[np.intp]:
    """Find, for each joint of ``target``, the joint of ``source`` that means the same place, by name.

    Returns
    -------
    (J_target,) indices into the source's joints, so that ``position[..., match, :]`` is in target order.

    Raises
    ------
    SkeletonError
        Some joints of the target have no counterpart; all of them are named.
    """
    by_name = {
        name: i
        for i, joint in reversed(list(enumerate(source.joints)))
        for name in (*joint.same_as, joint.name)
    }
    # a joint's own name wins over another joint's claim to mean the same place
    by_name.update({joint.name: i for i, joint in enumerate(source.joints)})
    found: list[int] = []
    lost: list[str] = []
    for joint in target.joints:
        hits = [by_name[name] for name in (joint.name, *joint.same_as) if name in by_name]
        if hits:
            found.append(hits[0])
        else:
            lost.append(joint.name)
    if lost:
        raise SkeletonError(
            f"{source.name} cannot be remapped to {target.name}: {source.name} has no counterpart of "
            f"{', '.join(lost)}. Its joints are {', '.join(source.names)}"
        )
    return np.array(found, np.intp)


def remap(position: NDArray[Any], source: Skeleton, target: Skeleton) -> NDArray[Any]:
    """Return positions (..., J_source, A) in the joint order of ``target``: (..., J_target, A).

    Raises
    ------
    SkeletonError
        As `match_joints`.
    """
    return position[..., match_joints(source, target), :]


@dataclass(frozen=True)
class _Problem:
    """Collects the layout's name for the message of a failed check."""

    name: str

    def check(self, holds: bool, complaint: str) -> None:
        if not holds:
            raise SkeletonError(f"skeleton {self.name!r}: {complaint}")


def _joint_row(row: Mapping[str, Any], problem: _Problem) -> dict[str, Any]:
    problem.check(not set(row) - _JOINT_KEYS, f"unknown joint keys {sorted(set(row) - _JOINT_KEYS)}")
    problem.check(bool(row.get("name")), f"a joint has no name: {dict(row)}")
    bone: str | Sequence[str] = row.get("bone", ())
    return {
        "name": row["name"],
        "official": row.get("official", row["name"]),
        "parent": row.get("parent", ""),
        "mirror": row.get("mirror", ""),
        "bone": [bone] if isinstance(bone, str) else list(bone),
        "same_as": list(row.get("same_as", ())),
    }


def _check_structure(skeleton: Skeleton, problem: _Problem) -> None:
    """One tree, mirrors that pair up, parts that are disjoint and not empty, an origin."""
    roots = [i for i, parent in enumerate(skeleton.parents) if parent < 0]
    problem.check(len(roots) == 1, f"it needs exactly one root, found {len(roots)}")
    for start in range(len(skeleton)):
        joint, steps = start, 0
        while joint >= 0 and steps <= len(skeleton):
            joint, steps = skeleton.parents[joint], steps + 1
        problem.check(joint < 0, f"the parents of {skeleton.names[start]} run in a circle")
    for i, other in enumerate(skeleton.mirror):
        problem.check(
            skeleton.mirror[other] == i, f"the mirror of {skeleton.names[i]} does not mirror it back"
        )
    order = skeleton.column_order
    problem.check(all(skeleton.parts), "a part is empty")
    problem.check(len(set(order)) == len(order), "a joint stands in two parts")
    problem.check(bool(skeleton.origin), "it has no origin")
    for child, references in enumerate(skeleton.bones):
        problem.check(
            child not in references or len(references) > 1, f"{skeleton.names[child]} is its own bone"
        )
