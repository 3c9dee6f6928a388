"""Dataclasses that hold arrays are equal where they are one object.

An array has no single truth, so comparing such objects field by field raises; Python up to 3.12 compared
them as tuples, which hid it where the arrays were the same objects, 3.13 does not.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from skelconv.store.recording import Sequence
from skelformats.reader import Clip, Track

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("formats", "skelconv", "train", "benchmarks")
FILES = {
    file: file.read_text(encoding="utf-8") for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")
}
TREES = {
    file: ast.parse(text) for file, text in FILES.items() if "@dataclass" in text or " = NDArray[" in text
}
ARRAYS = ("NDArray", "ndarray", "Tensor", "DataFrame", "Series")


ALIAS = re.compile(r"^(\w+)(?:: \w+)? = (?:tuple\[|list\[)?(?:NDArray|Tensor)\b", re.MULTILINE)
"""A name that a module gives to arrays, as ``Array = NDArray[np.float64]``."""


def array_dataclasses(file: Path, known: dict[str, set[str]]) -> Iterator[tuple[str, bool]]:
    """Dataclasses of a module with a field of arrays, and whether they leave comparison to identity."""
    tree = TREES[file]
    names = {*ARRAYS, *known[file.stem]}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            theirs = known.get(node.module.rpartition(".")[2], set())
            names |= {one.name for one in node.names} & theirs
    word = re.compile(rf"\b({'|'.join(names)})\b")
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        kinds = [ast.unparse(field.annotation) for field in node.body if isinstance(field, ast.AnnAssign)]
        holds = any(word.search(kind) for kind in kinds if "Callable" not in kind)
        made = [ast.unparse(mark) for mark in node.decorator_list if "dataclass" in ast.unparse(mark)]
        if holds and made:
            own = any(isinstance(part, ast.FunctionDef) and part.name == "__eq__" for part in node.body)
            yield f"{file.relative_to(ROOT)}: {node.name}", own or "eq=False" in made[0]


def test_none_compares_its_arrays() -> None:
    known: dict[str, set[str]] = {}
    for file in TREES:
        known.setdefault(file.stem, set()).update(ALIAS.findall(FILES[file]))
    found = dict(pair for file in TREES for pair in array_dataclasses(file, known))
    assert len(found) > 70, "the search finds nothing, so it checks nothing"
    assert [name for name, by_identity in found.items() if not by_identity] == []


def test_comparing_does_not_raise() -> None:
    frames = np.arange(3, dtype=np.int32)
    position = np.zeros((3, 13, 3), np.float32)
    track = Track("0", frames, position)
    clip = Clip("a", 3, (track,), 0, {}, {})
    for one, other in (
        (track, Track("0", frames, position.copy())),
        (clip, Clip("a", 3, (Track("0", frames, position.copy()),), 0, {}, {})),
        (Sequence("a", "0", frames, position), Sequence("a", "0", frames, position.copy())),
    ):
        assert one != other
        assert one in [other, one]
        assert {one: 1}[one] == 1
