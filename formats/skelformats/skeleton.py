"""Joint layouts: `Skeleton`, loading one by name or from a file, and carrying joints to another by name.

A layout is one TOML file: those that ship with skelconv are in ``skeletons/`` beside this module, other
packages offer theirs through the entry-point group ``skelconv.skeletons``, and wherever a layout's name is
taken, the path of such a file is, too.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelformats.errors import SkelconvError, UnknownNameError

PARTS = ("spine", "left_arm", "right_arm", "left_leg", "right_leg")
"""The five body parts of the Skeleton-to-Image encoding, in column order (S2I paper, section 3.1)."""

ENTRY_POINT_GROUP = "skelconv.skeletons"

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
    def from_dict(cls, data: Mapping[str, Any], name: str | None = None, where: str = "") -> Skeleton:
        """Build and check a layout from plain data (a TOML file, or a store's attributes).

        ``where`` is what messages begin with, such as the file; without it the layout's name.

        Raises
        ------
        SkeletonError
            A value is of another type than its key takes, names repeat or are unknown, the parents are not
            one tree, mirrors do not pair up, a part is missing or a joint stands in two parts.
        """
        name = name or str(data.get("name", ""))
        problem = _Problem(where or f"skeleton {name!r}")
        rows = [_joint_row(row, at, problem) for at, row in enumerate(problem.rows(data, "joint"))]
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
        groups = data.get("parts", {})
        problem.check(isinstance(groups, Mapping), f"'parts' is {_kind(groups)}, expected a table [parts]")
        problem.check(tuple(groups) == PARTS, f"parts must be {PARTS} in this order, not {tuple(groups)}")
        parts = [
            tuple(look_up(j, f"part {part}") for j in problem.words(groups, part, f"parts.{part}"))
            for part in PARTS
        ]
        origin = tuple(look_up(j, "origin") for j in problem.words(data, "origin", "origin"))
        skeleton = cls(
            name=name,
            title=problem.word(data, "title", "title"),
            source=problem.word(data, "source", "source"),
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
    """Names of every layout that ships with skelconv or that an installed package offers, sorted."""
    return tuple(
        sorted({*_shipped_names(), *(point.name for point in entry_points(group=ENTRY_POINT_GROUP))})
    )


def usable_skeletons() -> tuple[list[Skeleton], list[str]]:
    """Load every layout of `skeleton_names`; return those that work, and for each other one the reason."""
    skeletons, problems = [], []
    for name in skeleton_names():
        try:
            skeletons.append(load_skeleton(name))
        except SkelconvError as error:
            problems.append(str(error))
    return skeletons, problems


def load_skeleton(name: str | Path) -> Skeleton:
    """Load a layout by its name, or from a TOML file by its path (which ends in ``.toml``).

    Raises
    ------
    UnknownNameError
        There is no layout of that name.
    SkeletonError
        The file is not there, is damaged, or has the name of a layout that ships but is another; or a package
        offers a layout that does not load.
    """
    if str(name).endswith(".toml"):
        path = Path(name).resolve()
        try:
            changed = path.stat().st_mtime_ns
        except OSError as error:
            raise SkeletonError(
                f"{name}: found no file ({error.strerror}), expected a joint layout"
            ) from error
        return _load_file(path, changed)
    return _load_named(str(name))


@lru_cache(maxsize=32)
def _load_file(path: Path, changed: int) -> Skeleton:
    data = _parse(path, str(path))
    skeleton = Skeleton.from_dict(data, str(data.get("name") or path.stem), str(path))
    if skeleton.name in _shipped_names() and skeleton != _load_named(skeleton.name):
        raise SkeletonError(
            f"{path}: 'name' is {skeleton.name!r}, which is another layout, one that ships with skelconv; "
            "give yours a name of its own"
        )
    return skeleton


@cache
def _load_named(name: str) -> Skeleton:
    if name in _shipped_names():
        file = files("skelformats") / "skeletons" / f"{name}.toml"
        return Skeleton.from_dict(_parse(file, f"skeletons/{name}.toml"), name)
    points = tuple(entry_points(group=ENTRY_POINT_GROUP, name=name))
    if not points:
        raise UnknownNameError("skeleton", name, skeleton_names())
    if len(points) > 1:
        offers = ", ".join(point.value for point in points)
        raise SkeletonError(
            f"the layout {name!r} is offered more than once ({offers}); uninstall all but one"
        )
    return _load_offered(points[0])


def _load_offered(point: EntryPoint) -> Skeleton:
    """Return the layout that another package offers: a `Skeleton`, or the path of its file."""
    where = f"the layout {point.name!r}, {point.value},"
    try:
        offered = point.load()
    except (ImportError, AttributeError) as error:
        raise SkeletonError(
            f"{where} cannot be loaded ({error}); repair or uninstall the package that offers it"
        ) from error
    if isinstance(offered, str):
        offered = Path(offered)
    if isinstance(offered, Traversable):
        return Skeleton.from_dict(_parse(offered, str(offered)), point.name, str(offered))
    if not isinstance(offered, Skeleton) or offered.name != point.name:
        raise SkeletonError(f"{where} is neither a Skeleton of that name nor the path of a TOML file")
    return offered


def _shipped_names() -> frozenset[str]:
    folder = files("skelformats") / "skeletons"
    return frozenset(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def _parse(file: Traversable, where: str) -> dict[str, Any]:
    """Return the content of a TOML file; raises `SkeletonError` where it is not one."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SkeletonError(f"{where}: found no file ({error.strerror}), expected a joint layout") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise SkeletonError(
            f"{where}: found text that is not TOML ({error}), expected a joint layout with name, origin, "
            "[[joint]] and [parts]"
        ) from error


