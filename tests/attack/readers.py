"""Damaged raw files against every reader; ``make fuzz`` does the same at length."""

from __future__ import annotations

from pathlib import Path

import click

from skelconv.synth import SYNTHESIZERS
from skelformats.reader import reader_names
from tests.attack.registry import Outcome, attack
from tests.fuzzing import fuzz

MUTATIONS = 300


@attack("mutated raw files")
def mutated_raw_files(folder: Path, scale: float, seed: int) -> Outcome:
    """Damage generated files of each dataset, and read them: a crash, a hang, a traceback breaks the
    promise.
    """
    each = max(1, round(MUTATIONS * scale))
    tries = held = 0
    # tables and movement's files are people's own: their tests damage copies themselves
    for name in (name for name in reader_names() if name in SYNTHESIZERS):
        numbers, problem = fuzz(name, each, folder)
        tried = int(numbers["read"] + numbers["refused"])
        tries += tried + bool(problem)
        held += tried
        if problem:
            click.echo(f"    {name}: {problem}")
    return Outcome(tries, held, "read, or refused with a sentence, by every reader")
