"""Collecting problems without drowning in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

SHOWN_OF_A_KIND = 20

Advance = Callable[[int, int], None]
Progress = Callable[[int, str, int], AbstractContextManager[Advance]]
"""Called as (steps, unit, bytes) at the start of a check; gives ``advance(steps, bytes)``."""


class Findings:
    """Problems found so far, the first few of each kind in full, and counts of what was checked."""

    def __init__(self) -> None:
        self.checked: Counter[str] = Counter()
        self._problems: list[str] = []
        self._kinds: Counter[str] = Counter()

    def add(self, kind: str, problem: str) -> None:
        """Note a problem; ``kind`` is what the hidden ones are counted as."""
        self._kinds[kind] += 1
        if self._kinds[kind] <= SHOWN_OF_A_KIND:
            self._problems.append(problem)

    def expect(self, holds: bool, kind: str, problem: str) -> bool:
        """Note a problem unless ``holds``; returns ``holds``."""
        if not holds:
            self.add(kind, problem)
        return holds

    def problems(self) -> list[str]:
        """Return the problems, with a line for each kind of which more were found than are shown."""
        hidden = [
            f"and {count - SHOWN_OF_A_KIND} more problems of this kind: {kind}"
            for kind, count in self._kinds.items()
            if count > SHOWN_OF_A_KIND
        ]
        return [*self._problems, *hidden]

    def __bool__(self) -> bool:
        return bool(self._problems)


def no_progress(steps: int, unit: str, size: int) -> AbstractContextManager[Advance]:
    """Show nothing."""
    return nullcontext(lambda steps, size: None)
