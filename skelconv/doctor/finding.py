"""What a look at something found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """What something is, what is odd about it, and the commands that fit.

    Attributes
    ----------
    what
        In a sentence.
    facts
        Further ones.
    odd
        What is in the way, or looks wrong; each says what to do.
    commands
        What can be done with it, the likeliest first.
    """

    what: str
    facts: tuple[str, ...] = ()
    odd: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return it as text."""
        lines = [self.what, *(f"  {fact}" for fact in self.facts)]
        lines += [f"  odd: {odd}" for odd in self.odd]
        if self.commands:
            lines += ["", "what fits:", *(f"    {command}" for command in self.commands)]
        return "\n".join(lines)
