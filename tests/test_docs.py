"""What the documents say is true: links lead somewhere, commands exist, tables agree with the code."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from skelconv.cli.listing import dataset_rows
from skelconv.cli.main import cli as skelconv_cli
from skelformats.reader import usable_readers
from skeltrain.cli import cli as skeltrain_cli

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = {"skelconv": skelconv_cli, "skeltrain": skeltrain_cli}


def commands(document: Path) -> list[str]:
    """Commands of ours that a document shows in code blocks, without comments and continuations."""
    text = document.read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ") or line.startswith("skel")]
    shown = [line.removeprefix("$ ") for line in lines]
    return [line for line in shown if re.match(r"(skelconv|skeltrain) ", line)]


COMMANDS = [(document, line) for document in DOCUMENTS for line in commands(document)]


def test_documents_show_commands() -> None:
    assert len(COMMANDS) > 20, "the search for commands finds nothing, so it checks nothing"


@pytest.mark.parametrize(("document", "line"), COMMANDS, ids=[f"{d.stem}: {line}" for d, line in COMMANDS])
def test_a_command_in_a_document_exists_with_its_options(document: Path, line: str) -> None:
    words = shlex.split(line.split("  #")[0].split(" | ")[0].split(" ; ")[0], comments=True)
    words = words[: words.index(">")] if ">" in words else words
    command: click.Command = PROGRAMS[words[0]]
    context = click.Context(command)
    rest = words[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(context, rest[0])
        if found is None and rest[0].isupper():  # a place-holder, such as NAME
            return
        assert found is not None, f"{document.name}: no verb {rest[0]!r}"
        command, rest = found, rest[1:]
    known = {
        option for param in command.get_params(context) for option in (*param.opts, *param.secondary_opts)
    }
    for word in rest:
        if word.startswith("-") and not re.fullmatch(r"-?\d.*", word):
            assert word.split("=")[0] in known, f"{document.name}: {command.name} has no option {word}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_every_dataset_has_a_page() -> None:
    pages = " ".join((ROOT / "docs" / "datasets" / page).read_text() for page in _pages())
    pages += (ROOT / "docs" / "own-data.md").read_text()
    readers, problems = usable_readers()
    assert not problems
    for reader in readers:
        assert f"skelconv ingest {reader.name} " in pages, f"no page shows how to ingest {reader.name}"


def _pages() -> list[str]:
    return [page.name for page in (ROOT / "docs" / "datasets").glob("*.md")]


def test_the_table_of_datasets_in_the_readme_is_that_of_the_readers() -> None:
    text = (ROOT / "README.md").read_text()
    shown = text[text.index("<!-- datasets") : text.index("<!-- /datasets -->")]
    for row in dataset_rows():
        name, layout, classes, splits, _, title = row
        line = f"| `{name}` | {title} | {layout} | {classes} | {splits} |"
        assert line in shown, f"README lacks, or differs from:\n{line}"
    assert shown.count("\n| `") == len(dataset_rows()), "README lists a dataset that has no reader"


def test_every_dependency_has_its_reason() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = config["options"]["install_requires"].split() + [
        package for extra in config["options.extras_require"].values() for package in extra.split()
    ]
    reasons = (ROOT / "docs" / "dependencies.md").read_text().lower()
    for requirement in listed:
        package = re.split(r"[>=<\[;]", requirement)[0].lower()
        known = package in reasons or package.startswith(("types-", "pandas-stubs", "skelconv"))
        assert known, f"docs/dependencies.md gives no reason for {package}"


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for line in re.findall(r"^    make ([a-z -]+)", (ROOT / "README.md").read_text(), re.M):
        assert set(line.split()) <= targets, f"make {line}"


def test_one_version_everywhere() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    newest = re.search(r"^## (\S+)", changes, re.MULTILINE)
    assert newest is not None
    assert newest[1] == citation["version"] == setup["metadata"]["version"]
    assert citation["license"] == setup["metadata"]["license"]