def skeleton_toml(skeleton: Skeleton) -> str:
    """Return a layout as the text of a TOML file, which `load_skeleton` reads back."""
    plain = skeleton.to_dict()
    # text and lists of text are written alike in JSON and TOML
    lines = [f"{key} = {json.dumps(plain[key])}" for key in ("name", "title", "source", "origin")]
    rows = (", ".join(f"{key} = {json.dumps(value)}" for key, value in row.items()) for row in plain["joint"])
    lines += ["joint = [", *(f"    {{ {row} }}," for row in rows)]
    lines += ["]", "", "[parts]"]
    lines += [f"{part} = {json.dumps(names)}" for part, names in plain["parts"].items()]
    return "\n".join(lines) + "\n"


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
    """Where a layout comes from, for the message of a failed check; hands out values of the right type."""

    where: str

    def check(self, holds: bool, complaint: str) -> None:
        """Raise `SkeletonError` with the complaint unless it holds."""
        if not holds:
            raise SkeletonError(f"{self.where}: {complaint}")

    def rows(self, data: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
        """Return a list of tables."""
        rows = data.get(key, [])
        self.check(
            isinstance(rows, list | tuple) and all(isinstance(row, Mapping) for row in rows),
            f"{key!r} is {_kind(rows)}, expected tables [[{key}]]",
        )
        return list(rows)

    def word(self, data: Mapping[str, Any], key: str, what: str, default: str = "") -> str:
        """Return a piece of text."""
        value = data.get(key, default)
        self.check(isinstance(value, str), f"{what!r} is {_kind(value)}, expected text")
        return str(value)

    def words(self, data: Mapping[str, Any], key: str, what: str) -> list[str]:
        """Return a list of names."""
        values = data.get(key, [])
        self.check(
            isinstance(values, list | tuple) and all(isinstance(value, str) for value in values),
            f"{what!r} is {_kind(values)}, expected a list of joint names",
        )
        return list(values)


def _kind(value: Any) -> str:
    return f"{value!r:.40} of type {type(value).__name__}"


def _joint_row(row: Mapping[str, Any], at: int, problem: _Problem) -> dict[str, Any]:
    problem.check(not set(row) - _JOINT_KEYS, f"unknown joint keys {sorted(set(row) - _JOINT_KEYS)}")
    problem.check(bool(row.get("name")), f"a joint has no name: {dict(row)!r:.80}")
    what = f"joint[{at}]"
    bone = row.get("bone", [])
    name = problem.word(row, "name", f"{what}.name")
    return {
        "name": name,
        "official": problem.word(row, "official", f"{what}.official", name),
        "parent": problem.word(row, "parent", f"{what}.parent"),
        "mirror": problem.word(row, "mirror", f"{what}.mirror"),
        "bone": [bone] if isinstance(bone, str) else problem.words(row, "bone", f"{what}.bone"),
        "same_as": problem.words(row, "same_as", f"{what}.same_as"),
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
