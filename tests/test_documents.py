"""Every example in Python that a document shows is run, and every name that it prints can be imported."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from skelconv import open as opened
from skelconv.cli.main import cli
from skelconv.synth import SYNTHESIZERS
from tests.skelconv.small_store import make_store

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def examples(document: Path) -> list[str]:
    """Python blocks of a document, in their order."""
    return re.findall(
        r"^```python\n(.*?)^```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def run_examples(document: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run a document's examples one after another, as a reader would in one session; returns what they
    made.
    """
    found = examples(ROOT / document)
    assert found, f"{document} shows no example"
    for number, code in enumerate(found):
        exec(compile(code, f"{document}, example {number}", "exec"), names)
    return names


def resolves(dotted: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    parts = dotted.split(".")
    for split in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:split]))
        except ModuleNotFoundError:
            continue
        for part in parts[split:]:
            if part in getattr(found, "__annotations__", {}):  # a field that has no value of the class
                return True
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


GROUPS = set(
    re.findall(r"^((?:skelconv|skeltrain)\.[a-z]+) =$", (ROOT / "setup.cfg").read_text(), re.MULTILINE)
)
GROUPS |= {"skelconv.chains", "skelconv.skeletons", "skeltrain.masks"}
"""Names of entry-point groups, which are no modules; three that nothing of ours stands in."""

NAMED = re.compile(r"(?<![\w./-])((?:skelconv|skelformats|skeltrain)(?:\.[A-Za-z_]\w*)+)")
FILES = [
    *DOCUMENTS,
    *sorted(file for package in ("formats", "skelconv", "train") for file in (ROOT / package).rglob("*.py")),
]


def test_every_dotted_name_in_documents_and_docstrings_can_be_imported() -> None:
    wrong, count = [], 0
    for file in FILES:
        for name in NAMED.findall(file.read_text(encoding="utf-8")):
            count += 1
            if name not in GROUPS and not resolves(name):
                wrong.append(f"{file.relative_to(ROOT)}: {name}")
    assert count > 1000, "the search for names finds nothing, so it checks nothing"
    assert not wrong, "\n".join(wrong)


def test_every_import_that_a_document_shows_works() -> None:
    found = 0
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for module, names in re.findall(r"^ *from (skel[\w.]+) import ([\w, ]+)", text, re.MULTILINE):
            for name in names.split(","):
                found += 1
                assert resolves(f"{module}.{name.strip()}"), f"{document.name}: {module} has no {name}"
    assert found > 20


def test_a_name_that_does_not_exist_is_found_out() -> None:
    assert resolves("skelconv.open")
    assert resolves("skelconv.store.store.Store.read")
    assert not resolves("skelconv.clean_store")
    assert not resolves("skelconv.store.store.Store.nothing")
    assert not resolves("skelconv.nothing.at.all")


def test_the_table_of_generators_is_that_of_the_registry() -> None:
    page = (ROOT / "docs" / "synthetic-data.md").read_text(encoding="utf-8")
    table = page[page.index("| dataset | files |") : page.index("From Python:")]
    shown = [
        name
        for row in table.splitlines()[2:]
        for name in re.findall(r"`(\w+)`", row.split("|")[1:2][0] if row else "")
    ]
    assert sorted(shown) == sorted(SYNTHESIZERS)


RUN = (
    "README.md",
    "docs/analysis.md",
    "docs/cleaning.md",
    "docs/export.md",
    "docs/own-data.md",
    "docs/s2i.md",
    "docs/synthetic-data.md",
    "docs/viewing.md",
)
"""Documents whose examples are run here, in their order, one session a document."""

ELSEWHERE = {
    "docs/store.md": "tests/skelconv/test_store_docs.py",
    "docs/adding-a-dataset.md": "tests/skelformats/test_third_party.py",
    "docs/adding-a-task.md": "tests/skeltrain/test_third_party_task.py",
    "docs/datasets/h36m.md": "tests/test_documents.py::test_pixels_of_human36m_follow_from_a_store",
}
"""Documents whose examples another test runs."""


def skelconv(line: str) -> None:
    """Run a command line of skelconv in this process; it must do what it says."""
    words = shlex.split(line, comments=True)
    quick = ["--workers", "0"] if words[1] == "ingest" else []
    done = CliRunner().invoke(cli, [*words[1:], *quick], catch_exceptions=False)
    assert done.exit_code == 0, f"{line}\n{done.output}"


@pytest.fixture(scope="session")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the commands of the README's first five minutes were run, on fewer recordings."""
    folder = tmp_path_factory.mktemp("tour")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    five = text[text.index("## Five minutes") : text.index("## Datasets")]
    lines = re.findall(r"^    (skelconv .*?|python -c .*?)$", five, re.MULTILINE)
    assert len(lines) > 10
    before = Path.cwd()
    os.chdir(folder)
    try:
        for line in lines:
            if line.startswith("skelconv merge"):  # of two datasets: tests/skelconv/test_merge.py
                continue
            if line.startswith("python -c"):
                exec(shlex.split(line)[2], {})
                continue
            if "NAME" in line:
                line = line.replace("NAME", opened("out.zarr").recording_names()[0])
            skelconv(line.replace("--recordings 200", "--recordings 4 --frames 20 30"))
        skelconv("skelconv export out.zarr tables_csv --to csv")
        Path("s2i.zarr").rename("images.zarr")
    finally:
        os.chdir(before)
    return folder


UNFENCED = (
    "docs/crops.md",
    "docs/models.md",
    "docs/motionbert.md",
    "docs/unihpr.md",
    "docs/looking-at-runs.md",
)
"""Documents with lines of Python that need weights, pictures or hours."""


def test_every_example_is_run_somewhere() -> None:
    shown = {str(document.relative_to(ROOT)) for document in DOCUMENTS if examples(document)}
    assert shown == {*RUN, *ELSEWHERE}
    for held in ELSEWHERE.values():
        path, _, name = held.partition("::")
        assert name in (ROOT / path).read_text(encoding="utf-8")
    for document in DOCUMENTS:
        indented = re.findall(
            r"^    (?:from|import) \w+.*$", document.read_text(encoding="utf-8"), re.MULTILINE
        )
        fenced = "".join(examples(document))
        loose = [line for line in indented if line not in fenced]
        assert not loose or str(document.relative_to(ROOT)) in UNFENCED, f"{document.name}: {loose}"


@pytest.mark.parametrize("document", RUN)
def test_the_examples_of_a_document_run(
    document: str, tour: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "here"
    if document == "docs/analysis.md":
        make_store(folder / "out.zarr")
    elif document not in ("docs/own-data.md", "docs/synthetic-data.md"):
        shutil.copytree(tour, folder)
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    names = run_examples(document, {})
    if document == "docs/analysis.md":
        assert names["still_missing"].sum() == 0
        np.testing.assert_allclose(np.diff(names["at_20"].time), 0.05)
        assert names["smooth"].notnull().all()
    if document == "docs/own-data.md":
        assert names["store"].names[0] == "take0_b0"
    if document == "docs/s2i.md":
        assert names["images"].shape[1:] == (3, 224, 224)
        assert list((folder / "pictures").iterdir())


def test_pixels_of_human36m_follow_from_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cdflib")
    monkeypatch.chdir(tmp_path)
    skelconv("skelconv synth h36m raw --recordings 2 --frames 20 25")
    skelconv("skelconv ingest h36m raw h36m.zarr --with pixel")
    names = run_examples("docs/datasets/h36m.md", {})
    sequence = names["sequence"]
    np.testing.assert_allclose(names["pixels"], sequence.extras["pixel"], atol=0.5)
