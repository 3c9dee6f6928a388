"""The account of a loading of weights: what became of every key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_SHOWN = 5

#: What a source can be, in words.
KINDS: Mapping[str, str] = {
    "encoder": "an encoder alone",
    "mae": "a masked autoencoder: encoder and decoder",
    "diffmae": "a diffusion masked autoencoder: encoder and decoder",
}


@dataclass(frozen=True)
class WeightReport:
    """What became of every key of a source and of the model.

    Attributes
    ----------
    source
        The file or hub id.
    matched
        The model's tensors that were loaded, by the model's names.
    missing
        The model's tensors that the source does not have and that keep their fresh values.
    unused
        The source's keys that the model has no place for, by the source's names.
    parts
        What the model's names begin with, for `summary`: an account each; empty for one of all.
    kind
        What the source is, of `KINDS`; empty where there is only one kind.
    note
        What a reader of results should know about the choice of weights; usually empty.
    """

    source: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    parts: tuple[str, ...] = ("encoder", "decoder")
    kind: str = ""
    note: str = ""

    def summary(self) -> str:
        """Return the account as a few lines of text."""
        lines = [f"weights from {self.source}" + (f" ({KINDS[self.kind]})" if self.kind else "")]
        for prefix in [f"{part}." for part in self.parts] or [""]:
            loaded = sum(name.startswith(prefix) for name in self.matched)
            fresh = sum(name.startswith(prefix) for name in self.missing)
            if loaded or fresh:
                name = f"{prefix.removesuffix('.')}: " if prefix else ""
                rest = f", {fresh} keep their fresh values" if fresh else ""
                lines.append(f"  {name}{loaded} of {loaded + fresh} tensors loaded{rest}")
        if self.unused:
            lines.append(f"  not used: {listing(self.unused)}")
        else:
            lines.append("  every key of the source was used")
        if self.note:
            lines.append(f"  {self.note}")
        return "\n".join(lines)


def listing(names: Sequence[str], separator: str = ", ") -> str:
    """Return the first few names, and how many more there are."""
    shown = separator.join(names[:_SHOWN])
    return f"{shown}{separator}and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown
