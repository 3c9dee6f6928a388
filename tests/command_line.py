"""A program's command line as text: every verb, argument, option and default, so that none changes unnoticed.

To accept a change that is meant, write the text again and look at the difference:

    python -m tests.command_line skelconv.cli.main:cli tests/skelconv/command_line.txt
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click


def describe(command: click.Command, name: str) -> str:
    """One line a verb, and one a parameter below it; help texts are not part of it."""
    return "\n".join(_lines(command, name)) + "\n"


def check(command: click.Command, name: str, file: Path) -> None:
    """Fail with the difference unless the command line is the one in ``file``."""
    difference = "\n".join(
        difflib.unified_diff(
            file.read_text(encoding="utf-8").splitlines(),
            describe(command, name).splitlines(),
            str(file),
            f"{name} as it is",
            lineterm="",
        )
    )
    assert not difference, f"the command line has changed; see tests/command_line.py\n{difference}"


def _lines(command: click.Command, name: str) -> Iterator[str]:
    context = click.Context(command, info_name=name)
    yield name
    for param in command.params:
        yield f"    {_parameter(param)}"
    if isinstance(command, click.Group):
        for verb in command.list_commands(context):
            child = command.get_command(context, verb)
            assert child is not None
            yield from _lines(child, f"{name} {verb}")


def _parameter(param: click.Parameter) -> str:
    words = [
        ", ".join([*param.opts, *param.secondary_opts]) if isinstance(param, click.Option) else param.name
    ]
    flag = isinstance(param, click.Option) and (param.is_flag or param.count)
    words.append("flag" if flag else _kind(param.type))
    if param.nargs != 1:
        words.append(f"nargs={param.nargs}")
    if isinstance(param, click.Option) and param.multiple:
        words.append("repeatable")
    default = param.get_default(click.Context(click.Command("none")))
    if param.required:
        words.append("required")
    elif (flag and default) or (
        not flag and isinstance(default, str | int | float | tuple | list) and default != ()
    ):
        words.append(f"default={default!r}")
    return "  ".join(map(str, words))


def _kind(kind: click.ParamType[Any]) -> str:
    if isinstance(kind, click.Choice):
        return "|".join(map(str, kind.choices))
    if isinstance(kind, click.IntRange | click.FloatRange):
        low, high = ("" if bound is None else bound for bound in (kind.min, kind.max))
        return f"{kind.name} {low}..{high}"
    if isinstance(kind, click.Tuple):
        return f"({', '.join(map(_kind, kind.types))})"
    return kind.name


if __name__ == "__main__":
    (target, file) = sys.argv[1:]
    module, _, attribute = target.partition(":")
    Path(file).write_text(
        describe(getattr(import_module(module), attribute), module.partition(".")[0]), encoding="utf-8"
    )
