"""Which column of a table of poses is what: by the names that people give them, or by a TOML file that says
so.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from skelformats.errors import FormatError, UnknownNameError
from skelformats.skeleton import Skeleton

ROLES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "recording": ("sequence", "recording", "video", "clip", "file"),
        "frame": ("frame", "frame_index", "frame_idx", "frame_number", "image"),
        "body": ("body", "person", "individual", "individuals", "track", "track_id"),
        "label": ("label", "action", "class"),
        "joint": ("joint", "keypoint", "bodypart", "landmark", "node"),
    }
)
"""What a column may be, and the names by which it is known; the first that a table has is taken."""

AXES = ("x", "y", "z")
CONFIDENCES = ("confidence", "likelihood", "score", "visibility")
SPLIT = "split"

_VALUE = re.compile(rf"(?P<joint>.+)[._ ](?P<what>{'|'.join((*AXES, *CONFIDENCES))})", re.IGNORECASE)


@dataclass(frozen=True)
class Names:
    """What a TOML file says of the columns: roles by column, joints by the names that the table has.

    ``roles`` has the column of a role, ``joints`` the layout's joint for a name of the table; an empty joint
    leaves the table's out.
    """

    roles: Mapping[str, str] = field(default_factory=dict)
    joints: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """The columns of a table by what they are.

    Attributes
    ----------
    roles
        Column of each role that the table has.
    values
        In a wide table, the column of each (joint as the table calls it, axis or ``confidence``); in a long
        one the joint is empty.
    splits
        Column by the name of the split.
    others
        The rest.
    """

    roles: Mapping[str, str]
    values: Mapping[tuple[str, str], str]
    splits: Mapping[str, str]
    others: tuple[str, ...]

    @property
    def axes(self) -> int:
        """Axes of the positions, 2 or 3."""
        return 3 if any(what == "z" for _, what in self.values) else 2

    @property
    def confidence(self) -> bool:
        """Whether joints have a confidence."""
        return any(what == "confidence" for _, what in self.values)

    @property
    def long(self) -> bool:
        """Whether a row is a joint, rather than a frame."""
        return "joint" in self.roles


def read_names(path: Path | None) -> Names:
    """Read the TOML file that names columns; raises `FormatError`."""
    if path is None:
        return Names()
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FormatError(path, f"no TOML ({error})", "tables [columns] and [joints]") from error
    odd = sorted(set(data) - {"columns", "joints"})
    if odd:
        raise FormatError(path, f"the table [{odd[0]}]", "[columns] and [joints]")
    for table in data.values():
        if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
            raise FormatError(path, "values that are not text", 'lines such as frame = "time_index"')
    known = (*ROLES, *AXES, "confidence")
    for role in data.get("columns", {}):
        if role not in known:
            raise FormatError(path, f"the column {role!r}", f"some of {', '.join(known)}")
    return Names(data.get("columns", {}), data.get("joints", {}))


def find_columns(path: Path, columns: Sequence[str], names: Names) -> Found:
    """Tell what each column of a table is.

    Raises
    ------
    FormatError
        A column that the TOML file names is not there, or there are no positions.
    """
    by_name = {column.lower(): column for column in reversed(columns)}
    for role, column in names.roles.items():
        if column not in columns:
            raise FormatError(path, f"no column {column!r}", f"it, as the column file names it as {role}")
    roles = {
        role: names.roles.get(role) or next((by_name[name] for name in known if name in by_name), "")
        for role, known in ROLES.items()
    }
    roles = {role: column for role, column in roles.items() if column}
    free = [column for column in columns if column not in roles.values()]
    values = _long_values(free, names) if "joint" in roles else _wide_values(free)
    if not {"x", "y"} <= {what for _, what in values}:
        shown = ", ".join(columns[:8]) + (", ..." if len(columns) > 8 else "")
        raise FormatError(
            path,
            f"the columns {shown}",
            "a row a joint (frame, joint, x, y[, z]) or a row a frame (left_wrist_x, left_wrist_y, ...)",
            action="Name the columns in a TOML file and give it with --columns",
        )
    splits = {
        column[len(SPLIT) :].strip("_") or "own": column
        for column in free
        if re.fullmatch(rf"{SPLIT}(_\w+)?", column, re.IGNORECASE)
    }
    taken = {*values.values(), *splits.values()}
    return Found(roles, values, splits, tuple(column for column in free if column not in taken))


def match_joints(
    path: Path, given: Sequence[str], skeleton: Skeleton, names: Names, partial: bool
) -> dict[str, int]:
    """Return the number in the layout of each joint that a table has, by the table's name for it.

    Raises
    ------
    FormatError
        A joint of the table is not in the layout, or one of the layout not in the table and not ``partial``.
    """
    known: dict[str, int] = {}
    for number, joint in enumerate(skeleton.joints):
        for name in (*joint.same_as, joint.official, joint.name):
            known[_plain(name)] = number
    found: dict[str, int] = {}
    for name in given:
        wanted = names.joints.get(name, name)
        if not wanted:
            continue
        if _plain(wanted) not in known:
            near = str(UnknownNameError("joint", wanted, skeleton.names)).partition(". ")[2]
            raise FormatError(
                path,
                f"the joint {name!r}",
                f"one of the layout {skeleton.name}. {near}",
                action="Give the layout that fits, or say in the file of --columns which joint it is: "
                f'[joints] "{name}" = "left_wrist", or "" to leave it out',
            )
        number = known[_plain(wanted)]
        if number in found.values():
            raise FormatError(path, f"the joint {skeleton.names[number]} twice, as {name!r} too", "each once")
        found[name] = number
    lacking = [name for number, name in enumerate(skeleton.names) if number not in found.values()]
    if not found or (lacking and not partial):
        raise FormatError(
            path,
            f"no joint {', '.join(lacking[:6])}{', ...' if len(lacking) > 6 else ''}",
            f"all {len(skeleton)} of the layout {skeleton.name}",
            action="Give the layout that fits, or --partial to store the others as missing",
        )
    return found


def _long_values(columns: Sequence[str], names: Names) -> dict[tuple[str, str], str]:
    by_name = {column.lower(): column for column in reversed(columns)}
    found = {}
    for what, known in (*((axis, (axis,)) for axis in AXES), ("confidence", CONFIDENCES)):
        column = names.roles.get(what) or next((by_name[name] for name in known if name in by_name), None)
        if column is not None:
            found["", what] = column
    return found


def _wide_values(columns: Sequence[str]) -> dict[tuple[str, str], str]:
    found = {}
    for column in columns:
        match = _VALUE.fullmatch(column)
        if match is not None:
            what = match["what"].lower()
            found[match["joint"], what if what in AXES else "confidence"] = column
    # a score beside no position is that of an instance (SLEAP), not of a joint
    joints = {joint for joint, what in found if what == "x"}
    return {key: column for key, column in found.items() if key[0] in joints}


def _plain(name: str) -> str:
    """Return a joint's name without case and separators, for comparison."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
