"""The forms that a store is exported in: `ExportForm`, found by name, and `export_store`.

A form is a function that writes a store, and a line of text about it, in one module. Ours and those of other
packages are found through the entry-point group ``skelconv.exports`` (docs/export.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from skelconv.export.place import Exported, ExportError
from skelconv.store.store import Store
from skelformats.registry import Registry

Choice = Literal["protocol", "clean"]
"""A choice that only some forms leave to the user."""


@dataclass(frozen=True)
class ExportOptions:
    """What the user asks of an export.

    Attributes
    ----------
    protocol
        Official split to write; None for the store's first.
    chain
        Cleaning chain; ``auto`` for the one that the form's own scripts run.
    overwrite
        Replace what an export wrote before.
    """

    protocol: str | None = None
    chain: str = "auto"
    overwrite: bool = False


@dataclass(frozen=True)
class ExportForm:
    """One form.

    Attributes
    ----------
    name
        As ``skelconv export --to`` takes it.
    title
        What it is, in a few words.
    write
        Writes the store at the path and says what it wrote; raises `ExportError` where it cannot. It begins
        with `skelconv.export.place.written_aside`, so that nothing half-written has the final name.
    choices
        Which of the options ``protocol`` and ``clean`` it heeds; others are refused before it is called.
    """

    name: str
    title: str
    write: Callable[[Store, Path, ExportOptions], Exported]
    choices: tuple[Choice, ...] = ()


def export_store(store: Store, path: str | Path, form: str, options: ExportOptions | None = None) -> Exported:
    """Write a store in a form.

    Raises
    ------
    ExportError
        An option is asked for that the form has no use for; ``path`` exists and is not to be overwritten; or
        the store cannot be written so.
    UnknownNameError
        There is no such form, protocol or chain.
    MissingExtraError
        The form needs a package that is not installed.
    """
    found, options = find_form(form), options or ExportOptions()
    if options.protocol is not None and "protocol" not in found.choices:
        raise ExportError(
            f"found --protocol {options.protocol} for --to {form}, expected none: it holds every split"
        )
    if options.chain != "auto" and "clean" not in found.choices:
        raise ExportError(
            f"found --clean {options.chain} for --to {form}, expected none: it holds what the store holds. "
            "Run `skelconv clean` first"
        )
    return found.write(store, Path(path), options)


def find_form(name: str) -> ExportForm:
    """Return the form called ``name``; raises `UnknownNameError`."""
    return FORMS.find(name)


def form_names() -> tuple[str, ...]:
    """Names of every form, installed ones included."""
    return FORMS.names()


FORMS: Registry[ExportForm] = Registry("skelconv.exports", "export form", ExportForm)
"""Every form, ours and those of other packages; ours are listed in setup.cfg."""
