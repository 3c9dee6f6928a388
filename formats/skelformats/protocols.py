"""What is known of a dataset besides its files: class names, official splits, recordings to leave out.

It is data: one TOML file a dataset in ``protocols/`` beside this file, and text files for long lists.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from skelformats.errors import SkelconvError, UnknownNameError
from skelformats.reader import Protocol, Value

PARTS = ("train", "test", "val")
_FILE_KEYS = {"source", "classes", "left_out", "protocol"}
_RULE_KEYS = {"description", "column", *PARTS}


class ProtocolError(SkelconvError, ValueError):
    """A protocol file contradicts itself."""


@dataclass(frozen=True)
class Rule:
    """One official split: which values of a table column make a recording train, test or val."""

    name: str
    description: str
    column: str
    parts: Mapping[Value, str]


@dataclass(frozen=True)
class Facts:
    """The content of one protocol file.

    Attributes
    ----------
    source
        Where it was published.
    classes
        Class names in the order of the labels.
    rules
        The official splits.
    left_out
        Names of recordings that the official counts do not include.
    others
        Keys that only this dataset's reader knows.
    """

    source: str
    classes: tuple[str, ...]
    rules: tuple[Rule, ...]
    left_out: frozenset[str]
    others: Mapping[str, Any]

    @property
    def protocols(self) -> tuple[Protocol, ...]:
        """The splits as a `Dataset` lists them."""
        return tuple(Protocol(rule.name, rule.description) for rule in self.rules)

    def splits(self, recording: str, columns: Mapping[str, Value]) -> dict[str, str]:
        """Return which part of each protocol a recording belongs to, by its row of the table.

        It is empty where the protocol does not say, and for recordings that are left out.
        """
        if recording in self.left_out:
            return {rule.name: "" for rule in self.rules}
        return {rule.name: rule.parts.get(columns[rule.column], "") for rule in self.rules}


@cache
def load_facts(dataset: str) -> Facts:
    """Load the protocol file of ``dataset``.

    Raises
    ------
    UnknownNameError
        There is none.
    ProtocolError
        It contradicts itself.
    """
    folder = files("skelformats") / "protocols"
    known = sorted(
        file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml")
    )
    if dataset not in known:
        raise UnknownNameError("protocol file", dataset, tuple(known))
    return facts_from(tomllib.loads(_read(f"{dataset}.toml")), dataset)


def facts_from(data: Mapping[str, Any], name: str) -> Facts:
    """Build and check the facts of a protocol file from its plain data; raises `ProtocolError`."""
    classes = data.get("classes", ())
    if isinstance(classes, Mapping):
        classes = _lines(classes["file"])[: classes["first"]]
    if len(set(classes)) != len(classes):
        raise ProtocolError(f"protocols/{name}.toml: a class name stands twice")
    return Facts(
        source=data.get("source", ""),
        classes=tuple(classes),
        rules=tuple(_rule(name, rule, data["protocol"][rule]) for rule in data.get("protocol", {})),
        left_out=frozenset(_lines(data["left_out"]) if "left_out" in data else ()),
        others={key: value for key, value in data.items() if key not in _FILE_KEYS},
    )


def _rule(dataset: str, name: str, data: Mapping[str, Any]) -> Rule:
    where = f"protocols/{dataset}.toml, protocol {name}"
    if unknown := sorted(set(data) - _RULE_KEYS):
        raise ProtocolError(f"{where}: unknown keys {unknown}")
    if missing := [key for key in ("description", "column", "train", "test") if key not in data]:
        raise ProtocolError(f"{where}: it lacks {missing}")
    parts: dict[Value, str] = {}
    for part in PARTS:
        for value in data.get(part, ()):
            if value in parts:
                raise ProtocolError(f"{where}: {value!r} stands in {parts[value]} and in {part}")
            parts[value] = part
    return Rule(name, data["description"], data["column"], parts)


def _lines(file: str) -> list[str]:
    return [line for line in _read(file).splitlines() if line]


def _read(file: str) -> str:
    return (files("skelformats") / "protocols" / file).read_text(encoding="utf-8")
