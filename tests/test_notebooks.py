"""The notebooks run from their first cell to their last, and hold no more than small outputs."""

from __future__ import annotations

import ast
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from click.testing import CliRunner

from skelconv.cli.main import cli

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LARGEST = 150_000
"""Bytes of a notebook with its outputs."""


def cells(notebook: Path, kind: str = "code") -> list[str]:
    """Sources of the cells of a notebook."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == kind]


def shell(line: str) -> None:
    """Run a line that a notebook gives to the shell, in this process."""
    program, *words = shlex.split(line)
    assert program == "skelconv", f"{line}: expected a command of skelconv"
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0, f"{line}\n{done.output}"


def run(notebook: Path) -> tuple[dict[str, Any], list[Any]]:
    """Run every cell in one session; returns the names, and what each cell would show."""
    names: dict[str, Any] = {"__shell": shell}
    shown = []
    for number, source in enumerate(cells(notebook)):
        plain = "\n".join(
            f"__shell({line[1:]!r})" if line.startswith("!") else line for line in source.splitlines()
        )
        tree = ast.parse(plain, f"{notebook.name}, cell {number}")
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"{notebook.name}, cell {number}", "exec"), names)
        if isinstance(last, ast.Expr):
            code = compile(ast.Expression(last.value), f"{notebook.name}, cell {number}", "eval")
            shown.append(eval(code, names))
    return names, shown


def first_look(names: dict[str, Any], shown: list[Any]) -> None:
    assert len(names["store"].recording_names()) == 6
    assert "<table>" in names["store"]._repr_html_()
    assert names["picture"].stat().st_size > 1000


def own_data(names: dict[str, Any], shown: list[Any]) -> None:
    assert names["store"].names[1] == "take1_b0"
    assert shown[-2][:2] == (4, 0)
    assert not Path("wrong.zarr").exists()


def train(names: dict[str, Any], shown: list[Any]) -> None:
    assert names["accuracy"] > 0.9
    assert np.isfinite(names["loss"].item())


CHECKS: dict[str, Callable[[dict[str, Any], list[Any]], None]] = {
    "first_look": first_look,
    "own_data": own_data,
    "train": train,
}


def test_each_notebook_has_its_check() -> None:
    assert [notebook.stem for notebook in NOTEBOOKS] == sorted(CHECKS)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mpl.use("agg")
    monkeypatch.chdir(tmp_path)
    CHECKS[notebook.stem](*run(notebook))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_its_links_lead_somewhere(notebook: Path) -> None:
    assert notebook.stat().st_size < LARGEST
    content = json.loads(notebook.read_text(encoding="utf-8"))
    outputs = [output for cell in content["cells"] for output in cell.get("outputs", ())]
    assert outputs, "stored without its outputs"
    assert not any(output["output_type"] == "error" for output in outputs)
    for text in cells(notebook, "markdown"):
        for target in text.split("](")[1:]:
            assert (FOLDER / target.partition(")")[0]).exists(), target
