"""Settings that messages name exist: the advice can be followed as it stands."""

from __future__ import annotations

import ast
import re
import typing
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import skeltrain
from skeltrain.tasks.registry import find_task

SOURCES = sorted(Path(skeltrain.__file__).parent.rglob("*.py"))
ADVICE = re.compile(r"(?:\bset |--set |\bSet )([a-z_]+(?:\.[a-z_0-9]+)*)")
DOTTED = re.compile(r"(?<![\w./-])([a-z_]+\.[a-z_0-9]+(?:\.[a-z_0-9]+)*)(?![\w(/])")


VALUE = "0"
"""Stands in the texts for what is put in."""

SUFFIXES = ("py", "yaml", "pt", "json", "csv", "npz")


def keys_of(kind: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key below a type: the fields of models, also within unions, tuples and mappings."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            yield f"{prefix}{name}"
            yield from keys_of(field.annotation, f"{prefix}{name}.")
        return
    for part in typing.get_args(kind):
        yield from keys_of(part, prefix)


@pytest.fixture(scope="module")
def known() -> set[str]:
    tasks = [find_task(point.name) for point in entry_points(group="skeltrain.tasks")]
    return {key for task in tasks for key in keys_of(task.recipe)}


def messages(source: Path) -> Iterator[str]:
    """The texts of a module, those of formatted strings with a word in place of each value; no docstrings."""
    tree = ast.parse(source.read_text("utf-8"))
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else VALUE for part in node.values
            )
            continue
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in inside | documents
        ):
            yield node.value


def test_keys_of_the_schema_are_found(known: set[str]) -> None:
    assert {"optim.warmup", "data.store", "encoder.run", "seeds"} <= known
    assert "optim.warmup_epochs" not in known


def test_settings_that_messages_name_exist(known: set[str]) -> None:
    sections = {key.split(".")[0] for key in known if "." in key}
    named: dict[str, str] = {}
    for source in SOURCES:
        # names of weights have points too, but are no sentences
        for text in (text for text in messages(source) if " " in text):
            keys = [key for key in ADVICE.findall(text) if "." in key or "_" in key]
            keys += [key for key in DOTTED.findall(text) if key.split(".")[0] in sections]
            named |= {
                key: f"{source.name}: {text}"
                for key in keys
                if key.rsplit(".", 1)[-1] not in (*SUFFIXES, VALUE)
            }
    assert len(named) > 20
    unknown = {key: where for key, where in named.items() if key not in known}
    assert not unknown


def test_the_settings_of_the_documents_exist(known: set[str]) -> None:
    root = Path(__file__).parents[2]
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    named = {key for page in pages for key in re.findall(r"--set ([a-z_.0-9]+)=", page.read_text("utf-8"))}
    assert len(named) > 10
    # written where any setting may stand
    assert named - {"section.key"} <= known
