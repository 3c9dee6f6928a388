"""Where ``skeltrain`` begins: it hears Ctrl-C from here on, while all else is still being imported."""

from __future__ import annotations

from skelconv.start import end_on_interrupt


def main() -> None:
    """Entry point of the console script, and of ``python -m skeltrain``."""
    end_on_interrupt()
    from skeltrain.cli import main as run_verbs

    run_verbs()
