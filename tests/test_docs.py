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
    """Commands of ours that a document shows in code blocks and in its lines, without comments."""
    text = document.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ") or line.startswith("skel")]
    lines += re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
    shown = [line.removeprefix("$ ").removeprefix("python -m ") for line in lines]
    return [line for line in dict.fromkeys(shown) if re.match(r"(skelconv|skeltrain) [a-z]", line)]


COMMANDS = [(document, line) for document in DOCUMENTS for line in commands(document)]


def test_documents_show_commands() -> None:
    assert len(COMMANDS) > 100, "the search for commands finds nothing, so it checks nothing"


def stands_for_another(word: str) -> bool:
    """Whether a word is a place-holder: NAME, <name>, k/n, something left out."""
    return bool(re.search(r"\.\.\.|…|<|[A-Z]{2}", word)) or bool(re.fullmatch(r"[A-Za-z]|[a-z]/[a-z]", word))


@pytest.mark.parametrize(("document", "line"), COMMANDS, ids=[f"{d.stem}: {line}" for d, line in COMMANDS])
def test_a_command_in_a_document_is_one_that_the_program_takes(document: Path, line: str) -> None:
    words = shlex.split(line.split("  #")[0].split(" | ")[0].split(" ; ")[0].split(" && ")[0], comments=True)
    words = words[: words.index(">")] if ">" in words else words
    command: click.Command = PROGRAMS[words[0]]
    context = click.Context(command, info_name=words[0])
    rest = words[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        if rest[0].startswith("<"):
            return
        found = command.get_command(context, rest[0])
        if found is None and stands_for_another(rest[0]):
            return
        if found is None and all(command.get_command(context, verb) for verb in rest):
            return  # verbs in a row, as in `skelconv info verify view`
        assert found is not None, f"{document.name}: no verb {rest[0]!r}"
        command, context, rest = found, click.Context(found, context, rest[0]), rest[1:]
    whole = not any(map(stands_for_another, rest))
    try:
        given, over, order = command.make_parser(context).parse_args(list(rest))
    except click.UsageError as error:
        pytest.fail(f"{document.name}: {error.format_message()}")
    assert not over, f"{document.name}: {command.name} takes no {over}"
    for param in dict.fromkeys(order):
        value = given.get(param.name or "")
        check_value(document, command, context, param, value)
    if whole and any(value is not None for value in given.values()):
        for param in command.get_params(context):
            missing = isinstance(param, click.Argument) and param.required and not given.get(param.name or "")
            assert not missing, f"{document.name}: `{line}` lacks {param.name}"


def check_value(
    document: Path, command: click.Command, context: click.Context, param: click.Parameter, value: object
) -> None:
    """Check a value that needs nothing but the program: one of a choice, a number."""
    plain = (click.Choice, click.IntRange, click.FloatRange, type(click.INT), type(click.FLOAT))
    values = value if isinstance(value, list | tuple) else (value,)
    if not isinstance(param.type, plain) or (isinstance(param, click.Option) and param.is_flag):
        return
    for word in values:
        if isinstance(word, str) and not stands_for_another(word):
            try:
                param.type.convert(word, param, context)
            except click.BadParameter as error:
                pytest.fail(f"{document.name}: {command.name} {param.name}: {error.format_message()}")


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
