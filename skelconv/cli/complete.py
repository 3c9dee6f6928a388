"""What the shell offers after TAB for names that only the program or a store knows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem, split_arg_string

from skelformats.errors import SkelconvError

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

MOST = 200
"""Names of a store that are offered at most."""


def offering(names: Callable[[], Iterable[str]], files: bool = False) -> Complete:
    """Offer names that begin as what was typed; with ``files``, paths where none does."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        found = [CompletionItem(name) for name in names() if name.startswith(incomplete)]
        return found or ([CompletionItem(incomplete, type="file")] if files else [])

    return complete


def offering_list(names: Callable[[], Iterable[str]]) -> Complete:
    """Offer names for the last word of a list with commas, less those that stand in it."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")
        taken = before.split(",")
        return [
            CompletionItem(f"{before}{comma}{name}")
            for name in names()
            if name.startswith(last) and name not in taken
        ]

    return complete


def offering_of_store(names: Callable[[str | Path], Iterable[str]]) -> Complete:
    """Offer what the store that was typed before holds; nothing where there is none that can be read."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        store = _typed_store()
        if store is None:
            return []
        try:
            found = [name for name in names(store) if name.startswith(incomplete)]
        except (SkelconvError, OSError):
            # the verb itself will say what is wrong with it
            return []
        return [CompletionItem(name) for name in found[:MOST]]

    return complete


def _typed_store() -> Path | None:
    """Return the first word of the line that is a store of this machine.

    click has parsed no argument yet when the value of an option is missing, so the words are those that
    the shell gave it (`click.shell_completion.BashComplete`).
    """
    words = map(Path, split_arg_string(os.environ.get("COMP_WORDS", "")))
    return next((word for word in words if (word / "zarr.json").is_file()), None)


def layouts() -> Iterable[str]:
    """Return the names of the joint layouts."""
    from skelformats.skeleton import skeleton_names

    return skeleton_names()


def chains() -> Iterable[str]:
    """Return the names of the cleaning chains."""
    from skelconv.clean.chains import chain_names

    return ("auto", *chain_names())


def forms() -> Iterable[str]:
    """Return the names of the export forms."""
    from skelconv.export.forms import form_names

    return form_names()


def generators() -> Iterable[str]:
    """Return the datasets that `skelconv synth` makes."""
    from skelconv.synth.folder import SYNTHESIZERS

    return SYNTHESIZERS


def splits_of(store: str | Path) -> Iterable[str]:
    """Return the official splits of a store."""
    from skelconv.store.store import open_store

    return open_store(store).info.protocols


def arrays_of(store: str | Path) -> Iterable[str]:
    """Return the arrays along frame of a store."""
    from skelconv.store.store import open_store

    return open_store(store).arrays


def names_of(store: str | Path) -> Iterable[str]:
    """Return the recordings and sequences of a store, or the samples of one of images."""
    from skelconv.s2i.read import open_s2i
    from skelconv.store.info import StoreError
    from skelconv.store.store import open_store

    try:
        opened = open_store(store)
    except StoreError:
        return map(str, open_s2i(store).to_frame().index)
    return [*opened.recording_names(), *map(str, opened.to_frame().index)]
